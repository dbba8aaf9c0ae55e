//! Between the task that waits for the bytes of a stream and the thread that unpacks it: the thread
//! waits here, and never for anything of the runtime.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::disk;
use crate::tree::error::TreeError;

/// How far a stream has come, and what may be written of it.
#[derive(Default)]
pub(super) struct Gate {
    inner: Mutex<Inner>,
    /// Told to the thread when something of it has changed.
    moved: Condvar,
    /// Told to the task when room is wanted.
    asked: Notify,
}

#[derive(Default)]
struct Inner {
    /// Every byte before this one is there.
    reached: u64,
    /// No more will come.
    ended: bool,
    failed: Option<TreeError>,
    /// Nobody wants anything of it any more, also of what is there.
    closed: bool,
    /// Room that was booked and not taken.
    granted: u64,
    /// Room that the thread waits for.
    wanted: u64,
    /// What was given and is not used was taken back.
    lapsed: bool,
    /// Why the thread stands still, until it is to go on.
    rests: Option<TreeError>,
}

/// What the thread wants of the task.
pub(super) enum Asked {
    /// So much room.
    Room(u64),
    /// To be told when to try again what there was no room for.
    Rest(TreeError),
}

impl Gate {
    /// Says that every byte before `to` is there.
    pub(super) fn reach(&self, to: u64) {
        self.change(|inner| inner.reached = to);
    }

    /// Says that no more will come.
    pub(super) fn end(&self) {
        self.change(|inner| inner.ended = true);
    }

    /// Ends the thread with an error, once it has read what is there; the first one stays.
    pub(super) fn fail(&self, error: TreeError) {
        self.change(|inner| inner.failed = inner.failed.take().or(Some(error)));
    }

    /// As [`fail`](Gate::fail), and what is there is not read any more either.
    pub(super) fn close(&self, error: TreeError) {
        self.change(|inner| {
            inner.closed = true;
            inner.failed = inner.failed.take().or(Some(error));
        });
    }

    /// Returns why it failed, if it was closed.
    fn closed(&self) -> Option<TreeError> {
        let inner = self.lock();
        inner.failed.clone().filter(|_| inner.closed)
    }

    /// Returns why it failed, if so.
    pub(super) fn failure(&self) -> Option<TreeError> {
        self.lock().failed.clone()
    }

    /// Waits until something is wanted, and returns what.
    pub(super) async fn asked(&self) -> Asked {
        loop {
            let (rests, wanted) = {
                let inner = self.lock();
                (inner.rests.clone(), inner.wanted.saturating_sub(inner.granted))
            };
            match rests {
                Some(error) => return Asked::Rest(error),
                None if wanted > 0 => return Asked::Room(wanted),
                None => {}
            }
            // A word that came since the look is kept.
            self.asked.notified().await;
        }
    }

    /// Gives room.
    pub(super) fn grant(&self, bytes: u64) {
        self.change(|inner| inner.granted += bytes);
    }

    /// Takes back what room was given and is not used. For while the thread waits for more.
    pub(super) fn lapse(&self) {
        self.lock().lapsed = true;
    }

    /// Takes room, waiting until it is given. Returns whether what was taken before and is not used
    /// has lapsed meanwhile. Blocks.
    ///
    /// # Errors
    /// There is none, or the stream has failed.
    pub(super) fn book(&self, bytes: u64) -> Result<bool, TreeError> {
        let mut inner = self.lock();
        loop {
            if let Some(left) = inner.granted.checked_sub(bytes) {
                inner.granted = left;
                inner.wanted = 0;
                return Ok(std::mem::take(&mut inner.lapsed));
            }
            if let Some(error) = &inner.failed {
                return Err(error.clone());
            }
            inner.wanted = bytes;
            self.asked.notify_one();
            inner = self.moved.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Stands still until there may be room again. Blocks.
    ///
    /// # Errors
    /// The stream has failed.
    pub(super) fn stand_still(&self, error: TreeError) -> Result<(), TreeError> {
        let mut inner = self.lock();
        inner.rests = Some(error);
        self.asked.notify_one();
        while inner.rests.is_some() {
            if let Some(error) = &inner.failed {
                return Err(error.clone());
            }
            inner = self.moved.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    /// Has the thread go on that stands still.
    pub(super) fn go_on(&self) {
        self.change(|inner| inner.rests = None);
    }

    /// Waits for a byte behind `at`, and returns how far they reach; `at` at the end. Blocks.
    fn past(&self, at: u64) -> Result<u64, TreeError> {
        let mut inner = self.lock();
        loop {
            if inner.reached > at {
                return Ok(inner.reached);
            }
            if inner.ended {
                return Ok(at);
            }
            if let Some(error) = &inner.failed {
                return Err(error.clone());
            }
            inner = self.moved.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn change(&self, change: impl FnOnce(&mut Inner)) {
        change(&mut self.lock());
        self.moved.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bytes of an archive in their order, as they come.
pub(super) struct Arriving {
    gate: Arc<Gate>,
    archive: Arc<File>,
    at: u64,
    reached: u64,
}

impl Arriving {
    pub(super) fn new(gate: &Arc<Gate>, archive: Arc<File>) -> Arriving {
        Arriving { gate: gate.clone(), archive, at: 0, reached: 0 }
    }
}

impl Read for Arriving {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.reached {
            self.reached = self.gate.past(self.at).map_err(io::Error::other)?;
        }
        // Some bytes unpack to nothing, so that the decoder asks for more of them for long.
        if let Some(error) = self.gate.closed() {
            return Err(io::Error::other(error));
        }
        let there = usize::try_from(self.reached - self.at).unwrap_or(usize::MAX);
        let room = buffer.len().min(there);
        if room == 0 {
            return Ok(0);
        }
        // What is wrong with the disk is not to be taken for damage of the archive.
        let unreadable =
            |error: &io::Error| io::Error::other(disk("the archive cannot be read", error));
        let read = self.archive.read_at(&mut buffer[..room], self.at);
        let read = read.map_err(|error| unreadable(&error))?;
        if read == 0 {
            return Err(unreadable(&io::ErrorKind::UnexpectedEof.into()));
        }
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::error::Why;

    fn no_room() -> TreeError {
        TreeError::new(Why::NoRoom, "the disk is full")
    }

    #[tokio::test]
    async fn who_stands_still_goes_on_when_told_to_and_books_anew() {
        let gate = Arc::new(Gate::default());
        let thread = tokio::task::spawn_blocking({
            let gate = gate.clone();
            move || {
                gate.stand_still(no_room())?;
                gate.book(10)
            }
        });
        assert!(matches!(gate.asked().await, Asked::Rest(error) if error.why == Why::NoRoom));
        gate.lapse();
        gate.go_on();
        assert!(matches!(gate.asked().await, Asked::Room(10)));
        gate.grant(10);
        assert!(thread.await.unwrap().unwrap(), "what was booked before has lapsed");
    }

    #[tokio::test]
    async fn who_stands_still_ends_with_the_stream() {
        let gate = Arc::new(Gate::default());
        let thread = tokio::task::spawn_blocking({
            let gate = gate.clone();
            move || gate.stand_still(no_room())
        });
        assert!(matches!(gate.asked().await, Asked::Rest(_)));
        gate.fail(TreeError::new(Why::Broken, "the tree is not needed any more"));
        assert_eq!(thread.await.unwrap().unwrap_err().why, Why::Broken);
    }
}
