//! One daemon per store.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::sys;

/// The lock of a store; dropping it, or the end of the process, gives it back.
pub(super) struct Lock {
    _file: File,
}

/// What came of trying to take the lock.
pub(super) enum Taken {
    /// It is ours.
    Ours(Lock),
    /// Another process has it; its pid if it has written it already.
    Theirs(Option<u32>),
}

/// The pid is written at a fixed width over the old one: replacing it needs no space, so a full
/// disk does not keep a daemon from starting.
const WIDTH: usize = 10;

/// How long another may keep it: a process that was killed does until the last of it is gone.
const PATIENCE: Duration = Duration::from_secs(1);
const BETWEEN: Duration = Duration::from_millis(20);

/// Takes the lock, and writes our pid into it. Waits a second for another to give it back.
///
/// # Errors
/// What open(2) or flock(2) said.
pub(super) fn take(path: &Path) -> io::Result<Taken> {
    let until = Instant::now() + PATIENCE;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    while !sys::try_lock_exclusive(&file)? {
        if Instant::now() >= until {
            return Ok(Taken::Theirs(holder(&file)));
        }
        std::thread::sleep(BETWEEN);
    }
    let pid = format!("{:<WIDTH$}\n", std::process::id());
    let written =
        file.write_all_at(pid.as_bytes(), 0).and_then(|()| file.set_len(pid.len() as u64));
    if let Err(e) = written {
        // The lock is what counts; the pid is for the message a second daemon prints.
        tracing::warn!(path = %path.display(), "the pid cannot be written into the lock: {e}");
    }
    Ok(Taken::Ours(Lock { _file: file }))
}

fn holder(file: &File) -> Option<u32> {
    let mut text = [0; WIDTH + 1];
    let read = file.read_at(&mut text, 0).ok()?;
    std::str::from_utf8(&text[..read]).ok()?.trim().parse().ok()
}
