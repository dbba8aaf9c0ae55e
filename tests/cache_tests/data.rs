//! The form of the data.

use serde::Deserialize;
use serde_json::Value;

/// Tests about one subject.
#[derive(Deserialize)]
pub(crate) struct Suite {
    pub(crate) id: String,
    pub(crate) tests: Vec<Test>,
}

/// A sequence of requests and what is expected of each.
#[derive(Deserialize)]
pub(crate) struct Test {
    pub(crate) id: String,
    #[serde(default)]
    kind: Kind,
    /// For caches within a browser, which are private.
    #[serde(default)]
    pub(crate) browser_only: bool,
    pub(crate) requests: Vec<Request>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    #[default]
    Required,
    /// Good to have.
    Optimal,
    /// Only asks what a cache does.
    Check,
}

impl Test {
    /// Says whether a cache has to pass.
    pub(crate) fn required(&self) -> bool {
        self.kind == Kind::Required
    }
}

/// What the client sends, what the origin answers, what is expected.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Request {
    /// Only prepares what is tested.
    pub(crate) setup: bool,
    /// Wait for three seconds afterwards.
    pub(crate) pause_after: bool,
    pub(crate) request_method: Option<String>,
    /// Names and values; of a date, the value may be a number of seconds from now.
    pub(crate) request_headers: Vec<(String, Value)>,
    /// The cache mode of the client.
    pub(crate) cache: Option<String>,
    pub(crate) query_arg: Option<String>,
    pub(crate) filename: Option<String>,
    pub(crate) response_status: Option<(u16, String)>,
    /// A name, a value, and sometimes whether the client is to see it. Of a date, the value may be
    /// a number of seconds from now.
    pub(crate) response_headers: Vec<Vec<Value>>,
    /// Close the connection instead of an answer.
    pub(crate) disconnect: bool,
    pub(crate) expected_type: Option<Expected>,
    pub(crate) expected_status: Option<u16>,
    /// Names, or names with values.
    pub(crate) expected_request_headers: Vec<Value>,
    pub(crate) expected_response_headers: Vec<Value>,
    pub(crate) expected_response_headers_missing: Vec<Value>,
}

/// Where the answer to a request is expected to come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Expected {
    Cached,
    NotCached,
    EtagValidated,
    LmValidated,
}

impl Request {
    /// Returns the status that the client is to see.
    pub(crate) fn status(&self) -> u16 {
        let given = self.response_status.as_ref().map(|(status, _)| *status);
        self.expected_status.or(given).unwrap_or(200)
    }

    /// Returns the answer's header fields as name in lower case and value.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (String, &Value)> {
        self.response_headers.iter().filter_map(|field| match field.as_slice() {
            [Value::String(name), value, ..] => Some((name.to_lowercase(), value)),
            _ => None,
        })
    }
}
