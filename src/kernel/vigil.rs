//! Keeps a session thread awake for the request that follows at once.
//!
//! Waking a thread on an idle core takes longer than answering an open: on a virtual machine, whose
//! idle cores are left to the host, several times as long. Programs that open many files send their
//! next request within a few microseconds of an answer, so a thread that has answered looks for it
//! a little while before it sleeps in read(2). Where nothing came it looks ever more rarely, so
//! what trickles in costs nothing; and it yields between looks, so whatever else can run does.

use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crate::luck::Luck;
use crate::sys;

/// How long a vigil lasts: the time in which a program that reads file after file comes back, and
/// about what falling asleep and being woken costs.
const LASTS: Duration = Duration::from_micros(30);

thread_local! {
    /// How the session thread fared. A request that the other thread took counts as well.
    static LUCK: Cell<Luck> = const { Cell::new(Luck::NEW) };
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
    /// an answer to what programs ask many times in a row.
    pub(super) fn keep(&self) {
        let mut luck = LUCK.get();
        if luck.stay() {
            luck.fared(self.next_comes());
        }
        LUCK.set(luck);
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
    use std::io::{Read as _, Write as _};

    use super::*;

    #[test]
    fn a_vigil_ends_with_a_request_or_an_error_or_else_without() {
        let (mut reader, mut writer) = std::io::pipe().expect("a pipe");
        let vigil = Vigil::over(reader.try_clone().expect("a descriptor").into());
        assert!(!vigil.next_comes());
        writer.write_all(b"x").expect("write");
        assert!(vigil.next_comes());
        reader.read_exact(&mut [0]).expect("read");
        assert!(!vigil.next_comes());
        drop(writer);
        assert!(vigil.next_comes());
    }
}
