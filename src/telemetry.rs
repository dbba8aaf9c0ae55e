//! Logs to standard error, and words to the service manager.

mod notify;

use tracing::Level;
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

pub use notify::{Notice, Notifier};

use crate::config::LogFormat;

/// The variable that says what is logged, in the syntax of `RUST_LOG`.
pub const LOG_VARIABLE: &str = "CACHED_DOWNLOADS_LOG";

/// The crates whose debugging records show requests; they are kept above it, whatever the
/// filter says, because URLs carry secrets in their queries and headers are secrets.
const TALKATIVE: [&str; 6] = ["reqwest", "hyper", "hyper_util", "h2", "rustls", "tower"];

/// Why the log cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter in the environment is wrong.
    #[error(
        "{LOG_VARIABLE}={value:?} is not a log filter ({error}); write a level (error, warn, info, debug, trace), or target=level, separated by commas"
    )]
    Filter {
        /// What it says.
        value: String,
        /// What is wrong.
        error: String,
    },
    /// A log was begun already.
    #[error("the log cannot begin: {0}")]
    Twice(String),
}

/// Begins the log on standard error, with the records of crates that use `log` in it.
///
/// # Errors
/// The variable `CACHED_DOWNLOADS_LOG` holds no filter; called twice.
pub fn start(format: LogFormat) -> Result<(), TelemetryError> {
    let filter = filter(std::env::var(LOG_VARIABLE).ok().as_deref())?;
    let registry = tracing_subscriber::registry().with(filter);
    let layer = fmt::layer().with_writer(std::io::stderr);
    let quiet = filter_fn(|meta| !is_talkative(meta.target()) || *meta.level() <= Level::WARN);
    let result = match format {
        LogFormat::Text => {
            let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
            registry.with(layer.with_ansi(colours).with_filter(quiet)).try_init()
        }
        LogFormat::Json => {
            registry.with(layer.json().flatten_event(true).with_filter(quiet)).try_init()
        }
    };
    result.map_err(|error| TelemetryError::Twice(error.to_string()))
}

fn filter(value: Option<&str>) -> Result<EnvFilter, TelemetryError> {
    let value = value.map(str::trim).filter(|v| !v.is_empty()).unwrap_or("info");
    EnvFilter::builder().parse(value).map_err(|error| TelemetryError::Filter {
        value: value.to_owned(),
        error: error.to_string(),
    })
}

fn is_talkative(target: &str) -> bool {
    let root = target.split("::").next().unwrap_or(target);
    TALKATIVE.contains(&root)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_filter_names_the_variable() {
        assert!(filter(None).is_ok());
        assert!(filter(Some(" ")).is_ok());
        assert!(filter(Some("warn,cached_downloads=debug")).is_ok());
        let error = filter(Some("cached_downloads=loud")).expect_err("no such level");
        assert!(error.to_string().contains(LOG_VARIABLE), "{error}");
    }

    #[test]
    fn only_whole_crate_names_are_kept_quiet() {
        assert!(is_talkative("reqwest::connect"));
        assert!(is_talkative("hyper"));
        assert!(!is_talkative("hypernova"));
        assert!(!is_talkative("cached_downloads::origin"));
        assert!(!is_talkative("fuser::session"));
    }
}
