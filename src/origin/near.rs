//! Waiting for origins that answer at once, without falling asleep.
//!
//! An origin on this host or in this rack answers in the time that falling asleep and being woken
//! takes. Where the last answer came about so fast, the task that asked looks again and again for
//! a little while, so that its thread stays awake; what else the runtime has to do goes on in
//! between. Origins further away are waited for asleep.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

/// How long a thread stays awake for an answer.
const AWAKE: Duration = Duration::from_micros(70);

/// An answer within this would have come within [`AWAKE`] to a thread that was.
const NEAR: Duration = Duration::from_micros(300);

/// Knows whether the last answer came from near.
#[derive(Debug, Default)]
pub(super) struct Near {
    last: AtomicBool,
}

impl Near {
    /// Waits for an answer.
    pub(super) async fn wait<F: Future>(&self, answer: F) -> F::Output {
        let begin = Instant::now();
        let mut answer = pin!(answer);
        let mut awake = self.last.load(Ordering::Relaxed);
        poll_fn(|context| {
            let polled = answer.as_mut().poll(context);
            match polled {
                Poll::Ready(_) => self.last.store(begin.elapsed() < NEAR, Ordering::Relaxed),
                Poll::Pending => {
                    awake = awake && begin.elapsed() < AWAKE;
                    if awake {
                        context.waker().wake_by_ref();
                    }
                }
            }
            polled
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    /// Waits so long for an answer; returns how often it was looked for.
    async fn looks(near: &Near, comes: Duration) -> u32 {
        let polls = AtomicU32::new(0);
        let mut sleep = pin!(tokio::time::sleep(comes));
        let answer = poll_fn(|context| {
            polls.fetch_add(1, Ordering::Relaxed);
            sleep.as_mut().poll(context)
        });
        near.wait(answer).await;
        polls.into_inner()
    }

    #[tokio::test]
    async fn only_near_origins_are_waited_for_awake_and_not_for_long() {
        let near = Near::default();
        // Nothing is known yet.
        assert!(looks(&near, Duration::from_millis(20)).await <= 3);
        near.wait(async {}).await;
        let begin = Instant::now();
        assert!(looks(&near, Duration::from_millis(20)).await > 3);
        assert!(begin.elapsed() >= Duration::from_millis(20));
        // That one was not near.
        assert!(looks(&near, Duration::from_millis(20)).await <= 3);
    }
}
