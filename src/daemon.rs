//! Builds every room, wires them, and owns the order of shutdown.
//!
//! Up: store (its lock), catalogs, origin, control socket, cache, mount, session, `ready`.
//! Down: stopping is announced, the mount is detached while its requests are still answered, then
//! control socket, session, runtime, and last the store, which is marked as cleanly stopped.

mod operator;
mod origins;
mod table;

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinError, JoinHandle};

use crate::cache::{Cache, Limits, Timing};
use crate::catalog::{self, Catalogs, Download, Rules, Secrets};
use crate::config::Config;
use crate::control::Server;
use crate::fs::Fs;
use crate::kernel::{Connection, Setup, answer_within};
use crate::metrics::Counters;
use crate::mount::{self, Mountpoint};
use crate::origin::HttpOrigin;
use crate::store::{Recovered, Store};
use crate::sys;
use crate::telemetry::{Notice, Notifier};
use operator::{Daemon, Known};

/// How long a caller waits without any progress (a usable head at open, a byte of a body).
const STALL: Duration = Duration::from_secs(30);

/// What the kernel reads ahead; more is slower.
const READ_AHEAD_KIB: u32 = 1024;

/// How many threads of the runtime carry bodies and answer what waits. Each one more is one more to
/// be woken for an open that waits for its origin, and the kernel's threads, those that write, and
/// the programs that read want the other cores.
fn workers() -> usize {
    const MOST: usize = 4;
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).clamp(1, MOST))
}

/// How many tasks a thread of the runtime polls before it looks for those that other threads have
/// woken, and before it looks at its sockets. The runtime's own figure of 61 is meant for polls of
/// a few microseconds. One that takes in a body of a fast origin copies 400 KiB, and who opens a
/// file meanwhile would wait for many of them.
const POLLS_BETWEEN_LOOKS: u32 = 4;

/// Returns why a mount with a configuration would be refused, as far as that can be told without
/// mounting: a file of TLS that cannot be used, a catalog that is not there. Blocks on the disk.
pub fn refusals(config: &Config) -> Vec<String> {
    let origin = HttpOrigin::new(origins::settings(config)).err().map(|error| error.to_string());
    let catalogs =
        catalog::missing(&config.catalogs).into_iter().map(|problem| problem.to_string());
    origin.into_iter().chain(catalogs).collect()
}

/// How long what still runs may take once the mount is gone.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What to mount, and how.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Where.
    pub mountpoint: PathBuf,
    /// `--download`, each.
    pub downloads: Vec<Download>,
    /// Everything else.
    pub config: Config,
}

/// Why the daemon could not start or did not end well.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct DaemonError {
    /// For a person; names the thing and says what to do.
    pub message: String,
    /// The machine, the configuration or the call must change before it can work.
    pub environment: bool,
}

impl DaemonError {
    fn failed(error: impl std::fmt::Display) -> DaemonError {
        DaemonError { message: error.to_string(), environment: false }
    }

    fn environment(error: impl std::fmt::Display) -> DaemonError {
        DaemonError { message: error.to_string(), environment: true }
    }
}

impl From<mount::MountError> for DaemonError {
    fn from(error: mount::MountError) -> DaemonError {
        DaemonError { message: error.to_string(), environment: error.is_environment() }
    }
}

/// Mounts and serves until a signal, the operator or an unmount ends it.
///
/// # Errors
/// See [`DaemonError`].
pub fn run(launch: Launch) -> Result<(), DaemonError> {
    let Launch { mountpoint, downloads, config } = launch;
    for notice in &config.notices {
        tracing::warn!("{notice}");
    }
    let needed = [("store", config.store.as_path()), ("control socket", &config.control)];
    let catalogs = config.catalogs.iter().map(|path| ("catalog", path.as_path()));
    mount::refuse_inside(&mountpoint, needed.into_iter().chain(catalogs))?;
    mount::preflight(config.allow_other)?;
    sys::return_large_blocks();
    if let Err(error) = sys::raise_file_limit() {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
    let (store, recovered) = Store::open(&config.store).map_err(DaemonError::environment)?;
    let store = Arc::new(store);
    let catalogs = Catalogs::open(
        &config.catalogs,
        &downloads,
        Rules {
            secrets: config.secrets_dir.clone().map_or(Secrets::None, Secrets::Dir),
            directories_only: config.directories_only,
        },
        store.state_dir(),
    )
    .map_err(DaemonError::environment)?;
    let origin = HttpOrigin::new(origins::settings(&config)).map_err(DaemonError::environment)?;
    origins::warn(&config);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers())
        .global_queue_interval(POLLS_BETWEEN_LOOKS)
        .event_interval(POLLS_BETWEEN_LOOKS)
        .thread_name("cached-downloads")
        .enable_all()
        .build()
        .map_err(|error| DaemonError::failed(format!("cannot start threads: {error}")))?;
    let parts = Parts { mountpoint, config, store: store.clone(), recovered, catalogs, origin };
    let served = runtime.block_on(parts.serve());
    runtime.shutdown_timeout(LAST_WORDS);
    match store.close() {
        Ok(()) => {}
        Err(error) => tracing::warn!(%error, "the next start will verify the store"),
    }
    served
}

/// What is built before anything is mounted.
struct Parts {
    mountpoint: PathBuf,
    config: Config,
    store: Arc<Store>,
    recovered: Recovered,
    catalogs: Catalogs,
    origin: HttpOrigin,
}

impl Parts {
    async fn serve(self) -> Result<(), DaemonError> {
        let Parts { mountpoint, config, store, recovered, catalogs, origin } = self;
        // Bound first: a second daemon on one socket must fail before it mounts.
        let server = Server::bind(&config.control).map_err(DaemonError::environment)?;
        let mut signals = Signals::new().map_err(DaemonError::failed)?;
        let within = answer_within();
        let counters = Arc::new(Counters::default());
        let origin = Arc::new(origin);
        let cache = Cache::new(
            store.clone(),
            recovered,
            origin.clone(),
            counters.clone(),
            Limits {
                quota: config.quota.0,
                hard: config.hard_limit.0,
                min_free: config.min_free.0,
            },
            Timing {
                window: config.revalidate_window,
                stall: within.map_or(STALL, |within| within.min(STALL)),
                max_downloads: config.max_downloads,
                archives: config.archives,
            },
            table::of(catalogs.bindings()),
        );
        let fs = Arc::new(Fs::new(cache.clone()));
        let scratch = match config.passthrough {
            true => Some(store.scratch().map_err(DaemonError::failed)?),
            false => None,
        };
        let (device, mounted) = mount::attach(&mountpoint, config.allow_other)?;
        let setup = Setup {
            device,
            fs: fs.clone(),
            counters,
            scratch,
            answer_within: within,
            opens: !config.directories_only,
        };
        let connection = Connection::start(setup)
            .map_err(|error| DaemonError::failed(format!("the kernel's FUSE: {error}")))?;
        cache.attach(connection.teller());
        raise_read_ahead(&mounted);
        let mounted = Arc::new(mounted);
        let (stop, stopped) = watch::channel(false);
        let daemon = Arc::new(Daemon {
            cache: cache.clone(),
            fs: fs.clone(),
            store,
            known: RwLock::new(Known::of(&catalogs)),
            catalogs: Mutex::new(catalogs),
            config,
            mountpoint: mounted.path().to_owned(),
            passthrough: connection.passthrough().clone(),
            teller: connection.teller(),
            origin,
            started: std::time::SystemTime::now(),
            stop: stop.clone(),
        });
        let watcher = {
            let changed = daemon.clone();
            let catalogs = daemon.catalogs.lock().unwrap_or_else(PoisonError::into_inner);
            catalogs.watch(move || drop(changed.look_again()))
        };
        let mut ending = stopped.clone();
        let answering = tokio::spawn(server.serve(daemon.clone(), async move {
            // Ends as well when the sender is gone.
            let _ = ending.wait_for(|stop| *stop).await;
        }));
        let session = tokio::task::spawn_blocking(move || connection.join());
        let notifier = Notifier::from_env();
        announce(&mounted, &notifier).await?;
        let behind = tokio::spawn({
            let cache = cache.clone();
            async move { cache.verify_behind().await }
        });
        let ended = daemon.until_told(&mut signals, stopped, session, &notifier).await;
        notifier.send(&Notice::Stopping);
        behind.abort();
        drop(tokio::task::spawn_blocking(move || drop(watcher)));
        let detached = detach(mounted, fs.handles()).await;
        if tokio::time::timeout(LAST_WORDS, cache.stop()).await.is_err() {
            tracing::warn!("downloads that were under way begin anew at the next start");
        }
        // Nobody listens any more where the server has failed already.
        let _ = stop.send(true);
        let _ = tokio::time::timeout(LAST_WORDS, answering).await;
        ended.and(detached)
    }
}

/// Says that the mount answers, once it does.
async fn announce(mounted: &Arc<Mountpoint>, notifier: &Notifier) -> Result<(), DaemonError> {
    let path = mounted.path().to_owned();
    let answers = tokio::task::spawn_blocking(move || std::fs::metadata(path));
    match answers.await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            return Err(DaemonError::failed(format!("the mount does not answer: {error}")));
        }
        Err(error) => return Err(DaemonError::failed(error)),
    }
    // A closed standard output is no reason to stop serving.
    let mut stdout = std::io::stdout();
    let _ = writeln!(stdout, "ready").and_then(|()| stdout.flush());
    notifier.send(&Notice::Ready);
    tracing::info!(mountpoint = %mounted.path().display(), "ready");
    Ok(())
}

async fn detach(mounted: Arc<Mountpoint>, handles: usize) -> Result<(), DaemonError> {
    let shown = mounted.path().display().to_string();
    let (sender, detached) = oneshot::channel();
    // A thread of its own: those for blocking work may all hang in some filesystem.
    std::thread::Builder::new()
        .name("unmount".to_owned())
        .spawn(move || drop(sender.send(mounted.detach(handles))))
        .map_err(DaemonError::failed)?;
    let detached = detached.await.map_err(DaemonError::failed)??;
    if detached.lazily && detached.holders == 0 {
        tracing::warn!(
            mountpoint = shown,
            "detached although it is held, by a working directory, a bind mount or, with directories_only, an open file: everything ends now for who holds it"
        );
    } else if detached.lazily {
        tracing::warn!(
            mountpoint = shown,
            open_handles = detached.holders,
            "detached although it is held: complete files stay readable to those who have them open, everything else ends now"
        );
    } else {
        tracing::info!(mountpoint = shown, "unmounted");
    }
    Ok(())
}

fn raise_read_ahead(mounted: &Mountpoint) {
    if let Err(error) = mounted.raise_read_ahead(READ_AHEAD_KIB) {
        tracing::debug!(%error, "the kernel's read-ahead stays as it is");
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

type Session = JoinHandle<std::io::Result<()>>;

/// Waits for the end of a reading; for ever, where there is none.
async fn done(reading: &mut Option<JoinHandle<()>>) -> Result<(), JoinError> {
    match reading {
        Some(reading) => reading.await,
        None => std::future::pending().await,
    }
}

impl Daemon {
    fn read_again(self: &Arc<Self>) -> JoinHandle<()> {
        let daemon = self.clone();
        tokio::task::spawn_blocking(move || drop(daemon.reread()))
    }

    /// Serves until told to stop, or until the mount is gone.
    async fn until_told(
        self: &Arc<Self>,
        signals: &mut Signals,
        mut stopped: watch::Receiver<bool>,
        mut session: Session,
        notifier: &Notifier,
    ) -> Result<(), DaemonError> {
        // Beside the loop: a filesystem that hangs must not keep us from being told to stop.
        let (mut reading, mut again) = (None, false);
        loop {
            tokio::select! {
                _ = signals.terminate.recv() => break tracing::info!("SIGTERM: stopping"),
                _ = signals.interrupt.recv() => break tracing::info!("SIGINT: stopping"),
                _ = stopped.wait_for(|stop| *stop) => break tracing::info!("told to stop"),
                _ = signals.hangup.recv() => {
                    notifier.send(&Notice::Reloading(sys::monotonic()));
                    match reading {
                        Some(_) => again = true,
                        None => reading = Some(self.read_again()),
                    }
                }
                read = done(&mut reading) => {
                    if let Err(error) = read {
                        tracing::error!(%error, "the catalogs were not read");
                    }
                    match std::mem::take(&mut again) {
                        true => reading = Some(self.read_again()),
                        false => {
                            reading = None;
                            notifier.send(&Notice::Ready);
                        }
                    }
                }
                ended = &mut session => {
                    return match ended {
                        Ok(Ok(())) => {
                            tracing::info!("unmounted from outside: stopping");
                            Ok(())
                        }
                        Ok(Err(error)) => {
                            Err(DaemonError::failed(format!("the kernel's FUSE: {error}")))
                        }
                        Err(error) => Err(DaemonError::failed(error)),
                    };
                }
            }
        }
        Ok(())
    }
}
