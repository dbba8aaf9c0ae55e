//! One behaviour in one phase: what it is tried on, and how what comes of it is judged.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use super::table::{Phase, Row};
use crate::support::origin::{Fault, When};
use crate::support::{Body, Item, KIB, MIB, Mounted, Origin, timed};

const ALWAYS: usize = usize::MAX;

/// How much of a body is there before the daemon is killed: more than it goes without noting.
const BEFORE: u64 = 8 * MIB + 512 * KIB;

/// Where a body is cut that is to be resumed: far enough for nobody to read over what is there.
const CUT: u64 = 2 * MIB;

/// Where the part is read that is far ahead of the stream.
const FAR: u64 = 3 * MIB - 200 * KIB;

/// How fast a new version comes, in bytes per second: slow enough to be opened before it fails.
const NEWER: u64 = 96 * KIB;

/// Returns the length of the bodies of a phase.
fn length(phase: Phase) -> u64 {
    match phase {
        // Read from the beginning.
        Phase::First | Phase::Revalidate => 256 * KIB,
        Phase::Range | Phase::Resume => 3 * MIB,
        Phase::Killed => 9 * MIB + 256 * KIB,
    }
}

/// A row of the table in one phase, with an origin of its own: what one does is held against it.
pub(super) struct Case {
    row: &'static Row,
    phase: Phase,
    tls: bool,
    pub(super) name: String,
    origin: Origin,
    before: Body,
    body: Body,
    newest: Body,
}

impl Case {
    /// Makes the case of row `n`; with a chain and a key the origin speaks TLS.
    pub(super) fn new(
        row: &'static Row,
        phase: Phase,
        n: u64,
        tls: Option<(&Path, &Path)>,
    ) -> Case {
        let len = length(phase);
        let (first, second) = (Item::ranged(2 * n + 1, len), Item::ranged(2 * n + 2, len));
        let origin = tls.map_or_else(Origin::start, |(chain, key)| Origin::start_tls(chain, key));
        let (before, body) = match phase {
            Phase::Revalidate => (first.body.clone(), second.body.clone()),
            _ => (second.body.clone(), first.body.clone()),
        };
        let fault = row.fault.clone();
        let item = match phase {
            Phase::First => first.strike(When::Plain, fault, ALWAYS),
            Phase::Revalidate => first,
            Phase::Range => first.strike(When::Part, fault, ALWAYS),
            Phase::Resume => {
                first.strike(When::Plain, Fault::Cut(CUT), 1).strike(When::Part, fault, ALWAYS)
            }
            Phase::Killed => {
                let slow = first.strike(When::Plain, Fault::Trickle(BEFORE), 1);
                slow.strike(When::Part, fault, ALWAYS)
            }
        };
        origin.put("/a", Item { next: Some(Box::new(second)), ..item });
        let name = format!("case{n}{}", if tls.is_some() { "tls" } else { "" });
        let newest = Body::made(1_000_000 + n, len);
        Case { row, phase, tls: tls.is_some(), name, origin, before, body, newest }
    }

    /// Says whether its origin gives other bytes under a strong tag that was seen before.
    pub(super) fn lies(&self) -> bool {
        match (&self.row.fault, self.phase) {
            (Fault::Shorter(_), Phase::Revalidate) => true,
            // With a digest declared, the copy is what is declared, whatever comes.
            (Fault::Lie, Phase::Revalidate) => !self.row.digest,
            (Fault::Lie, phase) => phase != Phase::First,
            _ => false,
        }
    }

    /// Returns its lines of the catalog.
    pub(super) fn declaration(&self) -> String {
        let mut text = format!("[downloads.{}]\nurl = \"{}\"\n", self.name, self.origin.url("/a"));
        if self.phase == Phase::Range {
            text += "fill = \"on-read\"\n";
        }
        if self.row.digest {
            // Of what a reader is to get: a new version would not have it.
            let body = if self.phase == Phase::Revalidate { &self.before } else { &self.body };
            let _ = write!(text, "sha256 = \"{}\"\nrevalidate = \"always\"\n", body.sha256());
        }
        text
    }

    /// Fetches the version that is there before the revalidation.
    pub(super) fn fetch_copy(&self, mounted: &Mounted) {
        self.before.check(&mounted.path(&self.name)).expect("the copy");
    }

    /// Has the origin go wrong from now on, with a new version.
    pub(super) fn replace(&self) {
        let newest = Item { etag: Some("\"newest\"".to_owned()), ..Item::new(self.newest.clone()) };
        let item = Item {
            etag: Some("\"new\"".to_owned()),
            next: Some(Box::new(newest)),
            ranges: true,
            rate: Some(NEWER),
            ..Item::new(self.body.clone())
        };
        self.origin.put("/a", item.strike(When::Conditional, self.row.fault.clone(), ALWAYS));
    }

    /// Begins a download that slows down. An open that waits for all of it ends with the daemon.
    pub(super) fn begin(&self, mounted: &Mounted) {
        let path = mounted.path(&self.name);
        std::thread::spawn(move || File::open(path).map(drop));
    }

    /// Forgets what was asked for so far.
    pub(super) fn forget(&self) {
        self.origin.forget();
    }

    /// Runs it and says what is wrong, if anything.
    pub(super) fn judge(&self, mounted: &Mounted) -> Option<String> {
        let (allowed, seconds) = self.row.cells[self.phase as usize];
        let (outcome, took) = timed(|| self.outcome(mounted));
        let (behaviour, phase) = (self.row.behaviour, self.phase);
        let wire = if self.tls { "TLS" } else { "plain" };
        println!("{phase:?} | {wire} | {behaviour} | {outcome} | {took:.1?}");
        let right = allowed.split(" or ").any(|word| word == outcome);
        if right && took <= Duration::from_secs(seconds) {
            return None;
        }
        let asked: Vec<String> = self
            .origin
            .seen()
            .iter()
            .map(|seen| format!("{:?} {}+{}", seen.header("range"), seen.status, seen.sent))
            .collect();
        Some(format!(
            "{phase:?}, {wire}: {behaviour}: {outcome} after {took:.1?}, not {allowed} within {seconds} s; {asked:?}"
        ))
    }

    /// Reads as the phase wants, and names what came of it.
    fn outcome(&self, mounted: &Mounted) -> String {
        let first = self.named(self.read(mounted));
        if self.phase != Phase::Revalidate || first != "EIO" {
            return first;
        }
        // The new version had taken the name. It has failed by now.
        match &*self.named(self.read(mounted)) {
            "EIO" => first,
            second => format!("EIO, then {second}"),
        }
    }

    fn named(&self, read: io::Result<Vec<u8>>) -> String {
        let revalidates = self.phase == Phase::Revalidate;
        match read {
            Ok(bytes) if bytes == self.expected(&self.body) => "bytes".to_owned(),
            Ok(bytes) if revalidates && bytes == self.before.all() => "copy".to_owned(),
            Ok(bytes) if revalidates && bytes == self.newest.all() => "newest".to_owned(),
            // What the answer brought as all of the version.
            Ok(bytes) if revalidates && self.instead().is_some_and(|all| bytes == all) => {
                "bytes".to_owned()
            }
            Ok(bytes) => format!("{} other bytes", bytes.len()),
            Err(error) => match error.raw_os_error() {
                Some(libc::EIO) => "EIO".to_owned(),
                Some(libc::EACCES) => "EACCES".to_owned(),
                Some(libc::ENOENT) => "ENOENT".to_owned(),
                Some(libc::EFBIG) => "EFBIG".to_owned(),
                Some(libc::ETIMEDOUT) => "ETIMEDOUT".to_owned(),
                _ => error.to_string(),
            },
        }
    }

    /// Returns what a fault that lies sends instead of the new version.
    fn instead(&self) -> Option<Vec<u8>> {
        match self.row.fault {
            Fault::Shorter(fewer) => Some(self.body.slice(0, (self.body.len() - fewer) as usize)),
            Fault::Lie => Some(self.body.other().all()),
            _ => None,
        }
    }

    fn read(&self, mounted: &Mounted) -> io::Result<Vec<u8>> {
        let path = mounted.path(&self.name);
        if self.phase != Phase::Range {
            return std::fs::read(path);
        }
        let file = File::open(path)?;
        let mut bytes = vec![0; 4 * KIB as usize];
        match file.read_exact_at(&mut bytes, FAR) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(Vec::new()),
            other => other.map(|()| bytes),
        }
    }

    fn expected(&self, body: &Body) -> Vec<u8> {
        match self.phase {
            Phase::Range => body.slice(FAR, 4 * KIB as usize),
            _ => body.all(),
        }
    }
}
