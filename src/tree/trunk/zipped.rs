//! The index of a zip, from its end: two waits for bytes as a rule, whatever is missing before.

use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::disk;
use super::sprout::save;
use super::state::{FOR_EVER, State, blocking};
use super::whole::{self, Whole};
use crate::tree::error::{TreeError, Why};
use crate::tree::zip::{self, End};

/// How much of the end is fetched at first: it nearly always holds the end record, and of most
/// archives the central directory too.
const TAIL: u64 = 64 << 10;

/// How many times as many bytes as an index may take a central directory may have.
const DIRECTORY: u64 = 8;

/// What the end of a zip says, and the last bytes of the archive that were read for it.
pub(super) struct Tail {
    end: End,
    length: u64,
    bytes: Vec<u8>,
}

/// Reads the end of a zip.
///
/// # Errors
/// It is no zip, or the bytes do not come.
pub(super) async fn end(state: &Arc<State>) -> Result<Tail, TreeError> {
    let length = state.blob.wait_length(FOR_EVER).await?;
    let mut from = length.saturating_sub(TAIL);
    loop {
        let bytes = read(state, from..length).await?;
        let (found, bytes) = blocking(move || (zip::end(&bytes, length), bytes)).await?;
        match found {
            Ok(end) => return Ok(Tail { end, length, bytes }),
            Err(Ok(earlier)) if earlier < from => from = earlier,
            Err(Ok(_)) => return Err(TreeError::new(Why::Damaged, "zip: its end leads nowhere")),
            Err(Err(error)) => return Err(error),
        }
    }
}

/// Builds the index, and saves it once it can be used.
///
/// # Errors
/// The directory is damaged or passes a limit; the bytes do not come; the disk failed.
pub(super) async fn build(state: &Arc<State>, tail: Tail) -> Result<(), TreeError> {
    let Tail { end, length, bytes } = tail;
    let directory = end.directory.clone();
    let most = state.limits.index.saturating_mul(DIRECTORY);
    if directory.end - directory.start > most {
        let text = format!(
            "zip: the central directory has {} bytes, and more than {most} cannot be indexed \
             within archives.index",
            directory.end - directory.start
        );
        return Err(TreeError::new(Why::Limit, text));
    }
    let begin = length - bytes.len() as u64;
    let missing = directory.start..directory.end.min(begin).max(directory.start);
    let mut listed = read(state, missing.clone()).await?;
    // What the tail holds of it, which lies behind what was missing.
    let held = missing.end.max(begin) - begin..directory.end.max(begin) - begin;
    listed.extend_from_slice(bytes.get(held.start as usize..held.end as usize).unwrap_or_default());
    let limits = state.limits;
    let owner = state.clone();
    let worker = state.purse.enter().await;
    let sealed = blocking(move || {
        let index = zip::directory(&listed, &end, length, &limits)?;
        drop(listed);
        owner.room.fits(index.unpacked())?;
        let unusable = |error| disk("the files of the tree cannot be made", &error);
        // Empty still, but of the right length, which is a hole.
        let filled = owner.canopy.filled(index.contents()).map_err(unusable)?;
        let archive = owner.open_archive()?;
        let whole = Whole::new(index, directory.start, &filled, archive, &owner.canopy);
        let whole = whole.map_err(unusable)?;
        let index = whole.index.clone();
        // Whoever waits goes on, while it is written down.
        owner.publish(whole);
        Ok::<_, TreeError>(whole::seal(&index, directory.start))
    });
    save(state, sealed.await??, worker).await;
    Ok(())
}

/// Waits for bytes of the archive and reads them.
async fn read(state: &Arc<State>, range: Range<u64>) -> Result<Vec<u8>, TreeError> {
    state.blob.wait_for(range.clone(), FOR_EVER).await?;
    let archive = state.archive().await?;
    let read = blocking(move || {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        archive.read_exact_at(&mut bytes, range.start).map(|()| bytes)
    });
    read.await?.map_err(|error| disk("the archive cannot be read", &error))
}
