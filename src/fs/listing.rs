//! Directories, line by line.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use super::crown::Crown;
use super::nodeid::{Place, place};
use super::{Fs, Kind, Refused};
use crate::cache::{Names, OpenError, Shown, number};
use crate::tree::{self, Index, NodeNo};
use crate::types::{BlobId, Ino};

/// One line of a directory.
pub struct Line<'a> {
    /// Where reading goes on after this line.
    pub offset: u64,
    /// The public number.
    pub number: u64,
    /// What it is.
    pub kind: Kind,
    /// The name.
    pub name: &'a OsStr,
}

/// Lines `.` and `..` come first; the names' own offsets are larger.
const DOT: u64 = 1;
const DOT_DOT: u64 = 2;

/// A directory that can be read without waiting.
pub enum Listing {
    /// The directory of all names.
    Names(Arc<Names>),
    /// A directory of a tree.
    Members {
        /// What the tree holds.
        index: Arc<Index>,
        /// The tree.
        crown: Arc<Crown>,
        /// The directory.
        dir: NodeNo,
    },
}

impl Fs {
    /// Returns a directory to read. Waits for a complete index: a listing is whole.
    ///
    /// # Errors
    /// ENOTDIR for what is no directory; ESTALE where the origin has no such thing; the archive
    /// cannot be had or cannot be shown.
    pub async fn listing(&self, ino: Ino) -> Result<Listing, Refused> {
        self.listed(ino).await.map_err(|refused| match refused {
            // C libraries take ENOENT for the end of a directory, and programs would see an empty one.
            Refused::Errno(libc::ENOENT) => Refused::Errno(libc::ESTALE),
            Refused::Open(error) if error.errno == libc::ENOENT => {
                Refused::Open(OpenError { errno: libc::ESTALE, ..error })
            }
            other => other,
        })
    }

    async fn listed(&self, ino: Ino) -> Result<Listing, Refused> {
        let (number, dir) = match place(ino) {
            Place::Root => return Ok(Listing::Names(self.cache.names())),
            Place::Name => return Err(Refused::Errno(libc::ENOTDIR)),
            Place::Tree(number, dir) => (number, dir),
        };
        let crown = self.crown(number)?;
        let there = crown.tree().and_then(|tree| Some((tree.blob().id(), tree.index()?.clone())));
        let (blob, index) = match there {
            // Of bytes that are known to be wrong nothing is listed either.
            Some(there) if !crown.is_tainted() => there,
            _ => self.whole(&crown).await?,
        };
        if !crown.listed(blob) {
            return Err(Refused::Errno(libc::ESTALE));
        }
        match index.attr(dir).map(|attr| attr.kind) {
            Some(tree::Kind::Directory) => Ok(Listing::Members { index, crown, dir }),
            _ => Err(Refused::Errno(libc::ENOTDIR)),
        }
    }

    async fn whole(&self, crown: &Arc<Crown>) -> Result<(BlobId, Arc<Index>), Refused> {
        let tree = self.rooted(crown).await?;
        let (tree, index) =
            self.asked(crown, tree, |tree| async move { tree.whole().await }).await?;
        Ok((tree.blob().id(), index))
    }
}

impl Listing {
    /// Gives the lines after `offset` to `each`, until it says stop. The offset of a line stays the
    /// same although names come and go.
    pub fn after(&self, offset: u64, mut each: impl FnMut(Line<'_>) -> bool) {
        for (at, name, number) in [(DOT, ".", self.own()), (DOT_DOT, "..", self.parent())] {
            let line = Line { offset: at, number, kind: Kind::Directory, name: OsStr::new(name) };
            if offset < at && each(line) {
                return;
            }
        }
        let offset = offset.max(DOT_DOT);
        match self {
            Listing::Names(names) => {
                for (number, name, shown) in names.after(offset) {
                    let kind = match shown {
                        Shown::Download(_) => Kind::File,
                        Shown::Tree(_) => Kind::Directory,
                        Shown::Alias(_) => Kind::Symlink,
                    };
                    let name = OsStr::new(name.as_str());
                    if each(Line { offset: number, number, kind, name }) {
                        return;
                    }
                }
            }
            Listing::Members { index, crown, dir } => {
                let skip = usize::try_from(offset - DOT_DOT).unwrap_or(usize::MAX);
                for (at, (node, name)) in (offset + 1..).zip(index.children(*dir, skip)) {
                    let Some(attr) = index.attr(node) else { continue };
                    let (number, kind) = (crown.ino(node).0, attr.kind.into());
                    let name = OsStr::from_bytes(name);
                    if each(Line { offset: at, number, kind, name }) {
                        return;
                    }
                }
            }
        }
    }

    fn own(&self) -> u64 {
        match self {
            Listing::Names(_) => Ino::ROOT.0,
            Listing::Members { crown, dir, .. } => public(crown, *dir),
        }
    }

    fn parent(&self) -> u64 {
        match self {
            Listing::Members { index, crown, dir } if *dir != NodeNo::ROOT => {
                public(crown, index.parent(*dir).unwrap_or(NodeNo::ROOT))
            }
            Listing::Names(_) | Listing::Members { .. } => Ino::ROOT.0,
        }
    }
}

fn public(crown: &Crown, node: NodeNo) -> u64 {
    match node {
        NodeNo::ROOT => number(crown.name().as_str()),
        node => crown.ino(node).0,
    }
}
