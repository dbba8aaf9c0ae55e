//! Keeps a session thread awake for the request that follows at once.
//!
//! Waking a thread on an idle core takes longer than answering an open: on a virtual machine, whose
//! idle cores are left to the host, twice as long. Programs that open many files send their next
//! request within a few microseconds of an answer, so a thread that has answered looks for it a
//! little while before it sleeps in read(2). Where nothing came it looks ever more rarely, so what
//! trickles in costs nothing; and it yields between looks, so whatever else can run does.

use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crate::sys;

/// How long a vigil lasts: the time in which a program that reads file after file comes back, and
/// about what falling asleep and being woken costs.
const LASTS: Duration = Duration::from_micros(30);

/// How many answers are given without a vigil, at most, after vigils in vain.
const MOST_PASSED: u32 = 63;

/// How a session thread fared lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Luck {
    /// So many answers are still to be given without a vigil.
    pass: u32,
    /// So many were after the last vigil in vain; 0 after one that was worth it.
    passed: u32,
}

impl Luck {
    /// Says whether to look now, and what is known afterwards if so or not.
    fn look(self) -> (bool, Luck) {
        (self.pass == 0, Luck { pass: self.pass.saturating_sub(1), ..self })
    }

    /// Returns what is known after a vigil.
    fn after(self, came: bool) -> Luck {
        let passed = if came { 0 } else { (self.passed * 2 + 1).min(MOST_PASSED) };
        Luck { pass: passed, passed }
    }
}

thread_local! {
    static LUCK: Cell<Luck> = const { Cell::new(Luck { pass: 0, passed: 0 }) };
}

/// Watches the device of a mount.
pub(super) struct Vigil {
    device: OwnedFd,
}

impl Vigil {
    /// Watches `device`, another descriptor of the one that requests are read from.
    pub(super) fn over(device: OwnedFd) -> Vigil {
        Vigil { device }
    }

    /// Returns when the next request is there, or after a little while. For session threads, after
    /// an answer.
    pub(super) fn keep(&self) {
        let (look, luck) = LUCK.get().look();
        LUCK.set(if look { luck.after(self.next_comes()) } else { luck });
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vigils_in_vain_become_rare_and_one_that_was_worth_it_brings_them_back() {
        let mut luck = Luck::default();
        let mut between = Vec::new();
        for _ in 0..8 {
            let mut answers = 0;
            loop {
                let (look, next) = luck.look();
                luck = next;
                if look {
                    break;
                }
                answers += 1;
            }
            between.push(answers);
            luck = luck.after(false);
        }
        assert_eq!(between, [0, 1, 3, 7, 15, 31, 63, 63]);
        assert_eq!(luck.after(true), Luck::default());
        assert!(Luck::default().look().0);
    }

    #[test]
    fn a_vigil_ends_with_a_request_or_soon_without_one() {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let vigil = Vigil::over(reader.into());
        assert!(!vigil.next_comes());
        std::io::Write::write_all(&mut &writer, b"x").expect("write");
        assert!(vigil.next_comes());
        drop(writer);
        assert!(vigil.next_comes());
    }
}
