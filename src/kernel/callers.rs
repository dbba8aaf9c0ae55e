//! Callers die when told to.
//!
//! The FUSE library answers the kernel's INTERRUPT with ENOSYS, so a process that waits in open(2),
//! stat(2) or a direct read of ours would sit in state D, SIGKILL included, until it is answered.
//! Each request carries the thread id of its caller; a request that has waited for a while watches
//! `/proc/<tid>/status` for a signal that would end it, and is then answered with EINTR.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::fs::Refused;
use crate::metrics::Counters;

/// Most requests are answered sooner, and cost no look at /proc.
const PATIENCE: Duration = Duration::from_millis(200);

/// How often a waiting caller is looked at.
const EVERY: Duration = Duration::from_millis(50);

/// Signals that end a program. A caught SIGCHLD or SIGUSR1 must disturb no one.
const ENDING: [i32; 5] = [libc::SIGKILL, libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];

/// Watches over those who wait.
#[derive(Clone)]
pub(super) struct Callers {
    counters: Arc<Counters>,
    answer_within: Option<Duration>,
}

impl Callers {
    pub(super) fn new(counters: Arc<Counters>, answer_within: Option<Duration>) -> Callers {
        Callers { counters, answer_within }
    }

    /// Runs an operation until it ends, its caller is told to end, or the kernel would lose patience.
    pub(super) async fn watch<T>(
        self,
        tid: u32,
        operation: impl Future<Output = Result<T, Refused>>,
    ) -> Result<T, Refused> {
        let _waiting = self.counters.waiting.enter();
        tokio::select! {
            biased;
            result = operation => result,
            () = self.told_to_end(tid) => {
                Err(Refused::Interrupted)
            }
            waited = self.too_long() => {
                tracing::debug!(?waited, "a request was given up at the most this kernel allows");
                Err(Refused::TooLate)
            }
        }
    }

    async fn told_to_end(&self, tid: u32) {
        if tid == 0 {
            // Outside our pid namespace: nothing to look at.
            self.counters.unwatchable_caller.store(true, Ordering::Relaxed);
            return std::future::pending().await;
        }
        tokio::time::sleep(PATIENCE).await;
        let mut seen = false;
        loop {
            match look(tid) {
                Look::Ending => return,
                Look::Waiting => seen = true,
                // A thread that was there and is not any more; one never seen may be hidden from us
                // (hidepid of proc(5)).
                Look::Nobody if seen => return,
                Look::Nobody => self.counters.unwatchable_caller.store(true, Ordering::Relaxed),
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    async fn too_long(&self) -> Duration {
        match self.answer_within {
            Some(limit) => {
                tokio::time::sleep(limit).await;
                limit
            }
            None => std::future::pending().await,
        }
    }
}

/// What a look at a thread shows.
enum Look {
    /// A signal is pending that would end it.
    Ending,
    /// It waits.
    Waiting,
    /// No such thread is to be seen.
    Nobody,
}

fn look(tid: u32) -> Look {
    match std::fs::read_to_string(format!("/proc/{tid}/status")) {
        Ok(status) if ending(&status) => Look::Ending,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Look::Nobody,
        // ESRCH: it ended between open and read; the next look says so.
        Ok(_) | Err(_) => Look::Waiting,
    }
}

/// Reads the signal masks of a status file (proc_pid_status(5)): pending for the thread or its
/// process, and neither blocked nor ignored.
fn ending(status: &str) -> bool {
    let mask = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
            .unwrap_or(0)
    };
    let pending = (mask("SigPnd") | mask("ShdPnd")) & !mask("SigBlk") & !mask("SigIgn");
    ENDING.iter().any(|signal| pending & (1 << (signal - 1)) != 0)
}

#[cfg(test)]
mod tests {
    use super::ending;

    fn status(own: u64, shared: u64, blocked: u64, ignored: u64) -> String {
        format!(
            "Name:\tcat\nSigQ:\t0/1\nSigPnd:\t{own:016x}\nShdPnd:\t{shared:016x}\nSigBlk:\t{blocked:016x}\nSigIgn:\t{ignored:016x}\nSigCgt:\t0\n"
        )
    }

    fn bit(signal: i32) -> u64 {
        1 << (signal - 1)
    }

    #[test]
    fn only_signals_that_end_a_program_count() {
        for signal in super::ENDING {
            assert!(ending(&status(bit(signal), 0, 0, 0)));
            assert!(ending(&status(0, bit(signal), 0, 0)));
        }
        for signal in [libc::SIGCHLD, libc::SIGUSR1, libc::SIGALRM, libc::SIGWINCH] {
            assert!(!ending(&status(bit(signal), bit(signal), 0, 0)));
        }
    }

    #[test]
    fn blocked_and_ignored_signals_do_not() {
        assert!(!ending(&status(bit(libc::SIGINT), 0, bit(libc::SIGINT), 0)));
        assert!(!ending(&status(0, bit(libc::SIGTERM), 0, bit(libc::SIGTERM))));
        assert!(!ending(""));
    }
}
