//! A real `mount` in a temporary directory, and its end.

use std::ffi::OsString;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::DemoError;
use super::origin::Origin;
use crate::control::Client;
use crate::{mount, sys};

/// The quota of the demo's store: one slow body and one pack, but not two.
pub(super) const QUOTA: &str = "48MiB";
/// What its store never passes.
pub(super) const HARD_LIMIT: u64 = 58 << 20;

/// How long a mount may take to answer.
const READY: Duration = Duration::from_secs(15);
/// How long it may take to end after SIGTERM before it is killed.
const ENDING: Duration = Duration::from_secs(10);
/// How many lines of its log are shown when something failed.
const LOG_LINES: usize = 15;
/// Variables that would change what the child does.
const VARIABLES: [&str; 9] = [
    "http_proxy",
    "HTTP_PROXY",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "NOTIFY_SOCKET",
    "CACHED_DOWNLOADS_CONTROL",
    "CACHED_DOWNLOADS_LOG",
];

/// The directory and the child process. [`end`](Mounted::end) and dropping it remove both.
pub(super) struct Mounted {
    dir: PathBuf,
    child: Option<Child>,
}

impl Mounted {
    /// Makes the directory, readable by nobody else.
    pub(super) fn prepare() -> Result<Mounted, DemoError> {
        let base = std::env::temp_dir();
        let base = base.canonicalize().unwrap_or(base);
        let dir = base.join(format!("cached-downloads-demo-{}", std::process::id()));
        let made = fs::DirBuilder::new().mode(0o700).create(&dir);
        made.map_err(DemoError::setup(format!("the directory {}", dir.display())))?;
        let mounted = Mounted { dir, child: None };
        fs::create_dir(mounted.path()).map_err(DemoError::setup("the mountpoint"))?;
        // An empty one, so that the machine's own configuration has no say.
        fs::write(mounted.config(), "").map_err(DemoError::setup("a configuration"))?;
        Ok(mounted)
    }

    /// Returns the mountpoint.
    pub(super) fn path(&self) -> PathBuf {
        self.dir.join("mnt")
    }

    /// Returns the store.
    pub(super) fn store(&self) -> PathBuf {
        self.dir.join("store")
    }

    fn config(&self) -> PathBuf {
        self.dir.join("config.toml")
    }

    fn control(&self) -> PathBuf {
        self.dir.join("control.sock")
    }

    fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Returns a client of the child's control socket.
    pub(super) fn client(&self) -> Client {
        Client::new(&self.control())
    }

    /// Starts `mount` and waits until it is ready.
    pub(super) async fn mount(&mut self, origin: &Origin) -> Result<(), DemoError> {
        let program = std::env::current_exe().map_err(DemoError::setup("this program's path"))?;
        let log = fs::File::create(self.log()).map_err(DemoError::setup("a log"))?;
        let mut command = Command::new(program);
        command
            .args(self.arguments(origin))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            // A Ctrl-C on the terminal is for us; we then end the child in order.
            .process_group(0);
        for variable in VARIABLES {
            command.env_remove(variable);
        }
        let child = command.spawn().map_err(DemoError::setup("a second process"))?;
        let child = self.child.insert(child);
        let output = child
            .stdout
            .take()
            .ok_or_else(|| DemoError::Mount("its output is not connected".to_owned()))?;
        let (sender, ready) = oneshot::channel();
        // Ends with the child; until then it keeps the pipe empty.
        std::thread::spawn(move || {
            let mut sender = Some(sender);
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if line.starts_with("ready")
                    && let Some(sender) = sender.take()
                {
                    let _ = sender.send(());
                }
            }
        });
        match tokio::time::timeout(READY, ready).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(self.did_not_start()),
            Err(_) => {
                Err(DemoError::Mount(format!("it was not ready within {} s", READY.as_secs())))
            }
        }
    }

    fn arguments(&self, origin: &Origin) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["mount".into(), self.path().into()];
        let mut flag = |name: &str, value: OsString| {
            arguments.push(name.into());
            arguments.push(value);
        };
        flag("--config", self.config().into());
        flag("--store", self.store().into());
        flag("--control", self.control().into());
        flag("--quota", QUOTA.into());
        flag("--hard-limit", HARD_LIMIT.to_string().into());
        flag("--min-free", "1MiB".into());
        for name in origin.names() {
            let form = if origin.is_archive(&name) { "--directory" } else { "--download" };
            flag(form, format!("{name}={}", origin.url(&name)).into());
        }
        arguments
    }

    /// Says why the child ended before it was ready; its own last line knows best.
    fn did_not_start(&mut self) -> DemoError {
        let status = self.child.as_mut().and_then(|child| child.wait().ok());
        let log = self.last_lines(1);
        let said = log.trim().trim_start_matches("cached-downloads: ");
        let code = status.and_then(|status| status.code());
        match (code, said) {
            (Some(2), said) if !said.is_empty() => DemoError::Environment(said.to_owned()),
            (_, said) => DemoError::Mount(format!("it ended before it was ready: {said}")),
        }
    }

    /// Says whether the child still runs.
    pub(super) fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Prints the end of the child's log to standard error.
    pub(super) fn show_log(&self) {
        let lines = self.last_lines(LOG_LINES);
        if !lines.is_empty() {
            // Nobody is left to tell when standard error is closed.
            let _ = writeln!(io::stderr(), "the end of the mount's log:\n{lines}");
        }
    }

    fn last_lines(&self, count: usize) -> String {
        let log = fs::read(self.log()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }

    /// Ends the child, the mount and the directory, and says if something stayed behind.
    pub(super) async fn end(mut self) -> Result<(), DemoError> {
        // Waits for a process, and the origin in this program may have to answer it meanwhile.
        let ended = tokio::task::spawn_blocking(move || self.clean()).await;
        ended.unwrap_or_else(|error| {
            Err(DemoError::Mount(format!("it was not cleaned up: {error}")))
        })
    }

    fn clean(&mut self) -> Result<(), DemoError> {
        let mut failed = None;
        if let Some(mut child) = self.child.take() {
            match stop(&mut child) {
                Ok(true) => {}
                Ok(false) => failed = Some("it had to be killed".to_owned()),
                Err(error) => failed = Some(format!("it cannot be stopped: {error}")),
            }
        }
        let path = self.path();
        // Whatever a killed child left; never reaches below a mount that is still there.
        while mount::at(&path).is_ok_and(|top| top.is_some_and(|top| top.is_ours())) {
            failed.get_or_insert_with(|| "it left its mount behind".to_owned());
            if let Err(error) = mount::unmount(&path, true) {
                return Err(DemoError::Mount(error.to_string()));
            }
        }
        remove(&self.dir)?;
        match failed {
            Some(why) => Err(DemoError::Mount(why)),
            None => Ok(()),
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.dir.exists() {
            let _ = self.clean();
        }
    }
}

/// Ends a child in order, or else by force; says whether it went in order.
fn stop(child: &mut Child) -> io::Result<bool> {
    if child.try_wait()?.is_some() {
        return Ok(true);
    }
    sys::terminate(child.id())?;
    let end = Instant::now() + ENDING;
    while Instant::now() < end {
        if child.try_wait()?.is_some() {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill()?;
    child.wait()?;
    Ok(false)
}

fn remove(dir: &Path) -> Result<(), DemoError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(DemoError::Setup { what: format!("removing {}", dir.display()), error })
        }
        _ => Ok(()),
    }
}
