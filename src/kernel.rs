//! The only room that names `fuser`: decodes what the kernel asks, hands it on, answers.
//!
//! Session threads never wait. An operation that may wait is polled once where it was decoded: if
//! it is ready, and it nearly always is, it is answered there and then; else the owned reply moves
//! into a task, together with a watch over its caller.
//!
//! After an answer to what programs ask in rows a session thread keeps a short vigil for the next
//! request before it sleeps, and the other rests.

mod attr;
mod callers;
mod dispatch;
mod notify;
mod passthrough;
mod sweep;
mod vigil;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use fuser::{BackgroundSession, Config, Session, SessionACL};

use crate::cache::KernelSide;
use crate::fs::Fs;
use crate::metrics::Counters;
use crate::sys;
use dispatch::Dispatch;
pub use notify::Teller;
pub use passthrough::Passthrough;
use vigil::Vigil;

/// How many threads read requests: one may be in a page fault or wait for a lock of the kernel, and
/// more than two gain nothing.
const SESSION_THREADS: usize = 2;

/// How many background reads (read-ahead, page faults) the kernel has under way at once. At the
/// library's 16, some thirty readers of a stalled name would stop the reads of every other.
const MAX_BACKGROUND: u16 = 1024;

/// A running connection to the kernel.
pub struct Connection {
    session: BackgroundSession,
    teller: Arc<Teller>,
    passthrough: Arc<Passthrough>,
}

/// What a connection is made with.
pub struct Setup {
    /// The device of a mount that is attached already.
    pub device: OwnedFd,
    /// The filesystem.
    pub fs: Arc<Fs>,
    /// Its counters.
    pub counters: Arc<Counters>,
    /// A file beside the blobs to try passthrough with; `None` turns passthrough off.
    pub scratch: Option<File>,
    /// Whether OPEN is answered; else the kernel opens files by itself, and says nothing of it.
    pub opens: bool,
    /// Every request is answered within this, where the kernel aborts mounts that are slower.
    pub answer_within: Option<Duration>,
}

impl Connection {
    /// Shakes hands with the kernel and starts to answer it. Call within the runtime.
    ///
    /// # Errors
    /// The kernel is too old, or the mount is gone.
    pub fn start(setup: Setup) -> io::Result<Connection> {
        let Setup { device, fs, counters, scratch, opens, answer_within } = setup;
        let passthrough = Arc::new(Passthrough::default());
        let callers = callers::Callers::new(counters.clone(), answer_within);
        let runtime = tokio::runtime::Handle::current();
        let vigil = Vigil::over(device.try_clone()?);
        let dispatch = Dispatch {
            fs: fs.clone(),
            runtime,
            callers,
            counters,
            passthrough: passthrough.clone(),
            opens,
            vigil,
        };
        // Access is decided by mount(2); with any other ACL the library would filter once more.
        let mut config = Config::default();
        config.acl = SessionACL::All;
        config.n_threads = Some(SESSION_THREADS);
        let session = Session::from_fd(dispatch, device, SessionACL::All, config)?;
        match scratch {
            Some(file) => passthrough.probe(&session, &file),
            None => passthrough.turned_off(),
        }
        let session = session.spawn()?;
        let teller = Arc::new(Teller::start(session.notifier(), &fs)?);
        Ok(Connection { session, teller, passthrough })
    }

    /// Returns who tells the kernel of changes.
    pub fn teller(&self) -> Arc<dyn KernelSide> {
        self.teller.clone()
    }

    /// Says whether the kernel reads complete blobs itself, and if not, why.
    pub fn passthrough(&self) -> &Arc<Passthrough> {
        &self.passthrough
    }

    /// Waits until the mount is gone. Blocks.
    ///
    /// # Errors
    /// The session ended by an error.
    pub fn join(self) -> io::Result<()> {
        self.session.join()
    }
}

/// Returns the time within which the kernel wants every request answered, less a margin.
pub fn answer_within() -> Option<Duration> {
    ["max_request_timeout", "default_request_timeout"]
        .iter()
        .filter_map(|name| std::fs::read_to_string(format!("/proc/sys/fs/fuse/{name}")).ok())
        .filter_map(|text| text.trim().parse::<u64>().ok())
        .filter(|seconds| *seconds > 0)
        .map(|seconds| Duration::from_millis(seconds * 800))
        .min()
}

impl Passthrough {
    fn probe(&self, session: &Session<Dispatch>, scratch: &File) {
        // Negotiation proves nothing: only registering a file beside the blobs does.
        match fuser::BackingId::create_raw(session.as_fd(), scratch) {
            Ok(id) => {
                if let Err(error) = sys::backing_close(session.as_fd(), id) {
                    tracing::warn!(%error, "cannot give back the backing id of the trial");
                }
                self.turned_on();
            }
            Err(error) => self.failed(&error),
        }
    }
}
