//! The checks of an answer's head.

use std::time::SystemTime;

use reqwest::Response;
use reqwest::header::{ACCEPT_RANGES, ETAG, HeaderMap, LAST_MODIFIED};

use super::declared;
use super::fault::Fault;
use super::fields::{check_coding, fields, framing, opaque, text};
use super::partial::Piece;
use super::way::Way;
use super::{FailureKind, Framing, Head};
use crate::lifetime::Lifetime;
use crate::validators::Validators;

/// The most that the fields of a head may take, names and values together, in bytes. Their count
/// is limited by the client, to 100.
pub(super) const MAX_FIELDS: usize = 64 * 1024;

/// Refuses a head whose fields take too much.
///
/// # Errors
/// More than [`MAX_FIELDS`].
pub(super) fn check_size(headers: &HeaderMap) -> Result<(), Fault> {
    let size: usize = fields(headers).map(|(name, value)| name.len() + value.len()).sum();
    if size <= MAX_FIELDS {
        return Ok(());
    }
    let text = format!("the header of the answer has {size} bytes, at most {MAX_FIELDS} are read");
    Err(Fault::new(FailureKind::BadAnswer, text))
}

/// Returns the head of a 200, or of a 206 whose Content-Range says `piece`. Whether the origin is
/// to be believed about ranges is for the caller to add.
///
/// # Errors
/// A content coding or transfer coding that was not asked for.
pub(super) fn found(
    response: &Response,
    piece: Option<&Piece>,
    asked_at: SystemTime,
    at: SystemTime,
    way: &Way,
) -> Result<Head, Fault> {
    let headers = response.headers();
    check_coding(headers)?;
    // The client has checked that Content-Length is one number, and ignores it beside
    // Transfer-Encoding (RFC 9112, section 6.3), as its idea of the length shows.
    let announced = response.content_length();
    let framing = framing(headers, announced)?;
    let length = match piece {
        Some(piece) => Some(piece.complete),
        None => announced.filter(|_| framing == Framing::Length),
    };
    let validators = Validators { resource: way.resource.clone(), ..validators(headers) };
    let lifetime = Lifetime::read(fields(headers), asked_at, at).within(way.fresh_for());
    Ok(Head {
        part: piece.map(|piece| piece.range.clone()),
        offered: piece.is_some() || offers_ranges(headers),
        ranges: length.is_some() && validators.strong().is_some() && !denies_ranges(headers),
        digest: declared::strongest(headers, piece.is_none()),
        lifetime,
        validators,
        length,
        framing,
        at,
    })
}

/// Says whether the origin serves no ranges of this (RFC 9110, section 14.3).
fn denies_ranges(headers: &HeaderMap) -> bool {
    range_units(headers).any(|unit| unit.eq_ignore_ascii_case(b"none"))
}

/// Says whether it says that it serves them.
fn offers_ranges(headers: &HeaderMap) -> bool {
    range_units(headers).any(|unit| unit.eq_ignore_ascii_case(b"bytes"))
}

fn range_units(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let values = headers.get_all(ACCEPT_RANGES).iter();
    values.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

/// Returns the validators of a head, byte for byte.
fn validators(headers: &HeaderMap) -> Validators {
    let (etag, last_modified) = (text(headers, &ETAG), text(headers, &LAST_MODIFIED));
    Validators { etag, last_modified, resource: None }
}

/// What a 304 means for the version that was asked about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Still {
    /// It is current; these are the validators to keep.
    Current(Validators),
    /// The answer speaks of another version.
    Other,
}

/// Judges the head of a 304 to a request with these validators (RFC 9111, section 4.3.4).
pub(super) fn not_modified(asked: &Validators, headers: &HeaderMap) -> Still {
    let answer = validators(headers);
    let (Some(ours), Some(theirs)) = (&asked.etag, &answer.etag) else {
        // A tag in the answer to a question by date is not adopted: the date is exact to a second
        // only, so the tag may be that of a later body.
        return Still::Current(asked.clone());
    };
    if opaque(ours) != opaque(theirs) {
        return match answer.strong() {
            Some(_) => Still::Other,
            None => Still::Current(asked.clone()),
        };
    }
    // The tag we hold stays: an intermediary may have weakened the answer's, and our bytes are
    // those that ours was given for.
    Still::Current(Validators {
        etag: asked.etag.clone(),
        last_modified: answer.last_modified.or_else(|| asked.last_modified.clone()),
        resource: asked.resource.clone(),
    })
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
            resource: None,
        };
        let judge = |asked: &Validators, lines| not_modified(asked, &headers(lines));
        let strong = v(Some("\"a\""), Some("Mon"));
        for same in [&[][..], &[("etag", "\"a\"")], &[("etag", "W/\"a\"")], &[("etag", "W/\"b\"")]]
        {
            assert_eq!(judge(&strong, same), Still::Current(strong.clone()), "{same:?}");
        }
        assert_eq!(judge(&strong, &[("etag", "\"b\"")]), Still::Other);
        assert_eq!(judge(&strong, &[("etag", "b")]), Still::Current(strong.clone()));
        let newer = judge(&strong, &[("etag", "\"a\""), ("last-modified", "Tue")]);
        assert_eq!(newer, Still::Current(v(Some("\"a\""), Some("Tue"))));
        let weak = v(Some("W/\"a\""), None);
        assert_eq!(judge(&weak, &[("etag", "\"a\"")]), Still::Current(weak.clone()));
        assert_eq!(judge(&weak, &[("etag", "\"b\"")]), Still::Other);
        let dated = v(None, Some("Mon"));
        let lines = &[("etag", "\"new\""), ("last-modified", "Mon")];
        assert_eq!(judge(&dated, lines), Still::Current(dated.clone()));
    }
}
