//! Fields of an answer's head, read by themselves.

use reqwest::header::{CONTENT_ENCODING, HeaderMap, HeaderName, TRANSFER_ENCODING};

use super::fault::Fault;
use super::{FailureKind, Framing};

/// Returns every field line: the name in lower case, the value as received.
pub(super) fn fields(headers: &HeaderMap) -> impl Iterator<Item = (&str, &[u8])> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))
}

/// Returns a field that came once and is text.
pub(super) fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => std::str::from_utf8(value.as_bytes())
            .ok()
            .filter(|text| !text.is_empty())
            .map(str::to_owned),
        _ => None,
    }
}

/// Returns an entity tag without its weakness mark: the weak comparison.
pub(super) fn opaque(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

/// Refuses a body that is not the representation itself: "identity" was the only coding allowed.
///
/// # Errors
/// Any other coding.
pub(super) fn check_coding(headers: &HeaderMap) -> Result<(), Fault> {
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

/// Returns how the end of a body is known; `length` is what the client makes of Content-Length.
///
/// # Errors
/// A transfer coding other than chunked.
pub(super) fn framing(headers: &HeaderMap, length: Option<u64>) -> Result<Framing, Fault> {
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
}
