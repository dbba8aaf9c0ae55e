//! Waiting for origins that answer at once, without falling asleep.
//!
//! An origin on this host or in this rack answers in the time that falling asleep and being woken
//! takes. So the task that asks stays awake for a little while, looking and yielding in turn: what
//! else the runtime has to do goes on in between. Where the answer did not come meanwhile, that is
//! tried ever more rarely; origins that are further away are waited for asleep.

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use url::{Origin as UrlOrigin, Url};

use crate::luck::{Luck, within};

/// How long a question is waited for awake.
const AWAKE: Duration = Duration::from_micros(70);

/// Remembers, by scheme, host and port of the configured URL, how staying awake fared.
#[derive(Debug, Default)]
pub(super) struct Near {
    /// Locked alone, and never across a wait.
    origins: Mutex<HashMap<UrlOrigin, Luck>>,
}

impl Near {
    /// Waits for an answer to a question about a configured URL, wherever that was redirected to:
    /// what redirects name is not remembered, as it has no bound.
    pub(super) async fn wait<F: Future>(&self, configured: &Url, answer: F) -> F::Output {
        let mut answer = pin!(answer);
        let origin = configured.origin();
        if self.with(&origin, Luck::stay) {
            let came = within(AWAKE, |context| answer.as_mut().poll(context)).await;
            self.with(&origin, |luck| luck.fared(came.is_some()));
            if let Some(answer) = came {
                return answer;
            }
        }
        answer.await
    }

    fn with<T>(&self, origin: &UrlOrigin, change: impl FnOnce(&mut Luck) -> T) -> T {
        let mut origins = self.origins.lock().unwrap_or_else(PoisonError::into_inner);
        match origins.get_mut(origin) {
            Some(luck) => change(luck),
            None => change(origins.entry(origin.clone()).or_insert(Luck::NEW)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn origins_that_are_not_near_are_soon_waited_for_asleep() {
        let near = Near::default();
        let (here, far) = ("http://here/a", "http://far/a");
        let [here, far] = [here, far].map(|url| Url::parse(url).expect("a URL"));
        let stays = |url: &Url| near.with(&url.origin(), |luck| Luck::stay(&mut { *luck }));
        assert!(stays(&far));
        let begin = Instant::now();
        near.wait(&far, tokio::time::sleep(Duration::from_millis(20))).await;
        assert!(begin.elapsed() >= Duration::from_millis(20), "it came before its time");
        assert!(!stays(&far));
        assert_eq!(near.wait(&here, async { 7 }).await, 7);
        assert!(stays(&here));
        // Passed over once, and tried again.
        near.wait(&far, async {}).await;
        assert!(stays(&far));
    }
}
