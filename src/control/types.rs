//! What an operator can ask for, and the answers but two: the daemon's state is in
//! [`Status`], that of names in [`NameStatus`].
//!
//! Field names are a promise to operators' scripts: they are added to, never renamed.
//! docs/operations.md is the reference.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

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

/// A moment, written as RFC 3339 in UTC with seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub SystemTime);

impl Timestamp {
    /// Returns how long ago this was; zero for the future.
    pub fn age(self) -> Duration {
        self.0.elapsed().unwrap_or_default()
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        Timestamp(time)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // humantime has no words for times before 1970 or after 9999.
        const LAST: Duration = Duration::from_secs(253_402_300_799);
        let since = self.0.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().min(LAST);
        humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + since).fmt(f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        humantime::parse_rfc3339_weak(&text).map(Timestamp).map_err(|_| {
            serde::de::Error::custom(format!("`{text}` is not a time as 2026-01-31T12:00:00Z"))
        })
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_out_of_range_do_not_panic() {
        let long_ago = SystemTime::UNIX_EPOCH - Duration::from_secs(10);
        assert_eq!(Timestamp(long_ago).to_string(), "1970-01-01T00:00:00Z");
        let far = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40);
        assert_eq!(Timestamp(far).to_string(), "9999-12-31T23:59:59Z");
    }
}
