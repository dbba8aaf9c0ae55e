//! The floor: a FUSE server on the same library that shows one file and does nothing else. What it
//! costs is what the kernel, the library and the machine cost, whoever answers.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use fuser::{
    BackingId, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, InitFlags, KernelConfig, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData,
    ReplyEmpty, ReplyEntry, ReplyOpen, Request,
};

use crate::support::{Proc, os, process, wait_until};

const LONG: Duration = Duration::from_secs(3600);
const FILE: INodeNo = INodeNo(2);
const NAME: &str = "file";

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The first argument of this program when it is to be the server, in a process of its own as ours
/// is; then follow the file, the mount point and, where it is wanted, [`PASSTHROUGH`].
pub(crate) const SERVE: &str = "floor";
const PASSTHROUGH: &str = "passthrough";

/// Serves until unmounted.
pub(crate) fn serve(mut args: impl Iterator<Item = String>) {
    let mut next = || args.next().expect("a file and a mount point");
    let (shown, at) = (next(), next());
    let passthrough = args.next().as_deref() == Some(PASSTHROUGH);
    let file = File::open(shown).expect("open");
    let mut config = Config::default();
    config.mount_options =
        vec![MountOption::RO, MountOption::FSName(SERVE.into()), MountOption::NoDev];
    config.n_threads = Some(2);
    let shown = Shown { file, passthrough, backing: OnceLock::new() };
    fuser::mount(shown, at, &config).expect("mount");
}

/// A mounted floor; unmounted when dropped.
pub(crate) struct Floor {
    at: tempfile::TempDir,
    server: Proc,
}

impl Floor {
    /// Mounts a directory that shows one file.
    pub(crate) fn mount(shown: &Path, passthrough: bool) -> Floor {
        let at = tempfile::tempdir().expect("a directory");
        let program = std::env::current_exe().expect("this program");
        let mut command = Command::new(program);
        command.arg(SERVE).arg(shown).arg(at.path());
        if passthrough {
            command.arg(PASSTHROUGH);
        }
        let server = Proc::start(os::die_with_parent(&mut command, libc::SIGTERM));
        let floor = Floor { at, server };
        wait_until("the floor is mounted", Duration::from_secs(5), || floor.path().exists());
        let device = std::fs::metadata(floor.at.path()).expect("stat").dev();
        let knob = format!("/sys/class/bdi/0:{}/read_ahead_kb", libc::minor(device));
        std::fs::write(knob, "1024").expect("raise the read-ahead");
        floor
    }

    /// Returns where the file is.
    pub(crate) fn path(&self) -> PathBuf {
        self.at.path().join(NAME)
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        process::run("umount", [self.at.path()]);
        self.server.wait(Duration::from_secs(5));
    }
}

struct Shown {
    file: File,
    passthrough: bool,
    backing: OnceLock<BackingId>,
}

impl Shown {
    fn attr(&self, ino: INodeNo) -> FileAttr {
        let size = self.file.metadata().expect("stat").len();
        let (kind, size) = match ino {
            FILE => (FileType::RegularFile, size),
            _ => (FileType::Directory, 0),
        };
        let time = SystemTime::UNIX_EPOCH;
        FileAttr {
            ino,
            size,
            blocks: size.div_ceil(512),
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind,
            perm: 0o555,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 128 << 10,
            flags: 0,
        }
    }
}

impl Filesystem for Shown {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        if self.passthrough {
            config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).expect("passthrough");
            config.set_max_stack_depth(1).expect("a stack depth");
        }
        let _ = config.set_max_background(1024);
        Ok(())
    }

    fn lookup(&self, _request: &Request, _parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match name == NAME {
            true => reply.entry(&LONG, &self.attr(FILE), Generation(0)),
            false => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _request: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&LONG, &self.attr(ino));
    }

    fn open(&self, _request: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let flags = FopenFlags::FOPEN_NOFLUSH;
        if self.passthrough {
            let id = self
                .backing
                .get_or_init(|| reply.open_backing(&self.file).expect("a backing file"));
            reply.opened_passthrough(FileHandle(0), flags, id);
        } else {
            reply.opened(FileHandle(0), flags | FopenFlags::FOPEN_KEEP_CACHE);
        }
    }

    fn read(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        BUFFER.with_borrow_mut(|buffer| {
            buffer.resize((size as usize).max(buffer.len()), 0);
            let n = self.file.read_at(&mut buffer[..size as usize], offset).expect("read");
            reply.data(&buffer[..n]);
        });
    }

    fn release(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }
}
