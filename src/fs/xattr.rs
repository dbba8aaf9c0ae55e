//! What a name says of itself through extended attributes; never asks the origin.

use super::node::{Inode, Node};
use super::{Fs, Refused};
use crate::types::Ino;

/// The attributes a download may have.
pub const XATTRS: [&str; 6] = [
    "user.cached_downloads.url",
    "user.cached_downloads.state",
    "user.cached_downloads.version",
    "user.cached_downloads.etag",
    "user.cached_downloads.digest",
    "user.cached_downloads.error",
];

impl Fs {
    /// Returns the value of one attribute.
    ///
    /// # Errors
    /// ENODATA where there is none.
    pub fn getxattr(&self, ino: Ino, name: &str) -> Result<String, Refused> {
        let none = Refused::Errno(libc::ENODATA);
        if ino == Ino::ROOT {
            return Err(none);
        }
        match &*self.inode(ino)? {
            Inode::File(node) => self.value(node, name).ok_or(none),
            Inode::Alias { .. } => Err(none),
        }
    }

    /// Returns the names of the attributes that have a value.
    ///
    /// # Errors
    /// ESTALE for an inode that is gone.
    pub fn listxattr(&self, ino: Ino) -> Result<Vec<&'static str>, Refused> {
        if ino == Ino::ROOT {
            return Ok(Vec::new());
        }
        match &*self.inode(ino)? {
            Inode::File(node) => {
                Ok(XATTRS.into_iter().filter(|name| self.value(node, name).is_some()).collect())
            }
            Inode::Alias { .. } => Ok(Vec::new()),
        }
    }

    fn value(&self, node: &Node, name: &str) -> Option<String> {
        let version = self.version_of(node);
        match name.strip_prefix("user.cached_downloads.")? {
            "url" => Some(node.entry().source().shown_url()),
            "state" => Some(version.map_or("absent", |version| version.state()).to_owned()),
            "version" => version.map(|version| version.blob.id().to_string()),
            "etag" => version.and_then(|version| version.validators.etag.clone()),
            "digest" => version
                .filter(|version| version.complete())
                .and_then(|version| version.digest.as_ref().map(ToString::to_string)),
            "error" => node.entry().last_error().map(|(_, error)| error.message),
            _ => None,
        }
    }
}
