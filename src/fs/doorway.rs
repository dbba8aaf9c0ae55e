//! The root directory, as LOOKUPs that wait and notifications pass through it.
//!
//! A LOOKUP of a name that the kernel knows already holds no lock while it waits; a cold one does,
//! and a notification for the directory then waits for it. Which of the two a LOOKUP is shows only
//! in hints. So whoever waits gives way once a notification does not come through.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// How long a notification takes at most while nobody is in its way.
const PASSES_WITHIN: Duration = Duration::from_millis(100);

/// Counts the notifications for the root.
#[derive(Clone, Copy, Default)]
struct Passing {
    begun: u64,
    done: u64,
}

/// The door between the two.
#[derive(Default)]
pub struct Doorway(watch::Sender<Passing>);

/// A notification under way; dropped, it is through.
pub struct Passage<'a>(&'a Doorway);

impl Doorway {
    /// Notes that a notification for the root begins.
    pub fn enter(&self) -> Passage<'_> {
        self.0.send_modify(|passing| passing.begun += 1);
        Passage(self)
    }

    /// Waits until a notification is held up.
    pub(super) async fn blocked(&self) {
        let mut passing = self.0.subscribe();
        loop {
            // The sender lives as long as `self`.
            let Ok(seen) = passing.wait_for(|now| now.begun > now.done).await.map(|now| *now)
            else {
                return std::future::pending().await;
            };
            let through = passing.wait_for(|now| now.done > seen.done);
            if timeout(PASSES_WITHIN, through).await.is_err() {
                return;
            }
        }
    }
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        self.0.0.send_modify(|passing| passing.done += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_gives_way_to_a_notification_that_is_held_up_and_to_no_other() {
        let doorway = Doorway::default();
        let long = PASSES_WITHIN * 3;
        assert!(timeout(long, doorway.blocked()).await.is_err(), "nothing is under way");
        let busy = async {
            for _ in 0..100 {
                let passage = doorway.enter();
                tokio::time::sleep(PASSES_WITHIN / 20).await;
                drop(passage);
            }
        };
        tokio::select! {
            () = busy => {}
            () = doorway.blocked() => panic!("all came through"),
        }
        let _held_up = doorway.enter();
        assert!(timeout(PASSES_WITHIN * 2, doorway.blocked()).await.is_ok());
    }
}
