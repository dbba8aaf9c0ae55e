//! The only unsafe code.
#![expect(unsafe_code, reason = "system calls that the standard library does not offer")]

// ---- mounting

use std::ffi::CString;
use std::io::{self, IoSlice};
use std::mem;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Turns the -1 of a system call into the error it left in `errno`.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Returns a path as a C string.
fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

/// Mounts a FUSE filesystem read-only, without device files and setuid.
///
/// `data` names the open descriptor of `/dev/fuse` (`fd=,rootmode=,user_id=,group_id=`).
///
/// # Errors
/// What mount(2) said: `EPERM` without CAP_SYS_ADMIN in the user namespace of the mount namespace.
pub fn mount_fuse(path: &Path, source: &str, kind: &str, data: &str) -> io::Result<()> {
    let (target, source) = (c_path(path)?, CString::new(source)?);
    let (kind, data) = (CString::new(kind)?, CString::new(data)?);
    let flags = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV;
    // SAFETY: four NUL-terminated strings that outlive the call; FUSE reads `data` as a string.
    check(unsafe {
        libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data.as_ptr().cast())
    })?;
    Ok(())
}

/// Unmounts what is mounted on a path, not following a symlink at its end.
///
/// With `lazy` (`MNT_DETACH`) the path is free at once and the filesystem ends when its last
/// holder leaves.
///
/// # Errors
/// `EBUSY` when something holds the mount and `lazy` is false, `EINVAL` when nothing is mounted
/// there, `EPERM` for ordinary users.
pub fn unmount(path: &Path, lazy: bool) -> io::Result<()> {
    let path = c_path(path)?;
    let flags = libc::UMOUNT_NOFOLLOW | if lazy { libc::MNT_DETACH } else { 0 };
    // SAFETY: a NUL-terminated string that outlives the call.
    check(unsafe { libc::umount2(path.as_ptr(), flags) })?;
    Ok(())
}

/// Asks the filesystem of a path for its size, which no kernel cache can answer.
///
/// # Errors
/// `ENOTCONN` when it is a FUSE filesystem whose daemon is gone.
pub fn ask_filesystem(path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let mut answer = mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: a NUL-terminated string and room for one `statfs`, both outliving the call.
    check(unsafe { libc::statfs(path.as_ptr(), answer.as_mut_ptr()) })?;
    Ok(())
}

/// Receives one descriptor sent with `SCM_RIGHTS`, close-on-exec. Waits for the peer.
///
/// # Errors
/// The peer closed its end, or sent something without a descriptor.
pub fn receive_fd(socket: &UnixStream) -> io::Result<OwnedFd> {
    // Aligned for `cmsghdr`, with room for a header and one descriptor.
    let mut control = [0u64; 4];
    let mut byte = 0u8;
    let mut iov = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    // SAFETY: all zeros is a valid `msghdr`.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut iov;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = mem::size_of_val(&control) as _;
    loop {
        // SAFETY: `message` points at buffers of the lengths it gives, all alive here.
        let got =
            unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
        match got {
            -1 => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ => break,
        }
    }
    // SAFETY: recvmsg filled `message`; CMSG_FIRSTHDR checks the length it left.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    if header.is_null() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    // SAFETY: CMSG_LEN only computes.
    let wanted = unsafe { libc::CMSG_LEN(mem::size_of::<libc::c_int>() as u32) };
    // SAFETY: `header` points at a whole `cmsghdr` inside `control`.
    let header_ref = unsafe { &*header };
    if header_ref.cmsg_level != libc::SOL_SOCKET
        || header_ref.cmsg_type != libc::SCM_RIGHTS
        || (header_ref.cmsg_len as usize) < wanted as usize
    {
        return Err(io::ErrorKind::InvalidData.into());
    }
    // SAFETY: the length says that one descriptor follows the header; it may be unaligned.
    let fd = unsafe { libc::CMSG_DATA(header).cast::<libc::c_int>().read_unaligned() };
    // SAFETY: the kernel has just installed this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Returns the effective user id.
pub fn uid() -> u32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::geteuid() }
}

/// Returns the effective group id.
pub fn gid() -> u32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::getegid() }
}

/// Says whether a process with this id exists, also one that we may not signal.
pub fn alive(pid: u32) -> bool {
    match libc::pid_t::try_from(pid) {
        // SAFETY: signal 0 only checks; pid 0 and negative ones, which mean groups, are kept out.
        Ok(pid) if pid > 0 => match check(unsafe { libc::kill(pid, 0) }) {
            Ok(_) => true,
            Err(error) => error.raw_os_error() == Some(libc::EPERM),
        },
        _ => false,
    }
}

/// Sends SIGTERM to one process.
///
/// # Errors
/// No such process, or not ours to signal.
pub fn terminate(pid: u32) -> io::Result<()> {
    match libc::pid_t::try_from(pid) {
        // SAFETY: no memory involved; pid 0 and negative ones, which mean groups, are kept out.
        Ok(pid) if pid > 0 => check(unsafe { libc::kill(pid, libc::SIGTERM) }).map(|_| ()),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Raises the soft limit of open files to the hard one and returns it.
///
/// # Errors
/// What getrlimit or setrlimit said.
pub fn raise_file_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: room for one `rlimit` that outlives the call.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: a valid `rlimit` that outlives the call.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
    Ok(limit.rlim_max)
}

/// Has large blocks of memory go back to the system when they are freed. glibc otherwise learns from
/// each that is freed to keep the next: after the index of one large archive was read, twice its
/// size stayed with the process.
pub fn return_large_blocks() {
    #[cfg(target_env = "gnu")]
    {
        const LARGE: libc::c_int = 1 << 20;
        // SAFETY: changes a number of the allocator. It fails only for numbers out of range, and
        // then all stays as it was.
        unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE) };
    }
}

/// Returns the time of the monotonic clock, which systemd wants to see in a reload.
pub fn monotonic() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: room for one `timespec`; CLOCK_MONOTONIC exists on every Linux, so it cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Returns the processor time that the calling thread has used.
pub fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: room for one `timespec`; CLOCK_THREAD_CPUTIME_ID exists on every Linux, so it cannot
    // fail.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

// ---- end of mounting

// ---- the FUSE device

/// Says whether a read of `file` would not wait: there are bytes, an end or an error (poll(2) with
/// no time to wait).
pub fn readable(file: impl AsFd) -> bool {
    let mut asked = libc::pollfd { fd: file.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: `asked` is one valid entry, and lives until the call returns.
    unsafe { libc::poll(&raw mut asked, 1, 0) != 0 }
}

/// Gives a backing id back to the kernel (FUSE_DEV_IOC_BACKING_CLOSE).
///
/// # Errors
/// What ioctl(2) said.
pub fn backing_close(device: BorrowedFd<'_>, id: u32) -> io::Result<()> {
    // _IOW(229, 2, uint32_t), from linux/fuse.h.
    const BACKING_CLOSE: u32 = 0x4004_e502;
    // SAFETY: the descriptor is open for the duration of the call, and the kernel reads four bytes
    // at a pointer that is valid for them.
    let done = unsafe { libc::ioctl(device.as_raw_fd(), u64::from(BACKING_CLOSE), &raw const id) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

// ---- files

/// Takes the exclusive lock of an open file (flock(2)) without waiting. It falls with the last
/// descriptor of that open file, so also with the process. Returns whether it was free.
///
/// # Errors
/// What flock(2) said.
pub fn try_lock_exclusive(file: impl AsFd) -> io::Result<bool> {
    let fd = file.as_fd().as_raw_fd();
    let done = retry(|| {
        // SAFETY: flock takes a descriptor and a number; the descriptor is borrowed, hence open.
        unsafe { libc::flock(fd, libc::LOCK_EX | libc::LOCK_NB) as isize }
    });
    match done {
        Ok(_) => Ok(true),
        Err(e) if e.raw_os_error() == Some(libc::EWOULDBLOCK) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Allocates the first `length` bytes of a file and makes the file that long (fallocate(2),
/// mode 0). Blocks on the disk.
///
/// # Errors
/// What fallocate(2) said: `ENOSPC`, `EFBIG`, `EOPNOTSUPP` where the filesystem cannot.
pub fn fallocate(file: impl AsFd, length: u64) -> io::Result<()> {
    let length = offset(length)?;
    let fd = file.as_fd().as_raw_fd();
    retry(|| {
        // SAFETY: fallocate takes a descriptor and numbers; the descriptor is borrowed, hence open.
        unsafe { libc::fallocate(fd, 0, 0, length) as isize }
    })?;
    Ok(())
}

/// Gives the blocks of a part of a file back to the filesystem (fallocate(2),
/// FALLOC_FL_PUNCH_HOLE); its length stays. Blocks on the disk.
///
/// # Errors
/// What fallocate(2) said: `EOPNOTSUPP` where the filesystem cannot.
pub fn punch_hole(file: impl AsFd, at: u64, length: u64) -> io::Result<()> {
    let (at, length) = (offset(at)?, offset(length)?);
    let fd = file.as_fd().as_raw_fd();
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    retry(|| {
        // SAFETY: fallocate takes a descriptor and numbers; the descriptor is borrowed, hence open.
        unsafe { libc::fallocate(fd, mode, at, length) as isize }
    })?;
    Ok(())
}

/// Writes slices one after another at a place of a file (pwritev(2)), without moving its
/// position. Returns how many bytes were taken, perhaps fewer than there are. Blocks on the disk.
///
/// # Errors
/// What pwritev(2) said; `EINVAL` for more slices than `IOV_MAX` (1024).
pub fn pwritev(file: impl AsFd, slices: &[IoSlice<'_>], at: u64) -> io::Result<usize> {
    let at = offset(at)?;
    let fd = file.as_fd().as_raw_fd();
    let count = libc::c_int::try_from(slices.len())
        .map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    retry(|| {
        // SAFETY: IoSlice is guaranteed to have the layout of iovec; `count` is the number of
        // slices, each of which borrows memory that is only read, for the time of the call.
        unsafe { libc::pwritev(fd, slices.as_ptr().cast(), count, at) }
    })
}

/// Reads at a place of a file only what is in memory (preadv2(2) with `RWF_NOWAIT`), without
/// moving its position. Returns the bytes read, perhaps fewer than asked for and 0 at the end of
/// the file; `None` if the call would wait for the disk or cannot promise that it does not.
///
/// # Errors
/// What preadv2(2) said.
pub fn pread_nowait(file: impl AsFd, buf: &mut [u8], at: u64) -> io::Result<Option<usize>> {
    let at = offset(at)?;
    let fd = file.as_fd().as_raw_fd();
    let slice = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    let done = retry(|| {
        // SAFETY: `slice` describes `buf`, which is borrowed mutably for the time of the call, and
        // the count of slices is one.
        unsafe { libc::preadv2(fd, &slice, 1, at, libc::RWF_NOWAIT) }
    });
    match done {
        Ok(read) => Ok(Some(read)),
        Err(e) => match e.raw_os_error() {
            Some(libc::EAGAIN | libc::EOPNOTSUPP | libc::ENOSYS) => Ok(None),
            _ => Err(e),
        },
    }
}

/// The space of a filesystem, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// What an ordinary user may still fill.
    pub free: u64,
    /// All of it.
    pub total: u64,
}

/// Returns the space of the filesystem a path lies on (statvfs(3)). May block on the disk.
///
/// # Errors
/// What statvfs(3) said.
pub fn statvfs(path: &Path) -> io::Result<Space> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut found = std::mem::MaybeUninit::<libc::statvfs64>::zeroed();
    retry(|| {
        // SAFETY: `path` ends with a NUL and `found` has room for one statvfs64.
        unsafe { libc::statvfs64(path.as_ptr(), found.as_mut_ptr()) as isize }
    })?;
    // SAFETY: the structure is made of integers, zeroed above and filled by the call.
    let found = unsafe { found.assume_init() };
    Ok(Space {
        free: found.f_bavail.saturating_mul(found.f_frsize),
        total: found.f_blocks.saturating_mul(found.f_frsize),
    })
}

/// Turns an offset or a length into the kernel's signed type.
fn offset(value: u64) -> io::Result<libc::off_t> {
    libc::off_t::try_from(value).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))
}

/// Repeats a call while a signal interrupts it, and turns -1 into the error in errno.
fn retry(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        match usize::try_from(call()) {
            Ok(value) => return Ok(value),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

#[cfg(test)]
mod file_tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn writes_and_reads_back_without_waiting() {
        let file = tempfile::tempfile().unwrap();
        let slices = [IoSlice::new(b"hello "), IoSlice::new(b"world")];
        assert_eq!(pwritev(&file, &slices, 3).unwrap(), 11);
        let mut buf = [0; 32];
        // A filesystem that cannot promise not to wait answers `None`, which is also right.
        if let Some(read) = pread_nowait(&file, &mut buf, 3).unwrap() {
            assert_eq!(&buf[..read], b"hello world");
            assert_eq!(pread_nowait(&file, &mut buf, 14).unwrap(), Some(0));
        }
    }

    #[test]
    fn allocates_what_was_asked_for_or_says_that_it_cannot() {
        let file = tempfile::tempfile().unwrap();
        match fallocate(&file, 100_000) {
            Ok(()) => {
                let meta = file.metadata().unwrap();
                assert_eq!(meta.len(), 100_000);
                assert!(meta.blocks() * 512 >= 100_000);
            }
            Err(e) => assert_eq!(e.raw_os_error(), Some(libc::EOPNOTSUPP)),
        }
        let huge = fallocate(&file, u64::MAX).unwrap_err();
        assert_eq!(huge.raw_os_error(), Some(libc::EFBIG));
    }

    #[test]
    fn a_hole_gives_blocks_back_and_reads_as_zeros() {
        use std::os::unix::fs::FileExt;
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[1; 16384], 0).unwrap();
        let before = file.metadata().unwrap().blocks();
        match punch_hole(&file, 4096, 8192) {
            Ok(()) => {
                let meta = file.metadata().unwrap();
                assert!(meta.blocks() < before && meta.len() == 16384);
                let mut read = [9; 8192];
                file.read_exact_at(&mut read, 4096).unwrap();
                assert_eq!(read, [0; 8192]);
            }
            Err(e) => assert_eq!(e.raw_os_error(), Some(libc::EOPNOTSUPP)),
        }
    }

    #[test]
    fn a_lock_belongs_to_one_open_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = std::fs::File::create(&path).unwrap();
        let second = std::fs::File::open(&path).unwrap();
        assert!(try_lock_exclusive(&first).unwrap());
        assert!(!try_lock_exclusive(&second).unwrap());
        drop(first);
        assert!(try_lock_exclusive(&second).unwrap());
    }

    #[test]
    fn space_is_plausible_and_a_missing_path_is_an_error() {
        let space = statvfs(Path::new("/")).unwrap();
        assert!(space.total > 0 && space.free <= space.total);
        let missing = statvfs(Path::new("/no/such/path")).unwrap_err();
        assert_eq!(missing.raw_os_error(), Some(libc::ENOENT));
    }
}
