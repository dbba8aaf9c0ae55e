//! The checks of an answer's head.

use std::time::SystemTime;

use reqwest::Response;
use reqwest::header::{
    CONTENT_ENCODING, ETAG, HeaderMap, HeaderName, LAST_MODIFIED, TRANSFER_ENCODING,
};

use super::fault::Fault;
use super::{FailureKind, Framing, Head};
use crate::validators::Validators;

/// Returns the head of a 200 answer.
///
/// # Errors
/// A content coding or transfer coding that was not asked for.
pub(super) fn found(response: &Response, at: SystemTime) -> Result<Head, Fault> {
    let headers = response.headers();
    check_coding(headers)?;
    // The client has checked that Content-Length is one number, and ignores it beside
    // Transfer-Encoding (RFC 9112, section 6.3), as its idea of the length shows.
    let length = response.content_length();
    let framing = framing(headers, length)?;
    Ok(Head {
        validators: validators(headers),
        length: length.filter(|_| framing == Framing::Length),
        framing,
        at,
    })
}

/// Refuses a body that is not the representation itself: "identity" was the only coding allowed.
fn check_coding(headers: &HeaderMap) -> Result<(), Fault> {
    let coded = headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"));
    if coded {
        return Err(Fault::new(
            FailureKind::BadAnswer,
            "the body is compressed (Content-Encoding), though only identity was allowed",
        ));
    }
    Ok(())
}

fn framing(headers: &HeaderMap, length: Option<u64>) -> Result<Framing, Fault> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) if length.is_some() => Ok(Framing::Length),
        (None, _) => Ok(Framing::Close),
        (Some(one), None) if one.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") => {
            Ok(Framing::Chunked)
        }
        _ => Err(Fault::new(
            FailureKind::BadAnswer,
            "a Transfer-Encoding other than chunked, though none was allowed",
        )),
    }
}

/// Returns the validators of a head, byte for byte.
fn validators(headers: &HeaderMap) -> Validators {
    Validators { etag: text(headers, &ETAG), last_modified: text(headers, &LAST_MODIFIED) }
}

/// Returns a field that came once and is text.
fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => std::str::from_utf8(value.as_bytes())
            .ok()
            .filter(|text| !text.is_empty())
            .map(str::to_owned),
        _ => None,
    }
}

/// What a 304 means for the version that was asked about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unchanged {
    /// It is current; these are the validators to keep.
    Yes(Validators),
    /// The answer speaks of another version.
    Other,
}

/// Judges the head of a 304 to a request with these validators (RFC 9111, section 4.3.4).
pub(super) fn not_modified(asked: &Validators, headers: &HeaderMap) -> Unchanged {
    let answer = validators(headers);
    let (Some(ours), Some(theirs)) = (&asked.etag, &answer.etag) else {
        // A tag in the answer to a question by date is not adopted: the date is exact to a second
        // only, so the tag may be that of a later body.
        return Unchanged::Yes(asked.clone());
    };
    if opaque(ours) != opaque(theirs) {
        return match answer.strong() {
            Some(_) => Unchanged::Other,
            None => Unchanged::Yes(asked.clone()),
        };
    }
    // The tag we hold stays: an intermediary may have weakened the answer's, and our bytes are
    // those that ours was given for.
    Unchanged::Yes(Validators {
        etag: asked.etag.clone(),
        last_modified: answer.last_modified.or_else(|| asked.last_modified.clone()),
    })
}

/// Returns an entity tag without its weakness mark: the weak comparison.
fn opaque(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(*name, value.parse().expect("a header value"));
        }
        map
    }

    #[test]
    fn framing_is_told_apart() {
        let te = |values: &[&'static str]| {
            let lines: Vec<_> = values.iter().map(|v| ("transfer-encoding", *v)).collect();
            headers(&lines)
        };
        let good = |map, length| framing(&map, length).expect("a framing");
        assert_eq!(good(te(&[]), Some(0)), Framing::Length);
        assert_eq!(good(te(&[]), None), Framing::Close);
        assert_eq!(good(te(&["chunked"]), None), Framing::Chunked);
        assert_eq!(good(te(&["Chunked"]), None), Framing::Chunked);
        for bad in [&["gzip, chunked"][..], &["gzip"], &["identity"], &["chunked", "chunked"]] {
            assert!(framing(&te(bad), None).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_the_identity_coding_passes() {
        let ce = |v| check_coding(&headers(&[("content-encoding", v)])).is_ok();
        assert!(check_coding(&headers(&[])).is_ok() && ce("identity") && ce("Identity"));
        assert!(!ce("gzip") && !ce("br") && !ce("identity, gzip") && !ce(""));
    }

    #[test]
    fn validators_are_kept_byte_for_byte_and_only_if_single() {
        let kept = validators(&headers(&[("etag", "W/\"a b\""), ("last-modified", "yesterday")]));
        assert_eq!(kept.etag.as_deref(), Some("W/\"a b\""));
        assert_eq!(kept.last_modified.as_deref(), Some("yesterday"));
        let twice = validators(&headers(&[("etag", "\"a\""), ("etag", "\"b\"")]));
        assert!(twice.is_empty());
    }

    #[test]
    fn a_304_keeps_what_identifies_the_bytes() {
        let v = |etag: Option<&str>, modified: Option<&str>| Validators {
            etag: etag.map(str::to_owned),
            last_modified: modified.map(str::to_owned),
        };
        let judge = |asked: &Validators, lines| not_modified(asked, &headers(lines));
        let strong = v(Some("\"a\""), Some("Mon"));
        for same in [&[][..], &[("etag", "\"a\"")], &[("etag", "W/\"a\"")], &[("etag", "W/\"b\"")]]
        {
            assert_eq!(judge(&strong, same), Unchanged::Yes(strong.clone()), "{same:?}");
        }
        assert_eq!(judge(&strong, &[("etag", "\"b\"")]), Unchanged::Other);
        assert_eq!(judge(&strong, &[("etag", "b")]), Unchanged::Yes(strong.clone()));
        let newer = judge(&strong, &[("etag", "\"a\""), ("last-modified", "Tue")]);
        assert_eq!(newer, Unchanged::Yes(v(Some("\"a\""), Some("Tue"))));
        let weak = v(Some("W/\"a\""), None);
        assert_eq!(judge(&weak, &[("etag", "\"a\"")]), Unchanged::Yes(weak.clone()));
        assert_eq!(judge(&weak, &[("etag", "\"b\"")]), Unchanged::Other);
        let dated = v(None, Some("Mon"));
        let lines = &[("etag", "\"new\""), ("last-modified", "Mon")];
        assert_eq!(judge(&dated, lines), Unchanged::Yes(dated.clone()));
    }
}
