//! What an archive's format says of a member, and what a tree says of a node.

use std::time::SystemTime;

/// The number of a node in one tree; counted up from the root in the order of appearance, and the
/// same after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeNo(pub u32);

impl NodeNo {
    /// The root of every tree.
    pub const ROOT: NodeNo = NodeNo(0);

    /// How many nodes a tree has at most, so that a number fits into 21 bits of a nodeid.
    pub const END: u32 = 1 << 21;
}

/// The number of the bytes of a file in one tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentNo(pub u32);

/// What kind of thing a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
}

/// The attributes of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeAttr {
    /// What it is.
    pub kind: Kind,
    /// Permission bits, normalised: r--r--r-- or r-xr-xr-x; links rwxrwxrwx.
    pub mode: u16,
    /// Length in bytes: of a file its unpacked length, of a link its target's text, of a directory 0.
    pub size: u64,
    /// mtime and ctime; `None` where the archive says none (implied directories).
    pub modified: Option<SystemTime>,
    /// Hard links: of a file or link its names, 0 once others took them all; of a directory 2 and
    /// one for each directory in it.
    pub links: u32,
}

/// One member as an archive's format gives it, before it is believed.
#[derive(Clone, Debug)]
pub struct Member<'a> {
    /// The path as recorded, any bytes.
    pub path: &'a [u8],
    /// What it is.
    pub what: What<'a>,
    /// Whether somebody may execute it; `None` where the archive records no Unix mode, which shows
    /// as r-xr-xr-x.
    pub executable: Option<bool>,
    /// mtime: seconds since the epoch, and nanoseconds.
    pub modified: Option<(i64, u32)>,
}

/// What a member is.
#[derive(Clone, Debug)]
pub enum What<'a> {
    /// A directory.
    Directory,
    /// A file: its unpacked length and where its bytes are.
    File {
        /// Bytes, unpacked.
        size: u64,
        /// Where they are.
        packed: Packed,
    },
    /// A symbolic link, with its target.
    Symlink(&'a [u8]),
    /// A symbolic link whose target is packed like the bytes of a file: in a zip.
    PackedSymlink {
        /// Bytes of the target.
        size: u64,
        /// Where they are.
        packed: Packed,
    },
    /// Another name of an earlier file or link, given by its path.
    HardLink(&'a [u8]),
    /// A device, a fifo, a socket: left out.
    Other,
}

/// How the bytes of a file are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packed {
    /// As they are, at this place of the archive: a member of an uncompressed tar.
    Plain {
        /// The place of their first byte.
        at: u64,
    },
    /// As they are, behind a local header of a zip.
    Stored {
        /// The place of the local header.
        header: u64,
        /// CRC-32, to be checked.
        crc: u32,
    },
    /// Deflated, behind a local header of a zip.
    Deflated {
        /// The place of the local header.
        header: u64,
        /// Bytes, packed.
        length: u64,
        /// CRC-32 of the unpacked bytes, to be checked.
        crc: u32,
    },
    /// In a compressed stream, which alone brings them.
    Streamed,
    /// In a zip, encrypted.
    Encrypted,
    /// In a zip, by a method that is not known.
    Unknown {
        /// The number of the method (APPNOTE.TXT 4.4.5).
        method: u16,
    },
}

impl Packed {
    /// Says whether the bytes have to be unpacked into the tree's file before they can be read.
    pub fn has_to_be_unpacked(self) -> bool {
        matches!(self, Packed::Deflated { .. } | Packed::Streamed)
    }
}

/// The bytes of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    /// Unpacked length.
    pub size: u64,
    /// How they are packed.
    pub packed: Packed,
    /// Where they lie unpacked in the tree's file, for what has to be unpacked: a multiple of 4096;
    /// places do not overlap.
    pub at: u64,
    /// A checksum of the name that the local header of a zip must have.
    pub(in crate::tree) name: u32,
}
