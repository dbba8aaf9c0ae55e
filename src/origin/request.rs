//! The fields of a request: conditions, ranges, and a source's own headers.

use std::ops::Range;
use std::path::Path;

use reqwest::Client;
use reqwest::header::{
    AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    RANGE,
};
use tokio::io::AsyncReadExt as _;
use url::Url;

use super::FailureKind;
use super::fault::Fault;
use crate::source::{self, Source};
use crate::validators::Validators;

/// The most a header file may hold.
const MAX_FILE: u64 = 16 * 1024;

/// Returns the fields that go to the source's own origin only: its headers, with the files among
/// them read now, and the userinfo of its URL unless there is an Authorization header.
///
/// # Errors
/// A file that cannot be read, or a value that is no header value; the text names the field and
/// the file, never the value.
pub(super) async fn private(client: &Client, source: &Source) -> Result<HeaderMap, Fault> {
    let mut map = HeaderMap::new();
    for header in &source.headers {
        let local = |what: String| Fault::new(FailureKind::Local, what);
        if source::RESERVED_HEADERS.contains(&header.name.as_str()) {
            return Err(local(format!(
                "the header {} cannot be set by a source; remove it",
                header.name
            )));
        }
        let name: HeaderName = header
            .name
            .parse()
            .map_err(|_| local(format!("`{}` is not a header name", header.name)))?;
        let mut value = match &header.value {
            source::HeaderValue::Literal(text) => {
                HeaderValue::from_bytes(text.as_bytes()).map_err(|_| {
                    local(format!("the value of the header {name} has a control character"))
                })
            }
            source::HeaderValue::File(file) => {
                let bytes = read(file).await.map_err(|why| {
                    local(format!("the header {name}: {}: {why}", file.display()))
                })?;
                HeaderValue::from_bytes(&bytes).map_err(|_| {
                    local(format!(
                        "the header {name}: {}: the content is not one line of text",
                        file.display()
                    ))
                })
            }
        }?;
        value.set_sensitive(true);
        map.append(name, value);
    }
    if let Some(basic) = userinfo(client, &source.url) {
        map.entry(AUTHORIZATION).or_insert(basic);
    }
    Ok(map)
}

/// Returns the condition for these validators: If-None-Match when there is a tag, else
/// If-Modified-Since with the bytes once received (RFC 9110, sections 13.1.2 and 13.1.3).
pub(super) fn condition(validators: &Validators) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = match (&validators.etag, &validators.last_modified) {
        (Some(tag), _) => (IF_NONE_MATCH, tag),
        (None, Some(date)) => (IF_MODIFIED_SINCE, date),
        (None, None) => return None,
    };
    Some((name, HeaderValue::from_bytes(value.as_bytes()).ok()?))
}

/// Returns the field that asks for some bytes (RFC 9110, section 14.2); `None` for no bytes.
pub(super) fn range(range: &Range<u64>) -> Option<(HeaderName, HeaderValue)> {
    if range.is_empty() {
        return None;
    }
    let value = HeaderValue::try_from(format!("bytes={}", shown_range(range))).ok()?;
    Some((RANGE, value))
}

/// Returns the field that makes a range hold for one version only (RFC 9110, section 13.1.5);
/// `None` for a tag that is not a strong one.
pub(super) fn if_range(tag: &str) -> Option<(HeaderName, HeaderValue)> {
    let strong = tag.starts_with('"');
    Some((IF_RANGE, HeaderValue::from_bytes(tag.as_bytes()).ok().filter(|_| strong)?))
}

/// Returns the first and the last byte of a range that is not empty, as HTTP writes them.
pub(super) fn shown_range(range: &Range<u64>) -> String {
    format!("{}-{}", range.start, range.end.saturating_sub(1))
}

/// Reads one header file and trims it.
async fn read(file: &Path) -> Result<Vec<u8>, String> {
    let say = |error: std::io::Error| error.to_string();
    let mut bytes = Vec::new();
    let open = tokio::fs::File::open(file).await.map_err(say)?;
    let mut open = open.take(MAX_FILE + 1);
    open.read_to_end(&mut bytes).await.map_err(say)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(format!("holds more than {MAX_FILE} bytes"));
    }
    match bytes.trim_ascii() {
        [] => Err("is empty; one line of text is expected".to_owned()),
        text => Ok(text.to_vec()),
    }
}

/// Returns the Authorization value for the userinfo of a URL (RFC 7617), if it has one. The client
/// makes this field from a URL, so it is asked for a request that is not sent.
fn userinfo(client: &Client, url: &Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let mut request = client.get(url.clone()).build().ok()?;
    request.headers_mut().remove(AUTHORIZATION)
}
