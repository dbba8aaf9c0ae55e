//! Which tests say something about a mount, and why others do not.

use crate::data::{Request, Test};

/// Fields of a request that a mount sets itself, or that direct a cache on the way.
const CLIENTS_OWN: [(&str, &str); 5] = [
    ("range", "range requests of the client: a mount's are its own"),
    ("if-none-match", "conditional requests of the client: a mount's are its own"),
    ("if-modified-since", "conditional requests of the client: a mount's are its own"),
    ("cache-control", "directives of the client: a program that opens a file gives none"),
    ("pragma", "directives of the client: a program that opens a file gives none"),
];

/// Tests whose expectation contradicts another of the data.
const CONTRADICTED: [(&str, &str); 1] = [(
    "age-parse-prefix",
    "expects reuse of what its own name, and age-parse-prefix-twoline, call stale (Age: 0,7200)",
)];

/// Returns why a test says nothing about a mount, if so.
pub(crate) fn reason_against(test: &Test) -> Option<&'static str> {
    let contradicted = CONTRADICTED.iter().find(|(id, _)| *id == test.id);
    if let Some((_, reason)) = contradicted {
        return Some(reason);
    }
    let any = |check: fn(&Request) -> bool| test.requests.iter().any(check);
    if any(|r| r.request_method.as_deref().is_some_and(|method| method != "GET")) {
        return Some("methods other than GET");
    }
    for (field, reason) in CLIENTS_OWN {
        let names = test.requests.iter().flat_map(|r| &r.request_headers);
        if names.map(|(name, _)| name).any(|name| name.eq_ignore_ascii_case(field)) {
            return Some(reason);
        }
    }
    if any(|r| r.cache.is_some()) {
        return Some("directives of the client: a program that opens a file gives none");
    }
    if differ(test, |r| r.request_headers.clone()) {
        return Some("another request header with each request: a name has one source");
    }
    if differ(test, |r| (r.query_arg.clone(), r.filename.clone())) {
        return Some("several URLs: a name has one");
    }
    if shared(test) {
        return Some("shared caches: a mount is a private one");
    }
    if any(|r| {
        !r.expected_response_headers.is_empty() || !r.expected_response_headers_missing.is_empty()
    }) {
        return Some("header fields that the client is shown: a file has none");
    }
    None
}

/// Says whether the requests of a test are not all alike in something.
fn differ<T: PartialEq>(test: &Test, of: impl Fn(&Request) -> T) -> bool {
    test.requests.windows(2).any(|two| of(&two[0]) != of(&two[1]))
}

/// Says whether a test is about what only shared caches do.
fn shared(test: &Test) -> bool {
    let directives = |r: &Request| {
        r.fields().any(|(name, value)| {
            let value = value.as_str().unwrap_or_default();
            name == "cache-control"
                && (value.contains("s-maxage") || value.contains("proxy-revalidate"))
        })
    };
    let named = test.id.contains("-shared") || test.requests.iter().any(directives);
    named && !test.browser_only
}
