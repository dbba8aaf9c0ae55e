//! Finding out whether a directory can be a store, with texts that say what to do if it cannot.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::layout::{FORMAT, Layout};
use super::lock::{self, Lock, Taken};
use super::{StoreError, durable};

/// Makes the directories that are missing and takes the lock. Returns also whether the store is a
/// new one. Blocks on the disk.
///
/// # Errors
/// See [`StoreError`].
pub(super) fn prepare(dir: &Path, layout: &Layout) -> Result<(Lock, bool), StoreError> {
    let made = make_store_dir(dir)?;
    refuse_other_formats(dir)?;
    // What is committed later must not hang on a directory that a power cut takes away. The names
    // inside of that of the format become durable with the state, which every start writes.
    if make_dir(layout.root())? {
        durable::sync_dir(dir).map_err(|e| unusable(dir, &e))?;
    }
    if let Some(parent) = dir.parent().filter(|_| made) {
        durable::sync_dir(parent).map_err(|e| unusable(parent, &e))?;
    }
    refuse_others(dir, layout)?;
    let path = layout.lock();
    let lock = match lock::take(&path) {
        Ok(Taken::Ours(lock)) => lock,
        Ok(Taken::Theirs(pid)) => {
            let who = pid.map_or("another process".to_owned(), |pid| format!("process {pid}"));
            return Err(StoreError(format!(
                "the store {} is in use by {who}; stop it first, or choose another directory with --store",
                dir.display()
            )));
        }
        Err(e) => return Err(unusable(&path, &e)),
    };
    let new = make_dir(&layout.blobs())?;
    make_dir(&layout.parts())?;
    make_dir(&layout.trees())?;
    try_commit(layout)?;
    Ok((lock, new))
}

/// Says why a path of the store cannot be used, and what to do.
pub(super) fn unusable(path: &Path, error: &io::Error) -> StoreError {
    let shown = path.display();
    let another = "or choose another directory with --store";
    StoreError(match error.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "the store path {shown} is not writable: {error}; give it to the user that runs the daemon, {another}"
        ),
        io::ErrorKind::ReadOnlyFilesystem => format!(
            "the store path {shown} lies on a read-only filesystem; mount it writable, {another}"
        ),
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            format!("the store path {shown} is not a directory; remove what is there, {another}")
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => format!(
            "the store path {shown} cannot be written: {error}; make room on its filesystem, {another}"
        ),
        io::ErrorKind::CrossesDevices => format!(
            "the store path {shown} lies on another filesystem than the rest of its store; all of a store must lie on one, {another}"
        ),
        _ => format!("the store path {shown} cannot be used: {error}; repair it, {another}"),
    })
}

/// Makes the directory of the store, but not those above it: a typing error should not become a
/// store at some odd place. Returns whether it was missing.
fn make_store_dir(dir: &Path) -> Result<bool, StoreError> {
    match make_dir(dir) {
        Err(Made::NoParent) => {
            let parent = dir.parent().unwrap_or(dir);
            Err(StoreError(format!(
                "the store {} cannot be made, because its parent directory {} does not exist; create that first, or choose another directory with --store",
                dir.display(),
                parent.display()
            )))
        }
        made => made.map_err(StoreError::from),
    }
}

/// Why a directory was not made.
enum Made {
    NoParent,
    Unusable(StoreError),
}

impl From<Made> for StoreError {
    fn from(made: Made) -> StoreError {
        match made {
            Made::NoParent => StoreError(
                "the directory of the store was removed while it was opened; start again"
                    .to_owned(),
            ),
            Made::Unusable(error) => error,
        }
    }
}

/// Makes one directory, for us alone, and returns whether it was missing.
fn make_dir(path: &Path) -> Result<bool, Made> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(Made::NoParent),
        // mkdir(2) may say that the filesystem is read-only before it says that the name exists.
        Err(e) => match fs::metadata(path) {
            Ok(meta) if meta.is_dir() => Ok(false),
            Ok(_) => Err(Made::Unusable(unusable(path, &io::ErrorKind::NotADirectory.into()))),
            Err(_) => Err(Made::Unusable(unusable(path, &e))),
        },
    }
}

/// Refuses directories in which somebody else could make or replace files: they could have us write
/// elsewhere, by way of symbolic links, or serve what they like. Leaves alone what the filesystem
/// makes up, as it does where it maps users or knows no modes: a file made just now tells.
fn refuse_others(dir: &Path, layout: &Layout) -> Result<(), StoreError> {
    let root = layout.root();
    let probe = root.join(format!("probe-{}", std::process::id()));
    let make = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(&probe);
    let made = make().or_else(|error| match error.kind() {
        // Of a predecessor with our number, that was killed here.
        io::ErrorKind::AlreadyExists => fs::remove_file(&probe).and_then(|()| make()),
        _ => Err(error),
    });
    let ours = made.and_then(|file| file.metadata());
    let _ = fs::remove_file(&probe);
    let ours = ours.map_err(|e| unusable(root, &e))?;
    for path in [dir, root] {
        let meta = fs::metadata(path).map_err(|e| unusable(path, &e))?;
        let open = meta.mode() & 0o002 != 0;
        let why = if ![0, ours.uid()].contains(&meta.uid()) {
            format!("belongs to the user {}", meta.uid())
        } else if open && ours.mode() & 0o777 == 0o600 {
            format!("may be written by everybody (its mode is {:o})", meta.mode() & 0o7777)
        } else {
            continue;
        };
        return Err(StoreError(format!(
            "the store path {} {why}, and whoever can write there can have files replaced and read; make it a directory of the daemon's own user that others cannot write, or choose another directory with --store (one inside will do)",
            path.display()
        )));
    }
    Ok(())
}

/// Refuses a store that another version of the program has made.
fn refuse_other_formats(dir: &Path) -> Result<(), StoreError> {
    for entry in fs::read_dir(dir).map_err(|e| unusable(dir, &e))? {
        let entry = entry.map_err(|e| unusable(dir, &e))?;
        let name = entry.file_name();
        let is_format = name.to_str().is_some_and(|name| {
            name != FORMAT
                && name
                    .strip_prefix('v')
                    .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        });
        if is_format && entry.path().is_dir() {
            return Err(StoreError(format!(
                "the store {} has the format {}, this program knows only {FORMAT}; run the program that made it, or choose another directory with --store",
                dir.display(),
                name.display()
            )));
        }
    }
    Ok(())
}

/// Does once what every commit does with names, so that a store in which it cannot work is known
/// before anything is downloaded into it.
fn try_commit(layout: &Layout) -> Result<(), StoreError> {
    let (part, blob) = (layout.parts().join("probe"), layout.blobs().join("probe"));
    let tried = File::create(&part)
        .map_err(|e| unusable(&layout.parts(), &e))
        .and_then(|_| fs::rename(&part, &blob).map_err(|e| unusable(&layout.blobs(), &e)));
    // Recovery, which comes next, would remove them too.
    let _ = fs::remove_file(&part);
    let _ = fs::remove_file(&blob);
    tried
}
