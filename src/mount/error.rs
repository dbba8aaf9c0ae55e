//! Why a mount cannot be made or ended.

use std::io;
use std::path::{Path, PathBuf};

/// Why a mount cannot be made or ended; the text names the thing and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The directory does not exist.
    #[error("the mountpoint {shown} does not exist; make it first: mkdir -p {shown:?}", shown = .0.display())]
    Missing(PathBuf),
    /// The mountpoint is a file or something else.
    #[error("the mountpoint {} is not a directory; give an existing, empty directory", .0.display())]
    NotDirectory(PathBuf),
    /// The mountpoint cannot be looked at.
    #[error("cannot use the mountpoint {}: {error}", path.display())]
    Unusable {
        /// The mountpoint.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A daemon serves this mountpoint already.
    #[error(
        "{} is already mounted by a running cached-downloads{}; stop that one first: cached-downloads unmount {path:?}",
        path.display(),
        pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    Live {
        /// The mountpoint.
        path: PathBuf,
        /// Who serves it.
        pid: Option<u32>,
    },
    /// Another FUSE filesystem whose daemon is gone is mounted there.
    #[error(
        "{} is a dead mount of another filesystem ({kind}); unmount it first: umount -l {path:?}",
        path.display()
    )]
    DeadOther {
        /// The mountpoint.
        path: PathBuf,
        /// The type of that filesystem.
        kind: String,
    },
    /// No FUSE on this machine or in this container.
    #[error(
        "/dev/fuse is missing, so nothing can be mounted; load the module (modprobe fuse), or in a container pass the device and the right to mount (--device /dev/fuse --cap-add SYS_ADMIN)"
    )]
    NoDevice,
    /// The device may not be opened.
    #[error(
        "/dev/fuse cannot be opened: {0}; run as root, or give this user access to the device (in a container: --device /dev/fuse)"
    )]
    DeviceDenied(io::Error),
    /// mount(2) refused.
    #[error(
        "not permitted to mount on {}: mounting needs CAP_SYS_ADMIN (in a container: --cap-add SYS_ADMIN, and an AppArmor profile that lets it mount), or run as an ordinary user with fusermount3 installed",
        .0.display()
    )]
    NotPermitted(PathBuf),
    /// mount(2) failed.
    #[error("cannot mount on {}: {error}", path.display())]
    Failed {
        /// The mountpoint.
        path: PathBuf,
        /// What mount(2) said.
        error: io::Error,
    },
    /// The helper for ordinary users is not installed.
    #[error(
        "fusermount3 was not found in PATH; ordinary users mount with its help: install it (Debian: apt install fuse3), or run as root"
    )]
    NoHelper,
    /// The helper for ordinary users could not unmount.
    #[error(
        "/etc/mtab is missing, and without it fusermount3 unmounts nothing for an ordinary user; as root: ln -s ../proc/self/mounts /etc/mtab"
    )]
    NoMtab,
    /// The helper for ordinary users failed.
    #[error("fusermount3 cannot {action} {}: {message}", path.display())]
    Helper {
        /// "mount on" or "unmount".
        action: &'static str,
        /// The mountpoint.
        path: PathBuf,
        /// What it printed.
        message: String,
    },
    /// `--allow-other` as an ordinary user.
    #[error(
        "--allow-other as an ordinary user needs a line `user_allow_other` in /etc/fuse.conf; add it as root, leave the flag out, or run as root"
    )]
    AllowOther,
    /// The daemon would have to ask itself.
    #[error(
        "the {what} {} is inside the mountpoint {}, so the daemon would wait for itself; move one of them",
        path.display(),
        mountpoint.display()
    )]
    Inside {
        /// What is inside: "store", "control socket", ...
        what: String,
        /// Where it is.
        path: PathBuf,
        /// The mountpoint.
        mountpoint: PathBuf,
    },
    /// Nothing of ours is mounted there.
    #[error("{} is not a mount of cached-downloads{}; see the mounts with: findmnt -t fuse.cached-downloads",
        path.display(),
        kind.as_ref().map(|kind| format!(" but of {kind}")).unwrap_or_default()
    )]
    NotOurs {
        /// The path.
        path: PathBuf,
        /// The type of what is mounted there instead.
        kind: Option<String>,
    },
    /// Somebody uses the mount.
    #[error(
        "{shown} is busy: a process has a file open or works in it (see fuser -vm {shown:?}); end it, or detach the mount and let its holders finish: cached-downloads unmount --lazy {shown:?}",
        shown = .0.display()
    )]
    Busy(PathBuf),
    /// The mount table cannot be read.
    #[error("{0}")]
    Table(io::Error),
}

impl MountError {
    /// Says whether the machine or the way of calling must change before this can succeed, which
    /// is another exit code than a failure.
    pub fn is_environment(&self) -> bool {
        !matches!(self, MountError::Live { .. } | MountError::NotOurs { .. } | MountError::Busy(_))
    }

    /// Returns the error for a mountpoint that stat(2) or realpath(3) refused.
    pub(super) fn unusable(path: &Path, error: io::Error) -> MountError {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::NotFound => MountError::Missing(path),
            io::ErrorKind::NotADirectory => MountError::NotDirectory(path),
            _ => MountError::Unusable { path, error },
        }
    }
}
