//! Why an origin cannot be reached as its settings say.

use std::path::PathBuf;

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
    /// `ca_only` without a `ca_file`.
    #[error("origin `{origin}`: ca_only trusts the certificates of ca_file alone; give a ca_file")]
    OnlyWithoutFile {
        /// The key of the origin in the configuration.
        origin: String,
    },
    /// A proxy variable of the environment is not a proxy. Its value may hold a password.
    #[error("the environment variable {name} is not a proxy; set it to http://host:port")]
    ProxyVariable {
        /// The variable.
        name: &'static str,
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
