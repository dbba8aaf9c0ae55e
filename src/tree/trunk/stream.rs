//! The tar family: indexed and unpacked in one pass, while the bytes come.
//!
//! A thread reads the tar; a task waits for the archive's bytes and for room, and hands both on
//! through the [`gate`](super::gate). A member can be read once it has passed, and a large one while
//! it passes.

use std::convert::Infallible;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use super::gate::{Arriving, Asked, Gate};
use super::purse::Worker;
use super::sprout::{room_for, save_now};
use super::state::{State, apart};
use super::whole::{self, Whole};
use super::{decode, disk};
use crate::tree::error::{TreeError, Why};
use crate::tree::format::Format;
use crate::tree::index::{Builder, Content, ContentNo, Member, Packed, What};
use crate::tree::tar::{self, Sink};

/// How far ahead the archive is looked at for bytes that are present.
const LOOK: u64 = 64 << 20;

/// What is booked at a time.
const BOOKING: u64 = 8 << 20;

/// Places of the tree's file are multiples of this, and take whole ones.
const BLOCK: u64 = 4096;

/// Builds the index of a tar and unpacks it. All of the archive is wanted.
///
/// # Errors
/// It is damaged or passes a limit; its bytes do not come; there is no room; the disk failed.
pub(super) async fn build(state: &Arc<State>, format: Format) -> Result<(), TreeError> {
    state.blob.want_all();
    let gate = Arc::new(Gate::default());
    let _closes = Closes(gate.clone());
    let archive = state.archive().await?;
    let pass = Pass::default();
    pass.renew(state).await;
    let reading = {
        let (state, gate, pass) = (state.clone(), gate.clone(), pass.clone());
        apart(move || {
            let read = read(&state, &gate, format, archive);
            pass.give_back();
            // What the gate says comes first: a stream that ends early looks damaged as well.
            read.map_err(|error| gate.failure().unwrap_or(error))
        })
    };
    tokio::select! {
        read = reading => read?,
        never = feed(state, &gate) => match never {},
        never = fund(state, &gate, &pass) => match never {},
    }
}

/// The right of the thread to write, which it does without while it stands still.
#[derive(Clone, Default)]
struct Pass(Arc<Mutex<Option<Worker>>>);

impl Pass {
    async fn renew(&self, state: &State) {
        let worker = state.purse.enter().await;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(worker);
    }

    fn give_back(&self) {
        let worker = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(worker);
    }
}

/// Ends the thread when the task that feeds it ends.
struct Closes(Arc<Gate>);

impl Drop for Closes {
    fn drop(&mut self) {
        self.0.close(TreeError::new(Why::Broken, "the tree is not needed any more"));
    }
}

/// Says what of the archive is there.
async fn feed(state: &State, gate: &Gate) -> Infallible {
    let mut at = 0;
    loop {
        match state.there(at..at.saturating_add(LOOK)).await {
            Ok(range) if range.is_empty() => break gate.end(),
            Ok(range) => {
                at = range.end;
                gate.reach(at);
            }
            Err(error) => break gate.fail(error),
        }
    }
    std::future::pending().await
}

/// Books room as it is wanted. Where there is none the stream stands still: what has passed stays
/// readable, what was booked and not used is given back, and who wants more later has it go on.
async fn fund(state: &State, gate: &Gate, pass: &Pass) -> Infallible {
    let mut told = false;
    loop {
        let error = match gate.asked().await {
            Asked::Room(bytes) => {
                let worker = state.purse.enter().await;
                match state.purse.take(&worker, bytes).await {
                    Ok(()) => {
                        told = false;
                        gate.grant(bytes);
                        continue;
                    }
                    Err(error) if error.why.is_room() => error,
                    Err(error) => {
                        gate.fail(error);
                        std::future::pending().await
                    }
                }
            }
            Asked::Rest(error) => error,
        };
        if !std::mem::replace(&mut told, true) {
            state.room.failed(&error);
        }
        gate.lapse();
        pass.give_back();
        state.stand_still(error).await;
        pass.renew(state).await;
        gate.go_on();
    }
}

/// Reads the tar to its end. Blocks.
fn read(
    state: &State,
    gate: &Arc<Gate>,
    format: Format,
    archive: Arc<File>,
) -> Result<(), TreeError> {
    let unusable = |error| disk("the files of the tree cannot be made", &error);
    let plain = format == Format::Tar;
    let data = state.canopy.data().map_err(unusable)?;
    state.growth.begin(Builder::new(state.limits, state.blob.length()));
    let stream = decode::tar(format, Arriving::new(gate, archive.clone()))?;
    let measured = state.blob.length().is_some();
    let mut sieve = Sieve { state, gate, data: &data, plain, measured, current: None, booked: 0 };
    tar::read(stream, &mut sieve)?;
    sieve.measure()?;
    let builder = state.growth.with(Builder::clone);
    let builder = builder.ok_or_else(|| TreeError::new(Why::Disk, "the index is gone"))?;
    let index = builder.finish()?;
    state.room.fits(index.unpacked())?;
    let sealed = whole::seal(&index, 0);
    loop {
        gate.book(room_for(&sealed))?;
        if plain {
            break;
        }
        let Err(error) = state.canopy.fill_all(index.contents()) else {
            state.room.unpacked(index.contents());
            break;
        };
        rest(gate, unusable(error))?;
    }
    let whole = Whole::new(index, 0, &[], archive, &state.canopy).map_err(unusable)?;
    state.publish(whole);
    save_now(state, &sealed);
    Ok(())
}

/// Stands still where others have filled the disk; nothing is booked any more after. Blocks.
///
/// # Errors
/// Any other error, and that the stream has failed.
fn rest(gate: &Gate, error: TreeError) -> Result<(), TreeError> {
    if error.why.is_room() { gate.stand_still(error) } else { Err(error) }
}

/// Takes the members of a tar: into the index, and their bytes into the tree's file.
struct Sieve<'a> {
    state: &'a State,
    gate: &'a Gate,
    data: &'a File,
    /// The members' bytes stay where they are.
    plain: bool,
    /// The index knows the length of the archive.
    measured: bool,
    /// The content whose bytes come.
    current: Option<Current>,
    /// Room that was booked and is not used.
    booked: u64,
}

struct Current {
    no: ContentNo,
    content: Content,
    written: u64,
}

impl Sieve<'_> {
    /// Says whether anybody wants the tree still: of an archive whose bytes are all there, nothing
    /// else tells before its end.
    fn go_on(&self) -> Result<(), TreeError> {
        match self.state.is_stopped() {
            true => Err(TreeError::new(Why::Broken, "the tree is not needed any more")),
            false => Ok(()),
        }
    }

    /// Tells the index the length of an archive that did not announce it, once that has come.
    fn measure(&mut self) -> Result<(), TreeError> {
        if self.measured {
            return Ok(());
        }
        let Some(length) = self.state.blob.length() else { return Ok(()) };
        self.measured = true;
        self.state.growth.change(|builder| builder.measured(length)).unwrap_or(Ok(()))
    }

    /// Books what the next content takes at most, in parts.
    fn book(&mut self, bytes: u64) -> Result<(), TreeError> {
        if self.booked < bytes {
            let more = BOOKING.max(bytes);
            if self.gate.book(more)? {
                self.booked = 0;
            }
            self.booked += more;
        }
        self.booked -= bytes;
        Ok(())
    }
}

impl Sink for Sieve<'_> {
    fn member(&mut self, member: &Member<'_>) -> Result<(), TreeError> {
        self.go_on()?;
        self.measure()?;
        let mut member = member.clone();
        let is_file = if let What::File { packed, .. } = &mut member.what {
            if !self.plain {
                *packed = Packed::Streamed;
            }
            true
        } else {
            false
        };
        let added = self.state.growth.change(|builder| {
            let node = builder.add(&member)?.filter(|_| is_file);
            let no = node.and_then(|node| builder.content_of(node));
            Ok::<_, TreeError>(no.and_then(|no| Some((no, builder.content(no)?))))
        });
        let current = added.unwrap_or(Ok(None))?.filter(|_| !self.plain);
        self.current = current.map(|(no, content)| Current { no, content, written: 0 });
        self.state.tell();
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), TreeError> {
        self.go_on()?;
        self.measure()?;
        let Some(mut current) = self.current.take() else { return Ok(()) };
        let after = current.written + bytes.len() as u64;
        let blocks = |bytes: u64| bytes.next_multiple_of(BLOCK);
        loop {
            self.book(blocks(after) - blocks(current.written))?;
            let written = self.data.write_all_at(bytes, current.content.at + current.written);
            let Err(error) = written else { break };
            rest(self.gate, disk("what is unpacked cannot be written", &error))?;
            self.booked = 0;
        }
        current.written = after;
        self.state.growth.wrote(after);
        self.state.tell();
        self.current = Some(current);
        Ok(())
    }

    fn end(&mut self) -> Result<(), TreeError> {
        if let Some(current) = self.current.take() {
            self.state.growth.pass(current.no);
            self.state.tell();
        }
        Ok(())
    }
}
