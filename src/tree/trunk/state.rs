//! What a tree knows, and how its callers wait for more.

use std::fs::File;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::growth::Growth;
use super::purse::Purse;
use super::whole::Whole;
use super::{Content, ContentNo, Found, NodeNo, Packed, Parts, Ready, Room, SOON, disk, refused};
use crate::store::{Blob, Broken, Canopy};
use crate::tree::error::{TreeError, Why};
use crate::tree::index::{Builder, Index};
use crate::tree::limits::Limits;

/// The longest stall that is told from "for ever"; instants have a limit.
const LONGEST_STALL: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// After how long a stream that found no room tries again, if somebody wants it.
const TRIED_AGAIN: Duration = Duration::from_secs(1);

/// What who works behind waits: callers have deadlines of their own.
pub(super) const FOR_EVER: Duration = LONGEST_STALL;

/// A tree, as those who work for it see it.
pub(super) struct State {
    pub(super) blob: Arc<Blob>,
    pub(super) canopy: Canopy,
    pub(super) room: Arc<dyn Room>,
    pub(super) limits: Limits,
    pub(super) purse: Purse,
    /// What arrived of a tar so far.
    pub(super) growth: Growth,
    stall: Duration,
    /// The file of the archive, opened once.
    archive: OnceLock<Arc<File>>,
    whole: OnceLock<Whole>,
    failed: OnceLock<TreeError>,
    /// Why a stream stands still, and since when.
    halt: Mutex<Option<(Instant, TreeError)>>,
    /// Told to it when somebody wants more.
    wanted: Notify,
    /// Told when more is known of the tree as a whole, or of a stream.
    changed: Notify,
    /// When something was unpacked last, in milliseconds since `born`.
    moved: AtomicU64,
    born: Instant,
    stopped: AtomicBool,
    stop: Notify,
}

impl State {
    pub(super) fn new(parts: Parts) -> State {
        let Parts { blob, canopy, room, limits, stall } = parts;
        State {
            purse: Purse::new(room.clone()),
            blob,
            canopy,
            room,
            limits,
            growth: Growth::default(),
            stall: stall.min(LONGEST_STALL),
            archive: OnceLock::new(),
            whole: OnceLock::new(),
            failed: OnceLock::new(),
            halt: Mutex::default(),
            wanted: Notify::new(),
            changed: Notify::new(),
            moved: AtomicU64::new(0),
            born: Instant::now(),
            stopped: AtomicBool::new(false),
            stop: Notify::new(),
        }
    }

    /// Returns what is complete.
    pub(super) fn whole(&self) -> Option<&Whole> {
        self.whole.get()
    }

    pub(super) fn failed(&self) -> Option<&TreeError> {
        self.failed.get()
    }

    pub(super) fn changed(&self) -> &Notify {
        &self.changed
    }

    /// Says that more is known.
    pub(super) fn tell(&self) {
        self.moved();
        self.changed.notify_waiters();
    }

    /// Counts as progress for everybody who waits.
    pub(super) fn moved(&self) {
        let now = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved.fetch_max(now, Ordering::Relaxed);
    }

    /// Makes the index complete.
    pub(super) fn publish(&self, whole: Whole) {
        // The first one is kept; they are the same file.
        let _ = self.archive.set(whole.archive().clone());
        let members = whole.index.nodes();
        if self.whole.set(whole).is_ok() {
            self.room.indexed(members);
        }
        self.growth.end();
        self.tell();
    }

    /// Ends the tree; the first reason stays. `told` where whoever gives room knows it already.
    pub(super) fn fail(&self, error: TreeError, told: bool) {
        if self.failed.set(error.clone()).is_ok() && !told {
            self.room.failed(&error);
        }
        self.tell();
    }

    /// Has a stream stand still, until somebody wants more a little later.
    pub(super) async fn stand_still(&self, error: TreeError) {
        *self.halt() = Some((Instant::now(), error));
        self.tell();
        self.wanted.notified().await;
    }

    /// Says why nothing more comes now, if so. Where that is a little while ago it is tried again.
    pub(super) fn halted(&self) -> Option<TreeError> {
        let mut halt = self.halt();
        let (since, error) = halt.as_ref()?;
        if since.elapsed() < TRIED_AGAIN {
            return Some(error.clone());
        }
        *halt = None;
        self.wanted.notify_one();
        None
    }

    /// Says whether a stream stands still.
    pub(super) fn stands_still(&self) -> bool {
        self.halt().is_some()
    }

    fn halt(&self) -> MutexGuard<'_, Option<(Instant, TreeError)>> {
        self.halt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says why what is not known yet will not come, or not now.
    pub(super) fn wanting(&self) -> Option<TreeError> {
        self.failed().cloned().or_else(|| self.halted())
    }

    /// Ends what is done behind.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.stop.notify_waiters();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Waits until nobody wants the tree any more.
    pub(super) async fn stopped(&self) {
        loop {
            let told = self.stop.notified();
            if self.is_stopped() {
                return;
            }
            told.await;
        }
    }

    /// Says why even what is present must not be served, if so.
    pub(super) fn tainted(&self) -> Option<TreeError> {
        self.blob.broken().filter(|broken| broken.tainted).map(broken)
    }

    /// Asks the complete index, or else the one that grows.
    pub(super) fn with<T>(
        &self,
        whole: impl FnOnce(&Index) -> Option<T>,
        growing: impl FnOnce(&Builder) -> Option<T>,
    ) -> Option<T> {
        if self.whole().is_none()
            && let Some(answer) = self.growth.with(growing)
        {
            return answer;
        }
        // The one that grows goes only after the complete one has come.
        self.whole().and_then(|found| whole(&found.index))
    }

    /// Looks a name up.
    pub(super) fn look(&self, dir: NodeNo, name: &[u8]) -> Result<Found, TreeError> {
        if let Some(error) = self.tainted() {
            return Err(error);
        }
        if let Some(whole) = self.whole() {
            return Ok(whole.index.child(dir, name).map_or(Found::Absent, Found::Node));
        }
        // Before the look: what came before the failure is found after it.
        let failed = self.failed();
        let found = self.with(|index| index.child(dir, name), |builder| builder.child(dir, name));
        match (failed, found) {
            // A refused archive is not shown; of one that broke off, what came is.
            (Some(error), _) if error.why != Why::Broken => Err(error.clone()),
            (_, Some(node)) => Ok(Found::Node(node)),
            (Some(error), None) => Err(error.clone()),
            (None, None) => Ok(Found::NotYet),
        }
    }

    /// Waits until `look` returns something, looking again whenever `changed` is told.
    ///
    /// # Errors
    /// No byte came, and nothing was unpacked, for as long as a caller waits.
    pub(super) async fn until<T>(
        &self,
        changed: &Notify,
        mut look: impl FnMut() -> Option<T>,
    ) -> Result<T, TreeError> {
        if let Some(found) = look() {
            return Ok(found);
        }
        let mut deadline = Instant::now() + self.stall;
        loop {
            let told = changed.notified();
            tokio::pin!(told);
            // Registered before the look, so that no change between the two is missed.
            told.as_mut().enable();
            if let Some(found) = look() {
                return Ok(found);
            }
            while timeout_at(deadline, told.as_mut()).await.is_err() {
                let extended = self.progress() + self.stall;
                if extended <= deadline {
                    let text = format!("no byte of the archive came for {:?}", self.stall);
                    return Err(TreeError::new(Why::Silent, text));
                }
                deadline = extended;
            }
        }
    }

    /// Returns when there was progress last.
    fn progress(&self) -> Instant {
        let moved = self.born + Duration::from_millis(self.moved.load(Ordering::Relaxed));
        self.blob.progress().max(moved)
    }

    /// Returns why a content cannot be read by anybody, if that was found.
    pub(super) fn damage(&self, no: ContentNo) -> Option<TreeError> {
        self.whole()?.members.damage(no)
    }

    /// Says whether every byte of a content is there and checked. Allocates nothing.
    pub(super) fn ready(&self, no: ContentNo, content: Content) -> bool {
        match content.packed {
            _ if self.blob.broken().is_some_and(|broken| broken.tainted) => false,
            Packed::Plain { at } => {
                self.archive.get().is_some() && self.blob.present(at..at + content.size).is_some()
            }
            Packed::Streamed => self.growth.passed(no) || self.whole().is_some(),
            Packed::Stored { .. } | Packed::Deflated { .. } => {
                self.whole().is_some_and(|whole| whole.members.is_filled(no))
            }
            Packed::Encrypted | Packed::Unknown { .. } => false,
        }
    }

    /// Opens a content, see [`Tree::open`](super::Tree::open).
    pub(super) async fn open(
        self: &Arc<Self>,
        no: ContentNo,
        content: Content,
    ) -> Result<Ready, TreeError> {
        let soon = content.size <= SOON;
        let all = 0..content.size;
        if let Some(error) = self.tainted() {
            return Err(error);
        }
        let (file, range) = match content.packed {
            Packed::Plain { at } if !soon && self.blob.present(at..at + content.size).is_none() => {
                return Ok(Ready::Arriving);
            }
            Packed::Streamed if !soon && !self.ready(no, content) => return Ok(Ready::Arriving),
            Packed::Plain { .. } | Packed::Streamed => self.read(no, content, all).await?,
            Packed::Stored { .. } | Packed::Deflated { .. } => {
                let whole = self.zip()?;
                if !whole.members.open(self, no, content, soon).await? {
                    return Ok(Ready::Arriving);
                }
                whole.place(no, content, all)
            }
            Packed::Encrypted => return Err(encrypted()),
            Packed::Unknown { method } => return Err(unknown(method)),
        };
        Ok(Ready::Whole { file, range })
    }

    /// Reads a content, see [`Tree::read`](super::Tree::read); the range lies within it.
    pub(super) async fn read(
        self: &Arc<Self>,
        no: ContentNo,
        content: Content,
        range: Range<u64>,
    ) -> Result<(Arc<File>, Range<u64>), TreeError> {
        if let Some(error) = self.tainted() {
            return Err(error);
        }
        match content.packed {
            Packed::Plain { at } => {
                let range = at + range.start..at + range.end;
                self.blob.wait_for(range.clone(), self.stall).await?;
                Ok((self.archive().await?, range))
            }
            Packed::Streamed => {
                let arrived = || match self.growth.holds(no, content.size, &range) {
                    true => Some(Ok(())),
                    false if self.whole().is_some() => Some(Ok(())),
                    false => self.wanting().map(Err),
                };
                self.until(&self.changed, arrived).await??;
                let file = self.canopy.opened().cloned();
                let file = file.ok_or_else(|| refused(libc::ESTALE, "without a file"))?;
                Ok((file, content.at + range.start..content.at + range.end))
            }
            Packed::Stored { .. } | Packed::Deflated { .. } => {
                let whole = self.zip()?;
                whole.members.read(self, no, content, &range).await?;
                Ok(whole.place(no, content, range))
            }
            Packed::Encrypted => Err(encrypted()),
            Packed::Unknown { method } => Err(unknown(method)),
        }
    }

    /// Waits until the first byte of a range of the archive is there, and returns what is there from
    /// it on; nothing where the range or the archive ends there.
    pub(super) async fn there(&self, range: Range<u64>) -> Result<Range<u64>, TreeError> {
        let first = range.start..range.end.min(range.start.saturating_add(1));
        let first = self.blob.wait_for(first, FOR_EVER).await?;
        let end = range.end.min(self.blob.length().unwrap_or(u64::MAX)).max(first.start);
        let gaps = self.blob.missing(first.start..end);
        Ok(first.start..gaps.first().map_or(end, |gap| gap.start))
    }

    /// Returns the file of the archive, opening it where nobody has; on a thread that may wait for
    /// the disk.
    pub(super) async fn archive(self: &Arc<Self>) -> Result<Arc<File>, TreeError> {
        if let Some(file) = self.archive.get() {
            return Ok(file.clone());
        }
        let state = self.clone();
        blocking(move || state.open_archive()).await?
    }

    /// Opens the file of the archive, once. Blocks on the disk.
    pub(super) fn open_archive(&self) -> Result<Arc<File>, TreeError> {
        let file =
            self.blob.file().map_err(|error| disk("the archive cannot be opened", &error))?;
        Ok(self.archive.get_or_init(|| file).clone())
    }

    /// Returns the index of a zip: nodes of one are known only once it is complete.
    fn zip(&self) -> Result<&Whole, TreeError> {
        self.whole().ok_or_else(|| refused(libc::ESTALE, "of an index that is not complete"))
    }
}

/// Runs what blocks on the disk or computes, on a thread for that.
///
/// # Errors
/// The daemon is stopping.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, TreeError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| TreeError::new(Why::Broken, "the daemon is stopping"))
}

/// Runs what may have to wait for bytes or for room on a thread of its own: those that wait for the
/// disk are few, and are what brings both.
///
/// # Errors
/// The system gives no thread, or the daemon is stopping.
pub(super) async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, TreeError> {
    let (done, result) = tokio::sync::oneshot::channel();
    let thread = std::thread::Builder::new().name("stream".to_owned());
    // Nobody is left to be told where the tree is not needed any more.
    let started = thread.spawn(move || drop(done.send(work())));
    started.map_err(|error| disk("there is no thread to unpack with", &error))?;
    result.await.map_err(|_| TreeError::new(Why::Broken, "the daemon is stopping"))
}

fn broken(broken: Broken) -> TreeError {
    TreeError { why: Why::Broken, errno: broken.errno, message: broken.message }
}

fn encrypted() -> TreeError {
    TreeError::new(Why::Encrypted, "it is encrypted; pack it without a password")
}

fn unknown(method: u16) -> TreeError {
    let text = format!("it is packed by method {method}; stored and deflated members can be read");
    TreeError::new(Why::Method, text)
}
