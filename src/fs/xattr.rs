//! What a name says of itself through extended attributes; never asks the origin.

use std::sync::Arc;

use super::node::Inode;
use super::nodeid::{Place, place};
use super::{Fs, Refused};
use crate::cache::{Entry, Version};
use crate::tree::NodeNo;
use crate::types::Ino;

/// The attributes a download may have.
pub const XATTRS: [&str; 6] = [
    "user.cached_downloads.url",
    "user.cached_downloads.state",
    "user.cached_downloads.version",
    "user.cached_downloads.etag",
    "user.cached_downloads.digest",
    ERROR,
];

const ERROR: &str = "user.cached_downloads.error";

impl Fs {
    /// Returns the value of one attribute.
    ///
    /// # Errors
    /// ENODATA where there is none.
    pub fn getxattr(&self, ino: Ino, name: &str) -> Result<String, Refused> {
        self.value(ino, name)?.ok_or(Refused::Errno(libc::ENODATA))
    }

    /// Returns the names of the attributes that have a value.
    ///
    /// # Errors
    /// ESTALE for an inode that is gone.
    pub fn listxattr(&self, ino: Ino) -> Result<Vec<&'static str>, Refused> {
        let mut names = Vec::new();
        for name in XATTRS {
            if self.value(ino, name)?.is_some() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn value(&self, ino: Ino, name: &str) -> Result<Option<String>, Refused> {
        match place(ino) {
            Place::Name => match &*self.inode(ino)? {
                Inode::File(node) => Ok(value(node.entry(), self.version_of(node), name)),
                Inode::Alias { .. } => Ok(None),
            },
            Place::Tree(number, NodeNo::ROOT) => {
                let crown = self.crown(number)?;
                let version = crown.version().or_else(|| crown.entry().version());
                if name == ERROR {
                    return Ok(crown.entry().tree_error().map(|(_, error)| error.message));
                }
                Ok(value(crown.entry(), version, name))
            }
            Place::Root | Place::Tree(..) => Ok(None),
        }
    }
}

fn value(entry: &Entry, version: Option<Arc<Version>>, name: &str) -> Option<String> {
    match name.strip_prefix("user.cached_downloads.")? {
        "url" => Some(entry.source().shown_url()),
        "state" => Some(version.map_or("absent", |version| version.state()).to_owned()),
        "version" => version.map(|version| version.blob.id().to_string()),
        "etag" => version.and_then(|version| version.validators.etag.clone()),
        "digest" => version
            .filter(|version| version.complete())
            .and_then(|version| version.digest.as_ref().map(ToString::to_string)),
        "error" => entry.last_error().map(|(_, error)| error.message),
        _ => None,
    }
}
