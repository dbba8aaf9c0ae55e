//! What an operator can ask for, and the answers but two: the daemon's state is in
//! [`Status`], that of names in [`NameStatus`].
//!
//! Field names are a promise to operators' scripts: they are added to, never renamed.
//! docs/operations.md is the reference.

use serde::{Deserialize, Serialize};

use super::names::NameStatus;
use super::status::Status;
use crate::types::{Bytes, Name, Pending};

/// What the daemon lets an operator do.
pub trait Operator: Send + Sync + 'static {
    /// Returns the daemon's numbers. May ask the disk; called from a thread that may wait.
    fn status(&self) -> Status;

    /// Returns every name, in order. Short locks only.
    fn names(&self) -> Vec<NameStatus>;

    /// Drops the copy of a name, so that its next open fetches it anew.
    fn evict(&self, name: Name) -> Pending<'_, Result<Evicted, EvictRefused>>;

    /// Reads the catalogs again. May block on the disk; the server calls it from a
    /// thread that may wait.
    fn reload(&self) -> ReloadReport;

    /// Begins an orderly stop, as SIGTERM does, and returns at once.
    fn shutdown(&self);
}

/// What an eviction freed (`POST /v1/names/NAME/evict`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evicted {
    /// The name.
    pub name: Name,
    /// The bytes of disk that are free again; 0 when there was no copy.
    pub freed: Bytes,
}

/// Why a copy was not dropped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct EvictRefused {
    /// The reason, for programs.
    pub reason: EvictRefusal,
    /// For a person: what holds it and what to do.
    pub message: String,
}

/// The reasons not to drop a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvictRefusal {
    /// No catalog binds this name.
    UnknownName,
    /// A handle, a mapping or a bind mount holds it.
    Pinned,
}

impl EvictRefusal {
    /// Returns the word used in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            EvictRefusal::UnknownName => "unknown-name",
            EvictRefusal::Pinned => "pinned",
        }
    }
}

/// What a reload found (`POST /v1/reload`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReloadReport {
    /// Names that are new.
    pub added: u64,
    /// Names that are gone.
    pub removed: u64,
    /// Names bound to another source.
    pub changed: u64,
    /// Catalogs that could not be read, and other complaints.
    pub problems: Vec<String>,
}

/// The body of every answer that is not 2xx.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApiError {
    /// A word for programs: `not-found`, `denied`, `bad-request`, `internal`, or a reason of
    /// [`EvictRefusal`].
    pub error: String,
    /// For a person.
    pub message: String,
}
