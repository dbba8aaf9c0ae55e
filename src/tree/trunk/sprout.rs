//! The life of a tree: the task that makes its index, and then gives back room that is not used.

use std::os::unix::fs::FileExt;
use std::sync::Arc;

use tokio::time::sleep;

use super::purse::{REST, Worker};
use super::state::{FOR_EVER, State, blocking};
use super::whole::{self, Whole};
use super::{disk, stream, zipped};
use crate::tree::error::TreeError;
use crate::tree::format::{Format, HEAD};

/// Files take whole blocks of this size.
const BLOCK: u64 = 4096;

/// Lives as long as the tree, and a little longer: until what is being unpacked has ended.
pub(super) async fn live(state: Arc<State>) {
    let on_disk = async || usage(&state).await;
    let work = async {
        begin(&state).await;
        std::future::pending().await
    };
    let rests = async {
        loop {
            state.purse.left().await;
            sleep(REST).await;
            state.purse.settle(on_disk).await;
        }
    };
    tokio::select! {
        never = work => match never {},
        () = rests => {}
        () = state.stopped() => {}
    }
    state.purse.settle_last(async || left(&state).await).await;
}

async fn begin(state: &Arc<State>) {
    if let Err(error) = state.room.fits(0) {
        state.fail(error, true);
    } else if let Err(error) = index(state).await {
        state.fail(error, false);
    }
}

/// Makes the index complete: the one that was saved, or one made of the archive.
async fn index(state: &Arc<State>) -> Result<(), TreeError> {
    if load(state).await? {
        return Ok(());
    }
    let range = state.blob.wait_for(0..HEAD, FOR_EVER).await?;
    let archive = state.archive().await?;
    let head = blocking(move || {
        let mut head = vec![0; range.end as usize];
        archive.read_exact_at(&mut head, 0).map(|()| head)
    });
    let head = head.await?.map_err(|error| disk("the archive cannot be read", &error))?;
    match Format::of(&head) {
        Some(Format::Zip) => {
            let end = zipped::end(state).await?;
            zipped::build(state, end).await
        }
        Some(format) => stream::build(state, format).await,
        // Something may stand before a zip.
        None => match zipped::end(state).await {
            Ok(end) => zipped::build(state, end).await,
            Err(error) if error.why == crate::tree::Why::Damaged => Err(Format::unknown(&head)),
            Err(error) => Err(error),
        },
    }
}

/// Takes over what was saved, and says whether there was anything that can be used; else nothing is
/// left of it.
async fn load(state: &Arc<State>) -> Result<bool, TreeError> {
    let state = state.clone();
    let loaded = blocking(move || {
        let (filled, length) = state.canopy.noted()?;
        let saved = state.canopy.saved().as_deref().and_then(whole::unseal);
        let usable = saved.filter(|(index, _)| whole::plausible(index, &filled, length));
        let Some((index, directory)) = usable else {
            state.canopy.clear()?;
            // What was counted of an earlier attempt is gone with its files.
            state.room.settled(0);
            return Ok(false);
        };
        // Opened for what will be noted.
        let filled = state.canopy.filled(index.contents())?;
        let archive = state.blob.file()?;
        state.publish(Whole::new(index, directory, &filled, archive, &state.canopy)?);
        Ok::<_, std::io::Error>(true)
    });
    loaded.await?.map_err(|error| disk("the files of the tree cannot be used", &error))
}

/// Saves an index, where there is room. Without it the tree is made anew after a restart.
pub(super) async fn save(state: &Arc<State>, sealed: Vec<u8>, worker: Worker) {
    let room = room_for(&sealed);
    if let Err(error) = state.purse.take(&worker, room).await {
        tracing::debug!(blob = %state.blob.id(), "the index of a tree is not saved: {error}");
        return;
    }
    let state = state.clone();
    // An error says that the daemon stops.
    let _ = blocking(move || {
        save_now(&state, &sealed);
        drop(worker);
    })
    .await;
}

/// Saves an index, once room was booked. Blocks on the disk.
pub(super) fn save_now(state: &State, sealed: &[u8]) {
    if let Err(error) = state.canopy.save(sealed) {
        tracing::warn!(blob = %state.blob.id(), "the index of a tree cannot be saved, it will be made anew after a restart: {error}");
    }
}

/// Returns what a saved index and the map of what is filled take on the disk.
pub(super) fn room_for(sealed: &[u8]) -> u64 {
    // The stamp, and the map, which has less bytes than the index.
    2 * (sealed.len() as u64 + BLOCK).next_multiple_of(BLOCK)
}

/// Returns what the files of the tree take.
async fn usage(state: &Arc<State>) -> Option<u64> {
    let state = state.clone();
    let usage = move || {
        let unlinked: u64 = state.canopy.unlinked()?.into_iter().map(|(_, bytes)| bytes).sum();
        Ok(state.canopy.usage()? + unlinked)
    };
    told(blocking(usage).await)
}

/// Returns what they take once nobody is in it: what is of no use to another tree of the archive goes.
async fn left(state: &Arc<State>) -> Option<u64> {
    let state = state.clone();
    let left = move || {
        state.canopy.discard()?;
        state.canopy.usage()
    };
    told(blocking(left).await)
}

fn told(usage: Result<std::io::Result<u64>, TreeError>) -> Option<u64> {
    match usage {
        Ok(Ok(bytes)) => Some(bytes),
        Ok(Err(error)) => {
            tracing::warn!("what a tree takes on the disk cannot be told: {error}");
            None
        }
        Err(_) => None,
    }
}
