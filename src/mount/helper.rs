//! Mounting as an ordinary user, through the setuid helper fusermount3.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use super::MountError;
use crate::sys;

const HELPER: &str = "fusermount3";

/// Says whether fusermount3 is found in PATH.
pub(super) fn is_installed() -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(HELPER).is_file()))
}

/// Mounts with fusermount3 and returns the descriptor of `/dev/fuse` that it sends back. Waits
/// for the helper.
///
/// # Errors
/// It is not installed, or refused.
pub(super) fn mount(path: &Path, options: &str) -> Result<OwnedFd, MountError> {
    let failed =
        |message: String| MountError::Helper { action: "mount on", path: path.to_owned(), message };
    let (ours, theirs) = UnixStream::pair().map_err(|error| failed(error.to_string()))?;
    // The helper finds its end of the pair by number. As its standard input it needs no
    // descriptor that other children could inherit too.
    let child = Command::new(HELPER)
        .arg("-o")
        .arg(options)
        .arg("--")
        .arg(path)
        .env("_FUSE_COMMFD", "0")
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| not_started(error, "mount on", path))?;
    let received = sys::receive_fd(&ours);
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    match received {
        Ok(fd) if output.status.success() => Ok(fd),
        _ => Err(failed(said(&output))),
    }
}

/// Unmounts with fusermount3. Waits for the helper.
///
/// # Errors
/// It is not installed, or refused; [`MountError::Busy`] when something holds the mount.
pub(super) fn unmount(path: &Path, lazy: bool) -> Result<(), MountError> {
    let output = Command::new(HELPER)
        .arg(if lazy { "-uz" } else { "-u" })
        .arg("--")
        .arg(path)
        .stdin(Stdio::null())
        .env("LC_ALL", "C")
        .output()
        .map_err(|error| not_started(error, "unmount", path))?;
    if output.status.success() {
        return Ok(());
    }
    let message = said(&output);
    if message.contains("busy") {
        return Err(MountError::Busy(path.to_owned()));
    }
    Err(MountError::Helper { action: "unmount", path: path.to_owned(), message })
}

fn not_started(error: io::Error, action: &'static str, path: &Path) -> MountError {
    if error.kind() == io::ErrorKind::NotFound {
        return MountError::NoHelper;
    }
    MountError::Helper { action, path: path.to_owned(), message: error.to_string() }
}

/// Returns what the helper printed, without its name in front.
fn said(output: &std::process::Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let text = text.trim();
    if text.is_empty() {
        return format!("it ended with {} and no message", output.status);
    }
    text.lines().map(|line| line.trim_start_matches("fusermount3: ")).collect::<Vec<_>>().join("; ")
}
