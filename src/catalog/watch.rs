//! Says when catalogs may have changed.
//!
//! inotify tells at once, but not of everything: a directory that was deleted and made again, a
//! target of a symlink elsewhere, a network filesystem, no watches left. So a look at names, times
//! and sizes every half second stands behind it, and is all there is where inotify cannot be had.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

/// How often to look where no event came.
const LOOK: Duration = Duration::from_millis(500);
/// How long it must be quiet after an event, so that a writer can finish.
const QUIET: Duration = Duration::from_millis(100);
/// How long a writer who never pauses is waited for.
const IMPATIENT: Duration = Duration::from_millis(500);

/// A running watch; dropping it ends it, and waits for a callback that runs.
pub struct Watcher {
    stop: Sender<Signal>,
    thread: Option<JoinHandle<()>>,
}

enum Signal {
    Event,
    Stop,
}

impl Watcher {
    /// Watches directories, not what is below them. The first call comes at once.
    pub(super) fn start(dirs: Vec<PathBuf>, on_change: impl Fn() + Send + 'static) -> Watcher {
        let (stop, signals) = channel();
        let events = stop.clone();
        let mut watched = Watched::new(dirs, events);
        watched.refresh();
        let thread = std::thread::Builder::new()
            .name("catalog-watch".to_owned())
            .spawn(move || run(watched, &signals, on_change));
        Watcher {
            stop,
            thread: thread
                .inspect_err(|e| tracing::error!("catalogs are not watched: no thread: {e}"))
                .ok(),
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.stop.send(Signal::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(mut watched: Watched, signals: &Receiver<Signal>, on_change: impl Fn()) {
    // For what changed between the last reading and the first look.
    on_change();
    loop {
        let event = match signals.recv_timeout(LOOK) {
            Ok(Signal::Event) => {
                if !quiet(signals) {
                    return;
                }
                true
            }
            Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => false,
        };
        if watched.refresh() || event {
            on_change();
        }
    }
}

/// Waits until no event has come for a while; `false` when told to stop.
fn quiet(signals: &Receiver<Signal>) -> bool {
    let until = Instant::now() + IMPATIENT;
    while Instant::now() < until {
        match signals.recv_timeout(QUIET) {
            Ok(Signal::Event) => {}
            Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
            Err(RecvTimeoutError::Timeout) => return true,
        }
    }
    true
}

/// The directories, what inotify watches of them, and what they looked like last.
struct Watched {
    dirs: Vec<(PathBuf, Option<(u64, u64)>)>,
    inotify: Option<RecommendedWatcher>,
    look: u64,
}

impl Watched {
    fn new(mut dirs: Vec<PathBuf>, events: Sender<Signal>) -> Watched {
        dirs.sort();
        dirs.dedup();
        let handler = move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| !matters(&event.kind)) {
                return;
            }
            // The receiver is gone only when the watch is ending.
            let _ = events.send(Signal::Event);
        };
        let inotify = notify::recommended_watcher(handler)
            .inspect_err(|e| {
                tracing::warn!("no inotify ({e}): catalogs are looked at every {LOOK:?}");
            })
            .ok();
        Watched { dirs: dirs.into_iter().map(|dir| (dir, None)).collect(), inotify, look: 0 }
    }

    /// Watches directories that are new or were made again, and says whether anything looks
    /// different.
    fn refresh(&mut self) -> bool {
        for (dir, known) in &mut self.dirs {
            let now = std::fs::metadata(&dir).ok().map(|m| (m.dev(), m.ino()));
            let Some(inotify) = self.inotify.as_mut().filter(|_| now != *known) else {
                continue;
            };
            if known.is_some() {
                // Fails when the watch went with the directory.
                let _ = inotify.unwatch(dir);
            }
            *known = now;
            if now.is_some()
                && let Err(e) = inotify.watch(dir, RecursiveMode::NonRecursive)
            {
                tracing::warn!(
                    "{}: no inotify watch ({e}): looked at every {LOOK:?}",
                    dir.display()
                );
            }
        }
        let mut hasher = DefaultHasher::new();
        for (dir, _) in &self.dirs {
            look(dir, &mut hasher);
        }
        let look = hasher.finish();
        std::mem::replace(&mut self.look, look) != look
    }
}

/// Our own reading must not look like a change.
fn matters(kind: &EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}

/// Hashes what a directory looks like from outside.
fn look(dir: &Path, hasher: &mut DefaultHasher) {
    let entries = std::fs::read_dir(dir);
    entries.is_ok().hash(hasher);
    let Ok(entries) = entries else {
        return;
    };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if let Ok(meta) = std::fs::metadata(&path) {
            let changed = (meta.ctime(), meta.ctime_nsec());
            (meta.dev(), meta.ino(), meta.len(), changed).hash(hasher);
        }
        path.hash(hasher);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_inotify_looking_is_enough() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("d");
        std::fs::create_dir(&dir).unwrap();
        let mut watched = Watched::new(vec![dir.clone()], channel().0);
        watched.inotify = None;
        watched.refresh();
        let mut seen = |what: &str| {
            assert!(watched.refresh(), "{what}");
            assert!(!watched.refresh(), "{what}, and then nothing");
        };
        std::fs::write(dir.join("a.toml"), "1").unwrap();
        seen("a new file");
        std::fs::write(dir.join("a.toml"), "12").unwrap();
        seen("a longer file");
        std::fs::rename(dir.join("a.toml"), dir.join("b.toml")).unwrap();
        seen("a renamed file");
        std::fs::write(root.path().join("target"), "1").unwrap();
        std::os::unix::fs::symlink("../target", dir.join("c.toml")).unwrap();
        seen("a symlink");
        std::fs::write(root.path().join("target"), "12").unwrap();
        seen("the target of a symlink elsewhere");
        std::fs::remove_dir_all(&dir).unwrap();
        seen("no directory");
        std::fs::create_dir(&dir).unwrap();
        seen("an empty directory");
    }
}
