//! A scripted origin: every byte it sends, and when, is under the test's control.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustls::ServerConfig;

pub(crate) use super::origin_item::{Fault, Framing, Item, Place, When};
use super::origin_serve;
use super::origin_wire::{self, Connection};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// One request and what was answered.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// With its query.
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    /// 0 until the head was sent.
    pub(crate) status: u16,
    /// The first byte of the whole body that the answer begins with.
    pub(crate) from: u64,
    /// Bytes of body sent so far.
    pub(crate) sent: u64,
    pub(crate) at: Instant,
}

impl Seen {
    /// Returns a header's value by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Where a held request waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// After the request was read, before the first byte of an answer.
    Head,
    /// After the head and this many bytes of body were sent.
    Byte(u64),
}

/// The state of a running origin.
#[derive(Default)]
pub(super) struct Script {
    pub(super) items: HashMap<String, Item>,
    pub(super) seen: Vec<Seen>,
    /// Path to place; requests for the path wait there until it is removed.
    pub(super) gates: HashMap<String, At>,
    /// How many requests wait at the gate of a path.
    pub(super) waiting: HashMap<String, usize>,
    /// Requests are read and never answered.
    pub(super) silent: bool,
    /// Open connections by number, to be shut down.
    pub(super) connections: HashMap<u64, TcpStream>,
    /// How many answers are being sent, and how many were at once at the most.
    pub(super) answering: usize,
    pub(super) most: usize,
}

/// What connection threads share with the handle.
#[derive(Default)]
pub(super) struct Shared {
    script: Mutex<Script>,
    changed: Condvar,
    pub(super) stopped: AtomicBool,
    next: AtomicU64,
    tls: Option<Arc<ServerConfig>>,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while `blocked` holds; ends too when the origin stops.
    pub(super) fn wait_while(&self, blocked: impl Fn(&Script) -> bool) {
        let mut script = self.lock();
        while blocked(&script) && !self.stopped.load(Ordering::SeqCst) {
            script = self.changed.wait(script).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(super) fn notify(&self) {
        self.changed.notify_all();
    }
}

/// A running origin on loopback; stopped when dropped.
pub(crate) struct Origin {
    shared: Arc<Shared>,
    addr: SocketAddr,
    acceptor: Option<JoinHandle<()>>,
}

impl Origin {
    /// Starts an origin with nothing to serve.
    pub(crate) fn start() -> Origin {
        Origin::start_at(LOOPBACK)
    }

    /// Starts an origin on another of this machine's addresses.
    pub(crate) fn start_at(address: IpAddr) -> Origin {
        Origin::with(address, None)
    }

    /// Starts an origin that speaks TLS, with the chain and the key in these files.
    pub(crate) fn start_tls(chain: &Path, key: &Path) -> Origin {
        Origin::start_tls_at(LOOPBACK, chain, key)
    }

    /// Starts one that speaks TLS on another of this machine's addresses.
    pub(crate) fn start_tls_at(address: IpAddr, chain: &Path, key: &Path) -> Origin {
        Origin::with(address, Some(origin_wire::tls(chain, key)))
    }

    fn with(address: IpAddr, tls: Option<Arc<ServerConfig>>) -> Origin {
        let listener = TcpListener::bind((address, 0)).expect("bind an address");
        let addr = listener.local_addr().expect("the bound address");
        let shared = Arc::new(Shared { tls, ..Shared::default() });
        let acceptor = Some(accept(listener, shared.clone()));
        Origin { shared, addr, acceptor }
    }

    /// Returns the URL of a path that begins with a slash.
    pub(crate) fn url(&self, path: &str) -> String {
        let scheme = if self.shared.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.addr)
    }

    /// Returns the address it listens on.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Answers a path (without query) with an item from now on.
    pub(crate) fn put(&self, path: &str, item: Item) {
        self.shared.lock().items.insert(path.to_owned(), item);
    }

    /// Changes what a path answers.
    pub(crate) fn edit(&self, path: &str, change: impl FnOnce(&mut Item)) {
        let mut script = self.shared.lock();
        change(script.items.get_mut(path).expect("a path that was put"));
    }

    /// Returns what a path has now.
    pub(crate) fn item(&self, path: &str) -> Item {
        self.shared.lock().items.get(path).cloned().expect("a path that was put")
    }

    /// Answers a path with 404 from now on.
    pub(crate) fn remove(&self, path: &str) {
        self.shared.lock().items.remove(path);
    }

    /// Holds requests for a path at a place until [`release`](Origin::release). A path has one
    /// gate: those that wait at another place go on.
    pub(crate) fn hold(&self, path: &str, at: At) {
        self.shared.lock().gates.insert(path.to_owned(), at);
        self.shared.notify();
    }

    /// Lets held requests for a path go on.
    pub(crate) fn release(&self, path: &str) {
        self.shared.lock().gates.remove(path);
        self.shared.notify();
    }

    /// Waits until `count` requests wait at the gate of a path.
    #[track_caller]
    pub(crate) fn wait_held(&self, path: &str, count: usize) {
        super::wait_until(
            &format!("{count} requests for {path} wait at the origin"),
            Duration::from_secs(10),
            || self.shared.lock().waiting.get(path).copied().unwrap_or(0) >= count,
        );
    }

    /// Has every request read and none answered, or ends that.
    pub(crate) fn silence(&self, on: bool) {
        self.shared.lock().silent = on;
        self.shared.notify();
    }

    /// Returns every request since the last [`forget`](Origin::forget).
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.lock().seen.clone()
    }

    /// Returns how many requests came for a path, whatever its query.
    pub(crate) fn requests(&self, path: &str) -> usize {
        self.select(path).len()
    }

    /// Returns how many requests for a path were answered with a status.
    pub(crate) fn count(&self, path: &str, status: u16) -> usize {
        let all = self.select(path);
        all.iter().filter(|seen| seen.status == status).count()
    }

    /// Returns how many requests, for whatever path, were answered with a status.
    pub(crate) fn answered(&self, status: u16) -> usize {
        let script = self.shared.lock();
        script.seen.iter().filter(|seen| seen.status == status).count()
    }

    /// Returns the bytes of body sent for a path.
    pub(crate) fn sent(&self, path: &str) -> u64 {
        self.select(path).iter().map(|seen| seen.sent).sum()
    }

    /// Returns how many connections were made since the start.
    pub(crate) fn connections(&self) -> u64 {
        self.shared.next.load(Ordering::Relaxed)
    }

    /// Returns how many answers were being sent at once at the most.
    pub(crate) fn most_at_once(&self) -> usize {
        self.shared.lock().most
    }

    /// Returns every request for a path, whatever its query.
    pub(crate) fn select(&self, path: &str) -> Vec<Seen> {
        let mut all = self.seen();
        all.retain(|seen| seen.path.split('?').next() == Some(path));
        all
    }

    /// Empties the request log. Answers that are under way are no longer counted.
    pub(crate) fn forget(&self) {
        self.shared.lock().seen.clear();
    }

    /// Closes the port and every connection.
    pub(crate) fn stop(&mut self) {
        let Some(acceptor) = self.acceptor.take() else {
            return;
        };
        self.shared.stopped.store(true, Ordering::SeqCst);
        for stream in self.shared.lock().connections.values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.shared.notify();
        // Wakes the acceptor from accept(2).
        let _ = TcpStream::connect(self.addr);
        let _ = acceptor.join();
    }

    /// Opens the same port again after [`stop`](Origin::stop); what was put is still there.
    pub(crate) fn start_again(&mut self) {
        let old = self.shared.lock();
        let script = Script {
            items: old.items.clone(),
            seen: old.seen.clone(),
            gates: old.gates.clone(),
            ..Script::default()
        };
        drop(old);
        // A new room for the new connections: those of the old one still see `stopped`.
        let tls = self.shared.tls.clone();
        self.shared = Arc::new(Shared { script: Mutex::new(script), tls, ..Shared::default() });
        let listener = TcpListener::bind(self.addr).expect("bind the same port again");
        self.acceptor = Some(accept(listener, self.shared.clone()));
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Accepts connections, each served by a thread of its own.
fn accept(listener: TcpListener, shared: Arc<Shared>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if shared.stopped.load(Ordering::SeqCst) {
                break;
            }
            let _ = stream.set_nodelay(true);
            let number = shared.next.fetch_add(1, Ordering::Relaxed);
            if let Ok(copy) = stream.try_clone() {
                shared.lock().connections.insert(number, copy);
            }
            let shared = shared.clone();
            std::thread::spawn(move || {
                if let Ok(connection) = Connection::new(stream, shared.tls.clone()) {
                    origin_serve::connection(connection, &shared);
                }
                shared.lock().connections.remove(&number);
            });
        }
    })
}
