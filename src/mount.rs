//! The mount itself: made, found, replaced and ended without fuser's help.
//!
//! The daemon keeps the device and the mount apart: fuser is handed the descriptor and never
//! learns where it is mounted, so it cannot unmount a path that has a new owner by then.

mod error;
mod helper;
mod mountinfo;
mod paths;
mod standing;

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub use error::MountError;
pub use mountinfo::{Mounted, at, parse};
pub use paths::{locate, refuse_inside, user_allow_other};
pub use standing::{Standing, standing};

use crate::sys;

/// What the mount table calls us.
pub const NAME: &str = "cached-downloads";
/// The type of our mounts.
pub const KIND: &str = "fuse.cached-downloads";

/// How many dead mounts, one above the other, are cleared away.
const DEAD_MOUNTS: usize = 16;

/// Opens the FUSE device.
///
/// # Errors
/// [`MountError::NoDevice`] or [`MountError::DeviceDenied`]: nothing can be mounted here.
pub fn open_device() -> Result<OwnedFd, MountError> {
    File::options().read(true).write(true).open("/dev/fuse").map(OwnedFd::from).map_err(|error| {
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => MountError::NoDevice,
            _ => MountError::DeviceDenied(error),
        }
    })
}

/// Says whether this user can mount at all, before anything is made.
///
/// # Errors
/// The device, the helper for ordinary users, or the leave to open a mount to others is missing.
pub fn preflight(allow_other: bool) -> Result<(), MountError> {
    if sys::uid() == 0 {
        return open_device().map(drop);
    }
    // The helper opens the device with its own rights.
    if !Path::new("/dev/fuse").exists() {
        return Err(MountError::NoDevice);
    }
    if !helper::is_installed() {
        return Err(MountError::NoHelper);
    }
    // Small systems (debootstrap's, say) lack it.
    if !Path::new("/etc/mtab").exists() {
        return Err(MountError::NoMtab);
    }
    if allow_other {
        let conf = std::fs::read_to_string("/etc/fuse.conf").unwrap_or_default();
        if !user_allow_other(&conf) {
            return Err(MountError::AllowOther);
        }
    }
    Ok(())
}

/// Mounts on a directory and returns the descriptor of `/dev/fuse` to serve it with.
///
/// Root mounts itself and always lets everybody in; an ordinary user mounts through fusermount3
/// and is alone in it unless `allow_other`. A dead mount of ours is detached and replaced. May
/// wait a few seconds. From the return on, whoever touches the mountpoint waits for the daemon's
/// answer to INIT, the caller included.
///
/// # Errors
/// See [`MountError`].
pub fn attach(path: &Path, allow_other: bool) -> Result<(OwnedFd, Mountpoint), MountError> {
    let path = locate(path)?;
    preflight(allow_other)?;
    clear(&path)?;
    check_directory(&path)?;
    let fd = if sys::uid() == 0 {
        let device = open_device()?;
        mount_as_root(&path, &device)?;
        device
    } else {
        let allow_other = if allow_other { ",allow_other" } else { "" };
        let source = source();
        helper::mount(
            &path,
            &format!("ro,nosuid,nodev,fsname={source},subtype={NAME}{allow_other}"),
        )?
    };
    let mounted = at(&path).map_err(MountError::Table)?;
    let Some(mounted) = mounted.filter(Mounted::is_ours) else {
        return Err(MountError::Failed {
            path,
            error: io::Error::other("it is not in the mount table after mounting"),
        });
    };
    let mountpoint = Mountpoint { path, device: mounted.device, detached: AtomicBool::new(false) };
    Ok((fd, mountpoint))
}

/// The source names the daemon, so that a second one can say who is in its way.
fn source() -> String {
    format!("{NAME}@{}", std::process::id())
}

fn clear(path: &Path) -> Result<(), MountError> {
    for _ in 0..DEAD_MOUNTS {
        let owned = || path.to_owned();
        match standing(path)? {
            Standing::Free => return Ok(()),
            Standing::Dead => {
                tracing::warn!(mountpoint = %path.display(), "detaching a dead mount of a predecessor");
                end(path, true)?;
            }
            Standing::Live(pid) => return Err(MountError::Live { path: owned(), pid }),
            Standing::DeadOther(kind) => {
                return Err(MountError::DeadOther { path: owned(), kind });
            }
            Standing::Other(kind) => {
                tracing::info!(mountpoint = %path.display(), kind, "mounting on top of another filesystem");
                return Ok(());
            }
        }
    }
    Err(MountError::Failed {
        path: path.to_owned(),
        error: io::Error::other("dead mounts stand on it that cannot be detached"),
    })
}

fn check_directory(path: &Path) -> Result<(), MountError> {
    let unusable = |error| MountError::unusable(path, error);
    if !std::fs::metadata(path).map_err(unusable)?.is_dir() {
        return Err(MountError::NotDirectory(path.to_owned()));
    }
    // A directory that cannot be listed may still be mounted on; only the warning is lost.
    if std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some()) {
        tracing::warn!(mountpoint = %path.display(), "the mountpoint is not empty; what is in it is hidden while mounted");
    }
    Ok(())
}

fn mount_as_root(path: &Path, device: &OwnedFd) -> Result<(), MountError> {
    let data = format!(
        "fd={},rootmode=40000,user_id={},group_id={},allow_other",
        device.as_raw_fd(),
        sys::uid(),
        sys::gid()
    );
    sys::mount_fuse(path, &source(), KIND, &data).map_err(|error| {
        let path = path.to_owned();
        match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => MountError::NotPermitted(path),
            Some(libc::ENODEV) => MountError::NoDevice,
            _ => MountError::Failed { path, error },
        }
    })
}

/// Unmounts a canonical path, as root by ourselves, else through fusermount3.
fn end(path: &Path, lazy: bool) -> Result<(), MountError> {
    if sys::uid() != 0 {
        return helper::unmount(path, lazy);
    }
    sys::unmount(path, lazy).map_err(|error| {
        let path = path.to_owned();
        match error.raw_os_error() {
            Some(libc::EBUSY) => MountError::Busy(path),
            Some(libc::EPERM) => MountError::NotPermitted(path),
            _ => MountError::Failed { path, error },
        }
    })
}

/// Unmounts a mount of ours, whoever serves it, and returns the process id of its daemon.
///
/// # Errors
/// [`MountError::NotOurs`]; [`MountError::Busy`] without `lazy`; what the system said.
pub fn unmount(path: &Path, lazy: bool) -> Result<Option<u32>, MountError> {
    let path = match locate(path) {
        Err(MountError::Missing(path)) => return Err(MountError::NotOurs { path, kind: None }),
        located => located?,
    };
    match at(&path).map_err(MountError::Table)? {
        Some(mounted) if mounted.is_ours() => {
            end(&path, lazy)?;
            Ok(mounted.pid())
        }
        other => Err(MountError::NotOurs { path, kind: other.map(|mounted| mounted.kind) }),
    }
}

/// How a mount ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detached {
    /// It was in use, so the path is free but the filesystem lives until its holders leave.
    pub lazily: bool,
    /// How many handles were open then; 0 when it was not in use.
    pub holders: usize,
}

/// A mount made by [`attach`]. Dropping it detaches the mount, lazily where it is in use.
#[derive(Debug)]
pub struct Mountpoint {
    path: PathBuf,
    device: (u32, u32),
    detached: AtomicBool,
}

impl Mountpoint {
    /// Returns the canonical path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Says whether the topmost mount on the path is still this one. Asks only the mount table.
    ///
    /// Device numbers are used again as soon as a mount has ended, so the daemon's process id in
    /// the source has to match as well.
    pub fn is_attached(&self) -> bool {
        at(&self.path).is_ok_and(|top| {
            top.is_some_and(|top| {
                top.is_ours() && top.device == self.device && top.source == source()
            })
        })
    }

    /// Raises the kernel's read-ahead, which FUSE caps at 128 KiB. Call it after INIT.
    ///
    /// # Errors
    /// Ordinary users may not; it costs speed where passthrough is off and nothing else.
    pub fn raise_read_ahead(&self, kib: u32) -> io::Result<()> {
        let (major, minor) = self.device;
        std::fs::write(format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb"), kib.to_string())
    }

    /// Unmounts: plainly first, lazily when something holds the mount.
    ///
    /// `open_handles` is only passed on. Does nothing when this mount is no longer the topmost
    /// on its path, so that it never ends somebody else's. The daemon must go on answering until
    /// this returns; it waits for the kernel, and for fusermount3 as an ordinary user.
    ///
    /// # Errors
    /// What the system said; the mount then still stands.
    pub fn detach(&self, open_handles: usize) -> Result<Detached, MountError> {
        let clean = Detached { lazily: false, holders: 0 };
        if self.detached.load(Ordering::Acquire) || !self.is_attached() {
            return Ok(clean);
        }
        let result = match end(&self.path, false) {
            Ok(()) => Ok(clean),
            Err(MountError::Busy(_)) => {
                end(&self.path, true).map(|()| Detached { lazily: true, holders: open_handles })
            }
            Err(error) => Err(error),
        };
        if result.is_ok() {
            self.detached.store(true, Ordering::Release);
        }
        result
    }
}

impl Drop for Mountpoint {
    fn drop(&mut self) {
        if let Err(error) = self.detach(0) {
            tracing::error!(%error, "the mount could not be detached");
        }
    }
}

/// Waits until a daemon has ended, at most `patience`, and says whether it has.
pub fn wait_gone(pid: u32, patience: Duration) -> bool {
    let end = Instant::now() + patience;
    while sys::alive(pid) && !is_zombie(pid) {
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// Says whether a process has ended and its parent has not asked how. It holds nothing any more.
fn is_zombie(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may hold anything, so look behind the last one.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X']))
}

#[cfg(test)]
mod tests;
