//! Keeps one session thread awake for the request that follows at once, and the others out of its
//! way.
//!
//! Waking a thread on an idle core takes longer than answering an open: on a virtual machine, whose
//! idle cores are left to the host, several times as long. Programs that open many files send their
//! next request within a few microseconds of an answer, so a thread that has answered looks for it
//! a little while before it sleeps in read(2). Where nothing came it looks ever more rarely, so
//! what trickles in costs nothing; and it yields between looks, so whatever else can run does.
//!
//! One thread does that, the one that leads. Each request wakes whoever sleeps in read(2), though
//! the leader takes it before they have come awake; so while requests come in a row the others do
//! not sleep there but rest. A rest ends when the leader begins something long, or has not been
//! back for a moment: then it reads, or it is in a page fault or waits for a disk, and another must
//! be in read(2), and leads from then on. So no request waits for a busy leader much longer than
//! twice [`REST`].

use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use crate::luck::Luck;
use crate::sys;

/// How long a vigil lasts: the time in which a program that reads file after file comes back, and
/// about what falling asleep and being woken costs.
const LASTS: Duration = Duration::from_micros(30);

/// How long a leader that rests nobody leaves a request to those who sleep in read(2), so that they
/// come to rest: about what being woken takes.
const LEFT: Duration = Duration::from_micros(30);

/// After how long those who rest look whether the leader was back meanwhile.
const REST: Duration = Duration::from_millis(1);

thread_local! {
    /// How the session thread fared. A request that another thread took counts as well.
    static LUCK: Cell<Luck> = const { Cell::new(Luck::NEW) };
}

/// Watches the device of a mount.
pub(super) struct Vigil {
    device: OwnedFd,
    /// A leaf: held for a few instructions, and never across a system call but the wait for it.
    row: Mutex<Row>,
    over: Condvar,
}

/// Requests that come one upon the other.
#[derive(Default)]
struct Row {
    /// Who keeps the vigil, or is about to come back to it.
    leader: Option<ThreadId>,
    /// So often came it back.
    returns: u32,
    /// So many rest.
    resting: u32,
    /// So often was one of them called.
    calls: u32,
}

impl Vigil {
    /// Watches `device`, another descriptor of the one that requests are read from.
    pub(super) fn over(device: OwnedFd) -> Vigil {
        Vigil { device, row: Mutex::default(), over: Condvar::new() }
    }

    /// Returns when the next request is there, or after a little while. For session threads, after
    /// an answer to what programs ask many times in a row.
    pub(super) fn keep(&self) {
        let me = std::thread::current().id();
        let mut row = self.row();
        if row.leader.is_some_and(|leader| leader != me) {
            self.rest(row);
            return;
        }
        let mut luck = LUCK.get();
        let stay = luck.stay();
        LUCK.set(luck);
        if !stay {
            row.leader = None;
            return;
        }
        let alone = row.leader.is_none() && row.resting == 0;
        row.leader = Some(me);
        row.returns = row.returns.wrapping_add(1);
        drop(row);
        let mut came = self.next_comes();
        luck.fared(came);
        LUCK.set(luck);
        if came && alone {
            self.leave();
            came = self.next_comes();
        }
        if !came {
            self.give_up();
        }
    }

    /// Leads no longer. For a session thread whose request is answered later, by others.
    pub(super) fn give_up(&self) {
        let mut row = self.row();
        if row.leader == Some(std::thread::current().id()) {
            row.leader = None;
        }
    }

    /// Lets another session thread read requests. For the leader, before something that takes long.
    pub(super) fn step_aside(&self) {
        let mut row = self.row();
        let me = std::thread::current().id();
        if row.leader.is_some_and(|leader| leader != me) {
            return;
        }
        row.leader = None;
        let rests = row.resting > 0;
        row.calls = row.calls.wrapping_add(u32::from(rests));
        drop(row);
        if rests {
            self.over.notify_one();
        }
    }

    fn next_comes(&self) -> bool {
        let begin = Instant::now();
        loop {
            // An error counts as well: the read that follows meets it.
            if sys::readable(&self.device) {
                return true;
            }
            if begin.elapsed() > LASTS {
                return false;
            }
            std::thread::yield_now();
        }
    }

    /// Leaves the request that is there to another thread, if one takes it.
    fn leave(&self) {
        let begin = Instant::now();
        while begin.elapsed() < LEFT && self.row().resting == 0 && sys::readable(&self.device) {
            std::thread::yield_now();
        }
    }

    /// Rests; returns whether it was called.
    fn rest(&self, mut row: MutexGuard<'_, Row>) -> bool {
        row.resting += 1;
        let calls = row.calls;
        let called = loop {
            let returns = row.returns;
            let rested = self.over.wait_timeout(row, REST);
            row = rested.unwrap_or_else(PoisonError::into_inner).0;
            if row.calls != calls {
                break true;
            }
            if row.returns == returns {
                // Who leads now is whoever answers next: not one that is stuck.
                row.leader = None;
                break false;
            }
        };
        row.resting -= 1;
        called
    }

    fn row(&self) -> MutexGuard<'_, Row> {
        self.row.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
#[cfg(test)]
mod tests {
    use std::io::{PipeReader, PipeWriter, Read as _, Write as _, pipe};
    use std::thread;

    use super::*;

    fn over_a_pipe() -> (Vigil, PipeReader, PipeWriter) {
        let (reader, writer) = pipe().expect("a pipe");
        (Vigil::over(reader.try_clone().expect("a descriptor").into()), reader, writer)
    }

    /// Keeps a vigil of another thread while `leader` says whether this one should stop leading,
    /// and returns how long it took.
    fn rests_while(vigil: &Vigil, mut leader: impl FnMut() -> bool) -> Duration {
        vigil.row().leader = Some(thread::current().id());
        thread::scope(|scope| {
            let begin = Instant::now();
            let other = scope.spawn(|| vigil.keep());
            while !other.is_finished() && !leader() {}
            other.join().expect("no panic");
            begin.elapsed()
        })
    }

    #[test]
    fn a_vigil_ends_with_a_request_or_an_error_or_else_without() {
        let (vigil, mut reader, mut writer) = over_a_pipe();
        assert!(!vigil.next_comes());
        writer.write_all(b"x").expect("write");
        assert!(vigil.next_comes());
        reader.read_exact(&mut [0]).expect("read");
        assert!(!vigil.next_comes());
        drop(writer);
        assert!(vigil.next_comes());
    }

    #[test]
    fn who_keeps_a_vigil_leads_for_as_long_as_requests_come() {
        let (vigil, mut reader, mut writer) = over_a_pipe();
        let me = Some(thread::current().id());
        writer.write_all(b"x").expect("write");
        vigil.keep();
        assert_eq!(vigil.row().leader, me);
        vigil.keep();
        assert_eq!(vigil.row().leader, me);
        assert_eq!(vigil.row().returns, 2);
        reader.read_exact(&mut [0]).expect("read");
        vigil.keep();
        assert_eq!(vigil.row().leader, None, "nothing came");
        // Not every time is one tried now; who does not stay awake does not lead either.
        vigil.keep();
        assert_eq!(vigil.row().leader, None);
    }

    #[test]
    fn a_rest_ends_when_the_leader_is_not_back() {
        let (vigil, _reader, _writer) = over_a_pipe();
        assert!(rests_while(&vigil, || true) >= REST);
        assert_eq!(vigil.row().resting, 0);
    }

    #[test]
    fn whose_leader_is_not_back_leads_next() {
        let (vigil, _reader, mut writer) = over_a_pipe();
        writer.write_all(b"x").expect("write");
        vigil.row().leader = Some(thread::spawn(|| {}).thread().id());
        vigil.keep();
        assert_eq!(vigil.row().leader, None, "it rested");
        vigil.keep();
        assert_eq!(vigil.row().leader, Some(thread::current().id()));
        vigil.give_up();
        assert_eq!(vigil.row().leader, None);
    }

    #[test]
    fn a_rest_lasts_while_the_leader_comes_back_and_ends_when_it_steps_aside() {
        let (vigil, _reader, _writer) = over_a_pipe();
        vigil.row().leader = Some(thread::current().id());
        thread::scope(|scope| {
            let other = scope.spawn(|| vigil.rest(vigil.row()));
            let begin = Instant::now();
            while begin.elapsed() < REST * 50 {
                vigil.row().returns += 1;
                thread::sleep(REST / 20);
            }
            // On a machine too busy to come back in time the rest may end early, and rightly so.
            let early = other.is_finished();
            vigil.step_aside();
            assert!(early || other.join().expect("no panic"), "it was not called");
        });
        assert_eq!(vigil.row().resting, 0);
    }

    #[test]
    fn only_the_leader_steps_aside() {
        let (vigil, _reader, _writer) = over_a_pipe();
        let other = thread::spawn(|| {}).thread().id();
        vigil.row().leader = Some(other);
        vigil.step_aside();
        assert_eq!(vigil.row().leader, Some(other));
    }
}
