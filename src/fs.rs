//! Kernel-shaped operations on inodes; no FUSE library, no HTTP.
//!
//! Two numbers. The **nodeid** is what the kernel keys its caches on: one version in one state,
//! `2 * blob + 1` when it is complete and `2 * blob` before, so that it can be worked out again
//! after a restart. The public number (`st_ino`) is one per name, the same over versions and
//! states, because programs such as cp refuse a file whose number changes while they copy it.
//!
//! The inode of a name that was never fetched has the number its blob will have. It binds to the
//! version that its first open obtains, and stays with it.
//!
//! What cannot wait is a plain function; what can is an `async fn`.
//!
//! Locks: the table of nodes before one node's state; neither is held across a call to the cache.

mod buffers;
mod node;
mod open;
mod read;
mod xattr;

#[cfg(test)]
mod tests;

use std::any::Any;
use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

pub use buffers::Buffer;
pub use node::Node;
pub use xattr::XATTRS;

use crate::cache::freshness::JUST_LANDED;
use crate::cache::{Cache, OpenError, Shown, Shows, Version, number};
use crate::metrics::Refusal;
use crate::types::{BlobId, Ino, Name};
use node::Inode;

/// How long the kernel may keep what changes only when we say so.
pub const LONG: Duration = Duration::from_secs(3600);

/// Who may read: everybody may read and execute, since HTTP knows no modes and scripts are run
/// straight from the mount.
const FILE_MODE: u16 = 0o555;

/// The mode shown in a LOOKUP whose size is not known yet. Without an execute bit the kernel asks
/// for attributes before it executes the file, and so learns the size that its mapping needs.
const FILE_MODE_UNSIZED: u16 = 0o444;

/// What kind of thing an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
}

/// Attributes as programs see them.
#[derive(Clone, Copy, Debug)]
pub struct Attr {
    /// The public number.
    pub number: u64,
    /// What it is.
    pub kind: Kind,
    /// Length in bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u16,
    /// mtime and ctime.
    pub time: SystemTime,
}

/// One line of a directory.
pub struct Line {
    /// Where reading goes on after this line.
    pub offset: u64,
    /// The public number.
    pub number: u64,
    /// What it is.
    pub kind: Kind,
    /// The name.
    pub name: Name,
}

/// What statfs shows.
#[derive(Clone, Copy, Debug)]
pub struct Space {
    /// The quota, in bytes.
    pub quota: u64,
    /// What is left of it.
    pub free: u64,
    /// How many names there are.
    pub names: u64,
}

/// How the kernel is to serve an open file. Never two ways on one inode at a time: the kernel
/// answers EIO.
pub enum How {
    /// The daemon answers each read, and may wait for its bytes.
    Direct,
    /// All bytes are there: the kernel may read the file itself, or keep what we answer.
    Whole(Whole),
}

/// What the kernel side keeps with an inode.
pub type Seated = Arc<dyn Any + Send + Sync>;

/// A file all of whose bytes are there.
pub struct Whole {
    /// The file.
    pub file: Arc<File>,
    /// A place for what the kernel side keeps for as long as the kernel refers to the inode.
    pub seat: Arc<OnceLock<Option<Seated>>>,
}

/// Why an operation failed.
#[derive(Debug)]
pub enum Refused {
    /// With this errno, for a reason that is nobody's fault.
    Errno(i32),
    /// As the cache says.
    Open(OpenError),
    /// The caller was told to end while it waited.
    Interrupted,
    /// The kernel allows no longer wait.
    TooLate,
}

impl Refused {
    /// Returns what the program gets.
    pub fn errno(&self) -> i32 {
        match self {
            Refused::Errno(errno) => *errno,
            Refused::Open(error) => error.errno,
            Refused::Interrupted => libc::EINTR,
            Refused::TooLate => libc::ETIMEDOUT,
        }
    }

    /// Returns the reason for the counters, where there is one.
    pub fn why(&self) -> Option<Refusal> {
        match self {
            Refused::Errno(_) => None,
            Refused::Open(error) => Some(error.why),
            Refused::Interrupted => Some(Refusal::Interrupted),
            Refused::TooLate => Some(Refusal::Silent),
        }
    }
}

impl From<OpenError> for Refused {
    fn from(error: OpenError) -> Refused {
        Refused::Open(error)
    }
}

/// The filesystem.
pub struct Fs {
    cache: Arc<Cache>,
    table: Mutex<Table>,
    buffers: buffers::Buffers,
    started: SystemTime,
}

#[derive(Default)]
struct Table {
    nodes: HashMap<Ino, Arc<Inode>>,
    aliases: HashMap<Name, Ino>,
}

impl Fs {
    /// Builds the filesystem over a cache.
    pub fn new(cache: Arc<Cache>) -> Fs {
        Fs {
            cache,
            table: Mutex::default(),
            buffers: buffers::Buffers::default(),
            started: SystemTime::now(),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inode(&self, ino: Ino) -> Result<Arc<Inode>, Refused> {
        self.table().nodes.get(&ino).cloned().ok_or(Refused::Errno(libc::ESTALE))
    }

    fn file(&self, ino: Ino) -> Result<Arc<Inode>, Refused> {
        let errno = match ino {
            Ino::ROOT => libc::EISDIR,
            _ => return self.inode(ino),
        };
        Err(Refused::Errno(errno))
    }

    /// Returns the inode that a name shows now and its attributes, and counts a reference of the
    /// kernel. Never waits, for network or disk: a lookup that did would stop all others.
    ///
    /// # Errors
    /// ENOENT for an unknown name; no request is made.
    pub fn lookup(&self, parent: Ino, name: &str) -> Result<(Ino, Attr), Refused> {
        if parent != Ino::ROOT {
            return Err(Refused::Errno(libc::ENOTDIR));
        }
        match self.cache.names().get(name) {
            None => Err(Refused::Errno(libc::ENOENT)),
            Some(Shown::Alias(target)) => {
                let name = name.parse().map_err(|_| Refused::Errno(libc::ENOENT))?;
                Ok(self.lookup_alias(&name, target))
            }
            Some(Shown::Download(entry)) => loop {
                let (ino, version) = match self.cache.shows(entry) {
                    Shows::Nothing(blob) => (partial(blob), None),
                    Shows::Version(version) => {
                        let (id, complete) = (version.blob.id(), version.complete());
                        (if complete { whole(id) } else { partial(id) }, Some(version))
                    }
                };
                // Taken before any lock of ours; `None` when it was evicted since.
                let reference = match &version {
                    Some(version) => match self.cache.ledger().refer(version.blob.id()) {
                        Some(reference) => Some(reference),
                        None => continue,
                    },
                    None => None,
                };
                let inode = {
                    let mut table = self.table();
                    let inode = table
                        .nodes
                        .entry(ino)
                        .or_insert_with(|| Arc::new(Inode::File(Node::new(ino, entry.clone()))))
                        .clone();
                    inode.looked_up();
                    inode
                };
                let Inode::File(node) = &*inode else {
                    return Err(Refused::Errno(libc::EIO));
                };
                if let Some(version) = version {
                    node.bind(version, reference);
                }
                return Ok((ino, self.attr_now(node)));
            },
        }
    }

    fn lookup_alias(&self, name: &Name, target: &Name) -> (Ino, Attr) {
        let table = &mut *self.table();
        let known = table.aliases.get(name).copied();
        let current = known.filter(|ino| match table.nodes.get(ino).map(|inode| &**inode) {
            Some(Inode::Alias { target: was, .. }) => was == target,
            _ => false,
        });
        let ino = current.unwrap_or_else(|| {
            let ino = partial(self.cache.allocate());
            table.nodes.insert(ino, Arc::new(Inode::alias(name.clone(), target.clone())));
            table.aliases.insert(name.clone(), ino);
            ino
        });
        if let Some(inode) = table.nodes.get(&ino) {
            inode.looked_up();
        }
        (ino, self.alias_attr(number(name.as_str()), target))
    }

    /// Takes back references of the kernel.
    pub fn forget(&self, ino: Ino, lookups: u64) {
        let gone = {
            let mut table = self.table();
            let forgotten = table.nodes.get(&ino).is_some_and(|inode| inode.forgotten(lookups));
            let gone = if forgotten { table.nodes.remove(&ino) } else { None };
            if let Some(Inode::Alias { name, .. }) = gone.as_deref()
                && table.aliases.get(name) == Some(&ino)
            {
                table.aliases.remove(name);
            }
            gone
        };
        // The node's file, pins and references fall here, with no lock held.
        drop(gone);
    }

    /// Returns attributes, and how long the kernel may keep them. For a name nothing is known of,
    /// asks the origin; where no length is announced, waits for the end of the download: the length
    /// is always true.
    ///
    /// # Errors
    /// As [`Cache::size`].
    pub async fn getattr(&self, ino: Ino) -> Result<(Attr, Duration), Refused> {
        if ino == Ino::ROOT {
            return Ok((self.root_attr(), LONG));
        }
        let inode = self.inode(ino)?;
        let node = match &*inode {
            Inode::Alias { number, target, .. } => {
                return Ok((self.alias_attr(*number, target), LONG));
            }
            Inode::File(node) => node,
        };
        if self.version_of(node).is_none() {
            if let Some((length, shown_at)) = node.entry().promise() {
                return Ok((file_attr(node, length, shown_at), LONG));
            }
            let size = self.cache.size(node.entry()).await?;
            // What was asked may have landed meanwhile, as this very inode.
            if self.version_of(node).is_none() {
                let attr = file_attr(node, size.length, size.shown_at);
                return Ok((attr, self.cache.timing().window.max(JUST_LANDED)));
            }
        }
        let version = self.version_of(node).ok_or(Refused::Errno(libc::ESTALE))?;
        let size = self.cache.size_of(&version).await?;
        Ok((file_attr(node, size.length, size.shown_at), LONG))
    }

    /// Returns the version an inode is bound to, binding it if the version it waits for has landed.
    fn version_of(&self, node: &Node) -> Option<Arc<Version>> {
        if let Some(version) = node.version() {
            return Some(version);
        }
        let version = node.entry().version().filter(|v| v.blob.id() == node.blob())?;
        let reference = self.cache.ledger().refer(version.blob.id())?;
        node.bind(version.clone(), Some(reference));
        Some(version)
    }

    /// Returns what is known without asking, for a LOOKUP; the kernel asks for the rest.
    fn attr_now(&self, node: &Node) -> Attr {
        let known = node.version().and_then(|v| Some((v.blob.length()?, v.shown_at)));
        match known.or_else(|| node.entry().promise()) {
            Some((length, shown_at)) => {
                node.is_sized();
                file_attr(node, length, shown_at)
            }
            None => Attr { mode: FILE_MODE_UNSIZED, ..file_attr(node, 0, self.started) },
        }
    }

    fn root_attr(&self) -> Attr {
        let (number, kind, time) = (Ino::ROOT.0, Kind::Directory, self.started);
        Attr { number, kind, size: 0, mode: 0o555, time }
    }

    fn alias_attr(&self, number: u64, target: &Name) -> Attr {
        let size = target.as_str().len() as u64;
        Attr { number, kind: Kind::Symlink, size, mode: 0o777, time: self.started }
    }

    /// Returns where an alias points.
    ///
    /// # Errors
    /// EINVAL for what is no symlink.
    pub fn readlink(&self, ino: Ino) -> Result<Name, Refused> {
        match &*self.inode(ino)? {
            Inode::Alias { target, .. } => Ok(target.clone()),
            Inode::File(_) => Err(Refused::Errno(libc::EINVAL)),
        }
    }

    /// Gives the lines of the root after `offset` to `each`, until it says stop. Never waits.
    ///
    /// # Errors
    /// ENOTDIR for what is no directory.
    pub fn readdir(
        &self,
        ino: Ino,
        offset: u64,
        mut each: impl FnMut(Line) -> bool,
    ) -> Result<(), Refused> {
        if ino != Ino::ROOT {
            return Err(Refused::Errno(libc::ENOTDIR));
        }
        for (number, name, shown) in self.cache.names().after(offset) {
            let kind = match shown {
                Shown::Download(_) => Kind::File,
                Shown::Alias(_) => Kind::Symlink,
            };
            if each(Line { offset: number, number, kind, name: name.clone() }) {
                break;
            }
        }
        Ok(())
    }

    /// Returns what statfs shows; asks nobody.
    pub fn space(&self) -> Space {
        let (ledger, names) = (self.cache.ledger(), self.cache.names().len() as u64);
        let quota = ledger.limits().quota;
        let balance = ledger.balance();
        Space { quota, free: quota.saturating_sub(balance.stored + balance.reserved), names }
    }

    /// Returns how many handles are open, over all inodes.
    pub fn handles(&self) -> usize {
        let nodes: Vec<_> = self.table().nodes.values().cloned().collect();
        nodes
            .iter()
            .map(|inode| if let Inode::File(node) = &**inode { node.handles() } else { 0 })
            .sum()
    }
}

/// Returns the nodeid of a blob with gaps, or of one to come.
fn partial(blob: BlobId) -> Ino {
    Ino(blob.0 * 2)
}

/// Returns the nodeid of a complete blob.
fn whole(blob: BlobId) -> Ino {
    Ino(blob.0 * 2 + 1)
}

fn file_attr(node: &Node, size: u64, time: SystemTime) -> Attr {
    Attr { number: node.number(), kind: Kind::File, size, mode: FILE_MODE, time }
}
