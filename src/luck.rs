//! Staying awake for what may come at once, and whether that is worth it.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// How many times in a row it is not tried, at most, after it was in vain.
const MOST_PASSED: u32 = 63;

/// Remembers how staying awake fared. Where nothing came it is tried ever more rarely, one time in
/// 64 in the end; where something did, every time again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Luck {
    /// So many times are still to be passed over.
    pass: u32,
    /// So many were after the last try in vain; 0 after one that was worth it.
    passed: u32,
}

impl Luck {
    /// Nothing is known yet.
    pub const NEW: Luck = Luck { pass: 0, passed: 0 };

    /// Says whether to stay awake this time, and counts the time where not.
    pub fn stay(&mut self) -> bool {
        let stay = self.pass == 0;
        self.pass = self.pass.saturating_sub(1);
        stay
    }

    /// Notes whether something came to one that stayed awake.
    pub fn fared(&mut self, came: bool) {
        self.passed = if came { 0 } else { (self.passed * 2 + 1).min(MOST_PASSED) };
        self.pass = self.passed;
    }
}

/// Looks until something is there, or for about as long as `lasts`. Between looks the runtime goes
/// on with whatever else can run, and looks at its sockets; its other threads are not woken.
pub async fn within<T>(
    lasts: Duration,
    mut look: impl FnMut(&mut Context<'_>) -> Poll<T>,
) -> Option<T> {
    let begin = Instant::now();
    loop {
        if let Poll::Ready(there) = poll_fn(|context| Poll::Ready(look(context))).await {
            return Some(there);
        }
        if begin.elapsed() > lasts {
            return None;
        }
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_vain_becomes_rare_and_once_it_is_not_it_is_done_every_time() {
        let mut luck = Luck::NEW;
        let between: Vec<usize> = (0..8)
            .map(|_| {
                let passed = (0..).take_while(|_| !luck.stay()).count();
                luck.fared(false);
                passed
            })
            .collect();
        assert_eq!(between, [0, 1, 3, 7, 15, 31, 63, 63]);
        luck.fared(true);
        assert!((0..100).all(|_| luck.stay()));
    }
}
