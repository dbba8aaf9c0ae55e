//! What an operator may set about the HTTP side.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

/// The settings of [`HttpOrigin`](super::HttpOrigin); the defaults are those of production.
#[derive(Clone, Debug)]
pub struct OriginSettings {
    /// The User-Agent field value.
    pub user_agent: String,
    /// TLS by origin; the key is `host` (every port) or `host:port`, the more exact one wins.
    pub per_origin: HashMap<String, OriginTls>,
    /// How long one connection may take to be made, name resolution and TLS included.
    pub connect_timeout: Duration,
    /// How long a head may take, from the sending of a request.
    pub head_timeout: Duration,
    /// How long a body may bring no byte.
    pub idle_timeout: Duration,
    /// The least a body must bring, in bytes per second, over [`floor_window`](Self::floor_window).
    pub floor: u64,
    /// The time over which the floor is measured; only time spent waiting counts.
    pub floor_window: Duration,
    /// How long a question without a copy at hand goes on when no connection can be made. Below
    /// 10 s, so that the caller's whole open ends within 10 s.
    pub cold_connect: Duration,
    /// How long such a question goes on otherwise. Below 30 s, so that what the origin did answer
    /// is known before the caller's own deadline passes.
    pub cold: Duration,
    /// How long a question with a copy at hand is retried.
    pub warm: Duration,
    /// How long a cold question to an origin that could not be connected to fails at once.
    pub dead_for: Duration,
    /// The upper end of the first retry's random delay; doubled for each later one.
    pub retry_base: Duration,
    /// Where the doubling ends.
    pub retry_cap: Duration,
}

impl Default for OriginSettings {
    fn default() -> Self {
        OriginSettings {
            user_agent: concat!("cached-downloads/", env!("CARGO_PKG_VERSION")).to_owned(),
            per_origin: HashMap::new(),
            connect_timeout: Duration::from_secs(5),
            head_timeout: Duration::from_secs(10),
            // As long as a reader waits: a body that fails cannot be resumed yet.
            idle_timeout: Duration::from_secs(30),
            floor: 16 * 1024,
            floor_window: Duration::from_secs(30),
            cold_connect: Duration::from_secs(8),
            cold: Duration::from_secs(28),
            warm: Duration::from_millis(1500),
            dead_for: Duration::from_secs(2),
            retry_base: Duration::from_millis(200),
            retry_cap: Duration::from_secs(4),
        }
    }
}

/// TLS towards one origin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct OriginTls {
    /// PEM certificates trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// The client certificate chain, PEM; needs `key_file`.
    pub cert_file: Option<PathBuf>,
    /// The private key of the client certificate, PEM; needs `cert_file`.
    pub key_file: Option<PathBuf>,
    /// Accepts any server certificate. For laboratories.
    pub insecure_skip_verify: bool,
}

/// Says why an [`HttpOrigin`](super::HttpOrigin) cannot be built from its settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A file of certificates or a key cannot be read.
    #[error("origin `{origin}`: cannot read {}: {error}", file.display())]
    Read {
        /// The key of the origin in the configuration.
        origin: String,
        /// The file.
        file: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("origin `{origin}`: {} holds no {expected} in PEM form", file.display())]
    Pem {
        /// The key of the origin in the configuration.
        origin: String,
        /// The file.
        file: PathBuf,
        /// What was looked for.
        expected: &'static str,
    },
    /// A certificate or key is well formed and still unusable.
    #[error("origin `{origin}`: {} cannot be used: {reason}", file.display())]
    Unusable {
        /// The key of the origin in the configuration.
        origin: String,
        /// The file.
        file: PathBuf,
        /// What the TLS library said.
        reason: String,
    },
    /// One of `cert_file` and `key_file` without the other.
    #[error("origin `{origin}`: cert_file and key_file belong together; give both or neither")]
    HalfPair {
        /// The key of the origin in the configuration.
        origin: String,
    },
    /// A key of `per_origin` is not an origin.
    #[error(
        "`{origin}` is not an origin; write host or host:port, for example blobstore.internal:8443"
    )]
    NotAnOrigin {
        /// The key as given.
        origin: String,
    },
    /// The HTTP client refuses the settings.
    #[error("the HTTP client cannot be built: {reason}")]
    Client {
        /// What the client said.
        reason: String,
    },
}
