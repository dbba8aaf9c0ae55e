//! Where catalogs are, and how they are read.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{Owner, Problem};
use crate::document::Format;

/// A catalog of this length is a mistake.
const LONGEST: u64 = 64 << 20;

/// What the operator named.
pub(super) enum Place {
    File(PathBuf),
    Dir(PathBuf),
}

impl Place {
    /// Finds out which of the two a path is.
    pub(super) fn find(path: &Path) -> Result<Place, Problem> {
        let missing = |e: io::Error| Problem {
            file: path.to_owned(),
            line: None,
            text: format!(
                "the catalog cannot be used: {e}; create the file or directory, or name another"
            ),
        };
        let path = std::path::absolute(path).map_err(missing)?;
        match std::fs::metadata(&path) {
            Ok(meta) if meta.is_dir() => Ok(Place::Dir(path)),
            Ok(_) => Ok(Place::File(path)),
            Err(e) => Err(missing(e)),
        }
    }

    /// Returns the file, if it is one.
    pub(super) fn file(&self) -> Option<&Path> {
        match self {
            Place::File(file) => Some(file),
            Place::Dir(_) => None,
        }
    }

    /// Says whether the owner is a file here.
    pub(super) fn has(&self, owner: &Owner) -> bool {
        let path = Path::new(owner.as_str());
        match self {
            Place::File(file) => file == path,
            Place::Dir(dir) => path.parent() == Some(dir),
        }
    }
}

/// Returns what is wrong with places that an operator names, before anything of them is read.
pub fn missing(paths: &[PathBuf]) -> Vec<Problem> {
    paths.iter().filter_map(|path| Place::find(path).err()).collect()
}

/// Tells the good places from the problems.
pub(super) fn split(
    places: impl Iterator<Item = Result<Place, Problem>>,
) -> (Vec<Place>, Vec<Problem>) {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for place in places {
        match place {
            Ok(place) => good.push(place),
            Err(problem) => bad.push(problem),
        }
    }
    (good, bad)
}

/// Returns the owner of a catalog.
pub(super) fn owner_of(path: &Path) -> Owner {
    Owner::new(&path.to_string_lossy())
}

/// Returns the directory of a catalog.
pub(super) fn dir_of(file: &Path) -> &Path {
    // An absolute path of a file has a parent.
    file.parent().unwrap_or(Path::new("/"))
}

/// Lists the catalogs in a directory, in order.
pub(super) fn list(dir: &Path, problems: &mut Vec<Problem>) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if hidden || Format::of(&path).is_none() {
            continue;
        }
        if path.to_str().is_none() {
            problems.push(Problem {
                file: path,
                line: None,
                text: "is ignored: its name is not UTF-8; rename it".to_owned(),
            });
            continue;
        }
        files.push(path);
    }
    files.sort();
    Ok(files)
}

/// Reads a file whole, and when it was changed.
pub(super) fn read(path: &Path) -> io::Result<(Vec<u8>, SystemTime)> {
    // Asked before opening: to open a fifo would wait for its writer.
    let meta = std::fs::metadata(path)?;
    if !meta.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    if meta.len() > LONGEST {
        return Err(io::Error::other("it is longer than 64 MiB"));
    }
    // Some filesystems give a time before 1970 where they have none; it cannot be remembered.
    Ok((std::fs::read(path)?, meta.modified()?.max(SystemTime::UNIX_EPOCH)))
}
