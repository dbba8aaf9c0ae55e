//! The jobs that unpack members of a zip. Small ones that lie together are fetched with one wait and
//! unpacked in one step; a large one is unpacked while it arrives, and read meanwhile.
//!
//! A job goes on when those who asked for it have gone, if it is small: its bytes are nearly there.
//! A large one stops a little ahead of its last reader, and is given up when none comes back: only
//! what is read is to be fetched.

use std::convert::Infallible;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::budget::Budget;
use super::inflate::{Kit, Unpacking, damaged};
use super::members::{End, Item};
use super::purse::{Purse, Worker};
use super::state::{FOR_EVER, State, blocking};
use super::{SOON, disk};
use crate::store::Blob;
use crate::sys;
use crate::tree::error::{TreeError, Why};
use crate::tree::index::{Content, ContentNo, Packed};
use crate::tree::zip;

/// What one step of several small members fetches at most, and unpacks to.
const BATCH: u64 = 1 << 20;
const BATCH_UNPACKED: u64 = 16 << 20;

/// How much of a large member one step takes, and what is booked for it at a time.
const STEP: u64 = 1 << 20;
const BOOKING: u64 = 8 << 20;

/// How far a large member is fetched ahead of where it is unpacked, and in what parts.
const REACH: u64 = 8 << 20;
const PART: u64 = 2 << 20;

/// What of a local header is fetched at first.
const HEADER: u64 = 30 + 226;

/// A large member that nobody reads on in is given up after this long.
const GIVEN_UP: Duration = Duration::from_secs(30);

/// After this long what is booked for it is given back, and its archive may be evicted.
const IDLE: Duration = Duration::from_secs(1);

/// Places of the tree's file are multiples of this, and take whole ones.
const BLOCK: u64 = 4096;

/// As many members are unpacked at once as there are processors, in all trees together.
static CORES: LazyLock<Semaphore> = LazyLock::new(|| {
    Semaphore::new(std::thread::available_parallelism().map_or(1, |count| count.get()))
});

/// A member and the duty to end its job.
struct Charge {
    state: Arc<State>,
    item: Option<Item>,
}

impl Charge {
    fn new(state: &Arc<State>, item: Item) -> Charge {
        Charge { state: state.clone(), item: Some(item) }
    }

    fn end(mut self, end: End) {
        self.close(end);
    }

    fn close(&mut self, end: End) {
        if let (Some(item), Some(whole)) = (self.item.take(), self.state.whole()) {
            let damaged = matches!(&end, End::Failed(error) if error.why == Why::Damaged);
            // First the word of it: who reads looks at that again after it has read.
            whole.members.finish(&item, end);
            if damaged && room_for(item.content) > 0 {
                // Where the filesystem cannot, the bytes go with the tree.
                let _ = sys::punch_hole(whole.data(), item.content.at, room_for(item.content));
            }
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.close(End::Failed(stopped()));
    }
}

/// Begins to unpack a member that somebody waits for. Call within the runtime.
pub(super) fn begin(state: &Arc<State>, item: Item) {
    if item.content.size <= SOON && item.end.is_some_and(|end| end - item.header <= 2 * SOON) {
        tokio::spawn(together(state.clone(), Vec::from([Charge::new(state, item)])));
    } else {
        tokio::spawn(alone(Charge::new(state, item)));
    }
}

/// Begins to unpack small members that nobody waits for yet, in the order of their places.
pub(super) fn begin_ahead(state: &Arc<State>, items: Vec<Item>) {
    let mut batch: Vec<Charge> = Vec::new();
    let (mut begins, mut reached, mut unpacked) = (0, 0, 0);
    let send = |batch: &mut Vec<Charge>| {
        if !batch.is_empty() {
            tokio::spawn(together(state.clone(), std::mem::take(batch)));
        }
    };
    for item in items {
        let (Some(end), header, size) = (item.end, item.header, item.content.size) else {
            tokio::spawn(alone(Charge::new(state, item)));
            continue;
        };
        let fits = end.saturating_sub(begins) <= BATCH
            && header.saturating_sub(reached) <= zip::HEADER
            && unpacked + size <= BATCH_UNPACKED;
        if !fits {
            send(&mut batch);
            (begins, unpacked) = (header, 0);
        }
        (reached, unpacked) = (end, unpacked + size);
        batch.push(Charge::new(state, item));
    }
    send(&mut batch);
}

/// Unpacks members that lie together.
async fn together(state: Arc<State>, charges: Vec<Charge>) {
    let items = || charges.iter().filter_map(|charge| charge.item.as_ref());
    let begin = items().map(|item| item.header).min().unwrap_or(0);
    let end = items().filter_map(|item| item.end).max().unwrap_or(0);
    let room = items().map(|item| room_for(item.content)).sum();
    let ready = async {
        state.blob.wait_for(begin..end, FOR_EVER).await?;
        let worker = state.purse.enter().await;
        state.purse.take(&worker, room).await?;
        Ok::<_, TreeError>((worker, core().await?))
    };
    let ready = tokio::select! {
        ready = ready => ready,
        () = state.stopped() => Err(stopped()),
    };
    match ready {
        Ok(ready) => {
            // An error says that the daemon stops; the charges have ended their jobs by then.
            let _ = blocking(move || {
                unpack_all(&state, begin..end, charges);
                drop(ready);
            })
            .await;
        }
        Err(error) => charges.into_iter().for_each(|charge| charge.end(End::Failed(error.clone()))),
    }
}

/// Unpacks members whose bytes lie in `range`, all of which is there. Blocks.
fn unpack_all(state: &State, range: Range<u64>, charges: Vec<Charge>) {
    let Some(whole) = state.whole() else { return };
    let mut bytes = vec![0; (range.end - range.start) as usize];
    if let Err(error) = whole.archive().read_exact_at(&mut bytes, range.start) {
        let error = disk("the archive cannot be read", &error);
        charges.into_iter().for_each(|charge| charge.end(End::Failed(error.clone())));
        return;
    }
    let mut kit = Kit::new();
    for charge in charges {
        let Some(item) = &charge.item else { continue };
        let mut unpack = || {
            let end = item.end.unwrap_or(range.end);
            let header = slice(&bytes, &range, item.header..end)?;
            let data = match zip::data(header, &item.content, whole.members.directory()) {
                Ok(data) if data.end <= end => data,
                Ok(_) | Err(Ok(_)) => return Err(overlap()),
                Err(Err(error)) => return Err(error),
            };
            whole.members.set_start(item.no, data.start - item.header);
            let packed = slice(&bytes, &range, data)?;
            let mut unpacking = Unpacking::new(&mut kit, item.content);
            unpacking.feed(&mut kit, packed, u64::MAX, whole.data())?;
            unpacking.finish()?;
            fill(state, item.no, item.content)
        };
        match unpack() {
            Ok(()) => {
                state.room.unpacked(1);
                charge.end(End::Filled);
            }
            Err(error) => charge.end(End::Failed(error)),
        }
        state.moved();
    }
}

/// Unpacks one member while it arrives.
async fn alone(charge: Charge) {
    let state = charge.state.clone();
    let end = match &charge.item {
        Some(item) => tokio::select! {
            end = stream(&state, item) => end.unwrap_or_else(End::Failed),
            () = state.stopped() => End::Failed(stopped()),
        },
        None => return,
    };
    // Ends the job where a hole may have to be punched.
    let _ = blocking(move || charge.end(end)).await;
}

async fn stream(state: &Arc<State>, item: &Item) -> Result<End, TreeError> {
    let data = locate(state, item).await?;
    if item.end.is_some_and(|end| data.end > end) {
        return Err(overlap());
    }
    if let Some(whole) = state.whole() {
        whole.members.set_start(item.no, data.start - item.header);
    }
    let (position, reached) = watch::channel(data.start);
    tokio::select! {
        biased;
        end = consume(state, item, data.clone(), position) => end,
        never = fetch(&state.blob, data, reached) => match never {},
    }
}

/// Finds the packed bytes of a member, by its local header.
async fn locate(state: &Arc<State>, item: &Item) -> Result<Range<u64>, TreeError> {
    let mut length = HEADER;
    loop {
        let (file, directory) = match state.whole() {
            Some(whole) => (whole.archive().clone(), whole.members.directory()),
            None => return Err(stopped()),
        };
        let range = item.header..(item.header + length).min(directory);
        let range = state.blob.wait_for(range, FOR_EVER).await?;
        let content = item.content;
        let found = blocking(move || {
            let mut header = vec![0; (range.end - range.start) as usize];
            file.read_exact_at(&mut header, range.start)
                .map_err(|error| disk("the archive cannot be read", &error))?;
            match zip::data(&header, &content, directory) {
                Err(Ok(more)) if more > header.len() as u64 => Ok(Err(more)),
                Err(Ok(_)) => Err(overlap()),
                Err(Err(error)) => Err(error),
                Ok(data) => Ok(Ok(data)),
            }
        });
        match found.await?? {
            Ok(data) => return Ok(data),
            // It was cut off where the members end.
            Err(more) if item.header + more > directory || more <= length => return Err(overlap()),
            Err(more) => length = more,
        }
    }
}

/// Unpacks what lies in `data` step by step, no further than somebody wants it.
async fn consume(
    state: &Arc<State>,
    item: &Item,
    data: Range<u64>,
    position: watch::Sender<u64>,
) -> Result<End, TreeError> {
    let Some(whole) = state.whole() else { return Err(stopped()) };
    let mut worker = state.purse.enter().await;
    let size = item.content.size;
    let mut kit = Kit::new();
    let mut unpacking = Unpacking::new(&mut kit, item.content);
    let mut budget = Budget::default();
    let (mut at, mut booked) = (data.start, 0);
    loop {
        if timeout(IDLE, item.job.asked()).await.is_err() {
            booked -= rest(&state.purse, &worker, booked);
            drop(worker);
            if timeout(GIVEN_UP - IDLE, item.job.asked()).await.is_err() {
                return Ok(End::GivenUp);
            }
            worker = state.purse.enter().await;
        }
        if booked < BOOKING / 2 && room_for(item.content) > 0 {
            let more = BOOKING.min(room_for(item.content));
            state.purse.take(&worker, more).await?;
            booked += more;
        }
        let range = state.there(at..(at + STEP).min(data.end)).await?;
        let core = core().await?;
        let (archive, file) = (whole.archive().clone(), whole.data().clone());
        let most = if room_for(item.content) > 0 { booked } else { u64::MAX };
        let before = unpacking.written();
        // The step keeps the worker's place: it writes on where nobody waits for it any more.
        let step = move || {
            let worker = worker;
            let mut packed = vec![0; (range.end - range.start) as usize];
            archive
                .read_exact_at(&mut packed, range.start)
                .map_err(|error| disk("the archive cannot be read", &error))?;
            let taken = budget.step(|| {
                let taken = unpacking.feed(&mut kit, &packed, most, &file)?;
                Ok((taken, taken as u64 + unpacking.written() - before))
            })?;
            drop(core);
            Ok::<_, TreeError>((worker, budget, kit, unpacking, taken as u64))
        };
        let taken;
        (worker, budget, kit, unpacking, taken) = blocking(step).await??;
        let unpacked = unpacking.written() - before;
        booked = booked.saturating_sub(unpacked);
        at += taken;
        // Nobody is left to be told where the fetching has failed; then this fails too.
        let _ = position.send(at);
        state.moved();
        if unpacking.ended() || taken == 0 && unpacked == 0 {
            break;
        }
        // The last byte comes with the check of the whole.
        item.job.wrote(unpacking.written().min(size.saturating_sub(1)));
    }
    let (state, no, content) = (state.clone(), item.no, item.content);
    let finish = move || {
        unpacking.finish()?;
        fill(&state, no, content)?;
        state.room.unpacked(1);
        rest(&state.purse, &worker, booked);
        drop(worker);
        Ok::<_, TreeError>(End::Filled)
    };
    blocking(finish).await?
}

/// Gives back what is left of a booking but for the end of the block that is written last, and returns
/// how much that was. Others may be at work for long, and nothing is settled until they rest.
fn rest(purse: &Purse, worker: &Worker, booked: u64) -> u64 {
    let unused = booked - booked % BLOCK;
    purse.give_back(worker, unused);
    unused
}

/// Has the bytes of a large member fetched ahead of where it is unpacked. Never ends.
async fn fetch(blob: &Blob, data: Range<u64>, mut reached: watch::Receiver<u64>) -> Infallible {
    let mut at = data.start;
    while at < data.end {
        if reached.wait_for(|reached| at < *reached + REACH).await.is_err() {
            break;
        }
        let to = (at + PART).min(data.end);
        // Whoever unpacks waits for the same bytes, and learns of a failure.
        if blob.wait_for(at..to, FOR_EVER).await.is_err() {
            break;
        }
        at = to;
    }
    std::future::pending().await
}

/// Notes that a member is unpacked and checked. Blocks on the disk.
fn fill(state: &State, no: ContentNo, content: Content) -> Result<(), TreeError> {
    if !content.packed.has_to_be_unpacked() {
        return Ok(());
    }
    let noted = state.canopy.fill(no.0);
    noted.map_err(|error| disk("it cannot be noted that a member is unpacked", &error))
}

/// Waits for a processor.
async fn core() -> Result<tokio::sync::SemaphorePermit<'static>, TreeError> {
    CORES.acquire().await.map_err(|_| stopped())
}

/// Returns the part of `bytes`, which lie at `range`, that lies at `wanted`.
fn slice<'a>(
    bytes: &'a [u8],
    range: &Range<u64>,
    wanted: Range<u64>,
) -> Result<&'a [u8], TreeError> {
    let from = wanted.start.checked_sub(range.start).and_then(|at| usize::try_from(at).ok());
    let to = wanted.end.checked_sub(range.start).and_then(|at| usize::try_from(at).ok());
    let found = from.zip(to).and_then(|(from, to)| bytes.get(from..to));
    found.ok_or_else(overlap)
}

/// Returns what a member takes on the disk.
fn room_for(content: Content) -> u64 {
    match content.packed {
        Packed::Deflated { .. } => content.size.next_multiple_of(BLOCK),
        _ => 0,
    }
}

fn overlap() -> TreeError {
    damaged("zip: its bytes reach into what comes behind it".to_owned())
}

fn stopped() -> TreeError {
    TreeError::new(Why::Broken, "the tree is not needed any more")
}
