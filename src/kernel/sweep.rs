//! Has the kernel forget trees, from a thread of its own: a notification for a directory waits for
//! every LOOKUP in it that is unanswered, and no other notification may wait with it.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use fuser::{INodeNo, Notifier};
use tokio::sync::oneshot;

use crate::fs::{Crown, Fs, NodeNo};
use crate::types::{BlobId, Ino};

/// How often trees that nobody may be in any more are looked after. Who left one is seen to have
/// left at the second look.
const EVERY: Duration = Duration::from_secs(3);

/// How long no FORGET may come before what the kernel keeps is taken back entry by entry.
const FORGETS_WITHIN: Duration = Duration::from_millis(5);

/// When the listing of the root is dropped once more: one that the kernel was reading while names
/// changed may have been kept after the first time.
const RELIST_AGAIN: Duration = Duration::from_secs(1);

/// What the thread is to do.
pub(super) enum Order {
    /// Have the kernel forget the trees of a blob.
    Clear(BlobId, oneshot::Sender<()>),
    /// Drop the listing of the root, now and a little later.
    Relist,
    /// Look: there are trees.
    Look,
}

/// The thread's own.
struct Sweeper {
    notifier: Notifier,
    fs: Weak<Fs>,
    relist: Option<Instant>,
    look: Option<Instant>,
}

/// Starts the thread; it ends when the sender is dropped.
///
/// # Errors
/// No thread could be started.
pub(super) fn start(notifier: Notifier, fs: &Arc<Fs>) -> io::Result<mpsc::Sender<Order>> {
    let (orders, queue) = mpsc::channel();
    let mut sweeper = Sweeper { notifier, fs: Arc::downgrade(fs), relist: None, look: None };
    std::thread::Builder::new()
        .name("notify-trees".into())
        .spawn(move || while sweeper.turn(&queue) {})?;
    let bell = orders.clone();
    fs.on_crowns(move || {
        // Fails only when the thread is gone, and the mount with it.
        let _ = bell.send(Order::Look);
    });
    Ok(orders)
}

impl Sweeper {
    /// Waits for something to do and does it; `false` when there will be nothing more.
    fn turn(&mut self, queue: &mpsc::Receiver<Order>) -> bool {
        let next = self.relist.into_iter().chain(self.look).min();
        let order = match next {
            None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(at) => queue.recv_timeout(at.saturating_duration_since(Instant::now())),
        };
        let Some(fs) = self.fs.upgrade() else { return false };
        match order {
            Ok(Order::Clear(blob, done)) => {
                for crown in fs.crowns_of(blob) {
                    self.clear(&fs, &crown);
                }
                // The one who waited may have died meanwhile.
                let _ = done.send(());
            }
            Ok(Order::Relist) => {
                self.drop_listing();
                self.relist = Some(Instant::now() + RELIST_AGAIN);
            }
            Ok(Order::Look) => self.look = self.look.or(Some(Instant::now() + EVERY)),
            Err(RecvTimeoutError::Timeout) => self.due(&fs),
            Err(RecvTimeoutError::Disconnected) => return false,
        }
        true
    }

    fn due(&mut self, fs: &Arc<Fs>) {
        let now = Instant::now();
        if self.relist.take_if(|at| *at <= now).is_some() {
            self.drop_listing();
        }
        if self.look.take_if(|at| *at <= now).is_some() {
            for crown in fs.leaving() {
                match crown.is_quiet() {
                    true => self.clear(fs, &crown),
                    false => self.drop_entries(&crown.misses()),
                }
            }
            self.look = fs.has_crowns().then(|| Instant::now() + EVERY);
        }
    }

    fn drop_listing(&self) {
        self.tell(self.notifier.inval_inode(INodeNo(Ino::ROOT.0), 0, 0));
    }

    /// Has the kernel drop the tree's name, and then what keeps the tree in its memory.
    fn clear(&self, fs: &Arc<Fs>, crown: &Crown) {
        let began = Instant::now();
        if fs.leaves(crown) {
            let passage = fs.doorway().enter();
            let (root, name) = (INodeNo(Ino::ROOT.0), OsStr::new(crown.name().as_str()));
            self.tell(self.notifier.inval_entry(root, name));
            drop(passage);
            // A LOOKUP may have been answered before the entry went.
            fs.leaves(crown);
        }
        let misses = crown.misses();
        self.drop_entries(&misses);
        let mut told = misses.len();
        let mut dirs = vec![NodeNo::ROOT];
        // From the root down: what nobody uses goes with the directory that it lies in.
        while !dirs.is_empty() && !settled(crown) {
            let (entries, below) = crown.entries(&dirs);
            self.drop_entries(&entries);
            told += entries.len();
            dirs = below;
        }
        // Bytes that are known to be wrong are not served from the kernel's memory either.
        if crown.is_tainted() {
            for ino in crown.counted() {
                self.tell(self.notifier.inval_inode(INodeNo(ino.0), 0, 0));
            }
        }
        let (took, left) = (began.elapsed(), crown.size());
        tracing::debug!(name = %crown.name(), entries = told, left, ?took, "swept");
    }

    /// Has the kernel drop entries of a tree.
    fn drop_entries(&self, entries: &[(Ino, Vec<u8>)]) {
        for (dir, name) in entries {
            self.tell(self.notifier.inval_entry(INodeNo(dir.0), OsStr::from_bytes(name)));
        }
    }

    fn tell(&self, told: io::Result<()>) {
        if let Err(error) = told {
            // ENODEV means that the mount is going; nothing else is known to come.
            tracing::debug!(%error, "cannot notify the kernel");
        }
    }
}

/// Waits while the kernel forgets, and says whether it has forgotten everything.
fn settled(crown: &Crown) -> bool {
    let mut before = crown.size();
    while before > 0 {
        std::thread::sleep(FORGETS_WITHIN);
        let now = crown.size();
        if now == before {
            return false;
        }
        before = now;
    }
    true
}
