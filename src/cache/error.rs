//! Why an open, a stat or a read is refused.

use crate::metrics::Refusal;
use crate::origin::{Failure, FailureKind};
use crate::store::{Broken, WaitError};
use crate::tree::{TreeError, Why};

/// A refusal: its reason for the counters, its errno for the program, its text for a person.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct OpenError {
    /// The reason, of a closed vocabulary.
    pub why: Refusal,
    /// What the program gets.
    pub errno: i32,
    /// What happened, with the name and what to do; holds no secret.
    pub message: String,
}

impl OpenError {
    /// Makes a refusal with the errno that belongs to its reason.
    pub fn new(why: Refusal, message: impl Into<String>) -> OpenError {
        let errno = match why {
            Refusal::Gone => libc::ENOENT,
            Refusal::Denied => libc::EACCES,
            Refusal::Origin
            | Refusal::BadBody
            | Refusal::Digest
            | Refusal::Store
            | Refusal::Changed
            | Refusal::Archive => libc::EIO,
            Refusal::Silent => libc::ETIMEDOUT,
            Refusal::HardLimit | Refusal::DiskFull => libc::ENOSPC,
            Refusal::TooLarge => libc::EFBIG,
            Refusal::Interrupted => libc::EINTR,
        };
        OpenError { why, errno, message: message.into() }
    }

    /// Makes a refusal of what the disk said.
    pub fn disk(what: &str, error: &std::io::Error) -> OpenError {
        match error.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => {
                OpenError::new(Refusal::DiskFull, format!("{what}: {error}"))
            }
            _ => OpenError::new(Refusal::Store, format!("{what}: {error}")),
        }
    }

    /// Says whether a copy at hand may be served instead: the origin failed, rather than decided.
    pub fn excusable(&self) -> bool {
        matches!(self.why, Refusal::Origin | Refusal::Silent | Refusal::BadBody | Refusal::Digest)
    }

    /// Returns the same for those who wait on a blob.
    pub fn broken(&self) -> Broken {
        Broken {
            message: self.message.clone(),
            errno: self.errno,
            tainted: self.why == Refusal::Digest,
            superseded: self.why == Refusal::Changed,
        }
    }
}

impl From<&Failure> for OpenError {
    fn from(failure: &Failure) -> OpenError {
        let why = match failure.kind {
            FailureKind::Gone => Refusal::Gone,
            FailureKind::Denied => Refusal::Denied,
            FailureKind::Silent => Refusal::Silent,
            FailureKind::BadAnswer => Refusal::BadBody,
            FailureKind::Unreachable
            | FailureKind::Status
            | FailureKind::Tls
            | FailureKind::Redirect
            | FailureKind::Local => Refusal::Origin,
        };
        OpenError::new(why, failure.message.clone())
    }
}

impl From<TreeError> for OpenError {
    fn from(error: TreeError) -> OpenError {
        let TreeError { why, errno, message } = error;
        let why = match why {
            Why::Damaged | Why::Limit | Why::Encrypted | Why::Method => Refusal::Archive,
            Why::TooLarge => Refusal::TooLarge,
            Why::NoRoom => Refusal::HardLimit,
            Why::DiskFull => Refusal::DiskFull,
            Why::Silent => Refusal::Silent,
            Why::Broken => Refusal::BadBody,
            Why::Disk => Refusal::Store,
        };
        OpenError { why, errno, message }
    }
}

impl From<WaitError> for OpenError {
    fn from(error: WaitError) -> OpenError {
        match error {
            WaitError::Stalled(_) => OpenError::new(Refusal::Silent, error.to_string()),
            WaitError::Broken(broken) => OpenError::from(broken),
        }
    }
}

impl From<Broken> for OpenError {
    fn from(broken: Broken) -> OpenError {
        let Broken { message, errno, tainted, superseded } = broken;
        let why = match errno {
            _ if tainted => Refusal::Digest,
            _ if superseded => Refusal::Changed,
            libc::ETIMEDOUT => Refusal::Silent,
            libc::ENOSPC => Refusal::DiskFull,
            _ => Refusal::BadBody,
        };
        OpenError { why, errno, message }
    }
}
