//! What a directory holds, and how two of them differ.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs::Metadata;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};

/// One node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) what: What,
    /// Whether somebody may execute it.
    pub(crate) executable: bool,
    /// mtime, in nanoseconds since the epoch.
    pub(crate) modified: i128,
    /// Of several names of one inode the first, by bytes.
    pub(crate) first_name: Vec<u8>,
    links: u64,
    inode: u64,
}

/// What it is and holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Directory,
    /// Its length by stat, and the SHA-256 of what was read.
    File(u64, [u8; 32]),
    Symlink(Vec<u8>),
    Other,
}

/// What an archive cannot tell exactly.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Times differ by less than this.
    pub(crate) precision: Duration,
    /// The archive has no modes: every file shows as executable.
    pub(crate) no_modes: bool,
    /// The unpacker gives directories the times of the archive.
    pub(crate) directories_timed: bool,
    /// The unpacker gives symbolic links the times of the archive.
    pub(crate) links_timed: bool,
}

/// Everything below a directory, by path from there.
pub(crate) type Survey = BTreeMap<Vec<u8>, Seen>;

/// Looks at everything below a directory and reads every file.
///
/// # Errors
/// The first path that cannot be read, and why.
pub(crate) fn survey(root: &Path) -> Result<Survey, String> {
    let mut all = Survey::new();
    walk(root, &mut Vec::new(), &mut all)?;
    let mut first = HashMap::new();
    for (path, seen) in &all {
        first.entry(seen.inode).or_insert_with(|| path.clone());
    }
    for seen in all.values_mut() {
        seen.first_name.clone_from(&first[&seen.inode]);
    }
    Ok(all)
}

fn walk(dir: &Path, at: &mut Vec<u8>, all: &mut Survey) -> Result<(), String> {
    let said = |what: &str, path: &Path, error: std::io::Error| {
        format!("{what} {:?}: {error}", path.as_os_str())
    };
    for entry in std::fs::read_dir(dir).map_err(|error| said("readdir", dir, error))? {
        let entry = entry.map_err(|error| said("readdir", dir, error))?;
        let path = entry.path();
        let meta = path.symlink_metadata().map_err(|error| said("stat", &path, error))?;
        let kind = entry.file_type().map_err(|error| said("readdir", &path, error))?;
        if kind != meta.file_type() {
            return Err(format!("{path:?}: readdir and stat disagree about its kind"));
        }
        let what = if kind.is_dir() {
            What::Directory
        } else if kind.is_symlink() {
            let target = path.read_link().map_err(|error| said("readlink", &path, error))?;
            if meta.len() != target.as_os_str().len() as u64 {
                return Err(format!("{path:?}: a link of length {}", meta.len()));
            }
            What::Symlink(target.as_os_str().as_bytes().to_vec())
        } else if kind.is_file() {
            What::File(meta.len(), read(&path, &meta)?)
        } else {
            What::Other
        };
        let length = at.len();
        if !at.is_empty() {
            at.push(b'/');
        }
        at.extend_from_slice(entry.file_name().as_bytes());
        let seen = Seen {
            executable: what_runs(&what, &meta),
            what,
            modified: i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec()),
            first_name: Vec::new(),
            links: meta.nlink(),
            inode: meta.ino(),
        };
        all.insert(at.clone(), seen);
        if kind.is_dir() {
            walk(&path, at, all)?;
        }
        at.truncate(length);
    }
    Ok(())
}

fn what_runs(what: &What, meta: &Metadata) -> bool {
    matches!(what, What::File(..)) && meta.mode() & 0o111 != 0
}

fn read(path: &Path, meta: &Metadata) -> Result<[u8; 32], String> {
    let failed = |error: std::io::Error| format!("read {path:?}: {error}");
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let (mut hash, mut buf, mut length) = (Sha256::new(), vec![0; 128 << 10], 0);
    loop {
        match file.read(&mut buf).map_err(failed)? {
            0 => break,
            n => {
                hash.update(&buf[..n]);
                length += n as u64;
            }
        }
    }
    if length != meta.len() {
        return Err(format!("{path:?}: {} bytes by stat, {length} read", meta.len()));
    }
    Ok(hash.finalize().into())
}

/// Says how what is shown differs from what was unpacked, one line for each difference.
pub(crate) fn differences(shown: &Survey, unpacked: &Survey, rules: &Rules) -> Vec<String> {
    let mut lines = Vec::new();
    let paths: BTreeSet<&Vec<u8>> = shown.keys().chain(unpacked.keys()).collect();
    for path in paths {
        let name = OsStr::from_bytes(path);
        match (shown.get(path), unpacked.get(path)) {
            (Some(shown), Some(unpacked)) => {
                for difference in shown.differs(unpacked, rules) {
                    lines.push(format!("{name:?}: {difference}"));
                }
            }
            (Some(_), None) => lines.push(format!("{name:?}: shown, but not unpacked")),
            (None, _) => lines.push(format!("{name:?}: unpacked, but not shown")),
        }
    }
    lines
}

impl Seen {
    /// Takes it for a file of its own, whatever other names it has.
    pub(crate) fn alone(&mut self, path: &[u8]) {
        self.first_name = path.to_vec();
        self.links = 1;
    }

    fn differs(&self, unpacked: &Seen, rules: &Rules) -> Vec<String> {
        let mut lines = Vec::new();
        if self.what != unpacked.what {
            lines.push(format!("{:?} shown, {:?} unpacked", self.what, unpacked.what));
        }
        let is_file = matches!(self.what, What::File(..));
        let runs = unpacked.executable || (rules.no_modes && is_file);
        if self.executable != runs {
            lines.push(format!("executable: {} shown, {runs} unpacked", self.executable));
        }
        let apart = (self.modified - unpacked.modified).unsigned_abs();
        let timed = match self.what {
            What::Directory => rules.directories_timed,
            What::Symlink(_) => rules.links_timed,
            What::File(..) | What::Other => true,
        };
        if timed && apart >= rules.precision.as_nanos() {
            lines.push(format!("mtime {} shown, {} unpacked", self.modified, unpacked.modified));
        }
        if self.first_name != unpacked.first_name {
            let of = |seen: &Seen| OsStr::from_bytes(&seen.first_name).to_owned();
            lines.push(format!("a name of {:?} shown, of {:?} unpacked", of(self), of(unpacked)));
        }
        if is_file && self.links != unpacked.links {
            lines.push(format!("{} names shown, {} unpacked", self.links, unpacked.links));
        }
        lines
    }
}
