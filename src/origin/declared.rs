//! The digests that an answer declares of itself: Repr-Digest and Content-Digest (RFC 9530), and
//! Content-MD5 (RFC 1864).

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::header::{HeaderMap, HeaderName};

use super::fields;
use crate::digest::{Algorithm, Digest, hex};

const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");
const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");

/// The members of the dictionaries that are understood, strongest first. The registry's
/// others are deprecated (RFC 9530, section 5).
const MEMBERS: [(&str, Algorithm); 2] =
    [("sha-512", Algorithm::Sha512), ("sha-256", Algorithm::Sha256)];

/// Returns the strongest digest declared of the whole representation; `whole` says that the body
/// holds all of it, uncoded, so that digests of the content count too.
///
/// What is unknown or malformed is passed over, as if the origin had declared nothing.
pub(super) fn strongest(headers: &HeaderMap, whole: bool) -> Option<Digest> {
    let fields: &[HeaderName] = if whole { &[REPR_DIGEST, CONTENT_DIGEST] } else { &[REPR_DIGEST] };
    for (key, algorithm) in MEMBERS {
        let mut found = fields.iter().filter_map(|field| member(headers, field, key));
        if let Some(digest) = found.find_map(|value| digest(algorithm, &value)) {
            return Some(digest);
        }
    }
    let md5 = fields::text(headers, &CONTENT_MD5).filter(|_| whole)?;
    digest(Algorithm::Md5, md5.trim())
}

/// Returns the base64 text of one byte sequence in a dictionary; of several with the same key the
/// last (RFC 8941, section 4.2.2).
fn member(headers: &HeaderMap, field: &HeaderName, key: &str) -> Option<String> {
    let lines = headers.get_all(field).iter().filter_map(|line| line.to_str().ok());
    let members = lines.flat_map(|line| line.split(',')).map(str::trim);
    let mut named = members.filter_map(|member| member.strip_prefix(key)?.strip_prefix('='));
    let (text, rest) = named.next_back()?.strip_prefix(':')?.split_once(':')?;
    let parameters = rest.is_empty() || rest.starts_with(';');
    parameters.then(|| text.to_owned())
}

/// Decodes a digest; a wrong count of bytes is none.
fn digest(algorithm: Algorithm, base64: &str) -> Option<Digest> {
    let bytes = BASE64_STANDARD.decode(base64).ok()?;
    Digest::parse(algorithm, &hex(&bytes)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MD5: &str = "1B2M2Y8AsgTpgAmY7PhCfg==";
    const SHA256: &str = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(*name, value.parse().expect("a header value"));
        }
        map
    }

    fn empty(algorithm: Algorithm) -> Digest {
        crate::digest::Hasher::new(algorithm).finish()
    }

    #[test]
    fn the_strongest_is_taken() {
        let long = BASE64_STANDARD.encode([7; 64]);
        let both = format!("sha-256=:{SHA256}:, sha-512=:{long}:;a=1");
        let found = strongest(&headers(&[("repr-digest", &both), ("content-md5", MD5)]), true);
        assert_eq!(found.expect("a digest").hex(), "07".repeat(64));
        let one = format!("unixsum=:AAA=:, sha-256=:{SHA256}:");
        let fields = headers(&[("content-md5", MD5), ("repr-digest", &one)]);
        assert_eq!(strongest(&fields, true), Some(empty(Algorithm::Sha256)));
        let fields = headers(&[("content-md5", MD5)]);
        assert_eq!(strongest(&fields, true), Some(empty(Algorithm::Md5)));
    }

    #[test]
    fn what_is_said_of_the_content_counts_only_if_that_is_the_whole() {
        let one = format!("sha-256=:{SHA256}:");
        for (field, value, part) in [
            ("repr-digest", &*one, true),
            ("content-digest", &*one, false),
            ("content-md5", MD5, false),
        ] {
            let fields = headers(&[(field, value)]);
            assert!(strongest(&fields, true).is_some(), "{field}");
            assert_eq!(strongest(&fields, false).is_some(), part, "{field}");
        }
    }

    #[test]
    fn what_is_malformed_is_passed_over() {
        for bad in [
            String::new(),
            "sha-256".to_owned(),
            format!("sha-256={SHA256}"),
            format!("sha-256=:{SHA256}"),
            format!("sha-256=:{SHA256}:x"),
            format!("SHA-256=:{SHA256}:"),
            format!("sha-256=:{MD5}:"),
            "sha-256=:::".to_owned(),
            format!("sha-512=:{SHA256}:"),
            format!("sha-256=:{SHA256}:, sha-256=1"),
        ] {
            assert_eq!(strongest(&headers(&[("repr-digest", &bad)]), true), None, "{bad}");
        }
        let twice = headers(&[("content-md5", MD5), ("content-md5", MD5)]);
        assert_eq!(strongest(&twice, true), None);
    }

    proptest::proptest! {
        #[test]
        fn a_digest_is_found_among_whatever_else_there_is(
            bytes in proptest::array::uniform32(proptest::prelude::any::<u8>()),
            before in "([a-z-]{1,6}(=[a-z0-9:?;]{0,9})?, ?){0,3}",
            after in "(, ?[a-z]{1,6}(=[ -+\\--~]{0,9})?){0,3}",
        ) {
            let value = format!("{before}sha-256=:{}:{after}", BASE64_STANDARD.encode(bytes));
            let found = strongest(&headers(&[("repr-digest", &value)]), true);
            assert_eq!(found.expect("a digest").hex(), hex(&bytes));
        }

        #[test]
        fn whatever_is_declared_never_panics(value in "[ -~]{0,80}") {
            let fields = headers(&[("repr-digest", &value), ("content-md5", &value)]);
            let _ = strongest(&fields, true);
        }
    }
}
