//! Why an archive, or one of its members, cannot be shown.

use crate::store::WaitError;

/// The classes of failure, which decide the errno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The archive is damaged, or no archive of a kind that is known: EIO.
    Damaged,
    /// The archive passes a limit: EIO, and nothing of it is kept.
    Limit,
    /// The archive and what it unpacks to do not fit the hard limit: EFBIG.
    TooLarge,
    /// There is no room below the hard limit now: ENOSPC.
    NoRoom,
    /// There is no room on the disk now: ENOSPC.
    DiskFull,
    /// The member is encrypted: EACCES on it alone.
    Encrypted,
    /// The member is packed by a method that is not known: EIO on it alone.
    Method,
    /// No byte came for as long as a caller waits: ETIMEDOUT.
    Silent,
    /// The download of the archive failed; the errno is the download's.
    Broken,
    /// The disk failed: EIO.
    Disk,
}

impl Why {
    /// Says whether there was no room, which may be there later.
    pub(super) fn is_room(self) -> bool {
        matches!(self, Why::NoRoom | Why::DiskFull)
    }
}

/// Why an archive, or one of its members, cannot be shown. Its text names the member and holds no
/// secret.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct TreeError {
    /// The class.
    pub why: Why,
    /// What the program gets.
    pub errno: i32,
    /// For a person: what was found, what was expected, what to do.
    pub message: String,
}

impl TreeError {
    /// Makes an error with the errno that belongs to its class.
    pub fn new(why: Why, message: impl Into<String>) -> TreeError {
        let errno = match why {
            Why::Damaged | Why::Limit | Why::Method | Why::Broken | Why::Disk => libc::EIO,
            Why::TooLarge => libc::EFBIG,
            Why::NoRoom | Why::DiskFull => libc::ENOSPC,
            Why::Encrypted => libc::EACCES,
            Why::Silent => libc::ETIMEDOUT,
        };
        TreeError { why, errno, message: message.into() }
    }
}

impl From<WaitError> for TreeError {
    fn from(error: WaitError) -> TreeError {
        match error {
            WaitError::Stalled(_) => TreeError::new(Why::Silent, error.to_string()),
            WaitError::Broken(broken) => {
                TreeError { why: Why::Broken, errno: broken.errno, message: broken.message }
            }
        }
    }
}
