//! The memory of origins that could not be connected to.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use url::{Origin as UrlOrigin, Url};

use super::FailureKind;
use super::breaker::{Asker, Breaker, Rules, Verdict};
use super::fault::Fault;
use super::retry::Hope;

/// How long an origin is remembered after its last failure, when nobody asks for it any more.
const FORGET: Duration = Duration::from_secs(60);

/// The breakers of all origins (scheme, host, port) that could not be connected to and have not
/// answered since.
#[derive(Debug)]
pub(super) struct Dead {
    rules: Rules,
    /// False while the map is empty: then nothing is locked or computed.
    any: AtomicBool,
    seen: Mutex<HashMap<UrlOrigin, Known>>,
}

/// What is known of one origin.
#[derive(Debug)]
struct Known {
    breaker: Breaker,
    concerns: Concerns,
    /// It has answered for other URLs since, so it is there.
    answers: bool,
}

/// Which URLs of an origin the failures tell of.
#[derive(Debug)]
enum Concerns {
    /// Those with one of these paths: connections were made, and ended before an answer began. That
    /// may be the fault of what was asked for.
    Paths(Vec<Box<str>>),
    /// All: a connection could not be made, or ended for many.
    All,
}

impl Concerns {
    fn hold(&self, url: &Url) -> bool {
        match self {
            Concerns::Paths(paths) => paths.iter().any(|path| **path == *url.path()),
            Concerns::All => true,
        }
    }

    /// Notes that the connection for a URL has ended.
    fn add(&mut self, url: &Url) {
        if let Concerns::Paths(paths) = self
            && !paths.iter().any(|path| **path == *url.path())
        {
            paths.push(url.path().into());
        }
    }

    fn are_some(&self) -> bool {
        matches!(self, Concerns::Paths(_))
    }

    /// Says whether they are so many that it is the origin which does not answer.
    fn are_many(&self, many: u32) -> bool {
        matches!(self, Concerns::Paths(paths) if paths.len() >= many as usize)
    }
}

impl Dead {
    /// Starts with no origin known.
    pub(super) fn new(rules: Rules) -> Dead {
        Dead { rules, any: AtomicBool::new(false), seen: Mutex::default() }
    }

    /// Lets a request for a URL pass, or says why not.
    ///
    /// # Errors
    /// See [`Breaker::admit`].
    pub(super) fn admit(&self, url: &Url, asker: Asker, now: Instant) -> Result<(), Verdict> {
        if !self.any.load(Relaxed) {
            return Ok(());
        }
        match self.lock().get_mut(&url.origin()) {
            Some(known) if known.concerns.hold(url) => known.breaker.admit(asker, &self.rules, now),
            _ => Ok(()),
        }
    }

    /// Notes how a request failed that brought no head; `on_kept` says that no connection was made
    /// for it.
    pub(super) fn failed(&self, url: &Url, fault: &Fault, on_kept: bool, now: Instant) {
        match (fault.hope, fault.kind) {
            // A kept connection that ends says nothing of new ones.
            (Hope::Reset, _) if on_kept => {}
            (Hope::Reset, _) => self.count(url, &fault.text, true, now),
            (Hope::Connect, _) => self.count(url, &fault.text, false, now),
            // Somebody is there.
            (_, FailureKind::Tls | FailureKind::BadAnswer) => self.clear(url),
            // Silence does not tell an origin from a network that swallows everything.
            _ => {}
        }
    }

    fn count(&self, url: &Url, why: &str, ended: bool, now: Instant) {
        let origin = url.origin();
        let mut seen = self.lock();
        seen.retain(|_, known| known.breaker.age(now) < FORGET);
        let begun = || Known {
            breaker: Breaker::new(why, &self.rules, now),
            concerns: if ended { Concerns::Paths(Vec::new()) } else { Concerns::All },
            answers: false,
        };
        let (known, mut opened) = match seen.entry(origin.clone()) {
            // What is known of some URLs says nothing of whether connections can be made.
            Entry::Occupied(known) if !ended && known.get().concerns.are_some() => {
                let known = known.into_mut();
                *known = begun();
                let opened = known.breaker.is_open();
                (known, opened)
            }
            Entry::Occupied(known) => {
                let known = known.into_mut();
                let opened = known.breaker.failed(why, &self.rules, now);
                (known, opened)
            }
            Entry::Vacant(vacant) => {
                let known = vacant.insert(begun());
                let opened = known.breaker.is_open();
                (known, opened)
            }
        };
        known.concerns.add(url);
        if known.concerns.are_many(self.rules.after) && !known.answers {
            known.concerns = Concerns::All;
            opened = known.breaker.is_open();
        }
        let some = known.concerns.are_some();
        self.any.store(true, Relaxed);
        drop(seen);
        let origin = origin.ascii_serialization();
        match (opened, some) {
            (false, _) => {}
            (true, false) => {
                tracing::warn!(
                    origin,
                    why,
                    "the origin is away: it is asked now and then only, until it answers"
                );
            }
            (true, true) => {
                tracing::warn!(
                    origin,
                    why,
                    "the origin does not answer for a URL: it is asked for that now and then only"
                );
            }
        }
    }

    /// Notes that a question to an origin was given up because no connection came about.
    pub(super) fn gave_up(&self, url: &Url, now: Instant) {
        if let Some(known) = self.lock().get_mut(&url.origin()) {
            known.breaker.gave_up(&self.rules, now);
        }
    }

    /// Forgets an origin that has answered; not what is known of other URLs than this.
    pub(super) fn clear(&self, url: &Url) {
        if !self.any.load(Relaxed) {
            return;
        }
        let mut seen = self.lock();
        if let Some(known) = seen.get_mut(&url.origin())
            && !known.concerns.hold(url)
            && known.breaker.age(Instant::now()) < FORGET
        {
            known.answers = true;
            return;
        }
        let known = seen.remove(&url.origin());
        self.any.store(!seen.is_empty(), Relaxed);
        drop(seen);
        if known.is_some_and(|known| known.breaker.is_open()) {
            let origin = url.origin().ascii_serialization();
            tracing::info!(origin, "the origin answers again");
        }
    }

    /// Returns a sentence for each origin whose circuit is open, in the order of their names; none
    /// for one that nobody has asked for a while.
    pub(super) fn away(&self, now: Instant) -> Vec<String> {
        let seen = self.lock();
        let open = seen
            .iter()
            .filter(|(_, Known { breaker, .. })| breaker.is_open() && breaker.age(now) < FORGET);
        let mut told: Vec<_> = open
            .map(|(origin, Known { breaker, concerns, .. })| {
                let origin = origin.ascii_serialization();
                let (why, every) = (breaker.why(), self.rules.probe_every.as_secs());
                match concerns {
                    Concerns::All => {
                        format!("{origin} is away ({why}); it is asked every {every} s")
                    }
                    Concerns::Paths(paths) => format!(
                        "{origin} does not answer for {} of its URLs ({why}); it is asked for them every {every} s",
                        paths.len()
                    ),
                }
            })
            .collect();
        told.sort_unstable();
        told
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<UrlOrigin, Known>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dead() -> Dead {
        Dead::new(Rules {
            after: 2,
            probe_every: Duration::from_secs(5),
            dead_for: Duration::from_secs(2),
        })
    }

    fn url(text: &str) -> Url {
        Url::parse(text).expect("a URL")
    }

    fn fault(kind: FailureKind, hope: Hope) -> Fault {
        Fault { hope, ..Fault::new(kind, "connection refused") }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port_and_forgotten_when_it_answers() {
        let dead = dead();
        let start = Instant::now();
        let refused = fault(FailureKind::Unreachable, Hope::Connect);
        assert_eq!(dead.admit(&url("http://a/x"), Asker::NewCold, start), Ok(()));
        dead.failed(&url("http://a/x"), &refused, false, start);
        dead.failed(&url("http://a/x"), &refused, false, start);
        let admit = |text| dead.admit(&url(text), Asker::Other, start);
        let verdict = admit("http://a:80/y?q").expect_err("open");
        assert_eq!(verdict.why, "connection refused");
        let away = || dead.away(start);
        assert_eq!(away(), ["http://a is away (connection refused); it is asked every 5 s"]);
        for other in ["http://a:81/x", "https://a/x", "http://b/x"] {
            assert_eq!(admit(other), Ok(()), "{other}");
        }
        dead.clear(&url("http://a/"));
        assert_eq!(admit("http://a/x"), Ok(()));
        assert!(!dead.any.load(Relaxed) && away().is_empty());
    }

    #[test]
    fn what_shows_that_somebody_is_there_is_no_failed_connection() {
        let start = Instant::now();
        let x = url("http://a/x");
        for (kind, hope, on_kept, opens) in [
            (FailureKind::Unreachable, Hope::Connect, false, true),
            (FailureKind::BadAnswer, Hope::Reset, false, true),
            (FailureKind::BadAnswer, Hope::Reset, true, false),
            (FailureKind::Silent, Hope::Silent, false, false),
            (FailureKind::Tls, Hope::None, false, false),
            (FailureKind::BadAnswer, Hope::None, false, false),
            (FailureKind::Local, Hope::None, false, false),
        ] {
            let dead = dead();
            for _ in 0..2 {
                dead.failed(&x, &fault(kind, hope), on_kept, start);
            }
            assert_eq!(!dead.away(start).is_empty(), opens, "{kind:?} {hope:?} {on_kept}");
        }
        let dead = dead();
        let refused = fault(FailureKind::Unreachable, Hope::Connect);
        dead.failed(&x, &refused, false, start);
        dead.failed(&x, &fault(FailureKind::Tls, Hope::None), false, start);
        dead.failed(&x, &refused, false, start);
        assert!(dead.away(start).is_empty(), "not in a row");
    }

    #[test]
    fn origins_that_nobody_asks_for_are_forgotten() {
        let dead = dead();
        let start = Instant::now();
        let refused = fault(FailureKind::Unreachable, Hope::Connect);
        dead.failed(&url("http://a/"), &refused, false, start);
        dead.failed(&url("http://b/"), &refused, false, start + FORGET);
        assert_eq!(dead.lock().len(), 1);
        dead.failed(&url("http://b/"), &refused, false, start + FORGET);
        assert_eq!(dead.away(start + FORGET).len(), 1);
        assert!(dead.away(start + FORGET * 2).is_empty(), "whatever else fails");
    }

    #[test]
    fn connections_that_end_for_one_url_keep_nobody_from_the_others() {
        let dead = Dead::new(Rules { after: 3, ..dead().rules });
        let start = Instant::now();
        let ended = fault(FailureKind::BadAnswer, Hope::Reset);
        let admits = |text| dead.admit(&url(text), Asker::Other, start).is_ok();
        for _ in 0..9 {
            dead.failed(&url("http://a/bad"), &ended, false, start);
        }
        assert!(!admits("http://a/bad?again") && admits("http://a/good"));
        let told = dead.away(start);
        assert!(told[0].contains("does not answer for 1 of its URLs"), "{told:?}");
        dead.failed(&url("http://a/worse"), &ended, false, start);
        assert!(!admits("http://a/worse") && admits("http://a/good"));
        // Of so many it is the origin's.
        dead.failed(&url("http://a/worst"), &ended, false, start);
        assert!(!admits("http://a/good"));

        dead.clear(&url("http://a/good"));
        assert!(dead.away(start).is_empty(), "it is there");

        // While it answers for others it is not away, for however many it does not.
        dead.failed(&url("http://a/0"), &ended, false, start);
        dead.clear(&url("http://a/good"));
        for path in ["1", "2", "3", "4"] {
            dead.failed(&url(&format!("http://a/{path}")), &ended, false, start);
        }
        assert!(!admits("http://a/0") && !admits("http://a/4") && admits("http://a/good"));
        dead.clear(&url("http://a/good"));
        assert!(!admits("http://a/0"), "that says nothing of these");
        // Connections that cannot be made are counted for themselves.
        let refused = fault(FailureKind::Unreachable, Hope::Connect);
        dead.failed(&url("http://a/0"), &refused, false, start);
        assert!(admits("http://a/good"));
        for _ in 0..2 {
            dead.failed(&url("http://a/0"), &refused, false, start);
        }
        assert!(!admits("http://a/good"), "nobody is there");
    }
}
