//! `cached-downloads demo`: a tour of a real mount, with an origin inside the program.
//!
//! Nothing is simulated: the same binary is started as `mount`, in a temporary directory, and
//! the tour reads files through the kernel. Each step checks what it shows.

mod browse;
mod files;
mod mounted;
mod origin;
mod pack;
mod samples;
mod stay;
mod tour;

use std::io::{self, Write as _};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::mount::{self, MountError};
use mounted::Mounted;
use origin::Origin;

/// How long readers that wait in the mount may take to end once it is gone.
const READERS_END: Duration = Duration::from_secs(2);

/// Why a tour did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// Nothing can be mounted here.
    #[error("{0}")]
    Environment(String),
    /// The demo could not be prepared.
    #[error("cannot prepare the demo: {what}: {error}")]
    Setup {
        /// What was tried.
        what: String,
        /// What the system said.
        error: io::Error,
    },
    /// The mount did not come up or ended.
    #[error("the mount failed: {0}")]
    Mount(String),
    /// A step came out otherwise than it must.
    #[error("step {number} ({what}) failed: {why}")]
    Step {
        /// Its number.
        number: usize,
        /// What it shows.
        what: &'static str,
        /// What was expected and what came.
        why: String,
    },
    /// A signal ended the tour.
    #[error("interrupted; nothing is left behind")]
    Interrupted,
}

impl DemoError {
    /// Says whether the machine must change before the demo can work.
    pub fn is_environment(&self) -> bool {
        matches!(self, DemoError::Environment(_))
    }

    fn setup(what: impl Into<String>) -> impl FnOnce(io::Error) -> DemoError {
        let what = what.into();
        move |error| DemoError::Setup { what, error }
    }
}

impl From<MountError> for DemoError {
    fn from(error: MountError) -> Self {
        DemoError::Environment(error.to_string())
    }
}

/// Runs the tour, some ten seconds; with `stay`, or on a terminal, the mount then stays until a
/// signal. Whatever happens, the mount, its processes and its directory are gone at the end.
///
/// # Errors
/// See [`DemoError`].
pub fn run(stay: bool) -> Result<(), DemoError> {
    mount::preflight(false)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(DemoError::setup("the runtime"))?;
    let stay = stay || io::IsTerminal::is_terminal(&io::stdout());
    let result = runtime.block_on(whole(stay));
    // A reader that still waits in the mount ends with it; it must not hold the program.
    runtime.shutdown_timeout(READERS_END);
    result
}

async fn whole(stay: bool) -> Result<(), DemoError> {
    let mut signals = Signals::new().map_err(DemoError::setup("signals"))?;
    let mut origin =
        Origin::start(samples::all()).await.map_err(DemoError::setup("an origin on loopback"))?;
    let mut mounted = Mounted::prepare()?;
    let result = tokio::select! {
        result = async {
            mounted.mount(&origin).await?;
            tour::tour(&mut origin, &mounted).await
        } => result,
        () = signals.next() => Err(DemoError::Interrupted),
    };
    if result.is_ok() && stay {
        tokio::select! {
            () = stay::stay(&mut origin, &mut mounted) => {}
            () = signals.next() => {}
        }
    }
    if !matches!(result, Ok(()) | Err(DemoError::Interrupted)) {
        mounted.show_log();
    }
    match (result, mounted.end().await) {
        // It promises that nothing is left, so what was left is the news.
        (Err(DemoError::Interrupted), Err(left)) => Err(left),
        (result, ended) => result.and(ended),
    }
}

/// Prints; a closed output must not end the demo before it has cleaned up.
fn show(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// The signals that end a demo.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests;
