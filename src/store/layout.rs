//! Where things lie in the store, and what they are called.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::types::BlobId;

/// The directory of this format; a change that an older program cannot read gets another number.
pub(super) const FORMAT: &str = "v1";

/// Ids at or above this are no ids: far beyond what can be counted up to, and small enough for the
/// nodeid of a member of a tree to hold one beside the number of the member.
pub(super) const ID_LIMIT: u64 = 1 << 41;

const META: &str = ".meta";
const NEW: &str = ".new";
const INDEX: &str = ".index";
const FILLED: &str = ".filled";

/// The paths of one store.
#[derive(Debug)]
pub(super) struct Layout {
    root: PathBuf,
}

/// What a file in `blobs/`, `parts/` or `trees/` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The bytes of a blob or a part, or those that a tree has unpacked.
    Data,
    /// The sidecar of a blob or a part.
    Meta,
    /// What lies in a tree.
    Index,
    /// Which bytes of a tree are unpacked.
    Filled,
}

/// The files of a tree. The index comes first: without one the others are rubbish.
pub(super) const OF_TREE: [Kind; 3] = [Kind::Index, Kind::Filled, Kind::Data];

impl Layout {
    /// Returns the paths below the directory `dir`.
    pub(super) fn new(dir: &Path) -> Layout {
        Layout { root: dir.join(FORMAT) }
    }

    /// The directory of this format.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The lock file.
    pub(super) fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// What holds of the store as a whole.
    pub(super) fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// Committed blobs.
    pub(super) fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    /// Files that are being written.
    pub(super) fn parts(&self) -> PathBuf {
        self.root.join("parts")
    }

    /// The bytes of a committed blob.
    pub(super) fn data(&self, id: BlobId) -> PathBuf {
        self.blobs().join(id.to_string())
    }

    /// The sidecar of a committed blob.
    pub(super) fn meta(&self, id: BlobId) -> PathBuf {
        self.blobs().join(format!("{id}{META}"))
    }

    /// The bytes of a blob on its way.
    pub(super) fn part(&self, id: BlobId) -> PathBuf {
        self.parts().join(id.to_string())
    }

    /// The sidecar of a blob on its way.
    pub(super) fn part_meta(&self, id: BlobId) -> PathBuf {
        self.parts().join(format!("{id}{META}"))
    }

    /// A sidecar of either kind that is being written.
    pub(super) fn new_meta(&self, id: BlobId) -> PathBuf {
        self.parts().join(format!("{id}{META}{NEW}"))
    }

    /// What was made of archives.
    pub(super) fn trees(&self) -> PathBuf {
        self.root.join("trees")
    }

    /// A file of the tree that a blob is shown as.
    pub(super) fn tree(&self, id: BlobId, kind: Kind) -> PathBuf {
        self.trees().join(format!("{id}{}", kind.suffix()))
    }

    /// The index of a tree that is being written.
    pub(super) fn new_index(&self, id: BlobId) -> PathBuf {
        self.trees().join(format!("{id}{INDEX}{NEW}"))
    }
}

impl Kind {
    fn suffix(self) -> &'static str {
        match self {
            Kind::Data => "",
            Kind::Meta => META,
            Kind::Index => INDEX,
            Kind::Filled => FILLED,
        }
    }
}

/// Reads a file name in `blobs/`, `parts/` or `trees/`; `None` if it is not one that [`Layout`]
/// makes in one of them.
pub(super) fn parse(name: &OsStr) -> Option<(BlobId, Kind)> {
    let name = name.to_str()?;
    let ends = [Kind::Meta, Kind::Index, Kind::Filled];
    let (digits, kind) = ends
        .into_iter()
        .find_map(|kind| Some((name.strip_suffix(kind.suffix())?, kind)))
        .unwrap_or((name, Kind::Data));
    let id = BlobId(u64::from_str_radix(digits, 16).ok()?);
    // Only one spelling of each number, or two files could claim one id.
    (id.to_string() == digits && (1..ID_LIMIT).contains(&id.0)).then_some((id, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_others_refused() {
        let layout = Layout::new(Path::new("/s"));
        let id = BlobId(0xab);
        let read = |path: PathBuf| parse(path.file_name().unwrap());
        assert_eq!(read(layout.data(id)), Some((id, Kind::Data)));
        assert_eq!(read(layout.meta(id)), Some((id, Kind::Meta)));
        assert_eq!(read(layout.part(id)), Some((id, Kind::Data)));
        assert_eq!(read(layout.part_meta(id)), Some((id, Kind::Meta)));
        assert_eq!(read(layout.new_meta(id)), None);
        for kind in OF_TREE {
            assert_eq!(read(layout.tree(id, kind)), Some((id, kind)));
        }
        assert_eq!(read(layout.new_index(id)), None);
        assert_eq!(read(layout.data(BlobId(ID_LIMIT - 1))).unwrap().0, BlobId(ID_LIMIT - 1));
        assert_eq!(read(layout.data(BlobId(ID_LIMIT))), None);
        for bad in [
            "",
            "ab",
            "00000000000000AB",
            "+0000000000000ab",
            "00000000000000ab.new",
            "00000000000000ab.meta.meta",
            "00000000000000ab.meta.new",
            "00000000000000ab.index.filled",
            "0000000000000000",
            "ffffffffffffffff",
            "00000000000000000ab",
            ".meta",
            "lost+found",
        ] {
            assert_eq!(parse(OsStr::new(bad)), None, "{bad}");
        }
    }
}
