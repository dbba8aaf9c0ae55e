//! What is made of files, and made anew when they change.

use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::settings_error::SettingsError;

type Load<T> = dyn Fn() -> Result<Arc<T>, SettingsError> + Send + Sync;

/// The last good state of some files.
///
/// Files are replaced one after the other and written bit by bit. So what cannot be used, a
/// certificate beside the key of another, say, is no error but the middle of a change: the state
/// before it stays until there is a better one.
pub(super) struct Material<T: ?Sized> {
    files: Vec<PathBuf>,
    load: Box<Load<T>>,
    state: Mutex<State<T>>,
}

struct State<T: ?Sized> {
    current: Arc<T>,
    stamps: Vec<Option<Stamp>>,
    /// Why the files as they are now cannot be used.
    problem: Option<String>,
}

/// What tells one state of a file from another; symlinks are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl<T: ?Sized> Material<T> {
    /// Reads the files for the first time; blocks while it does.
    ///
    /// # Errors
    /// What `load` finds wrong with them.
    pub(super) fn new(
        files: Vec<PathBuf>,
        load: impl Fn() -> Result<Arc<T>, SettingsError> + Send + Sync + 'static,
    ) -> Result<Material<T>, SettingsError> {
        // Stamped before they are read, here and later: a change in between is seen next time.
        let stamps = stamps(&files);
        let state = State { current: load()?, stamps, problem: None };
        Ok(Material { files, load: Box::new(load), state: Mutex::new(state) })
    }

    /// Returns the last good state.
    pub(super) fn current(&self) -> Arc<T> {
        Arc::clone(&self.lock().current)
    }

    /// Returns why the files as they are now cannot be used, if that is so.
    pub(super) fn problem(&self) -> Option<String> {
        self.lock().problem.clone()
    }

    /// Looks whether the files have changed, and reads them if so; blocks while it does. Logs each
    /// change once, whether it can be used or not, however many look at the same time.
    pub(super) fn look(&self) {
        let stamps = stamps(&self.files);
        {
            let state = self.lock();
            // What is broken is read each time: a clock tick may hide the rest of a change.
            if state.stamps == stamps && state.problem.is_none() {
                return;
            }
        }
        let loaded = (self.load)();
        let mut state = self.lock();
        let changed = state.stamps != stamps;
        state.stamps = stamps;
        match loaded {
            Ok(new) => {
                state.current = new;
                let mended = state.problem.take().is_some();
                drop(state);
                if changed || mended {
                    tracing::info!(files = %self, "changed: new connections use what they hold now");
                }
            }
            Err(error) => {
                let problem = format!("{error}; what the files held before is used");
                state.problem = Some(problem.clone());
                drop(state);
                if changed {
                    tracing::warn!(files = %self, "changed: {problem}");
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: ?Sized> fmt::Display for Material<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files: Vec<_> = self.files.iter().map(|file| file.display().to_string()).collect();
        f.write_str(&files.join(", "))
    }
}

impl<T: ?Sized> fmt::Debug for Material<T> {
    /// Shows the files; what they hold may be a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Material({self})")
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Option<Stamp>> {
    let stamp = |found: Metadata| Stamp {
        device: found.dev(),
        inode: found.ino(),
        size: found.size(),
        modified: (found.mtime(), found.mtime_nsec()),
    };
    // A file that is not there has no stamp; reading it will say why.
    files.iter().map(|file| std::fs::metadata(file).ok().map(stamp)).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Material of two files that fit if they hold the same text.
    fn pair(dir: &Path) -> Result<Material<String>, SettingsError> {
        let files = vec![dir.join("a"), dir.join("b")];
        let (a, b) = (files[0].clone(), files[1].clone());
        Material::new(files, move || {
            let read = |file: &Path| {
                std::fs::read_to_string(file).map_err(|error| SettingsError::Read {
                    origin: "o".to_owned(),
                    file: file.to_owned(),
                    error,
                })
            };
            let (one, other) = (read(&a)?, read(&b)?);
            match one == other {
                true => Ok(Arc::new(one)),
                false => Err(SettingsError::Client { reason: "they do not fit".to_owned() }),
            }
        })
    }

    fn replace(file: &Path, text: &str) {
        let new = file.with_extension("new");
        std::fs::write(&new, text).expect("written");
        std::fs::rename(new, file).expect("renamed");
    }

    #[test]
    fn a_pair_counts_when_both_are_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        assert!(pair(dir.path()).is_err(), "nothing to begin with");
        replace(&a, "1");
        replace(&b, "1");
        let material = pair(dir.path()).expect("they fit");
        let see = || {
            material.look();
            (material.current().as_str().to_owned(), material.problem().is_some())
        };
        assert_eq!(see(), ("1".to_owned(), false));
        replace(&a, "2");
        assert_eq!(see(), ("1".to_owned(), true));
        assert_eq!(see(), ("1".to_owned(), true), "and again");
        replace(&b, "2");
        assert_eq!(see(), ("2".to_owned(), false));
        std::fs::remove_file(&a).expect("removed");
        assert_eq!(see(), ("2".to_owned(), true));
        let problem = material.problem().expect("a problem");
        assert!(problem.contains("cannot read") && problem.contains("before"), "{problem}");
        replace(&a, "2");
        assert_eq!(see(), ("2".to_owned(), false));
    }

    #[test]
    fn what_has_not_changed_is_not_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("a");
        std::fs::write(&file, "1").expect("written");
        let reads = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = Arc::clone(&reads);
        let material = Material::new(vec![file.clone()], move || {
            Ok(Arc::new(count.fetch_add(1, std::sync::atomic::Ordering::Relaxed)))
        });
        let material = material.expect("read");
        material.look();
        material.look();
        assert_eq!(*material.current(), 0);
        replace(&file, "2");
        material.look();
        material.look();
        assert_eq!(*material.current(), 1);
        assert_eq!(reads.load(std::sync::atomic::Ordering::Relaxed), 2);
    }
}
