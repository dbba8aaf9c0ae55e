//! The system calls that the standard library lacks; the only unsafe code of the tests.
#![expect(unsafe_code, reason = "libc calls that the tests cannot do without")]

use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Says whether the test runs as root.
pub(crate) fn is_root() -> bool {
    // SAFETY: geteuid has no preconditions and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Has the kernel send `signal` to the child when the thread that spawns it ends, so that a killed
/// test run leaves nothing behind. Spawn from a thread that outlives the child. SIGINT and SIGQUIT
/// have their default action in the child: a shell that runs the tests in the background has them
/// ignored, and children inherit that.
pub(crate) fn die_with_parent(command: &mut Command, signal: i32) -> &mut Command {
    let parent = std::process::id();
    // SAFETY: the closure runs between fork and exec and makes only async-signal-safe calls.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, signal, 0, 0, 0) != 0 {
                return Err(io::Error::last_os_error());
            }
            for ignored in [libc::SIGINT, libc::SIGQUIT] {
                libc::signal(ignored, libc::SIG_DFL);
            }
            // The parent may have died before the line above took effect.
            if libc::getppid() as u32 != parent {
                libc::_exit(1);
            }
            Ok(())
        })
    }
}

/// Has the child become a member of a control group, whose list of members is `members`, before it
/// runs its program.
pub(crate) fn join_group(command: &mut Command, members: File) -> &mut Command {
    let join = move || {
        // SAFETY: write is async-signal-safe; the descriptor is open for as long as the closure is,
        // and the buffer is one byte long. 0 means the process that writes.
        match unsafe { libc::write(members.as_raw_fd(), c"0".as_ptr().cast(), 1) } {
            1 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: the closure runs between fork and exec and makes one async-signal-safe call.
    unsafe { command.pre_exec(join) }
}

/// Gives the calling thread, and what it starts from then on, a network of its own in which nothing
/// but loopback is, and that is down.
///
/// # Errors
/// What unshare(2) said.
pub(crate) fn own_network() -> io::Result<()> {
    // SAFETY: unshare takes a number; network namespaces belong to threads.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) })
}

/// Sends a signal to a process.
pub(crate) fn kill(pid: u32, signal: i32) -> io::Result<()> {
    // SAFETY: kill takes two numbers; the pid is that of a child not yet waited for.
    check(unsafe { libc::kill(pid as i32, signal) })
}

/// Drops a file's clean pages from the page cache.
pub(crate) fn drop_pages(file: &File) -> io::Result<()> {
    advise(file, libc::POSIX_FADV_DONTNEED)
}

/// Says that a file will be read at random through this descriptor.
pub(crate) fn reads_at_random(file: &File) -> io::Result<()> {
    advise(file, libc::POSIX_FADV_RANDOM)
}

fn advise(file: &File, advice: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as `file` is borrowed.
    match unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, advice) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Makes the close of a connection send RST instead of FIN.
pub(crate) fn reset_on_close(stream: &TcpStream) -> io::Result<()> {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: the pointer and the length describe the local `linger`.
    check(unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of::<libc::linger>() as libc::socklen_t,
        )
    })
}

/// Returns an extended attribute of a path.
///
/// # Errors
/// What getxattr(2) said.
pub(crate) fn xattr(path: &std::path::Path, name: &str) -> io::Result<String> {
    let path = cstring(path.as_os_str().as_encoded_bytes())?;
    let name = cstring(name.as_bytes())?;
    let mut buf = vec![0_u8; 64 << 10];
    // SAFETY: both strings end with NUL and the buffer is as long as said.
    let n =
        unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), buf.as_mut_ptr().cast(), buf.len()) };
    let n = usize::try_from(n).map_err(|_| io::Error::last_os_error())?;
    buf.truncate(n);
    String::from_utf8(buf).map_err(io::Error::other)
}

/// Sets the mtime of a symbolic link itself.
///
/// # Errors
/// What utimensat(2) said.
pub(crate) fn set_link_time(path: &std::path::Path, time: std::time::SystemTime) -> io::Result<()> {
    let path = cstring(path.as_os_str().as_encoded_bytes())?;
    let since = time.duration_since(std::time::UNIX_EPOCH).map_err(io::Error::other)?;
    let modified =
        libc::timespec { tv_sec: since.as_secs() as i64, tv_nsec: i64::from(since.subsec_nanos()) };
    let both = [libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_OMIT }, modified];
    let flag = libc::AT_SYMLINK_NOFOLLOW;
    // SAFETY: the string ends with NUL and the array has the two times that are read.
    check(unsafe { libc::utimensat(libc::AT_FDCWD, path.as_ptr(), both.as_ptr(), flag) })
}

/// Space of a filesystem, in bytes and in files.
pub(crate) struct Space {
    /// All of it.
    pub(crate) total: u64,
    /// What an ordinary user may still use.
    pub(crate) available: u64,
}

/// Returns the space of the filesystem at `path`.
pub(crate) fn statvfs(path: &std::path::Path) -> io::Result<Space> {
    let path = cstring(path.as_os_str().as_encoded_bytes())?;
    let mut out = std::mem::MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: the string ends with NUL; statvfs fills the struct when it returns 0.
    let out = unsafe {
        check(libc::statvfs(path.as_ptr(), out.as_mut_ptr()))?;
        out.assume_init()
    };
    Ok(Space { total: out.f_blocks * out.f_frsize, available: out.f_bavail * out.f_frsize })
}

/// A read-only mapping of a whole file.
pub(crate) struct Mapping {
    start: *const u8,
    len: usize,
}

// SAFETY: the mapping is read-only and owned by this value alone.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps `len` bytes from the start of the file, shared or private.
    ///
    /// # Errors
    /// What mmap(2) said.
    pub(crate) fn new(file: &File, len: usize, shared: bool) -> io::Result<Mapping> {
        let flags = if shared { libc::MAP_SHARED } else { libc::MAP_PRIVATE };
        // SAFETY: a fresh mapping at an address that the kernel chooses aliases nothing.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ, flags, file.as_raw_fd(), 0)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Mapping { start: start.cast(), len })
    }

    /// Copies bytes out; a page that the filesystem cannot provide ends the process with SIGBUS.
    pub(crate) fn copy(&self, offset: usize, len: usize) -> Vec<u8> {
        assert!(offset + len <= self.len, "past the mapping");
        let mut out = vec![0; len];
        // SAFETY: the range lies within the mapping, which lives as long as `self`.
        unsafe { std::ptr::copy_nonoverlapping(self.start.add(offset), out.as_mut_ptr(), len) };
        out
    }

    /// Has the kernel forget the mapping's pages, so that the next access asks the filesystem.
    pub(crate) fn forget_pages(&self) {
        // SAFETY: the range is exactly the mapping; its pages are clean.
        unsafe { libc::madvise(self.start as *mut _, self.len, libc::MADV_DONTNEED) };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is exactly what mmap returned, unmapped once.
        unsafe { libc::munmap(self.start as *mut _, self.len) };
    }
}

fn cstring(bytes: &[u8]) -> io::Result<std::ffi::CString> {
    std::ffi::CString::new(bytes).map_err(io::Error::other)
}

fn check(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
