//! Names of downloads shown as files, and their aliases.

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::node::{Inode, Node};
use super::nodeid::{partial, whole};
use super::{Attr, Fs, Kind, LONG, Looked, Refused};
use crate::cache::freshness::JUST_LANDED;
use crate::cache::{Entry, Shown, Shows, Version, number};
use crate::types::{Ino, Name};

/// Who may read: everybody may read and execute, since HTTP knows no modes and scripts are run
/// straight from the mount.
const FILE_MODE: u16 = 0o555;

/// The mode shown in a LOOKUP whose size is not known yet. Without an execute bit the kernel asks
/// for attributes before it executes the file, and so learns the size that its mapping needs.
const FILE_MODE_UNSIZED: u16 = 0o444;

/// Names in the root are UTF-8; others are unknown.
fn known(name: &OsStr) -> Result<Name, Refused> {
    name.to_str().and_then(|name| name.parse().ok()).ok_or(Refused::Errno(libc::ENOENT))
}

impl Fs {
    /// Looks a name of the root up; `None` where the LOOKUP must wait. Never waits.
    pub(super) fn lookup_name(&self, name: &OsStr) -> Option<Result<Looked, Refused>> {
        let names = self.cache.names();
        let shown = name.to_str().and_then(|name| names.get(name));
        let (ino, attr) = match shown {
            None => return Some(Err(Refused::Errno(libc::ENOENT))),
            Some(Shown::Tree(entry)) => match known(name) {
                Ok(name) => return self.directory(&name, entry).map(Ok),
                Err(refused) => return Some(Err(refused)),
            },
            Some(Shown::Alias(target)) => match known(name) {
                Ok(name) => self.lookup_alias(&name, target),
                Err(refused) => return Some(Err(refused)),
            },
            Some(Shown::Download(entry)) => {
                match known(name).and_then(|name| self.lookup_file(&name, entry)) {
                    Ok(found) => found,
                    Err(refused) => return Some(Err(refused)),
                }
            }
        };
        // The nodeid goes out as the number here, so the attributes must not be kept: the GETATTR
        // that follows brings the public one.
        Some(Ok(Looked::Found { ino, attr, attr_ttl: Duration::ZERO, entry_ttl: LONG }))
    }

    /// As [`lookup_name`](Fs::lookup_name), and waits.
    pub(super) async fn lookup_name_waiting(&self, name: &OsStr) -> Result<Looked, Refused> {
        let names = self.cache.names();
        match name.to_str().and_then(|name| names.get(name)) {
            Some(Shown::Tree(entry)) => self.revalidated(&known(name)?, entry).await,
            // Bound to something else meanwhile.
            _ => self.lookup_name(name).unwrap_or(Err(Refused::Errno(libc::ENOENT))),
        }
    }

    fn lookup_file(&self, name: &Name, entry: &Arc<Entry>) -> Result<(Ino, Attr), Refused> {
        loop {
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
                    .or_insert_with(|| Arc::new(Inode::File(Node::new(ino, name, entry.clone()))))
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

    /// Takes back references of the kernel to a file or an alias.
    pub(super) fn forget_name(&self, ino: Ino, lookups: u64) {
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

    /// Returns the attributes of a file or an alias, and how long the kernel may keep them.
    ///
    /// # Errors
    /// As [`Fs::getattr`].
    pub(super) async fn name_attr(&self, ino: Ino) -> Result<(Attr, Duration), Refused> {
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
    pub(super) fn version_of(&self, node: &Node) -> Option<Arc<Version>> {
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
        let version = node.version();
        let known = version.as_ref().and_then(|v| Some((v.blob.length()?, v.shown_at)));
        match known.or_else(|| node.entry().promise()) {
            Some((length, shown_at)) => {
                node.is_sized(version.map_or_else(|| node.blob(), |v| v.blob.id()));
                file_attr(node, length, shown_at)
            }
            None => Attr { mode: FILE_MODE_UNSIZED, ..file_attr(node, 0, self.started) },
        }
    }

    fn alias_attr(&self, number: u64, target: &Name) -> Attr {
        let size = target.as_str().len() as u64;
        let (kind, mode, links, time) = (Kind::Symlink, 0o777, 1, self.started);
        Attr { number, kind, size, mode, links, time }
    }
}

fn file_attr(node: &Node, size: u64, time: SystemTime) -> Attr {
    let (number, kind, mode, links) = (node.number(), Kind::File, FILE_MODE, 1);
    Attr { number, kind, size, mode, links, time }
}
