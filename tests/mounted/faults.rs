//! Every way in which an origin goes wrong, at every kind of request: the right bytes or the
//! documented error, within the deadline. Over plain HTTP and over TLS.

mod case;
mod table;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::certs::Authority;
use crate::support::guards::TempDir;
use crate::support::{Mounted, figure, needs, timed, wait_until};
use case::Case;
use table::{Phase, ROWS};

/// A certificate for the origins, its key, and what the daemon is told of them.
struct Certificates {
    chain: PathBuf,
    key: PathBuf,
    authority: PathBuf,
    _dir: TempDir,
}

impl Certificates {
    fn new() -> Certificates {
        let dir = TempDir::new();
        let authority = Authority::new("faults");
        let (chain, key) = authority.server(&["127.0.0.1"]).write(dir.path(), "origin");
        let file = dir.path().join("ca.pem");
        authority.write(&file);
        Certificates { chain, key, authority: file, _dir: dir }
    }

    fn config(&self) -> String {
        let file = self.authority.display();
        format!(
            "max_downloads = 200\n[origins.\"127.0.0.1\"]\nca_file = \"{file}\"\nca_only = true\n"
        )
    }
}

/// Returns every case of a phase, plain and with TLS.
fn cases(phase: Phase, certificates: &Certificates) -> Vec<Case> {
    let wanted: Vec<_> =
        ROWS.iter().enumerate().filter(|(_, row)| row.cells[phase as usize].1 > 0).collect();
    let tls = Some((certificates.chain.as_path(), certificates.key.as_path()));
    let wires: &[Option<(&Path, &Path)>] = match phase {
        // What a kill leaves is on the disk, whatever it came over.
        Phase::Killed => &[None],
        _ => &[None, tls],
    };
    let all = wires.iter().flat_map(|wire| wanted.iter().map(move |row| (wire, row)));
    all.map(|(wire, (n, row))| Case::new(row, phase, *n as u64, *wire)).collect()
}

fn run(phase: Phase) {
    needs!("fuse");
    let certificates = Certificates::new();
    let cases = cases(phase, &certificates);
    let setup = Mounted::with();
    let config = setup.dir().join("config.toml");
    std::fs::write(&config, certificates.config()).expect("write the configuration");
    let mut catalog = String::new();
    for case in &cases {
        catalog += &case.declaration();
    }
    let mut mounted = setup
        .args(["--config".to_owned(), config.display().to_string()])
        .catalog("test.toml", &catalog)
        .start();
    prepare(phase, &cases, &mut mounted);
    let (wrong, took) = timed(|| {
        std::thread::scope(|scope| {
            let all: Vec<_> =
                cases.iter().map(|case| scope.spawn(|| case.judge(&mounted))).collect();
            let judged = all.into_iter().filter_map(|case| case.join().expect("a case"));
            judged.collect::<Vec<String>>()
        })
    });
    figure(&format!("{phase:?}: {} cases in {took:.1?}", cases.len()));
    let lies = cases.iter().filter(|case| case.lies()).count() as u64;
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    // Some only when all has come and is written.
    wait_until("every lie is counted", Duration::from_secs(10), || mounted.number("lied") >= lies);
}

/// Brings about what is there before the origin goes wrong.
fn prepare(phase: Phase, cases: &[Case], mounted: &mut Mounted) {
    match phase {
        Phase::First | Phase::Range | Phase::Resume => {}
        Phase::Revalidate => {
            for case in cases {
                case.fetch_copy(mounted);
            }
            for case in cases {
                mounted.wait_complete(&case.name);
                case.replace();
            }
            mounted.settle();
        }
        Phase::Killed => {
            for case in cases {
                case.begin(mounted);
            }
            let parts = mounted.store().join("v1/parts");
            wait_until("what is there of each is noted", Duration::from_secs(60), || {
                let entries = std::fs::read_dir(&parts).into_iter().flatten().flatten();
                let noted = entries.filter(|entry| {
                    entry.path().extension().is_some_and(|extension| extension == "meta")
                });
                noted.count() == cases.len()
            });
            mounted.kill();
            for case in cases {
                case.forget();
            }
            mounted.start();
        }
    }
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
fn a_resumption_after_a_kill_that_goes_wrong_ends_as_documented() {
    run(Phase::Killed);
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
