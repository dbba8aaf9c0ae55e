//! ETag and Last-Modified.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// The validators of a representation (RFC 9110, section 8.8), byte for byte as received.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validators {
    /// The ETag field value.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub etag: Option<String>,
    /// The Last-Modified field value.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_modified: Option<String>,
    /// What tells the resource that gave them from others, where a redirect led away from the one
    /// that was asked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub resource: Option<String>,
}

/// A strong entity tag. It tells the versions of one resource from one another, and nothing of those
/// of another (RFC 9110, section 8.8.1), so two are the same only where both parts are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strong<'a> {
    /// The field value.
    pub tag: &'a str,
    /// See [`Validators::resource`].
    pub resource: Option<&'a str>,
}

impl Validators {
    /// Says whether there is nothing to ask a condition with.
    pub fn is_empty(&self) -> bool {
        self.etag.is_none() && self.last_modified.is_none()
    }

    /// Returns the entity tag if it is a strong one (RFC 9110, section 8.8.3).
    pub fn strong(&self) -> Option<Strong<'_>> {
        let tag = self.etag.as_deref().filter(|tag| tag.starts_with('"'))?;
        Some(Strong { tag, resource: self.resource.as_deref() })
    }

    /// Returns Last-Modified as a time, if it parses.
    pub fn modified(&self) -> Option<SystemTime> {
        self.last_modified.as_deref().and_then(|text| httpdate::parse_http_date(text).ok())
    }
}
