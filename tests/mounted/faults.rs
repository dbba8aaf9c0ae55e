//! Every way in which an origin goes wrong, at every kind of request: the right bytes or the
//! documented error, within the deadline.

mod table;

use std::fmt::Write as _;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use crate::support::origin::{Fault, When};
use crate::support::{Body, Item, KIB, MIB, Mounted, Origin, figure, needs, timed};
use table::{Phase, ROWS, Row};

/// Of a body that is read from its beginning; and of one of which a part is asked for.
const SHORT: u64 = 256 * KIB;
const LONG: u64 = 3 * MIB;
/// Where a body is cut that is to be resumed: far enough for nobody to read over what is there.
const CUT: u64 = 2 * MIB;
/// Where the part is read; how fast the stream comes that it is ahead of, in bytes per second.
const FAR: u64 = LONG - 200 * KIB;
const STREAM: u64 = 512 * KIB;

const ALWAYS: usize = usize::MAX;

/// One behaviour in one phase, with an origin of its own: what one does is held against it.
struct Case {
    row: &'static Row,
    phase: Phase,
    name: String,
    origin: Origin,
    before: Body,
    body: Body,
}

impl Case {
    fn all(phase: Phase) -> Vec<Case> {
        let wanted = ROWS.iter().enumerate().filter(|(_, row)| row.cells[phase as usize].1 > 0);
        wanted.map(|(n, row)| Case::new(row, phase, n as u64)).collect()
    }

    fn new(row: &'static Row, phase: Phase, n: u64) -> Case {
        let len = if matches!(phase, Phase::Range | Phase::Resume) { LONG } else { SHORT };
        let (first, second) = (Item::ranged(2 * n + 1, len), Item::ranged(2 * n + 2, len));
        let origin = Origin::start();
        let (before, body) = match phase {
            Phase::Revalidate => (first.body.clone(), second.body.clone()),
            _ => (second.body.clone(), first.body.clone()),
        };
        let fault = row.fault.clone();
        let item = match phase {
            Phase::First => first.strike(When::Plain, fault, ALWAYS),
            Phase::Revalidate => first,
            Phase::Range => Item { rate: Some(STREAM), ..first }.strike(When::Part, fault, ALWAYS),
            Phase::Resume => {
                first.strike(When::Plain, Fault::Cut(CUT), 1).strike(When::Part, fault, ALWAYS)
            }
        };
        origin.put("/a", Item { next: Some(Box::new(second)), ..item });
        Case { row, phase, name: format!("case{n}"), origin, before, body }
    }

    /// Has the origin go wrong from now on, with a new version.
    fn replace(&self, n: u64) {
        let next = Item::ranged(1000 + n, SHORT);
        let item = Item {
            etag: Some("\"new\"".to_owned()),
            next: Some(Box::new(next)),
            ..Item::new(self.body.clone())
        };
        let item = Item { ranges: true, ..item };
        self.origin.put("/a", item.strike(When::Conditional, self.row.fault.clone(), ALWAYS));
    }

    /// Reads as the phase wants, and names what came of it.
    fn outcome(&self, mounted: &Mounted) -> String {
        match self.read(mounted) {
            Ok(bytes) if bytes == self.expected(&self.body) => "bytes".to_owned(),
            Ok(bytes)
                if self.phase == Phase::Revalidate && bytes == self.expected(&self.before) =>
            {
                "copy".to_owned()
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

    fn read(&self, mounted: &Mounted) -> std::io::Result<Vec<u8>> {
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

    /// Runs it and says what is wrong, if anything.
    fn judge(&self, mounted: &Mounted) -> Option<String> {
        let (allowed, seconds) = self.row.cells[self.phase as usize];
        let (outcome, took) = timed(|| self.outcome(mounted));
        println!("{:?} | {} | {outcome} | {took:.1?}", self.phase, self.row.behaviour);
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
        let (behaviour, phase) = (self.row.behaviour, self.phase);
        Some(format!(
            "{phase:?}: {behaviour}: {outcome} after {took:.1?}, not {allowed} within {seconds} s; {asked:?}"
        ))
    }
}

fn run(phase: Phase) {
    needs!("fuse");
    let cases = Case::all(phase);
    let setup = Mounted::with();
    let config = setup.dir().join("config.toml");
    std::fs::write(&config, "max_downloads = 200\n").expect("write the configuration");
    let mut catalog = String::new();
    for case in &cases {
        let (name, url) = (&case.name, case.origin.url("/a"));
        let _ = writeln!(catalog, "[downloads.{name}]\nurl = \"{url}\"");
        if phase == Phase::Range {
            let _ = writeln!(catalog, "fill = \"on-read\"");
        }
    }
    let mounted = setup
        .args(["--config".to_owned(), config.display().to_string()])
        .catalog("test.toml", &catalog)
        .start();
    if phase == Phase::Revalidate {
        for (n, case) in cases.iter().enumerate() {
            case.before.check(&mounted.path(&case.name)).expect("the copy");
            case.replace(n as u64);
        }
        for case in &cases {
            mounted.wait_complete(&case.name);
        }
        mounted.settle();
    }
    let (wrong, took) = timed(|| {
        std::thread::scope(|scope| {
            let all: Vec<_> =
                cases.iter().map(|case| scope.spawn(|| case.judge(&mounted))).collect();
            let judged = all.into_iter().filter_map(|case| case.join().expect("a case"));
            judged.collect::<Vec<String>>()
        })
    });
    figure(&format!("{phase:?}: {} cases in {took:.1?}", cases.len()));
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn a_first_fetch_that_goes_wrong_ends_as_documented() {
    run(Phase::First);
}

#[test]
fn a_revalidation_that_goes_wrong_ends_as_documented() {
    run(Phase::Revalidate);
}

#[test]
fn a_part_that_goes_wrong_ends_as_documented() {
    run(Phase::Range);
}

#[test]
fn a_resumption_that_goes_wrong_ends_as_documented() {
    run(Phase::Resume);
}

#[test]
fn the_table_of_faults_in_the_documents_is_the_one_that_is_tested() {
    const BEGIN: &str = "<!-- faults: begin -->\n";
    const END: &str = "<!-- faults: end -->";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/semantics.md");
    let document = std::fs::read_to_string(path).expect("read docs/semantics.md");
    let (head, rest) = document.split_once(BEGIN).expect("the marker where the table begins");
    let (told, tail) = rest.split_once(END).expect("the marker where the table ends");
    let cells = ROWS.iter().flat_map(|row| row.cells).filter(|cell| cell.1 > 0).count();
    assert!(cells >= 120, "only {cells} cases");
    if std::env::var_os("CACHED_DOWNLOADS_WRITE_DOCS").is_some() {
        let text = [head, BEGIN, &table::text(), END, tail].concat();
        std::fs::write(path, text).expect("write docs/semantics.md");
    } else {
        assert_eq!(told, table::text(), "write it with CACHED_DOWNLOADS_WRITE_DOCS=1");
    }
}
