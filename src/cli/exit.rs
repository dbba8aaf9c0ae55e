//! Exit codes and the one place where errors are printed.

use std::io::Write as _;
use std::process::ExitCode;

use crate::control::ClientError;
use crate::daemon::DaemonError;
use crate::demo::DemoError;
use crate::mount::MountError;

/// It was tried and failed.
pub(super) const FAILED: u8 = 1;
/// The command line, the configuration or the machine must change first. clap uses it too.
pub(super) const USAGE: u8 = 2;
/// No daemon answers on the control socket.
pub(super) const NO_DAEMON: u8 = 3;

/// The part of `--help` that scripts rely on.
pub(super) const HELP: &str = "\
Exit codes:
  0  done
  1  it was tried and failed (a busy mount, a pinned name), or it was checked and has
     mistakes (catalog check, config check)
  2  it cannot work this way: wrong usage or configuration, or the machine lacks
     something (/dev/fuse, the right to mount)
  3  no daemon answers on the control socket";

/// Why a verb failed, and the exit code that says so.
#[derive(Debug)]
pub(super) struct Failure {
    /// The exit code.
    pub(super) code: u8,
    /// For a person.
    pub(super) message: String,
}

impl Failure {
    /// Returns a failure with exit code 1.
    pub(super) fn failed(message: impl Into<String>) -> Failure {
        Failure { code: FAILED, message: message.into() }
    }

    /// Returns a failure with exit code 2.
    pub(super) fn usage(message: impl Into<String>) -> Failure {
        Failure { code: USAGE, message: message.into() }
    }

    /// Prints the message, unless it is empty, and returns the exit code.
    pub(super) fn report(&self) -> ExitCode {
        if !self.message.is_empty() {
            // Nobody is left to tell when standard error is closed.
            let _ = writeln!(std::io::stderr(), "cached-downloads: {}", self.message);
        }
        ExitCode::from(self.code)
    }
}

impl From<MountError> for Failure {
    fn from(error: MountError) -> Self {
        Failure {
            code: if error.is_environment() { USAGE } else { FAILED },
            message: error.to_string(),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Failure {
            code: match error {
                ClientError::NoDaemon(_) => NO_DAEMON,
                ClientError::Denied(_) => USAGE,
                ClientError::Talk { .. } | ClientError::Refused(_) => FAILED,
            },
            message: error.to_string(),
        }
    }
}

impl From<DaemonError> for Failure {
    fn from(error: DaemonError) -> Self {
        Failure { code: if error.environment { USAGE } else { FAILED }, message: error.message }
    }
}

impl From<DemoError> for Failure {
    fn from(error: DemoError) -> Self {
        Failure {
            code: if error.is_environment() { USAGE } else { FAILED },
            message: error.to_string(),
        }
    }
}
