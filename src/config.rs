//! What the operator decides: the configuration file, the flags, and the defaults.
//!
//! [`Settings`] is what was written, in a file or as flags; [`Config`] is what holds, checked
//! against the machine, with every default filled in.

mod archives;
mod check;
mod limits;
mod origins;
mod read;
mod resolve;
mod values;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

pub use check::check;
pub use origins::OriginSection;
pub use resolve::Env;
pub use values::{LogFormat, MinFree};

pub use crate::document::{Problem, Report, parse_duration};
use crate::types::Bytes;

/// What was written in one place; a key that was not written is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The directory that holds the blobs.
    pub store: Option<PathBuf>,
    /// Catalog files and directories of them.
    pub catalogs: Option<Vec<PathBuf>>,
    /// The control socket.
    pub control: Option<PathBuf>,
    /// Where eviction starts.
    pub quota: Option<Bytes>,
    /// What is never passed.
    pub hard_limit: Option<Bytes>,
    /// What stays free on the filesystem of the store.
    pub min_free: Option<MinFree>,
    /// How many downloads may run at once.
    pub max_downloads: Option<usize>,
    /// How long one answer of an origin is shared by later opens.
    pub revalidate_window: Option<Duration>,
    /// The only directory that catalogs may name header files in.
    pub secrets_dir: Option<PathBuf>,
    /// Whether to use passthrough where the kernel has it.
    pub passthrough: Option<bool>,
    /// Whether every name is shown as a directory, so that the kernel need not ask at an open.
    pub directories_only: Option<bool>,
    /// Whether other users may read; an ordinary user needs `user_allow_other` for it.
    pub allow_other: Option<bool>,
    /// How the log is written.
    pub log_format: Option<LogFormat>,
    /// How much of an archive that is shown as a directory is believed.
    pub archives: Option<crate::tree::Limits>,
    /// What is special about an origin, by `host` or `host:port` in lower case.
    pub origins: BTreeMap<String, OriginSection>,
}

impl Settings {
    /// Lays `flags` over these settings: what a flag gives wins over the key of the same name.
    #[must_use]
    pub fn overlay(self, flags: Settings) -> Settings {
        let mut origins = self.origins;
        origins.extend(flags.origins);
        Settings {
            store: flags.store.or(self.store),
            catalogs: flags.catalogs.or(self.catalogs),
            control: flags.control.or(self.control),
            quota: flags.quota.or(self.quota),
            hard_limit: flags.hard_limit.or(self.hard_limit),
            min_free: flags.min_free.or(self.min_free),
            max_downloads: flags.max_downloads.or(self.max_downloads),
            revalidate_window: flags.revalidate_window.or(self.revalidate_window),
            secrets_dir: flags.secrets_dir.or(self.secrets_dir),
            passthrough: flags.passthrough.or(self.passthrough),
            directories_only: flags.directories_only.or(self.directories_only),
            allow_other: flags.allow_other.or(self.allow_other),
            log_format: flags.log_format.or(self.log_format),
            archives: flags.archives.or(self.archives),
            origins,
        }
    }
}

/// What holds: every value checked, every default filled in, every path absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The directory that holds the blobs.
    pub store: PathBuf,
    /// Catalog files and directories of them; none is possible.
    pub catalogs: Vec<PathBuf>,
    /// The control socket.
    pub control: PathBuf,
    /// Where eviction starts.
    pub quota: Bytes,
    /// What is never passed; at least `quota`.
    pub hard_limit: Bytes,
    /// What stays free on the filesystem of the store.
    pub min_free: Bytes,
    /// How many downloads may run at once; at least 1.
    pub max_downloads: usize,
    /// How long one answer of an origin is shared by later opens; zero asks at every open.
    pub revalidate_window: Duration,
    /// The only directory that catalogs may name header files in.
    pub secrets_dir: Option<PathBuf>,
    /// Whether to use passthrough where the kernel has it.
    pub passthrough: bool,
    /// Whether every name is shown as a directory, so that the kernel need not ask at an open.
    pub directories_only: bool,
    /// Whether other users may read.
    pub allow_other: bool,
    /// How the log is written.
    pub log_format: LogFormat,
    /// How much of an archive that is shown as a directory is believed.
    pub archives: crate::tree::Limits,
    /// What is special about an origin, by `host` or `host:port` in lower case.
    pub origins: BTreeMap<String, OriginSection>,
    /// Defaults that the machine did not allow; to be logged as warnings.
    pub notices: Vec<String>,
}

/// Why a configuration cannot be used. One problem a line, none with a secret in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigError(pub Vec<String>);

impl From<Vec<Problem>> for ConfigError {
    fn from(problems: Vec<Problem>) -> ConfigError {
        ConfigError(problems.iter().map(Problem::to_string).collect())
    }
}
