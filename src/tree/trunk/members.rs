//! How far each member of a zip is unpacked, and who waits for it. One at a time unpacks a member.
//!
//! The state of a member is one atomic byte. It changes only under the lock, but for one step: a
//! member that was unpacked ahead counts as used once somebody opens it.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::ahead::Ahead;
use super::state::State;
use super::{SOON, unpack};
use crate::tree::error::{TreeError, Why};
use crate::tree::index::{Content, ContentNo, Index, Packed};
use crate::tree::zip;

/// Not unpacked.
const EMPTY: u8 = 0;
/// Unpacked and checked.
const FILLED: u8 = 1;
/// The same, and nobody opened it since.
const UNUSED: u8 = 2;
/// Somebody unpacks it.
const BUSY: u8 = 3;
/// It cannot be unpacked.
const DAMAGED: u8 = 4;

/// How far a member is fetched and unpacked ahead of who reads it, in bytes.
const READ_AHEAD: u64 = 16 << 20;

/// The most that lies between two members and is fetched along with them.
const GAP: u64 = zip::HEADER;

/// The members of a zip; of other archives there are none.
pub(super) struct Members {
    states: Box<[AtomicU8]>,
    /// How far behind its local header a stored member begins; set before it is filled.
    starts: Box<[AtomicU32]>,
    /// The numbers of the members in the order of their places.
    order: Box<[u32]>,
    index: Arc<Index>,
    /// Where the last member ends at the latest.
    directory: u64,
    /// Locked alone.
    busy: Mutex<Busy>,
    /// Locked alone.
    ahead: Mutex<Ahead>,
}

#[derive(Default)]
struct Busy {
    jobs: HashMap<u32, Arc<Job>>,
    damaged: HashMap<u32, TreeError>,
}

impl Busy {
    fn damage(&self, no: ContentNo) -> TreeError {
        let found = self.damaged.get(&no.0).cloned();
        found.unwrap_or_else(|| TreeError::new(Why::Damaged, "it is damaged"))
    }
}

/// One member that is being unpacked.
#[derive(Default)]
pub(super) struct Job {
    /// How many of its bytes are there.
    written: AtomicU64,
    /// How many somebody wants.
    wanted: AtomicU64,
    end: OnceLock<End>,
    /// Told when more is written, and at the end.
    pub(super) changed: Notify,
    /// Told when more is wanted.
    asked: Notify,
    /// It was begun before anybody asked, along with others.
    ahead: bool,
}

/// How a job ended.
#[derive(Clone)]
pub(super) enum End {
    /// It is unpacked and checked.
    Filled,
    /// It is not, for this reason.
    Failed(TreeError),
    /// Nobody wanted the rest.
    GivenUp,
}

/// One member that is to be unpacked, and its job.
pub(super) struct Item {
    pub(super) no: ContentNo,
    pub(super) content: Content,
    pub(super) job: Arc<Job>,
    /// Where its local header is.
    pub(super) header: u64,
    /// Where it ends at the latest; `None` where that is too far behind its bytes to be fetched.
    pub(super) end: Option<u64>,
}

/// What becomes of an opening.
enum Claim {
    Filled,
    Coming(Arc<Job>),
    Begun(Item),
    Damaged(TreeError),
}

impl Members {
    /// Takes over the members of an index of which some are filled.
    pub(super) fn new(index: &Arc<Index>, directory: u64, filled: &[u8]) -> Members {
        let place = |no: &u32| header_of(index, *no);
        let mut order: Box<[u32]> =
            (0..index.contents()).filter(|no| place(no).is_some()).collect();
        order.sort_unstable_by_key(place);
        let packed = |no: u32| index.content(ContentNo(no)).map(|found| (found.size, found.packed));
        let state = |no: u32| match packed(no) {
            Some((_, Packed::Deflated { .. })) if filled.get(no as usize) == Some(&1) => FILLED,
            // Where a stored one begins is not written down; it is checked once more.
            Some((0, Packed::Stored { crc: 0, .. } | Packed::Deflated { crc: 0, .. })) => FILLED,
            _ => EMPTY,
        };
        let is_stored = |no: &u32| matches!(packed(*no), Some((_, Packed::Stored { .. })));
        let states = if order.is_empty() { 0 } else { index.contents() };
        let starts = if order.iter().any(is_stored) { states } else { 0 };
        Members {
            states: (0..states).map(|no| AtomicU8::new(state(no))).collect(),
            starts: (0..starts).map(|_| AtomicU32::new(0)).collect(),
            order,
            index: index.clone(),
            directory,
            busy: Mutex::default(),
            ahead: Mutex::default(),
        }
    }

    /// Returns where the last member ends at the latest.
    pub(super) fn directory(&self) -> u64 {
        self.directory
    }

    /// Says whether a member is unpacked and checked, and somebody knows of it.
    pub(super) fn is_filled(&self, no: ContentNo) -> bool {
        self.state(no) == FILLED
    }

    /// Returns why a member cannot be read by anybody, if that was found.
    pub(super) fn damage(&self, no: ContentNo) -> Option<TreeError> {
        (self.state(no) == DAMAGED).then(|| self.busy().damage(no))
    }

    /// Returns how far behind its header a stored member begins.
    pub(super) fn start(&self, no: ContentNo) -> u64 {
        self.starts.get(no.0 as usize).map_or(0, |start| u64::from(start.load(Ordering::Acquire)))
    }

    /// Notes how far behind its header a stored member begins.
    pub(super) fn set_start(&self, no: ContentNo, start: u64) {
        if let Some(place) = self.starts.get(no.0 as usize) {
            // A header has less than 2^18 bytes.
            place.store(u32::try_from(start).unwrap_or(0), Ordering::Release);
        }
    }

    /// Begins to unpack a member where it is not, and waits for its end where that is `soon`.
    /// Returns whether it is unpacked.
    pub(super) async fn open(
        &self,
        state: &Arc<State>,
        no: ContentNo,
        content: Content,
        soon: bool,
    ) -> Result<bool, TreeError> {
        let mut alone = false;
        while let Some(job) = self.begin(state, no, content)? {
            job.want(READ_AHEAD.min(content.size));
            if !soon {
                return Ok(false);
            }
            if let End::Failed(error) = state.until(&job.changed, || job.end()).await? {
                job.failed(error, &mut alone)?;
            }
        }
        Ok(true)
    }

    /// Waits until a range of a member is there, unpacking it where it is not.
    pub(super) async fn read(
        &self,
        state: &Arc<State>,
        no: ContentNo,
        content: Content,
        range: &Range<u64>,
    ) -> Result<(), TreeError> {
        let mut alone = false;
        while let Some(job) = self.begin(state, no, content)? {
            job.want(range.end.saturating_add(READ_AHEAD).min(content.size));
            // The last byte is there only with the whole. What is there stays, whatever the end.
            let enough = || range.end < content.size && job.written() >= range.end;
            let look = || if enough() { Some(None) } else { job.end().map(Some) };
            match state.until(&job.changed, look).await? {
                None => return Ok(()),
                Some(End::Failed(error)) => job.failed(error, &mut alone)?,
                // It is filled now, or begun again.
                Some(End::Filled | End::GivenUp) => {}
            }
        }
        Ok(())
    }

    /// Returns the job that unpacks a member, begun here if nobody has; `None` where it is unpacked.
    fn begin(
        &self,
        state: &Arc<State>,
        no: ContentNo,
        content: Content,
    ) -> Result<Option<Arc<Job>>, TreeError> {
        let Some(place) = header(content.packed) else { return Ok(None) };
        match self.state(no) {
            FILLED => return Ok(None),
            UNUSED => {
                // Whoever is the first to use it has more unpacked ahead.
                self.set(no, FILLED);
                self.follow(state, place);
                return Ok(None);
            }
            BUSY => self.follow(state, place),
            _ => {}
        }
        match self.claim(no, content, place) {
            Claim::Filled => {
                // It became so since the look above.
                self.set(no, FILLED);
                self.follow(state, place);
                Ok(None)
            }
            Claim::Coming(job) => Ok(Some(job)),
            Claim::Damaged(error) => Err(error),
            Claim::Begun(item) => {
                let job = item.job.clone();
                let (around, ahead) = self.ahead().missed(place, Instant::now());
                unpack::begin(state, item);
                unpack::begin_ahead(state, self.claim_small(around));
                unpack::begin_ahead(state, self.claim_small(ahead));
                Ok(Some(job))
            }
        }
    }

    /// Has more unpacked ahead where somebody reads on in what was.
    fn follow(&self, state: &Arc<State>, place: u64) {
        let next = self.ahead().used(place);
        if !next.is_empty() {
            unpack::begin_ahead(state, self.claim_small(next));
        }
    }

    fn claim(&self, no: ContentNo, content: Content, header: u64) -> Claim {
        let mut busy = self.busy();
        match self.state(no) {
            FILLED | UNUSED => Claim::Filled,
            DAMAGED => Claim::Damaged(busy.damage(no)),
            _ => match busy.jobs.get(&no.0) {
                Some(job) => Claim::Coming(job.clone()),
                None => Claim::Begun(self.enter(&mut busy, no, content, (header, false))),
            },
        }
    }

    /// Claims every small member in a part of the archive that nobody unpacks.
    fn claim_small(&self, part: Range<u64>) -> Vec<Item> {
        let mut items = Vec::new();
        if part.is_empty() {
            return items;
        }
        let place = |no: u32| header_of(&self.index, no).unwrap_or(0);
        let first = self.order.partition_point(|no| place(*no) < part.start);
        let mut busy = self.busy();
        for no in self.order[first..].iter().take_while(|no| place(**no) < part.end) {
            let no = ContentNo(*no);
            let Some(content) = self.index.content(no) else { continue };
            let (place, small) = (place(no.0), content.size.max(packed(content)) <= SOON);
            if small && self.state(no) == EMPTY && self.end_of(content, place).is_some() {
                items.push(self.enter(&mut busy, no, content, (place, true)));
            }
        }
        items
    }

    fn enter(
        &self,
        busy: &mut Busy,
        no: ContentNo,
        content: Content,
        (header, ahead): (u64, bool),
    ) -> Item {
        let job = Arc::new(Job { ahead, ..Job::default() });
        busy.jobs.insert(no.0, job.clone());
        self.set(no, BUSY);
        Item { no, content, job, header, end: self.end_of(content, header) }
    }

    /// Returns where a member ends at the latest: where the next one begins, if that is near.
    fn end_of(&self, content: Content, header: u64) -> Option<u64> {
        let place = |no: u32| header_of(&self.index, no);
        let next = self.order.partition_point(|no| place(*no) <= Some(header));
        let next = self.order.get(next).and_then(|no| place(*no)).unwrap_or(self.directory);
        let least = header.checked_add(packed(content))?;
        (next.checked_sub(least)? <= GAP).then_some(next)
    }

    /// Ends the job of a member. Whoever has the item does so, once.
    pub(super) fn finish(&self, item: &Item, end: End) {
        if item.job.ahead && matches!(&end, End::Failed(error) if too_much(error)) {
            // Who walks on begins anew, with a small part.
            *self.ahead() = Ahead::default();
        }
        {
            let mut busy = self.busy();
            busy.jobs.remove(&item.no.0);
            let state = match &end {
                End::Filled if item.job.is_wanted() => FILLED,
                End::Filled => UNUSED,
                End::Failed(error) if lasting(error) => {
                    busy.damaged.insert(item.no.0, error.clone());
                    DAMAGED
                }
                End::Failed(_) | End::GivenUp => EMPTY,
            };
            self.set(item.no, state);
        }
        let _ = item.job.end.set(end);
        item.job.changed.notify_waiters();
    }

    fn state(&self, no: ContentNo) -> u8 {
        self.states.get(no.0 as usize).map_or(EMPTY, |state| state.load(Ordering::Acquire))
    }

    fn set(&self, no: ContentNo, to: u8) {
        if let Some(state) = self.states.get(no.0 as usize) {
            state.store(to, Ordering::Release);
        }
    }

    fn busy(&self) -> MutexGuard<'_, Busy> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ahead(&self) -> MutexGuard<'_, Ahead> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Job {
    /// Says that somebody wants so many of its bytes.
    fn want(&self, bytes: u64) {
        // At least one, so that an empty one counts as wanted too.
        let bytes = bytes.max(1);
        if self.wanted.fetch_max(bytes, Ordering::AcqRel) < bytes {
            self.asked.notify_one();
        }
    }

    fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire) > 0
    }

    fn end(&self) -> Option<End> {
        self.end.get().cloned()
    }

    /// Passes on why it failed; but once a member that was to be unpacked along with others, for
    /// which there was no room together, is tried `alone`.
    fn failed(&self, error: TreeError, alone: &mut bool) -> Result<(), TreeError> {
        match self.ahead && too_much(&error) && !std::mem::replace(alone, true) {
            true => Ok(()),
            false => Err(error),
        }
    }

    /// Returns how many bytes are there.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Notes that so many bytes are there.
    pub(super) fn wrote(&self, bytes: u64) {
        self.written.store(bytes, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// Waits until more is wanted than is there.
    pub(super) async fn asked(&self) {
        while self.wanted.load(Ordering::Acquire) <= self.written() {
            self.asked.notified().await;
        }
    }
}

/// Returns where the local header of a content is, if it is the member of a zip.
fn header_of(index: &Index, no: u32) -> Option<u64> {
    header(index.content(ContentNo(no))?.packed)
}

fn header(packed: Packed) -> Option<u64> {
    match packed {
        Packed::Stored { header, .. } | Packed::Deflated { header, .. } => Some(header),
        _ => None,
    }
}

/// Returns how many bytes a member takes in the archive, its header not counted.
fn packed(content: Content) -> u64 {
    match content.packed {
        Packed::Deflated { length, .. } => length,
        _ => content.size,
    }
}

/// Says whether less might have fit.
fn too_much(error: &TreeError) -> bool {
    error.why.is_room() || error.why == Why::TooLarge
}

/// Says whether trying again is of no use.
fn lasting(error: &TreeError) -> bool {
    matches!(error.why, Why::Damaged | Why::Limit | Why::Method | Why::Encrypted)
}
