//! Reads `/proc/self/mountinfo` (proc_pid_mountinfo(5)).

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use super::{KIND, NAME};

/// One line of the mount table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// Major and minor number of the filesystem, as in `st_dev`.
    pub device: (u32, u32),
    /// The directory of the filesystem that is shown; anything but `/` is a bind mount of a part.
    pub root: PathBuf,
    /// Where it is mounted.
    pub path: PathBuf,
    /// The type with its subtype, for example `fuse.cached-downloads`.
    pub kind: String,
    /// What is mounted, as `df` shows it.
    pub source: String,
}

impl Mounted {
    /// Says whether this is a mount of this program, and not a bind mount of a part of one.
    pub fn is_ours(&self) -> bool {
        self.kind == KIND && self.root == Path::new("/")
    }

    /// Returns the daemon's process id, which the source of our mounts ends with.
    pub fn pid(&self) -> Option<u32> {
        let pid = self.source.strip_prefix(NAME)?.strip_prefix('@')?;
        pid.parse().ok()
    }
}

/// Returns the topmost mount on exactly this (canonical) path. Asks no filesystem.
///
/// # Errors
/// `/proc` is not mounted or not readable.
pub fn at(path: &Path) -> io::Result<Option<Mounted>> {
    let table = std::fs::read("/proc/self/mountinfo").map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("cannot read the mount table /proc/self/mountinfo: {error}"),
        )
    })?;
    Ok(topmost(&parse(&table), path).cloned())
}

/// Returns the mount on a path that hides all others there: the last one made.
fn topmost<'a>(table: &'a [Mounted], path: &Path) -> Option<&'a Mounted> {
    table.iter().rev().find(|mounted| mounted.path == path)
}

/// Parses a mount table; lines of another shape are left out.
pub fn parse(table: &[u8]) -> Vec<Mounted> {
    table.split(|&b| b == b'\n').filter_map(parse_line).collect()
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn parse_line(line: &[u8]) -> Option<Mounted> {
    let mut fields = line.split(|&b| b == b' ');
    let (_id, _parent) = (fields.next()?, fields.next()?);
    let device = std::str::from_utf8(fields.next()?).ok()?;
    let (major, minor) = device.split_once(':')?;
    let (root, path) = (fields.next()?, fields.next()?);
    // Options, then any number of optional fields, ended by a hyphen.
    fields.by_ref().skip(1).find(|field| *field == b"-")?;
    let (kind, source) = (fields.next()?, fields.next()?);
    Some(Mounted {
        device: (major.parse().ok()?, minor.parse().ok()?),
        root: OsString::from_vec(unescape(root)).into(),
        path: OsString::from_vec(unescape(path)).into(),
        kind: String::from_utf8_lossy(&unescape(kind)).into_owned(),
        source: String::from_utf8_lossy(&unescape(source)).into_owned(),
    })
}

/// Undoes the kernel's `\ooo` for blanks, tabs, line ends, backslashes and hashes.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        match tail {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] if *first == b'\\' => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 22 0:35 / /cached-downloads ro,nosuid,nodev - fuse.cached-downloads cached-downloads@77 ro,user_id=0
41 22 0:36 / /mnt/with\\040blank\\134 ro master:1 propagate_from:2 - fuse.cached-downloads cached-downloads@9 ro
42 22 0:35 /jdk /mnt/jdk ro - fuse.cached-downloads cached-downloads@77 ro
43 22 0:40 / /cached-downloads rw - tmpfs tmpfs rw
garbage
44 22 x:y / /bad rw - tmpfs tmpfs rw
45 22 0:41 / /cut rw shared:4
";

    #[test]
    fn every_well_formed_line_is_read() {
        let table = parse(TABLE);
        assert_eq!(table.len(), 5);
        assert_eq!(table[1].device, (0, 35));
        assert_eq!(table[2].path, Path::new("/mnt/with blank\\"));
        assert_eq!(table[2].pid(), Some(9));
    }

    #[test]
    fn a_part_bound_elsewhere_is_not_the_mount() {
        let table = parse(TABLE);
        assert!(table[1].is_ours());
        assert!(!table[3].is_ours());
        assert!(!table[4].is_ours());
    }

    #[test]
    fn the_last_mount_on_a_path_hides_the_others() {
        let table = parse(TABLE);
        let top = topmost(&table, Path::new("/cached-downloads")).expect("is in the table");
        assert_eq!(top.kind, "tmpfs");
        assert_eq!(topmost(&table, Path::new("/nowhere")), None);
    }

    #[test]
    fn a_source_of_another_shape_has_no_pid() {
        let mut mounted = parse(TABLE).swap_remove(1);
        for source in ["cached-downloads", "cached-downloads@", "other@4", "cached-downloads@x"] {
            source.clone_into(&mut mounted.source);
            assert_eq!(mounted.pid(), None, "{source}");
        }
    }

    #[test]
    fn the_table_of_this_machine_has_a_root() {
        assert!(at(Path::new("/")).expect("proc is mounted").is_some());
    }
}
