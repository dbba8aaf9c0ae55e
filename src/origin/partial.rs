//! The checks of a 206, and of what a 416 says.

use std::ops::Range;

use reqwest::Response;
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap};

use super::fault::Fault;
use super::fields::{self, opaque};
use super::{FailureKind, RangeAsk, request};

/// The bytes that a 206 holds, and of how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) range: Range<u64>,
    pub(super) complete: u64,
}

/// Whether a 206 holds bytes of the version asked about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// The bytes asked for, of the version asked for.
    Same,
    /// Bytes of another version.
    Other,
}

/// Checks a 206 to a question for bytes of a known version.
///
/// # Errors
/// Anything that does not fit what was asked, except the tag of another version.
pub(super) fn check(response: &Response, ask: &RangeAsk) -> Result<Fit, Fault> {
    check_fields(response.headers(), response.content_length(), ask)
}

fn check_fields(
    headers: &HeaderMap,
    content_length: Option<u64>,
    ask: &RangeAsk,
) -> Result<Fit, Fault> {
    let tag = fields::text(headers, &ETAG);
    let asked = ask.validators.etag.as_deref().unwrap_or_default();
    match &tag {
        Some(tag) if *tag == asked => {}
        Some(tag) if opaque(tag) != opaque(asked) => return Ok(Fit::Other),
        // A weak tag holds no bytes together (RFC 9110, section 8.8.1).
        Some(_) => return Err(bad("206 with a weak tag")),
        None if headers.contains_key(ETAG) => return Err(bad("206 with more than one ETag")),
        // It must be there if a 200 would have it (section 15.3.7), and without it nobody can tell
        // whether the condition was heard: parts go together by a strong tag (section 15.3.7.3).
        None => return Err(bad("206 without ETag")),
    }
    let came = content(headers, content_length)?;
    // An unknown length is the tag's to vouch for.
    let fits =
        came.range == ask.range && came.complete.is_none_or(|complete| complete == ask.length);
    if fits {
        return Ok(Fit::Same);
    }
    Err(bad(format!(
        "206 with {came} instead of bytes {}/{}",
        request::shown_range(&ask.range),
        ask.length
    )))
}

/// Checks a 206 to a question for the first bytes of whatever there is.
///
/// # Errors
/// Anything but exactly those, or all if there are fewer, of a known length.
pub(super) fn beginning(response: &Response, first: u64) -> Result<Piece, Fault> {
    check_beginning(response.headers(), response.content_length(), first)
}

fn check_beginning(
    headers: &HeaderMap,
    content_length: Option<u64>,
    first: u64,
) -> Result<Piece, Fault> {
    let came = content(headers, content_length)?;
    match came.complete {
        Some(complete) if came.range == (0..first.min(complete)) => {
            Ok(Piece { range: came.range, complete })
        }
        _ => Err(bad(format!("206 with {came} to a question for the first {first} bytes"))),
    }
}

/// Returns the length that a 416 gives (RFC 9110, section 15.5.17), if it does so properly.
pub(super) fn unsatisfied(response: &Response) -> Option<u64> {
    let value = fields::text(response.headers(), &CONTENT_RANGE)?;
    number(bytes_unit(&value)?.strip_prefix("*/")?)
}

/// What a Content-Range says of a body (RFC 9110, section 14.4).
#[derive(Clone, Debug, PartialEq, Eq)]
struct Content {
    range: Range<u64>,
    complete: Option<u64>,
}

impl std::fmt::Display for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "bytes {}/", request::shown_range(&self.range))?;
        match self.complete {
            Some(complete) => write!(f, "{complete}"),
            None => f.write_str("*"),
        }
    }
}

/// Returns what a 206 holds by its own account, if it is one uncoded range and its fields agree.
fn content(headers: &HeaderMap, content_length: Option<u64>) -> Result<Content, Fault> {
    fields::check_coding(headers)?;
    fields::framing(headers, content_length)?;
    let multipart = headers.get_all(CONTENT_TYPE).iter().any(|value| {
        let name = b"multipart/byteranges";
        value
            .as_bytes()
            .trim_ascii()
            .get(..name.len())
            .is_some_and(|v| v.eq_ignore_ascii_case(name))
    });
    if multipart {
        return Err(bad("206 in several parts (multipart/byteranges), though one was asked for"));
    }
    let content = match headers.get_all(CONTENT_RANGE).iter().count() {
        0 => return Err(bad("206 without Content-Range")),
        1 => fields::text(headers, &CONTENT_RANGE).as_deref().and_then(parse).ok_or_else(|| {
            bad("206 with a Content-Range that is not of the form bytes first-last/length")
        })?,
        _ => return Err(bad("206 with more than one Content-Range")),
    };
    let held = content.range.end - content.range.start;
    match content_length {
        Some(length) if length != held => {
            Err(bad(format!("206 with {content}, but a Content-Length of {length}")))
        }
        _ => Ok(content),
    }
}

/// Parses `bytes first-last/length` or `bytes first-last/*`.
fn parse(value: &str) -> Option<Content> {
    let (range, complete) = bytes_unit(value)?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let range = number(first)?..number(last)?.checked_add(1)?;
    let complete = match complete {
        "*" => None,
        length => Some(number(length)?),
    };
    let sound = !range.is_empty() && complete.is_none_or(|complete| range.end <= complete);
    sound.then_some(Content { range, complete })
}

/// Returns what follows the unit `bytes`; units know no case (RFC 9110, section 14.1).
fn bytes_unit(value: &str) -> Option<&str> {
    let (unit, rest) = value.split_once(' ')?;
    unit.eq_ignore_ascii_case("bytes").then_some(rest)
}

/// Parses digits alone: no sign, no space.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

fn bad(text: impl Into<String>) -> Fault {
    Fault::new(FailureKind::BadAnswer, text)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::origin::Patience;
    use crate::source::Source;
    use crate::validators::Validators;

    /// A question for bytes 2 to 4 of 10.
    fn ask() -> RangeAsk {
        let url = url::Url::parse("http://a/x").expect("a URL");
        RangeAsk {
            source: Arc::new(Source::new(url)),
            range: 2..5,
            validators: Validators { etag: Some("\"a\"".to_owned()), ..Validators::default() },
            length: 10,
            patience: Patience::Warm,
        }
    }

    fn headers(lines: &str) -> HeaderMap {
        let mut map = HeaderMap::new();
        for line in lines.split('|').filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(": ").expect("a field");
            let name: reqwest::header::HeaderName = name.parse().expect("a name");
            map.append(name, value.parse().expect("a value"));
        }
        map
    }

    #[test]
    fn the_table_of_parts() {
        const TAG: &str = "etag: \"a\"";
        #[rustfmt::skip]
        let good = [
            (format!("{TAG}|content-range: bytes 2-4/10"), Some(3)),
            (format!("{TAG}|content-range: bytes 2-4/10"), None),
            (format!("{TAG}|content-range: bytes 2-4/*"), Some(3)),
            (format!("{TAG}|content-range: BYTES 2-4/10|content-type: text/plain"), Some(3)),
        ];
        for (fields, length) in good {
            let fit = check_fields(&headers(&fields), length, &ask());
            assert_eq!(fit.expect(&fields), Fit::Same, "{fields}");
        }
        for fields in ["etag: \"b\"|content-range: bytes 2-4/10", "etag: W/\"b\"", "etag: b"] {
            let fit = check_fields(&headers(fields), Some(3), &ask());
            assert_eq!(fit.expect(fields), Fit::Other, "{fields}");
        }
        #[rustfmt::skip]
        let bad = [
            ("", "without Content-Range"),
            ("content-range: bytes 2-4/10|content-range: bytes 2-4/10", "more than one Content-Range"),
            ("content-range: bytes 3-4/10", "bytes 3-4/10 instead of bytes 2-4/10"),
            ("content-range: bytes 1-4/10", "bytes 1-4/10 instead"),
            ("content-range: bytes 2-3/10", "bytes 2-3/10 instead"),
            ("content-range: bytes 2-5/10", "bytes 2-5/10 instead"),
            ("content-range: bytes 2-4/11", "bytes 2-4/11 instead"),
            ("content-range: bytes 2-4/4", "not of the form"),
            ("content-range: bytes 4-2/10", "not of the form"),
            ("content-range: bytes */10", "not of the form"),
            ("content-range: bytes=2-4/10", "not of the form"),
            ("content-range: bytes 2-4", "not of the form"),
            ("content-range: bytes 2 - 4/10", "not of the form"),
            ("content-range: bytes +2-4/10", "not of the form"),
            ("content-range: bytes 2-18446744073709551615/*", "not of the form"),
            ("content-range: lines 2-4/10", "not of the form"),
            ("content-range: 2-4/10", "not of the form"),
            ("content-range: bytes 2-4/10|content-encoding: gzip", "compressed"),
            ("content-range: bytes 2-4/10|transfer-encoding: gzip", "Transfer-Encoding"),
            ("content-range: bytes 2-4/10|content-type: Multipart/ByteRanges; boundary=x", "several parts"),
            ("content-type: multipart/byteranges; boundary=x", "several parts"),
        ];
        for (fields, says) in bad {
            let fields = format!("{TAG}|{fields}");
            // Content-Length fits whatever the range is, so that it is not what is refused.
            let fault = check_fields(&headers(&fields), None, &ask()).expect_err(&fields);
            assert_eq!(fault.kind, FailureKind::BadAnswer);
            assert!(fault.text.contains(says), "{fields}: {}", fault.text);
        }
        for (fields, length, says) in [
            ("etag: \"a\"|content-range: bytes 2-4/10", 4, "a Content-Length of 4"),
            ("etag: W/\"a\"|content-range: bytes 2-4/10", 3, "weak tag"),
            ("etag: \"a\"|etag: \"b\"|content-range: bytes 2-4/10", 3, "more than one ETag"),
            ("content-range: bytes 2-4/10", 3, "without ETag"),
        ] {
            let fault = check_fields(&headers(fields), Some(length), &ask()).expect_err(fields);
            assert!(fault.text.contains(says), "{fields}: {}", fault.text);
        }
    }

    #[test]
    fn a_beginning_is_all_that_was_asked_for_or_all_there_is() {
        let check = |value: &str, first| {
            check_beginning(&headers(&format!("content-range: {value}")), None, first)
        };
        let piece = |end, complete| Piece { range: 0..end, complete };
        assert_eq!(check("bytes 0-3/10", 4).expect("a piece"), piece(4, 10));
        assert_eq!(check("bytes 0-9/10", 100).expect("a piece"), piece(10, 10));
        for bad in ["bytes 0-2/10", "bytes 0-4/10", "bytes 1-3/10", "bytes 0-3/*", "bytes */10"] {
            assert!(check(bad, 4).is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_parsed_is_what_was_written(first: u64, count in 1..u64::MAX, rest: Option<u64>) {
            if let Some(end) = first.checked_add(count)
                && let Some(complete) = rest.map_or(Some(None), |r| end.checked_add(r).map(Some))
            {
                let content = Content { range: first..end, complete };
                assert_eq!(parse(&content.to_string()), Some(content));
            }
        }

        #[test]
        fn whatever_is_parsed_is_sound(value in "(bytes )?[0-9]{0,21}-?[0-9]{0,21}/?([0-9]{0,21}|\\*)") {
            if let Some(content) = parse(&value) {
                assert!(!content.range.is_empty());
                assert!(content.complete.is_none_or(|complete| content.range.end <= complete));
                assert_eq!(parse(&content.to_string()), Some(content));
            }
        }
    }
}
