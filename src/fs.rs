//! Kernel-shaped operations on inodes; no FUSE library, no HTTP.
//!
//! Two numbers. The **nodeid** is what the kernel keys its caches on: a file's is one version in one
//! state, `2 * blob + 1` when it is complete and `2 * blob` before; a directory's, and that of
//! anything in it, one version. Each can be worked out again after a restart. The public number
//! (`st_ino`) of a name is one, the same over versions and states, because programs such as cp
//! refuse a file whose number changes while they copy it; that of a member is its nodeid.
//!
//! The inode of a name that was never fetched has the number its blob will have. It binds to the
//! version that its first open, or the first step into it, obtains, and stays with it.
//!
//! What cannot wait is a plain function; what can is an `async fn`.
//!
//! Locks: the table of nodes before one node's or one tree's state; neither is held across a call
//! to the cache.

mod buffers;
mod crown;
mod crowns;
mod doorway;
mod leaving;
mod listing;
mod member;
mod names;
mod node;
mod nodeid;
mod open;
mod read;
mod step;
mod xattr;

#[cfg(test)]
mod tests;

use std::any::Any;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

pub use buffers::Buffer;
pub use crown::Crown;
pub use doorway::{Doorway, Passage};
pub use listing::{Line, Listing};
pub use node::Node;
pub use xattr::XATTRS;

use crate::cache::{Cache, OpenError};
use crate::metrics::Refusal;
pub use crate::tree::NodeNo;
use crate::types::{Ino, Name};
use node::Inode;
use nodeid::{Place, place};

/// How long the kernel may keep what changes only when we say so.
pub const LONG: Duration = Duration::from_secs(3600);

/// The longest name there can be, in bytes.
pub const LONGEST_NAME: usize = 255;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    /// The public number.
    pub number: u64,
    /// What it is.
    pub kind: Kind,
    /// Length in bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u16,
    /// Hard links.
    pub links: u32,
    /// mtime and ctime.
    pub time: SystemTime,
}

/// What a LOOKUP gives.
#[derive(Clone, Copy, Debug)]
pub enum Looked {
    /// It is there, and the kernel refers to it once more.
    Found {
        /// The nodeid.
        ino: Ino,
        /// The attributes.
        attr: Attr,
        /// How long the kernel may keep the attributes.
        attr_ttl: Duration,
        /// How long the kernel may keep the entry.
        entry_ttl: Duration,
    },
    /// It is not, and the kernel may keep that for as long.
    Absent {
        /// How long.
        ttl: Duration,
    },
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
    /// The daemon answers each read once, and the kernel keeps what was read.
    Kept,
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
    doorway: Doorway,
    /// Rung when there is something for the sweep to look after.
    bell: OnceLock<Box<dyn Fn() + Send + Sync>>,
    started: SystemTime,
}

#[derive(Default)]
struct Table {
    nodes: HashMap<Ino, Arc<Inode>>,
    aliases: HashMap<Name, Ino>,
    crowns: crowns::Crowns,
}

impl Fs {
    /// Builds the filesystem over a cache.
    pub fn new(cache: Arc<Cache>) -> Fs {
        Fs {
            cache,
            table: Mutex::default(),
            buffers: buffers::Buffers::default(),
            doorway: Doorway::default(),
            bell: OnceLock::new(),
            started: SystemTime::now(),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inode(&self, ino: Ino) -> Result<Arc<Inode>, Refused> {
        self.table().nodes.get(&ino).cloned().ok_or(Refused::Errno(libc::ESTALE))
    }

    fn crown(&self, number: u64) -> Result<Arc<Crown>, Refused> {
        self.table().crowns.get(number).cloned().ok_or(Refused::Errno(libc::ESTALE))
    }

    /// Looks a name up, and counts a reference of the kernel to what it shows now. Never waits;
    /// `None` where that is needed ([`lookup_waiting`](Fs::lookup_waiting)): only for a directory
    /// that the kernel has already, and inside one that still arrives. Call within the runtime.
    ///
    /// # Errors
    /// ENOENT for an unknown name; no request is made.
    pub fn lookup(&self, parent: Ino, name: &OsStr) -> Option<Result<Looked, Refused>> {
        if name.len() > LONGEST_NAME {
            // The kernel lets longer ones through.
            return Some(Err(Refused::Errno(libc::ENAMETOOLONG)));
        }
        match place(parent) {
            Place::Root => self.lookup_name(name),
            Place::Name => Some(Err(Refused::Errno(libc::ENOTDIR))),
            Place::Tree(number, dir) => match self.crown(number) {
                Ok(crown) => self.step(&crown, dir, name),
                Err(refused) => Some(Err(refused)),
            },
        }
    }

    /// As [`lookup`](Fs::lookup), and waits: for the answer of the origin whether the directory is
    /// the current one, or for the archive for as long as bytes come.
    ///
    /// # Errors
    /// As there, and why the archive cannot be had or shown.
    pub async fn lookup_waiting(&self, parent: Ino, name: &OsStr) -> Result<Looked, Refused> {
        match place(parent) {
            Place::Root => self.lookup_name_waiting(name).await,
            Place::Name => Err(Refused::Errno(libc::ENOTDIR)),
            Place::Tree(number, dir) => {
                let crown = self.crown(number)?;
                self.stepped(&crown, dir, name).await
            }
        }
    }

    /// Takes back references of the kernel.
    pub fn forget(&self, ino: Ino, lookups: u64) {
        match place(ino) {
            Place::Root => {}
            Place::Name => self.forget_name(ino, lookups),
            Place::Tree(number, node) => {
                let Ok(crown) = self.crown(number) else { return };
                if crown.forgotten(node, lookups) {
                    let gone = self.table().crowns.fell(number);
                    // Its tree, pin and reference fall here, with no lock held.
                    drop((crown, gone));
                }
            }
        }
    }

    /// Returns attributes, and how long the kernel may keep them. For a name nothing is known of,
    /// asks the origin; where no length is announced, waits for the end of the download: the length
    /// is always true. Of a directory and what is in it, asks and waits for nothing.
    ///
    /// # Errors
    /// As [`Cache::size`].
    pub async fn getattr(&self, ino: Ino) -> Result<(Attr, Duration), Refused> {
        match place(ino) {
            Place::Root => Ok((self.root_attr(), LONG)),
            Place::Name => self.name_attr(ino).await,
            Place::Tree(number, node) => self.member_attr(&self.crown(number)?, node).await,
        }
    }

    fn root_attr(&self) -> Attr {
        let (number, kind, time) = (Ino::ROOT.0, Kind::Directory, self.started);
        Attr { number, kind, size: 0, mode: 0o555, links: 2, time }
    }

    /// Says whether access(2) may be granted: everything is readable by all, a directory and a file
    /// of the root can be entered and run, and a member of an archive that is executable there. Who
    /// changes the working directory asks, too.
    ///
    /// # Errors
    /// EACCES; of a member, what [`getattr`](Fs::getattr) says.
    pub async fn access(&self, ino: Ino, mask: i32) -> Result<(), Refused> {
        let writable = mask & libc::W_OK != 0;
        let runs = match place(ino) {
            Place::Tree(number, node) if mask & libc::X_OK != 0 => {
                let (attr, _) = self.member_attr(&self.crown(number)?, node).await?;
                attr.kind != Kind::File || attr.mode & 0o111 != 0
            }
            _ => true,
        };
        if writable || !runs { Err(Refused::Errno(libc::EACCES)) } else { Ok(()) }
    }

    /// Returns where a symbolic link points; waits where an archive holds that as a file's bytes.
    ///
    /// # Errors
    /// EINVAL for what is no symlink.
    pub async fn readlink(&self, ino: Ino) -> Result<OsString, Refused> {
        match place(ino) {
            Place::Root => Err(Refused::Errno(libc::EINVAL)),
            Place::Tree(number, node) => self.link(&self.crown(number)?, node).await,
            Place::Name => match &*self.inode(ino)? {
                Inode::Alias { target, .. } => Ok(target.as_str().into()),
                Inode::File(_) => Err(Refused::Errno(libc::EINVAL)),
            },
        }
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
        let (nodes, crowns): (Vec<_>, _) = {
            let table = self.table();
            (table.nodes.values().cloned().collect(), table.crowns.all())
        };
        let files = nodes
            .iter()
            .map(|inode| if let Inode::File(node) = &**inode { node.handles() } else { 0 });
        files.chain(crowns.iter().map(|crown| crown.handles())).sum()
    }

    /// Returns where notifications for the root pass.
    pub fn doorway(&self) -> &Doorway {
        &self.doorway
    }
}
