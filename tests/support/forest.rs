//! Trees of files made from a seed: what archives are packed from.

use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::dice::Dice;
use super::os;

/// What a packer can take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Soil {
    /// Names that are no UTF-8, or hold a newline or a backslash.
    pub(crate) bytes: bool,
    /// The longest path, in bytes; a component has at most 90 unless this is over 1000.
    pub(crate) path: usize,
    /// Symbolic links.
    pub(crate) symlinks: bool,
    /// Further names of a file.
    pub(crate) hard_links: bool,
}

/// Names in many scripts, and names that careless programs trip over.
const NAMES: &[&str] = &[
    "bin",
    "lib",
    "README",
    "Readme",
    "readme",
    "manifest.yml",
    "a",
    "b",
    "c",
    "naïve",
    "ñandú",
    "日本語",
    "Ελληνικά",
    "кириллица",
    "עברית",
    "العربية",
    "ไทย",
    "हिन्दी",
    "한국어",
    "🎉 party",
    "e\u{301}",
    "é",
    "with space",
    "trailing ",
    " leading",
    "-rf",
    "*",
    "?",
    "$HOME",
    "\"quoted\"",
    "it's",
    "#hash",
    "~",
    "a:b",
    "semi;colon",
    "100%",
    ".hidden",
    "...",
    "..x",
    "x..",
    "UPPER",
    "tab\there",
];

/// Names for those who take any bytes.
const RAW: &[&[u8]] =
    &[b"latin-\xe9", b"\xff\xfe", b"new\nline", b"back\\slash", b"\x01\x02", b"\xe3\x81"];

/// The longest a component may be, in bytes.
const COMPONENT: usize = 255;

/// Makes a tree of `count` members below `root`, an empty directory. Of two trees of one seed the
/// smaller has the first members of the larger.
pub(crate) fn plant(root: &Path, seed: u64, count: u64, soil: Soil) {
    let mut forest = Forest { root, soil, dirs: vec![PathBuf::new()], files: Vec::new() };
    for number in 0..count {
        forest.member(&mut Dice::branch(seed, number), number);
    }
    // Last, since every new member changes the time of the directory it lies in.
    for (number, dir) in forest.dirs.iter().enumerate().rev() {
        let time = moment(&mut Dice::branch(!seed, number as u64));
        let file = File::open(root.join(dir)).expect("open a directory");
        file.set_modified(time).expect("set the time of a directory");
    }
}

struct Forest<'a> {
    root: &'a Path,
    soil: Soil,
    dirs: Vec<PathBuf>,
    files: Vec<PathBuf>,
}

impl Forest<'_> {
    fn member(&mut self, dice: &mut Dice, number: u64) {
        // Every fourth goes into the directory made last, so that some trees are deep.
        let dir = match dice.below(4) {
            0 => self.dirs.last().cloned().unwrap_or_default(),
            _ => self.dirs[dice.below(self.dirs.len() as u64) as usize].clone(),
        };
        let path = dir.join(OsStr::from_bytes(&self.name(dice)));
        let full = self.root.join(&path);
        let fits = path.as_os_str().len() + 2 < self.soil.path;
        if !fits || full.symlink_metadata().is_ok() {
            return;
        }
        // The first is a file: a tree without any is nothing to some packers.
        match if number == 0 { 9 } else { dice.below(10) } {
            0..=2 => {
                std::fs::create_dir(&full).expect("make a directory");
                self.dirs.push(path);
            }
            3 if self.soil.symlinks => {
                symlink(target(dice), &full).expect("make a link");
                os::set_link_time(&full, moment(dice)).expect("set the time of a link");
            }
            4 if self.soil.hard_links && !self.files.is_empty() => {
                let first = &self.files[dice.below(self.files.len() as u64) as usize];
                std::fs::hard_link(self.root.join(first), &full).expect("make a hard link");
            }
            _ => {
                file(&full, dice, number);
                self.files.push(path);
            }
        }
    }

    fn name(&self, dice: &mut Dice) -> Vec<u8> {
        let mut name = match dice.below(8) {
            0 if self.soil.bytes => dice.of(RAW).to_vec(),
            1 | 2 => format!("{}{}", dice.of(NAMES), dice.below(100)).into_bytes(),
            3 => format!("file-{}.txt", dice.below(1000)).into_bytes(),
            _ => dice.of(NAMES).as_bytes().to_vec(),
        };
        if dice.once_in(12) {
            let most = if self.soil.path > 1000 { COMPONENT } else { 90 };
            let long = dice.below(most as u64 - name.len() as u64) as usize;
            name.extend(std::iter::repeat_n(b'x', long));
        }
        name
    }
}

/// Makes a file; the sizes lie around those where blocks, pages and buffers end.
fn file(path: &Path, dice: &mut Dice, number: u64) {
    const SIZES: &[&u64] =
        &[&0, &0, &1, &100, &511, &512, &513, &4095, &4096, &4097, &65_535, &65_536, &200_001];
    let len = match dice.below(3) {
        0 => dice.below(3000),
        _ => *dice.of(SIZES),
    };
    let noise = dice.once_in(2);
    let bytes = Dice::branch(dice.next(), number).bytes(len as usize, noise);
    std::fs::write(path, bytes).expect("write a sample");
    let mode = *dice.of(&[&0o644, &0o755, &0o600, &0o700, &0o444, &0o555]);
    std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("set a mode");
    let file = File::open(path).expect("open a sample");
    file.set_modified(moment(dice)).expect("set the time of a sample");
}

/// Returns a target; most point nowhere, which nobody who shows links minds.
fn target(dice: &mut Dice) -> PathBuf {
    const TARGETS: &[&str] = &[
        "a",
        "..",
        "../lib",
        "/etc/hostname",
        "nowhere",
        "./b/../c",
        "日本語",
        "../../../../../up",
        ".",
    ];
    let mut target = dice.of(TARGETS).to_owned();
    if dice.once_in(4) {
        target.push_str(&"/deeper".repeat(dice.below(8) as usize));
    }
    target.into()
}

/// Returns a time that every format can record, to the nanosecond.
fn moment(dice: &mut Dice) -> SystemTime {
    // 1985 to 2025: within what a zip can say, and past, which GNU tar likes to see.
    let seconds = 473_385_600 + dice.below(40 * 365 * 86_400);
    SystemTime::UNIX_EPOCH + Duration::new(seconds, dice.below(1_000_000_000) as u32)
}
