//! The program, mounted: what most tests start from.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::cgroup::MemoryLimit;
use super::guards::{TempDir, mounts_below, unmount_below};
use super::{os, process, scaled, status};

/// Where cargo built the program under test.
const BUILT: &str = env!("CARGO_BIN_EXE_cached-downloads");

/// Returns the command that runs the program under test.
pub(crate) fn program() -> Command {
    program_at(Path::new(BUILT))
}

/// Copies the program under test to a directory that everybody may enter: other users need not be
/// able to reach the place where it was built.
pub(crate) fn program_for_all(dir: &Path) -> PathBuf {
    let copy = dir.join("cached-downloads");
    std::fs::copy(BUILT, &copy).expect("copy the program");
    copy
}

fn program_at(path: &Path) -> Command {
    let mut command = Command::new(path);
    // SIGTERM, not SIGKILL: the daemon then unmounts before it ends.
    os::die_with_parent(&mut command, libc::SIGTERM);
    command
}

/// What to mount; made by [`Mounted::with`].
pub(crate) struct Setup {
    dir: TempDir,
    args: Vec<String>,
    envs: Vec<(String, String)>,
    uid: Option<u32>,
    group: Option<PathBuf>,
    store: PathBuf,
}

/// A running daemon and its mount.
///
/// Dropping it ends the daemon by SIGTERM and checks that this was enough: no process, no mount.
/// A watchdog ends a mount that lives too long, so that a test stuck inside it fails.
pub(crate) struct Mounted {
    child: Option<Child>,
    args: Vec<String>,
    envs: Vec<(String, String)>,
    uid: Option<u32>,
    /// Where the daemon is made a member of its control group.
    group: Option<PathBuf>,
    store: PathBuf,
    /// How long the last start took until `ready`.
    pub(crate) started_in: Duration,
    _watchdog: Watchdog,
    // Last: removed when nothing uses it any more.
    dir: TempDir,
}

impl Setup {
    /// Adds an argument or several.
    pub(crate) fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Setup {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds `--download NAME=URL`.
    pub(crate) fn download(self, name: &str, url: &str) -> Setup {
        self.args(["--download".to_owned(), format!("{name}={url}")])
    }

    /// Sets an environment variable of the daemon.
    pub(crate) fn env(mut self, key: &str, value: &str) -> Setup {
        self.envs.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Puts the store elsewhere.
    pub(crate) fn store(mut self, store: &Path) -> Setup {
        self.store = store.to_owned();
        self
    }

    /// Runs the daemon as an ordinary user.
    pub(crate) fn user(mut self, uid: u32) -> Setup {
        self.uid = Some(uid);
        self
    }

    /// Runs the daemon under a limit on its memory.
    pub(crate) fn memory(mut self, limit: &MemoryLimit) -> Setup {
        self.group = Some(limit.members());
        self
    }

    /// Writes a catalog of an owner before the start.
    pub(crate) fn catalog(self, file: &str, text: &str) -> Setup {
        write_catalog(self.dir.path(), file, text);
        self
    }

    /// Returns the directory that everything of this mount is in.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts the daemon and waits for `ready`.
    ///
    /// # Panics
    /// It ends, or is not ready within ten seconds.
    #[track_caller]
    pub(crate) fn start(self) -> Mounted {
        let mnt = self.dir.path().join("mnt");
        let mut mounted = Mounted {
            child: None,
            args: self.args,
            envs: self.envs,
            uid: self.uid,
            group: self.group,
            store: self.store,
            started_in: Duration::ZERO,
            _watchdog: Watchdog::new(self.dir.path(), mnt),
            dir: self.dir,
        };
        mounted.start();
        mounted
    }
}

impl Mounted {
    /// Prepares a mount with its own store, catalogs directory and control socket.
    pub(crate) fn with() -> Setup {
        let dir = TempDir::new();
        for sub in ["mnt", "catalog.d", "config"] {
            std::fs::create_dir(dir.path().join(sub)).expect("make a directory for the test");
        }
        let store = dir.path().join("store");
        Setup { dir, args: Vec::new(), envs: Vec::new(), uid: None, group: None, store }
    }

    /// Mounts some names.
    #[track_caller]
    pub(crate) fn names(names: &[(&str, &str)]) -> Mounted {
        let setup = Mounted::with();
        let text = bind_all(names);
        setup.catalog("test.toml", &text).start()
    }

    /// Keeps less of the disk free than the default, unless that is what is tested: what else fills
    /// the machine's disk is no concern of most tests.
    fn min_free(&self) -> &'static [&'static str] {
        match self.args.iter().any(|arg| arg == "--min-free") {
            true => &[],
            false => &["--min-free", "16MiB"],
        }
    }

    /// Starts the daemon again after [`stop`](Mounted::stop) or [`kill`](Mounted::kill), on the
    /// same store and mountpoint.
    #[track_caller]
    pub(crate) fn start(&mut self) {
        let began = Instant::now();
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("open the daemon's log");
        let mut command = match self.uid {
            Some(_) => program_at(&program_for_all(self.dir.path())),
            None => program(),
        };
        command
            .arg("mount")
            .arg(self.mnt())
            .arg("--store")
            .arg(&self.store)
            .arg("--control")
            .arg(self.control())
            .arg("--catalog")
            .arg(self.dir.path().join("catalog.d"))
            .args(self.min_free())
            .args(&self.args)
            .envs(self.envs.iter().map(|(key, value)| (key, value)))
            .env("XDG_CONFIG_HOME", self.dir.path().join("config"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        if let Some(uid) = self.uid {
            process::quiet(
                "chown",
                ["-R".as_ref(), uid.to_string().as_ref(), self.dir.path().as_os_str()],
            );
            command.uid(uid).gid(uid);
        }
        if let Some(members) = &self.group {
            let members = File::options().write(true).open(members).expect("open the group");
            os::join_group(&mut command, members);
        }
        let mut child = command.spawn().expect("start the daemon");
        let stdout = child.stdout.take().expect("a piped stdout");
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        self.child = Some(child);
        match receiver.recv_timeout(Duration::from_secs(10)) {
            Ok(line) => assert_eq!(line, "ready", "the first line on stdout"),
            Err(error) => panic!("no line `ready`: {error}; its log:\n{}", self.log()),
        }
        self.started_in = began.elapsed();
    }

    /// Returns the mountpoint.
    pub(crate) fn mnt(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    /// Returns the path of a name.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.mnt().join(name)
    }

    /// Returns a directory for the test's own files.
    pub(crate) fn scratch(&self) -> &Path {
        self.dir.path()
    }

    /// Returns the store.
    pub(crate) fn store(&self) -> &Path {
        &self.store
    }

    /// Returns the control socket.
    pub(crate) fn control(&self) -> PathBuf {
        self.dir.path().join("control.sock")
    }

    /// Returns the daemon's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("a running daemon").id()
    }

    /// Writes (by rename) the catalog of an owner.
    pub(crate) fn catalog(&self, file: &str, text: &str) {
        write_catalog(self.dir.path(), file, text);
    }

    /// Returns the path of an owner's catalog.
    pub(crate) fn catalog_path(&self, file: &str) -> PathBuf {
        self.dir.path().join("catalog.d").join(file)
    }

    /// Returns everything the daemon wrote to its standard error so far.
    pub(crate) fn log(&self) -> String {
        let bytes = std::fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("daemon.log")
    }

    /// Runs a client verb against this daemon.
    pub(crate) fn client(&self, args: &[&str]) -> Output {
        program()
            .args(args)
            .arg("--control")
            .arg(self.control())
            .stdin(Stdio::null())
            .output()
            .expect("run the program")
    }

    /// Runs a client verb and returns what it printed as JSON.
    ///
    /// # Panics
    /// It fails or prints something else.
    #[track_caller]
    fn json(&self, verb: &str) -> Value {
        let output = self.client(&[verb, "--json"]);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{verb}: {errors}");
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{verb} --json printed no JSON: {error}"))
    }

    /// Returns what `status --json` says.
    #[track_caller]
    pub(crate) fn status(&self) -> Value {
        self.json("status")
    }

    /// Returns what `ls --json` says.
    #[track_caller]
    pub(crate) fn ls(&self) -> Value {
        self.json("ls")
    }

    /// Returns a counter or a gauge of `status --json`.
    #[track_caller]
    pub(crate) fn number(&self, key: &str) -> u64 {
        status::number(&self.status(), key)
    }

    /// Returns the state of a name as `ls` shows it.
    #[track_caller]
    pub(crate) fn state(&self, name: &str) -> String {
        let ls = self.ls();
        let entry = status::name(&ls, name);
        entry["state"].as_str().expect("a state").to_owned()
    }

    /// Waits until a name is complete.
    #[track_caller]
    pub(crate) fn wait_complete(&self, name: &str) {
        super::wait_until(
            &format!("{name} is complete"),
            Duration::from_secs(scaled(30, 120)),
            || self.state(name) == "ready",
        );
    }

    /// Waits until the next open asks the origin: until opens no longer share its last answer (a
    /// window of one second unless set), and until no version counts as just landed. An open of a
    /// version that landed within the last second is a hit whatever the window, 0 too: the kernel
    /// retries an open that was answered with ESTALE once, and the retry must not move on again.
    /// So what is replaced at the origin is seen by an open one second after the last landing.
    pub(crate) fn settle(&self) {
        std::thread::sleep(Duration::from_millis(1100));
    }

    /// Returns the allocated bytes of the store, as `du` counts them.
    pub(crate) fn du(&self) -> u64 {
        du(&self.store)
    }

    /// Returns the ids of the blobs in the store, whole ones by their sidecars.
    pub(crate) fn blobs(&self) -> Vec<String> {
        let dir = self.store.join("v1/blobs");
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let mut ids: Vec<String> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter_map(|name| name.strip_suffix(".meta").map(str::to_owned))
            .collect();
        ids.sort();
        ids
    }

    /// Sends a signal to the daemon.
    pub(crate) fn signal(&self, signal: i32) {
        os::kill(self.pid(), signal).expect("signal the daemon");
    }

    /// Ends the daemon by SIGTERM.
    ///
    /// # Panics
    /// It is not gone within ten seconds.
    #[track_caller]
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.signal(libc::SIGTERM);
        self.wait(Duration::from_secs(10)).expect("the daemon ends within ten seconds of SIGTERM")
    }

    /// Ends the daemon by SIGKILL and leaves the dead mount in place.
    pub(crate) fn kill(&mut self) {
        self.signal(libc::SIGKILL);
        self.wait(Duration::from_secs(10));
    }

    fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let child = self.child.as_mut()?;
        let begin = Instant::now();
        loop {
            if let Ok(Some(status)) = child.try_wait() {
                self.child = None;
                return Some(status);
            }
            if begin.elapsed() > limit {
                return None;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let mut complaint = String::new();
        if let Some(child) = &self.child {
            let pid = child.id();
            let _ = os::kill(pid, libc::SIGTERM);
            if self.wait(Duration::from_secs(10)).is_none() {
                let _ = write!(complaint, "the daemon outlived SIGTERM by ten seconds; ");
                // The mount first: ending it wakes whoever waits in it.
                unmount_below(self.dir.path());
                let _ = os::kill(pid, libc::SIGKILL);
                self.wait(Duration::from_secs(5));
            }
            let left = mounts_below(&self.mnt());
            if !left.is_empty() {
                let _ = write!(complaint, "still mounted: {left:?}; ");
            }
        }
        unmount_below(self.dir.path());
        if std::thread::panicking() {
            eprintln!("---- the daemon's log\n{}----", self.log());
        } else if !complaint.is_empty() {
            panic!("{complaint}its log:\n{}", self.log());
        }
    }
}

/// Ends a mount that lives too long.
struct Watchdog(Option<mpsc::Sender<()>>);

impl Watchdog {
    fn new(dir: &Path, mnt: PathBuf) -> Watchdog {
        let limit = Duration::from_secs(scaled(180, 1500));
        let (sender, receiver) = mpsc::channel::<()>();
        let dir = dir.to_owned();
        std::thread::spawn(move || {
            if receiver.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
                eprintln!("the test took over {limit:?}: ending {}", mnt.display());
                unmount_below(&dir);
            }
        });
        Watchdog(Some(sender))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.0.take();
    }
}

/// Returns the text of a catalog that binds names to URLs.
pub(crate) fn bind_all(names: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, url) in names {
        let _ = writeln!(text, "[downloads.\"{name}\"]\nurl = \"{url}\"");
    }
    text
}

fn write_catalog(dir: &Path, file: &str, text: &str) {
    let catalogs = dir.join("catalog.d");
    let fresh = catalogs.join(format!(".{file}.new"));
    std::fs::write(&fresh, text).expect("write a catalog");
    std::fs::rename(&fresh, catalogs.join(file)).expect("publish a catalog");
}

/// Returns the allocated bytes of everything below a directory; what vanishes meanwhile counts 0.
pub(crate) fn du(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let own = std::fs::symlink_metadata(dir).map_or(0, |meta| meta.blocks() * 512);
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    own + entries
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => du(&entry.path()),
            _ => entry.metadata().map_or(0, |meta| meta.blocks() * 512),
        })
        .sum::<u64>()
}
