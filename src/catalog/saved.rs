//! The form in which a source is remembered.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::digest::Digest;
use crate::source::{Fill, Form, Header, HeaderValue, Integrity, Revalidate, Source};
use crate::types::Name;

/// A [`Source`] as written. `Source` itself cannot be serialized, lest its secrets end up in some
/// output.
#[derive(Serialize, Deserialize)]
pub(super) struct SavedSource {
    url: String,
    digest: Option<Digest>,
    key: Option<String>,
    size: Option<u64>,
    form: Form,
    revalidate: Revalidate,
    integrity: Integrity,
    aliases: Vec<Name>,
    headers: Vec<(String, SavedHeader)>,
    allow_close_delimited: bool,
    stale_if_error: Duration,
    /// Missing in what an older daemon wrote.
    #[serde(default)]
    fill: Fill,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum SavedHeader {
    Literal(String),
    File(PathBuf),
}

impl SavedSource {
    /// Returns what to write of a source.
    pub(super) fn of(source: &Source) -> SavedSource {
        let header = |header: &Header| {
            let value = match &header.value {
                HeaderValue::Literal(value) => SavedHeader::Literal(value.clone()),
                HeaderValue::File(path) => SavedHeader::File(path.clone()),
            };
            (header.name.clone(), value)
        };
        SavedSource {
            url: source.url.to_string(),
            digest: source.digest.clone(),
            key: source.key.clone(),
            size: source.size,
            form: source.form,
            revalidate: source.revalidate,
            integrity: source.integrity,
            aliases: source.aliases.clone(),
            headers: source.headers.iter().map(header).collect(),
            allow_close_delimited: source.allow_close_delimited,
            stale_if_error: source.stale_if_error,
            fill: source.fill,
        }
    }

    /// Returns the source as it was.
    pub(super) fn restore(self) -> Result<Source, String> {
        let header = |(name, value)| Header {
            name,
            value: match value {
                SavedHeader::Literal(value) => HeaderValue::Literal(value),
                SavedHeader::File(path) => HeaderValue::File(path),
            },
        };
        Ok(Source {
            url: Url::parse(&self.url).map_err(|e| format!("it holds a bad URL: {e}"))?,
            digest: self.digest,
            key: self.key,
            size: self.size,
            form: self.form,
            revalidate: self.revalidate,
            integrity: self.integrity,
            aliases: self.aliases,
            headers: self.headers.into_iter().map(header).collect(),
            allow_close_delimited: self.allow_close_delimited,
            stale_if_error: self.stale_if_error,
            fill: self.fill,
        })
    }
}
