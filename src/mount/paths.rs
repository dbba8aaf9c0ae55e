//! Pure and nearly pure checks of paths, made before anything is mounted.

use std::io;
use std::path::{Component, Path, PathBuf};

use super::MountError;

/// Returns the canonical path of a mountpoint, also when a dead mount stands on it.
///
/// # Errors
/// It does not exist or cannot be reached.
pub fn locate(path: &Path) -> Result<PathBuf, MountError> {
    match path.canonicalize() {
        Ok(path) => Ok(path),
        // The last component is a FUSE mount without a daemon: resolve what is above it.
        Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => match parts(path) {
            Some((parent, name)) => parent
                .canonicalize()
                .map(|parent| parent.join(name))
                .map_err(|error| MountError::unusable(path, error)),
            None => Err(MountError::unusable(path, error)),
        },
        Err(error) => Err(MountError::unusable(path, error)),
    }
}

fn parts(path: &Path) -> Option<(&Path, &std::ffi::OsStr)> {
    let parent = path.parent()?;
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    Some((parent, path.file_name()?))
}

/// Refuses a mountpoint that would hide what the daemon itself needs: it would wait for itself.
///
/// `needed` pairs a word for the message with a path, which need not exist yet.
///
/// # Errors
/// [`MountError::Inside`] for the first one that is inside; the mountpoint cannot be used.
pub fn refuse_inside<'a>(
    mountpoint: &Path,
    needed: impl IntoIterator<Item = (&'a str, &'a Path)>,
) -> Result<(), MountError> {
    let mountpoint = locate(mountpoint)?;
    for (what, path) in needed {
        let resolved =
            resolve(path).map_err(|error| MountError::Unusable { path: path.to_owned(), error })?;
        if resolved.starts_with(&mountpoint) {
            return Err(MountError::Inside {
                what: what.to_owned(),
                path: path.to_owned(),
                mountpoint,
            });
        }
    }
    Ok(())
}

/// Returns the canonical form of a path whose last components may be missing.
///
/// # Errors
/// The working directory is gone.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    for known in path.ancestors() {
        // Not existing, not permitted, or behind a dead mount: look further up.
        if let Ok(canonical) = known.canonicalize() {
            let rest = path.strip_prefix(known).unwrap_or(Path::new(""));
            return Ok(append(canonical, rest));
        }
    }
    Ok(append(PathBuf::from("/"), &path))
}

/// Appends components, taking `..` by its letters: nothing below exists, so no symlink is there.
fn append(mut base: PathBuf, rest: &Path) -> PathBuf {
    for component in rest.components() {
        match component {
            Component::Normal(name) => base.push(name),
            Component::ParentDir => {
                base.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    base
}

/// Says whether `/etc/fuse.conf` lets ordinary users open their mounts to others.
pub fn user_allow_other(fuse_conf: &str) -> bool {
    fuse_conf
        .lines()
        .map(|line| line.split('#').next().unwrap_or("").trim())
        .any(|line| line == "user_allow_other")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inside_is_refused_also_when_it_does_not_exist_yet() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mountpoint = dir.path().join("mnt");
        std::fs::create_dir(&mountpoint).expect("is made");
        let outside = dir.path().join("store");
        assert!(refuse_inside(&mountpoint, [("store", outside.as_path())]).is_ok());

        let not_there = mountpoint.join("deep/store");
        let error = refuse_inside(
            &mountpoint,
            [("catalog", outside.as_path()), ("store", not_there.as_path())],
        )
        .expect_err("is inside");
        let text = error.to_string();
        assert!(text.contains("store") && text.contains("deep/store"), "{text}");
        assert!(error.is_environment());

        let back = dir.path().join("absent/../mnt/store");
        assert!(refuse_inside(&mountpoint, [("store", back.as_path())]).is_err());
    }

    #[test]
    fn a_symlink_does_not_hide_that_something_is_inside() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mountpoint = dir.path().join("mnt");
        std::fs::create_dir_all(mountpoint.join("x")).expect("is made");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(mountpoint.join("x"), &link).expect("is made");
        assert!(refuse_inside(&mountpoint, [("store", link.join("store").as_path())]).is_err());
        // A name that merely begins alike is outside.
        let alike = dir.path().join("mnt2");
        assert!(refuse_inside(&mountpoint, [("store", alike.as_path())]).is_ok());
    }

    #[test]
    fn everything_is_inside_the_root() {
        assert!(refuse_inside(Path::new("/"), [("store", Path::new("/var"))]).is_err());
    }

    #[test]
    fn a_missing_mountpoint_and_a_file_have_their_own_words() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let missing = locate(&dir.path().join("no")).expect_err("is missing");
        assert!(missing.to_string().contains("mkdir"), "{missing}");
        let file = dir.path().join("file");
        std::fs::write(&file, "").expect("is written");
        let below = locate(&file.join("x")).expect_err("is below a file");
        assert!(below.to_string().contains("not a directory"), "{below}");
    }

    #[test]
    fn only_a_line_of_its_own_allows_others() {
        assert!(user_allow_other("# x\n  user_allow_other \n"));
        assert!(user_allow_other("user_allow_other # yes\n"));
        assert!(!user_allow_other("#user_allow_other\nmount_max = 1000\n"));
        assert!(!user_allow_other(""));
    }
}
