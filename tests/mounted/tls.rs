//! nginx with TLS and client certificates, both of which are replaced while names are opened.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::certs::{Authority, Pair, replace};
use crate::support::mounted::Setup;
use crate::support::{Body, KIB, Mounted, Nginx, Raise, figure, needs, scaled, status, wait_until};

const WARM: usize = 6;
/// Names that are opened for the first time while certificates change.
const COLD: usize = 12_000;
const LEN: u64 = 32 * KIB;

/// Longer than the daemon believes its files without a look.
const A_LOOK: Duration = Duration::from_millis(1100);

/// What one generation of authorities has issued.
struct Generation {
    servers: Authority,
    clients: Authority,
    server: Pair,
    client: Pair,
}

impl Generation {
    fn new(n: usize) -> Generation {
        let servers = Authority::new(&format!("servers {n}"));
        let clients = Authority::new(&format!("clients {n}"));
        let server = servers.server(&["127.0.0.1"]);
        let client = clients.client(&format!("client{n}"));
        Generation { servers, clients, server, client }
    }

    fn start(&self) -> Nginx {
        Nginx::with_tls(&self.server, self.clients.pem())
    }
}

/// The daemon's files.
struct Files {
    dir: PathBuf,
}

impl Files {
    /// Writes the files of a generation beside the store, and a configuration that names them.
    fn new(dir: &Path, nginx: &Nginx, generation: &Generation) -> Files {
        let files = Files { dir: dir.to_owned() };
        files.trust(&[generation]);
        generation.client.write(dir, "client");
        let (port, at) = (nginx.port(), dir.display());
        let text = format!(
            "[origins.\"127.0.0.1:{port}\"]\nca_file = \"{at}/ca.pem\"\nca_only = true\n\
             cert_file = \"{at}/client.pem\"\nkey_file = \"{at}/client.key\"\n"
        );
        std::fs::write(files.config(), text).expect("write the configuration");
        files
    }

    fn config(&self) -> PathBuf {
        self.dir.join("config.toml")
    }

    /// Trusts the servers of these generations from now on.
    fn trust(&self, generations: &[&Generation]) {
        let all: String = generations.iter().map(|each| each.servers.pem()).collect();
        replace(&self.dir.join("ca.pem"), &all);
    }

    /// Shows another client certificate from now on; its key comes a while later.
    fn show(&self, client: &Pair) {
        replace(&self.dir.join("client.pem"), &client.certificate);
        std::thread::sleep(Duration::from_millis(300));
        replace(&self.dir.join("client.key"), &client.key);
    }
}

/// Binds names to files of nginx, with a configuration that follows `generation`.
fn set_up(nginx: &Nginx, generation: &Generation, cold: usize) -> (Setup, Files) {
    let mut text = String::new();
    let mut bind = |name: String, file: String| {
        text += &format!("[downloads.{name}]\nurl = \"{}\"\n", nginx.url(&file));
    };
    for n in 0..WARM {
        nginx.put(&format!("w{n}"), &Body::made(n as u64, LEN));
        bind(format!("w{n}"), format!("w{n}"));
    }
    nginx.put("cold", &Body::made(99, LEN));
    for n in 0..cold {
        bind(format!("c{n}"), format!("cold?{n}"));
    }
    let setup = Mounted::with().catalog("test.toml", &text).args(["--revalidate-window", "0"]);
    let files = Files::new(setup.dir(), nginx, generation);
    let setup = setup.args(["--config".to_owned(), files.config().display().to_string()]);
    (setup, files)
}

fn fetch_warm(mounted: &Mounted) {
    for n in 0..WARM {
        Body::made(n as u64, LEN).check(&mounted.path(&format!("w{n}"))).expect("cold");
        mounted.wait_complete(&format!("w{n}"));
    }
    mounted.settle();
}

/// Opens names until told to stop, and notes what failed.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    warm: AtomicUsize,
    cold: AtomicUsize,
    failed: Mutex<Vec<String>>,
}

impl Load {
    fn warm(&self, mounted: &Mounted, n: usize) {
        let (name, body) = (format!("w{n}"), Body::made(n as u64, LEN));
        while !self.stop.load(Ordering::Relaxed) {
            self.note(&name, body.check(&mounted.path(&name)));
            self.warm.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn cold(&self, mounted: &Mounted) {
        let body = Body::made(99, LEN);
        while !self.stop.load(Ordering::Relaxed) {
            let n = self.cold.fetch_add(1, Ordering::Relaxed);
            assert!(n < COLD, "too few names for so long a test");
            let name = format!("c{n}");
            self.note(&name, body.check(&mounted.path(&name)));
            std::thread::sleep(Duration::from_millis(25));
        }
    }

    fn note(&self, name: &str, read: Result<(), String>) {
        if let Err(error) = read {
            self.failed.lock().expect("the list").push(format!("{name}: {error}"));
        }
    }
}

/// Moves nginx and the daemon from one generation to the next, each step when the one before it is
/// in force everywhere.
fn rotate(nginx: &Nginx, files: &Files, old: &Generation, new: &Generation) {
    files.trust(&[old, new]);
    nginx.demand(&[old.clients.pem(), new.clients.pem()].concat());
    std::thread::sleep(A_LOOK);
    nginx.show(&new.server);
    files.show(&new.client);
    std::thread::sleep(A_LOOK);
    nginx.demand(new.clients.pem());
    files.trust(&[new]);
    std::thread::sleep(A_LOOK);
}

#[test]
fn certificates_are_rotated_under_load_without_a_failed_open() {
    needs!("fuse", "nginx");
    let generations = scaled(3, 20);
    let first = Generation::new(0);
    let nginx = first.start();
    let (setup, files) = set_up(&nginx, &first, COLD);
    let mounted = setup.start();
    fetch_warm(&mounted);

    let load = Load::default();
    let last = std::thread::scope(|scope| {
        let _stop = Raise(&load.stop);
        for n in 0..WARM {
            let (load, mounted) = (&load, &mounted);
            scope.spawn(move || load.warm(mounted, n));
        }
        for _ in 0..2 {
            scope.spawn(|| load.cold(&mounted));
        }
        (1..generations).fold(first, |old, n| {
            let new = Generation::new(n);
            rotate(&nginx, &files, &old, &new);
            new
        })
    });
    let failed = load.failed.into_inner().expect("the list");
    let (warm, cold) = (load.warm.into_inner(), load.cold.into_inner());
    assert_eq!(failed, Vec::<String>::new(), "of {warm} warm and {cold} cold opens");
    assert!(warm > 1000 && cold > 100, "{warm} warm and {cold} cold opens: no load");
    // Each open was answered by nginx: none of them was saved by the copy.
    assert_eq!(mounted.number("stale_served"), 0);
    let log = nginx.log();
    for n in 0..generations {
        let client = format!("CN=client{n}");
        let asked = log.iter().filter(|line| line.client.contains(&client)).count();
        assert!(asked > 0, "no request under the certificate of generation {n}");
    }
    let refused = log.iter().filter(|line| !matches!(line.status, 200 | 304)).count();
    assert_eq!(refused, 0, "requests that nginx refused");
    figure(&format!(
        "{generations} generations: {warm} warm and {cold} cold opens, none failed, none stale"
    ));
    // What was trusted before is not any more.
    drop(last);
    nginx.show(&Generation::new(99).server);
    Body::made(99, LEN).check(&mounted.path(&format!("c{}", COLD - 1))).expect_err("untrusted");
}

#[test]
fn warm_names_outlive_a_certificate_that_is_not_trusted() {
    needs!("fuse", "nginx");
    let (ours, theirs) = (Generation::new(0), Generation::new(1));
    let nginx = ours.start();
    let (setup, files) = set_up(&nginx, &ours, 8);
    let mounted = setup.start();
    fetch_warm(&mounted);
    let warm = |what: &str| {
        for n in 0..WARM {
            let read = Body::made(n as u64, LEN).check(&mounted.path(&format!("w{n}")));
            read.unwrap_or_else(|error| panic!("w{n}, {what}: {error}"));
        }
    };
    let cold = |n: usize| Body::made(99, LEN).check(&mounted.path(&format!("c{n}")));
    let reason = |n: usize| {
        let status = mounted.status();
        let errors = status["last_errors"].as_array().cloned().unwrap_or_default();
        let of = |error: &&serde_json::Value| error["name"] == format!("c{n}");
        errors.iter().find(of).map(|error| error["message"].to_string()).unwrap_or_default()
    };

    nginx.show(&theirs.server);
    warm("the server's certificate is of another authority");
    assert!(cold(0).expect_err("a stranger").ends_with("(os error 5)"));
    assert!(reason(0).contains("UnknownIssuer"), "{}", reason(0));
    assert!(status::number(&mounted.status(), "stale_served") >= WARM as u64);

    nginx.demand(theirs.clients.pem());
    files.trust(&[&theirs]);
    std::thread::sleep(A_LOOK);
    warm("the client's certificate is refused");
    assert!(cold(1).expect_err("refused").ends_with("(os error 5)"));
    assert!(reason(1).contains("400"), "{}", reason(1));

    files.show(&theirs.client);
    let stale = mounted.number("stale_served");
    wait_until("the new certificate is shown", Duration::from_secs(5), || cold(2).is_ok());
    mounted.settle();
    warm("all is well");
    assert_eq!(mounted.number("stale_served"), stale, "the origin answers again");
}
