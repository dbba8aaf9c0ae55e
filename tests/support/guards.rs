//! Guards for what a test does to the machine; each undoes itself when dropped.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::{os, process};

/// A directory below the system's for temporary files, removed when dropped.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    /// Makes a directory that anyone may enter.
    pub(crate) fn new() -> TempDir {
        use std::os::unix::fs::PermissionsExt;
        let run = std::env::var("CACHED_DOWNLOADS_TEST_RUN").unwrap_or_default();
        let dir = tempfile::Builder::new()
            .prefix(&format!("cached-downloads-test{run}"))
            .tempdir()
            .expect("make a temporary directory")
            .keep();
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755))
            .expect("open the temporary directory to all");
        TempDir(dir)
    }

    /// Returns where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        unmount_below(&self.0);
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("{} stays behind: {error}", self.0.display());
        }
    }
}

/// Returns the mountpoints at or below a path, the innermost first.
pub(crate) fn mounts_below(path: &Path) -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut found: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| PathBuf::from(point.replace("\\040", " ")))
        .filter(|point| point.starts_with(path))
        .collect();
    found.reverse();
    found
}

/// Detaches every mount at or below a path, and returns how many there were.
pub(crate) fn unmount_below(path: &Path) -> usize {
    let found = mounts_below(path);
    for point in &found {
        // Force ends a connection whose daemon does not answer; lazy does the rest.
        for flag in ["-f", "-l"] {
            let _ = process::command("umount").arg(flag).arg(point).stderr(Stdio::null()).status();
        }
    }
    found.len()
}

/// A bind mount, undone when dropped.
pub(crate) struct Bind(PathBuf);

impl Bind {
    /// Binds a file or directory to a new place inside `dir`.
    ///
    /// # Panics
    /// mount(8) fails.
    #[track_caller]
    pub(crate) fn new(what: &Path, dir: &Path, name: &str) -> Bind {
        let point = dir.join(name);
        if what.is_dir() {
            std::fs::create_dir(&point).expect("make the place of a bind mount");
        } else {
            std::fs::write(&point, "").expect("make the place of a bind mount");
        }
        process::quiet("mount", [Path::new("--bind"), what, &point]);
        Bind(point)
    }

    /// Returns where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Bind {
    fn drop(&mut self) {
        let _ = process::command("umount").arg(&self.0).status();
    }
}

/// A descriptor of a place alone (O_PATH), through which its paths go.
pub(crate) struct Place(std::fs::File);

impl Place {
    /// Holds a file or a directory.
    ///
    /// # Panics
    /// It is not there.
    #[track_caller]
    pub(crate) fn new(what: &Path) -> Place {
        use std::os::unix::fs::OpenOptionsExt;
        let mut options = std::fs::File::options();
        let opened = options.read(true).custom_flags(libc::O_PATH).open(what);
        Place(opened.expect("open with O_PATH"))
    }

    /// Returns a path that leads through the descriptor.
    pub(crate) fn path(&self) -> PathBuf {
        use std::os::fd::AsRawFd;
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }
}

/// Runs `work` on a thread whose network is loopback alone, with further addresses there. What it
/// starts is in that network too; the network goes with the last of them. Needs root and `ip`.
///
/// # Panics
/// Whatever `work` panics with.
pub(crate) fn in_own_network(addresses: &[&str], work: impl FnOnce() + Send) {
    let run = || {
        os::own_network().expect("make a network");
        process::quiet("ip", ["link", "set", "lo", "up"]);
        for address in addresses {
            process::quiet("ip", ["address", "add", address, "dev", "lo"]);
        }
        work();
    };
    let done = std::thread::scope(|scope| scope.spawn(run).join());
    if let Err(panic) = done {
        std::panic::resume_unwind(panic);
    }
}

/// A small ext4 filesystem on a loop device, undone when dropped.
pub(crate) struct LoopFs {
    point: PathBuf,
    _dir: TempDir,
}

impl LoopFs {
    /// Makes and mounts one of `mib` MiB.
    ///
    /// # Panics
    /// A program it needs fails.
    pub(crate) fn new(mib: u64) -> LoopFs {
        let dir = TempDir::new();
        let image = dir.path().join("image");
        let point = dir.path().join("disk");
        std::fs::create_dir(&point).expect("make a mountpoint");
        let file = std::fs::File::create(&image).expect("make an image");
        file.set_len(mib << 20).expect("size the image");
        let image = image.to_str().expect("a plain path");
        // No reserved blocks, so that what statvfs says is what a program can have.
        process::run("mkfs.ext4", ["-q", "-F", "-m", "0", image]);
        process::quiet("mount", ["-o", "loop", image, point.to_str().expect("a plain path")]);
        LoopFs { point, _dir: dir }
    }

    /// Returns where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        &self.point
    }
}

impl Drop for LoopFs {
    fn drop(&mut self) {
        let _ = process::command("umount").arg(&self.point).status();
    }
}

/// `/dev/fuse` open to ordinary users, as Debian's udev has it; as it was when dropped.
///
/// Containers and minimal machines have it closed to all but root, and fusermount3 opens it with
/// the rights of its caller.
pub(crate) struct DeviceForAll(u32);

impl DeviceForAll {
    /// Opens the device to all, as root.
    pub(crate) fn new() -> DeviceForAll {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(DEVICE).expect("stat /dev/fuse").permissions().mode();
        chmod(0o666).expect("open /dev/fuse to all");
        DeviceForAll(mode & 0o7777)
    }
}

impl Drop for DeviceForAll {
    fn drop(&mut self) {
        if let Err(error) = chmod(self.0) {
            eprintln!("{DEVICE} stays open to all: {error}");
        }
    }
}

const DEVICE: &str = "/dev/fuse";

fn chmod(mode: u32) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(DEVICE, std::fs::Permissions::from_mode(mode))
}
