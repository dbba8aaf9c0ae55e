//! Attributes, plain and extended, in the library's terms.

use std::time::UNIX_EPOCH;

use fuser::{Errno, FileAttr, FileType, INodeNo, ReplyXattr};

use crate::fs::{Attr, Kind};

/// Returns attributes under a number: the nodeid in an ENTRY, which the library sends in its
/// place, the public one elsewhere.
pub(super) fn file_attr(number: u64, attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(number),
        size: attr.size,
        // What is shown follows the size, not what is allocated: du of the mount tells what the
        // downloads hold, whatever has arrived.
        blocks: attr.size.div_ceil(512),
        atime: attr.time,
        mtime: attr.time,
        ctime: attr.time,
        crtime: attr.time,
        kind: file_type(attr.kind),
        perm: attr.mode,
        nlink: attr.links,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 128 << 10,
        flags: 0,
    }
}

/// What an entry without a nodeid carries, which says that there is nothing.
pub(super) const NO_ATTR: FileAttr = FileAttr {
    ino: INodeNo(0),
    size: 0,
    blocks: 0,
    atime: UNIX_EPOCH,
    mtime: UNIX_EPOCH,
    ctime: UNIX_EPOCH,
    crtime: UNIX_EPOCH,
    kind: FileType::RegularFile,
    perm: 0,
    nlink: 0,
    uid: 0,
    gid: 0,
    rdev: 0,
    blksize: 0,
    flags: 0,
};

pub(super) fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::Directory => FileType::Directory,
        Kind::File => FileType::RegularFile,
        Kind::Symlink => FileType::Symlink,
    }
}

/// Answers getxattr(2) and listxattr(2): the size where that is asked, else the bytes if they fit.
pub(super) fn xattr(reply: ReplyXattr, value: &[u8], room: u32) {
    match (room, u32::try_from(value.len())) {
        (0, Ok(length)) => reply.size(length),
        (room, Ok(length)) if length <= room => reply.data(value),
        _ => reply.error(Errno::ERANGE),
    }
}
