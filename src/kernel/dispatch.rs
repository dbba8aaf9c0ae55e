//! Decodes each request and answers it.

mod answer;

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    AccessFlags, BsdFileFlags, Errno, FileHandle, Filesystem, FopenFlags, Generation, INodeNo,
    InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek,
    ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use tokio::runtime::Handle;

use super::MAX_BACKGROUND;
use super::attr::{NO_ATTR, file_attr, file_type, xattr};
use super::callers::Callers;
use super::passthrough::Passthrough;
use super::vigil::Vigil;
use crate::fs::{Fs, How, LONGEST_NAME, Looked, Refused};
use crate::metrics::Counters;
use crate::types::Ino;
use answer::count;

/// The block size that statfs counts in.
const BLOCK: u64 = 4096;

/// A read of so many bytes takes so long to copy that another thread should read requests.
const LONG_READ: u32 = 64 << 10;

/// Answers requests.
pub(super) struct Dispatch {
    pub(super) fs: Arc<Fs>,
    pub(super) runtime: Handle,
    pub(super) callers: Callers,
    pub(super) counters: Arc<Counters>,
    pub(super) passthrough: Arc<Passthrough>,
    pub(super) opens: bool,
    pub(super) vigil: Vigil,
}

fn errno(refused: &Refused) -> Errno {
    Errno::from_i32(refused.errno())
}

impl Filesystem for Dispatch {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Each is used if the kernel has it; what is missing only costs speed.
        // Where a link points never changes: another target is another inode.
        for flag in [
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP,
            InitFlags::FUSE_CACHE_SYMLINKS,
        ] {
            let _ = config.add_capabilities(flag);
        }
        if config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok() {
            // One level: an overlayfs may still be put on top of the mount.
            let _ = config.set_max_stack_depth(1);
        }
        let _ = config.set_max_background(MAX_BACKGROUND);
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let answer = |looked: Result<Looked, Errno>| match looked {
            Ok(Looked::Found { ino, attr, attr_ttl, entry_ttl }) => {
                let attr = file_attr(ino.0, &attr);
                reply.entry_with_ttls(&attr_ttl, &entry_ttl, &attr, Generation(0));
            }
            // The kernel remembers a name that is missing by an entry without a nodeid.
            Ok(Looked::Absent { ttl }) if ttl > Duration::ZERO => {
                reply.entry_with_ttls(&Duration::ZERO, &ttl, &NO_ATTR, Generation(0));
            }
            Ok(Looked::Absent { .. }) => reply.error(Errno::ENOENT),
            Err(error) => reply.error(error),
        };
        let parent = Ino(parent.0);
        let found = {
            let _runtime = self.runtime.enter();
            self.fs.lookup(parent, name)
        };
        if let Some(found) = found {
            answer(count(&self.counters, found));
            return self.vigil.keep();
        }
        let (fs, name) = (self.fs.clone(), name.to_owned());
        let operation = async move { fs.lookup_waiting(parent, &name).await };
        self.answer(request, operation, answer);
    }

    fn forget(&self, _request: &Request, ino: INodeNo, lookups: u64) {
        self.fs.forget(Ino(ino.0), lookups);
    }

    fn getattr(&self, request: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        let fs = self.fs.clone();
        let operation = async move { fs.getattr(Ino(ino.0)).await };
        self.answer(request, operation, |attr| match attr {
            Ok((attr, ttl)) => reply.attr(&ttl, &file_attr(attr.number, &attr)),
            Err(error) => reply.error(error),
        });
    }

    fn readlink(&self, request: &Request, ino: INodeNo, reply: ReplyData) {
        let fs = self.fs.clone();
        let operation = async move { fs.readlink(Ino(ino.0)).await };
        self.answer(request, operation, |target| match target {
            Ok(target) => reply.data(target.as_bytes()),
            Err(error) => reply.error(error),
        });
    }

    fn open(&self, request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if flags.acc_mode() != OpenAccMode::O_RDONLY || flags.0 & libc::O_TRUNC != 0 {
            return reply.error(Errno::EROFS);
        }
        if !self.opens {
            // The kernel then asks no more, of no file. What is open it refers to, and that counts.
            return reply.error(Errno::ENOSYS);
        }
        let ino = Ino(ino.0);
        let fs = self.fs.clone();
        let passthrough = self.passthrough.clone();
        let operation = async move { fs.open(ino).await };
        self.answer(request, operation, move |how| {
            let handle = FileHandle(ino.0);
            let flags = FopenFlags::FOPEN_NOFLUSH;
            match how {
                Ok(How::Direct) => reply.opened(handle, flags | FopenFlags::FOPEN_DIRECT_IO),
                Ok(How::Kept) => reply.opened(handle, flags | FopenFlags::FOPEN_KEEP_CACHE),
                Ok(How::Whole(whole)) => match passthrough.backing(&whole, &reply) {
                    Some(id) => reply.opened_passthrough(handle, flags, &id),
                    None => reply.opened(handle, flags | FopenFlags::FOPEN_KEEP_CACHE),
                },
                Err(error) => reply.error(error),
            }
        });
    }

    fn read(
        &self,
        request: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        // The next request then comes while the bytes are still copied: nothing to stay awake for.
        let long = size >= LONG_READ;
        if long {
            self.vigil.step_aside();
        }
        let fs = self.fs.clone();
        let operation = async move { fs.read(Ino(ino.0), offset, size).await };
        let answered = self.run(request, operation, |bytes| match bytes {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error),
        });
        if answered && !long {
            self.vigil.keep();
        }
    }

    fn release(
        &self,
        _request: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.fs.release(Ino(ino.0));
        reply.ok();
        self.vigil.keep();
    }

    fn opendir(&self, _request: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        // The kernel then asks no more, and keeps what it read of a directory.
        reply.error(Errno::ENOSYS);
    }

    fn readdir(
        &self,
        request: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let fs = self.fs.clone();
        let operation = async move { fs.listing(Ino(ino.0)).await };
        self.answer(request, operation, move |listing| match listing {
            Ok(listing) => {
                listing.after(offset, |line| {
                    let (number, kind) = (INodeNo(line.number), file_type(line.kind));
                    reply.add(number, line.offset, kind, line.name)
                });
                reply.ok();
            }
            Err(error) => reply.error(error),
        });
    }

    fn statfs(&self, _request: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        let space = self.fs.space();
        let (size, free) = (space.quota / BLOCK, space.free / BLOCK);
        reply.statfs(
            size,
            free,
            free,
            space.names,
            0,
            BLOCK as u32,
            LONGEST_NAME as u32,
            BLOCK as u32,
        );
    }

    fn getxattr(
        &self,
        _request: &Request,
        ino: INodeNo,
        name: &OsStr,
        size: u32,
        reply: ReplyXattr,
    ) {
        match name
            .to_str()
            .ok_or(Refused::Errno(libc::ENODATA))
            .and_then(|name| self.fs.getxattr(Ino(ino.0), name))
        {
            Ok(value) => xattr(reply, value.as_bytes(), size),
            Err(refused) => reply.error(errno(&refused)),
        }
    }

    fn listxattr(&self, _request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        match self.fs.listxattr(Ino(ino.0)) {
            Ok(names) => {
                let list: Vec<u8> = names.iter().flat_map(|name| name.bytes().chain([0])).collect();
                xattr(reply, &list, size);
            }
            Err(refused) => reply.error(errno(&refused)),
        }
    }

    fn access(&self, request: &Request, ino: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        let (fs, mask) = (self.fs.clone(), mask.bits());
        let operation = async move { fs.access(Ino(ino.0), mask).await };
        self.answer(request, operation, |allowed| match allowed {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        });
    }

    fn ioctl(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        _command: u32,
        _data: &[u8],
        _length: u32,
        reply: ReplyIoctl,
    ) {
        // What is asked is nearly always whether a file is a terminal: Python and grep do so.
        reply.error(Errno::ENOTTY);
    }

    fn flush(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn fsync(&self, _r: &Request, _ino: INodeNo, _fh: FileHandle, _data: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsyncdir(&self, _r: &Request, _i: INodeNo, _fh: FileHandle, _data: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn lseek(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _offset: i64,
        _whence: i32,
        reply: ReplyLseek,
    ) {
        // The kernel then treats the file as all data, which every download is.
        reply.error(Errno::ENOSYS);
    }

    // What follows changes something; the mount is read-only and the kernel says so first, except
    // where somebody bind-mounts it writable.

    fn setattr(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        _size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        reply.error(Errno::EROFS);
    }

    fn mknod(
        &self,
        _request: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        reply.error(Errno::EROFS);
    }

    fn mkdir(
        &self,
        _request: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        reply.error(Errno::EROFS);
    }

    fn unlink(&self, _request: &Request, _parent: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn rmdir(&self, _request: &Request, _parent: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn symlink(
        &self,
        _request: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _target: &std::path::Path,
        reply: ReplyEntry,
    ) {
        reply.error(Errno::EROFS);
    }

    fn rename(
        &self,
        _request: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _newparent: INodeNo,
        _newname: &OsStr,
        _flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::EROFS);
    }

    fn link(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _newparent: INodeNo,
        _newname: &OsStr,
        reply: ReplyEntry,
    ) {
        reply.error(Errno::EROFS);
    }

    fn write(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _offset: u64,
        _data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        reply.error(Errno::EROFS);
    }

    fn create(
        &self,
        _request: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        reply.error(Errno::EROFS);
    }

    fn setxattr(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _name: &OsStr,
        _value: &[u8],
        _flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::EROFS);
    }

    fn removexattr(&self, _request: &Request, _ino: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn fallocate(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _offset: u64,
        _length: u64,
        _mode: i32,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::EROFS);
    }
}
