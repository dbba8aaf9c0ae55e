//! The names at one moment.

use serde::{Deserialize, Serialize};

use super::timestamp::Timestamp;
use crate::source::Form;
use crate::types::{Bytes, Name};

/// The answer of `GET /v1/names`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Names {
    /// Every name, in order.
    pub names: Vec<NameStatus>,
}

/// One name (`GET /v1/names/NAME`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NameStatus {
    /// The name.
    pub name: Name,
    /// What the cache has of it.
    pub state: NameState,
    /// Two catalogs disagree about it.
    #[serde(default)]
    pub conflict: bool,
    /// Where it comes from, without query and userinfo.
    pub url: String,
    /// How long the version is, where known.
    #[serde(default)]
    pub length: Option<Bytes>,
    /// How much of it is on disk.
    #[serde(default)]
    pub filled: Bytes,
    /// Which bytes those are while there are gaps: for each range its first byte and the one after
    /// its last; the first thousand ranges.
    #[serde(default)]
    pub present: Vec<(u64, u64)>,
    /// The version: the number of its blob.
    #[serde(default)]
    pub version: Option<String>,
    /// Its ETag.
    #[serde(default)]
    pub etag: Option<String>,
    /// Its digest, as `sha256:<hex>`.
    #[serde(default)]
    pub digest: Option<String>,
    /// How many pins hold it.
    #[serde(default)]
    pub pins: u64,
    /// When its origin last confirmed it.
    #[serde(default)]
    pub validated_at: Option<Timestamp>,
    /// Its last failure.
    #[serde(default)]
    pub last_error: Option<LastError>,
    /// The catalogs that bind it.
    #[serde(default)]
    pub owners: Vec<String>,
    /// Its other names.
    #[serde(default)]
    pub aliases: Vec<Name>,
    /// Whether it is shown as a file or as a directory.
    #[serde(default, rename = "as")]
    pub form: Form,
    /// What is known of the directory.
    #[serde(default)]
    pub tree: Option<TreeStatus>,
}

/// What is known of an archive that is shown as a directory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TreeStatus {
    /// Somebody uses it, and everything that lies in it is known.
    pub indexed: bool,
    /// How many members it has, those left out not counted; while it is indexed.
    pub members: Option<u64>,
    /// The bytes of disk that its index and what was unpacked of it take.
    pub unpacked: Bytes,
}

/// What the cache has of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NameState {
    /// Nothing.
    Absent,
    /// A part of a body whose download was interrupted; the next open goes on with it.
    Kept,
    /// Nothing yet; its origin is being asked.
    Fetching,
    /// A body that is arriving and may be read.
    Partial,
    /// The same, with a digest that can be checked only at the end.
    PartialUnverified,
    /// A whole copy.
    Ready,
    /// A whole copy that is being revalidated or replaced.
    Refreshing,
    /// A whole copy whose origin fails.
    Stale,
    /// The origin says that there is no such thing (404, 410).
    Gone,
}

impl NameState {
    /// Returns the word used in JSON and output. Extended attributes, which belong to one version,
    /// use a subset and `broken` and `transient`.
    pub fn as_str(self) -> &'static str {
        match self {
            NameState::Absent => "absent",
            NameState::Kept => "kept",
            NameState::Fetching => "fetching",
            NameState::Partial => "partial",
            NameState::PartialUnverified => "partial-unverified",
            NameState::Ready => "ready",
            NameState::Refreshing => "refreshing",
            NameState::Stale => "stale",
            NameState::Gone => "gone",
        }
    }
}

/// The last failure of a name. Holds no secret and no query.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastError {
    /// The name.
    pub name: Name,
    /// The class of failure, for programs.
    pub kind: String,
    /// What was tried and what came, for a person.
    pub message: String,
    /// When.
    pub at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_spelled_alike_in_json_and_text() {
        for state in [NameState::PartialUnverified, NameState::Ready, NameState::Gone] {
            let json = serde_json::to_value(state).expect("serializes");
            assert_eq!(json, state.as_str());
        }
    }
}
