//! What stands on a path already.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use super::{KIND, MountError, at};
use crate::sys;

/// How long a filesystem may take to say that it is there before it counts as alive but slow.
const PROBE: Duration = Duration::from_secs(2);
/// What stands on a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing is mounted exactly there.
    Free,
    /// A mount of ours whose daemon is gone.
    Dead,
    /// A mount of ours that is served, by this process id where it is known.
    Live(Option<u32>),
    /// Another filesystem of this type; a mount may be put on top of it.
    Other(String),
    /// Another FUSE filesystem whose daemon is gone.
    DeadOther(String),
}

/// Says what stands on a canonical path. Waits up to 2 s for a FUSE filesystem to answer.
///
/// # Errors
/// The mount table cannot be read.
pub fn standing(path: &Path) -> Result<Standing, MountError> {
    let Some(mounted) = at(path).map_err(MountError::Table)? else {
        return Ok(Standing::Free);
    };
    // Attributes may come from the kernel's cache after the daemon has gone, statfs never does.
    let dead = mounted.kind.starts_with("fuse") && is_dead(path);
    Ok(match (mounted.kind == KIND, dead) {
        (true, true) => Standing::Dead,
        (true, false) => Standing::Live(mounted.pid()),
        (false, true) => Standing::DeadOther(mounted.kind),
        (false, false) => Standing::Other(mounted.kind),
    })
}

fn is_dead(path: &Path) -> bool {
    let (sender, receiver) = mpsc::channel();
    let path = path.to_owned();
    // A filesystem that does not answer must not hold the caller; the thread ends with it.
    std::thread::spawn(move || {
        let dead = sys::ask_filesystem(&path)
            .is_err_and(|error| error.raw_os_error() == Some(libc::ENOTCONN));
        let _ = sender.send(dead);
    });
    receiver.recv_timeout(PROBE).unwrap_or(false)
}
