//! ETag and Last-Modified.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// Stands for the resource of validators where it cannot be told.
pub const ANY_RESOURCE: &str = "*";

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
    /// that was asked for; [`ANY_RESOURCE`] where that cannot be told.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub resource: Option<String>,
}

impl Validators {
    /// Says whether there is nothing to ask a condition with.
    pub fn is_empty(&self) -> bool {
        self.etag.is_none() && self.last_modified.is_none()
    }

    /// Returns the entity tag if it is a strong one (RFC 9110, section 8.8.3).
    pub fn strong(&self) -> Option<&str> {
        self.etag.as_deref().filter(|tag| tag.starts_with('"'))
    }

    /// Says whether both have one strong tag of one resource: a tag tells nothing of the versions of
    /// another (RFC 9110, section 8.8.1).
    pub fn same_strong(&self, other: &Validators) -> bool {
        self.strong().is_some() && self.strong() == other.strong() && self.same_resource(other)
    }

    /// Says whether both are of one resource, or it cannot be told of one of them.
    pub fn same_resource(&self, other: &Validators) -> bool {
        let (ours, theirs) = (self.resource.as_deref(), other.resource.as_deref());
        ours == theirs || ours == Some(ANY_RESOURCE) || theirs == Some(ANY_RESOURCE)
    }

    /// Returns Last-Modified as a time, if it parses.
    pub fn modified(&self) -> Option<SystemTime> {
        self.last_modified.as_deref().and_then(|text| httpdate::parse_http_date(text).ok())
    }
}
