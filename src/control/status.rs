//! The daemon at one moment.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::names::LastError;
use super::timestamp::Timestamp;
use crate::types::{Bytes, Name};

/// The daemon at one moment (`GET /v1/status`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// The daemon's process id.
    pub pid: u32,
    /// When it started.
    pub started_at: Option<Timestamp>,
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// Where the blobs are.
    pub store: PathBuf,
    /// The socket this was asked on.
    pub control: PathBuf,
    /// Whether complete files are read past the daemon.
    pub passthrough: PassthroughStatus,
    /// A caller from a pid namespace beside the daemon's was seen; such callers cannot be watched
    /// for signals while they wait.
    pub unwatched_callers_seen: bool,
    /// The account of bytes.
    pub space: Space,
    /// What happened since the start.
    pub counters: Counters,
    /// What is going on.
    pub now: Now,
    /// How many names there are in which state.
    pub names: NameCounts,
    /// The last failure of each name that has one, the newest first.
    pub last_errors: Vec<LastError>,
    /// Names that two catalogs bind to different sources.
    pub conflicts: Vec<ConflictStatus>,
    /// Every catalog, by owner.
    pub catalogs: Vec<CatalogStatus>,
    /// What an operator should look at, in sentences.
    pub problems: Vec<String>,
}

/// Whether complete files are read past the daemon, at the speed of the disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PassthroughStatus {
    /// It was tried at the start and works.
    pub on: bool,
    /// Why it is off.
    pub reason: Option<String>,
}

/// The account of bytes. All sizes in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Space {
    /// Where eviction starts.
    pub quota: Bytes,
    /// What the store never passes.
    pub hard_limit: Bytes,
    /// What is always left free on the disk.
    pub min_free: Bytes,
    /// What is free on the disk.
    pub disk_free: Bytes,
    /// Everything on disk that is accounted for.
    pub stored: Bytes,
    /// Of it, held by handles, or by the kernel, which did not forget it when asked: never evicted.
    pub pinned: Bytes,
    /// Of it, what nobody has open. Whether the kernel holds it shows when it is to go.
    pub idle: Bytes,
    /// Of it, being removed.
    pub condemned: Bytes,
    /// Of it, indexes and unpacked members of archives that are shown as directories.
    pub trees: Bytes,
    /// Promised to downloads that have begun; what they have written of it is not in `stored` yet.
    pub reserved: Bytes,
    /// How many blobs there are.
    pub blobs: u64,
}

/// What happened since the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Opens of files, counted when they are asked for.
    pub opens: u64,
    /// Opens answered from a copy without asking its origin.
    pub hits: u64,
    /// Opens that needed a body.
    pub misses: u64,
    /// Conditional requests.
    pub revalidations: u64,
    /// Of them, answered by 304.
    pub not_modified: u64,
    /// Opens answered with a copy because its origin failed.
    pub stale_served: u64,
    /// Bytes of bodies received.
    pub bytes_from_origin: Bytes,
    /// Bodies that ended early and whose rest was asked for, and downloads gone on with.
    pub resumed: u64,
    /// Requests for a range of a body.
    pub ranges_asked: u64,
    /// Origins that gave other bytes, or another length, under the same strong tag.
    pub lied: u64,
    /// Copies dropped to make room, or by hand.
    pub evictions: u64,
    /// Their bytes.
    pub evicted_bytes: Bytes,
    /// Names wanted again after their eviction: many of them mean that the cache is too small.
    pub evicted_then_wanted_again: u64,
    /// Copies found damaged on the disk.
    pub damaged: u64,
    /// Directories that were found out to be complete: from their archive, or from what was kept.
    pub trees_indexed: u64,
    /// Members of archives that were unpacked and checked.
    pub members_unpacked: u64,
    /// Opens, stats and reads refused, by reason.
    pub refusals: BTreeMap<String, u64>,
    /// Requests to origins that failed, by class of failure.
    pub origin_failures: BTreeMap<String, u64>,
}

/// What is going on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Now {
    /// Handles open.
    pub open_handles: u64,
    /// Requests of the kernel that wait for the network or the disk.
    pub waiting_requests: u64,
    /// Validations and downloads running.
    pub flights: u64,
}

/// How many names there are in which state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NameCounts {
    /// All of them.
    pub total: u64,
    /// With a whole copy.
    pub ready: u64,
    /// With a body that is arriving.
    pub fetching: u64,
    /// Without a copy.
    pub absent: u64,
}

/// A name that catalogs bind to different sources.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConflictStatus {
    /// The name.
    pub name: Name,
    /// The owners of the binding in force.
    pub in_force: Vec<String>,
    /// The owners who want another source.
    pub others: Vec<String>,
}

/// One catalog.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CatalogStatus {
    /// Its owner.
    pub owner: String,
    /// The file, where there is one.
    pub path: Option<PathBuf>,
    /// How many names it binds.
    pub names: u64,
    /// Whether it could be read.
    pub state: CatalogState,
    /// What is wrong with it.
    pub problem: Option<String>,
}

/// Whether a catalog could be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CatalogState {
    /// Read and in force.
    #[default]
    Ok,
    /// Not readable or not valid; its last good state stays in force.
    NoOpinion,
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn a_status_survives_the_way_there_and_back() {
        let status = Status {
            version: "1".into(),
            started_at: Some(Timestamp(
                SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
            )),
            counters: Counters {
                refusals: BTreeMap::from([("no-room".to_owned(), 2)]),
                ..Counters::default()
            },
            ..Status::default()
        };
        let text = serde_json::to_string(&status).expect("serializes");
        assert!(text.contains(r#""started_at":"2023-11-14T22:13:20Z""#), "{text}");
        assert_eq!(serde_json::from_str::<Status>(&text).expect("parses"), status);
    }

    #[test]
    fn an_older_or_newer_daemon_is_understood() {
        let status: Status = serde_json::from_str(r#"{"pid":7,"space":{"quota":5},"news":[1]}"#)
            .expect("unknown fields are ignored, missing ones have defaults");
        assert_eq!((status.pid, status.space.quota), (7, Bytes(5)));
    }
}
