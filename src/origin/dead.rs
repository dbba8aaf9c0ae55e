//! The memory of origins that could not be connected to.

use std::collections::HashMap;
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

/// How many URLs of an origin are known one by one.
const PATHS: usize = 256;

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
#[derive(Debug, Default)]
struct Known {
    /// Whether connections can be made, or end whatever is asked for.
    whole: Option<Breaker>,
    /// The latter.
    ends_all: bool,
    /// By path: connections were made, and ended before an answer began. That may be the fault of what
    /// was asked for.
    paths: HashMap<Box<str>, Silent>,
}

#[derive(Debug)]
struct Silent {
    breaker: Breaker,
    /// Something else was answered since its connection ended last.
    others_answered: bool,
}

impl Known {
    /// Forgets what nobody has asked for; says whether anything is left.
    fn keep_recent(&mut self, now: Instant) -> bool {
        self.whole.take_if(|breaker| breaker.age(now) >= FORGET);
        self.paths.retain(|_, silent| silent.breaker.age(now) < FORGET);
        self.whole.is_some() || !self.paths.is_empty()
    }

    /// Counts a connection that could not be made; says whether that opened the circuit.
    fn not_connected(&mut self, why: &str, rules: &Rules, now: Instant) -> bool {
        match &mut self.whole {
            Some(breaker) => breaker.failed(why, rules, now),
            None => {
                self.ends_all = false;
                self.whole.insert(Breaker::new(why, rules, now)).is_open()
            }
        }
    }

    /// Counts a connection for a URL that ended without an answer; says whether that opened the
    /// circuit of the URL, and whether that of the origin.
    fn not_answered(&mut self, url: &Url, why: &str, rules: &Rules, now: Instant) -> (bool, bool) {
        match &mut self.whole {
            // The end of a probe.
            Some(breaker) if self.ends_all => drop(breaker.failed(why, rules, now)),
            // Somebody is there.
            whole => *whole = None,
        }
        let room = self.paths.len() < PATHS;
        let opened = match self.paths.get_mut(url.path()) {
            Some(silent) => {
                silent.others_answered = false;
                silent.breaker.failed(why, rules, now)
            }
            None if room => {
                let breaker = Breaker::new(why, rules, now);
                let opened = breaker.is_open();
                self.paths.insert(url.path().into(), Silent { breaker, others_answered: false });
                opened
            }
            None => false,
        };
        // Of so many it is the origin that does not answer.
        let many = self.paths.values().filter(|silent| !silent.others_answered).count();
        if self.whole.is_some() || many < (rules.after as usize).max(2) {
            return (opened, false);
        }
        let mut whole = Breaker::new(why, rules, now);
        while !whole.is_open() {
            whole.failed(why, rules, now);
        }
        self.whole = Some(whole);
        self.ends_all = true;
        (false, true)
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
        let mut seen = self.lock();
        let Some(known) = seen.get_mut(&url.origin()) else { return Ok(()) };
        // The URL first: what it holds back is no probe of the origin.
        if let Some(silent) = known.paths.get_mut(url.path()) {
            silent.breaker.admit(asker, &self.rules, now)?;
        }
        match &mut known.whole {
            Some(breaker) => breaker.admit(asker, &self.rules, now),
            None => Ok(()),
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

    /// Counts a failure; `ended` says that a connection had been made.
    fn count(&self, url: &Url, why: &str, ended: bool, now: Instant) {
        let mut seen = self.lock();
        seen.retain(|_, known| known.keep_recent(now));
        let known = seen.entry(url.origin()).or_default();
        let (url_opened, opened) = match ended {
            true => known.not_answered(url, why, &self.rules, now),
            false => (false, known.not_connected(why, &self.rules, now)),
        };
        self.any.store(true, Relaxed);
        drop(seen);
        let origin = url.origin().ascii_serialization();
        if opened {
            tracing::warn!(
                origin,
                why,
                "the origin is away: it is asked now and then only, until it answers"
            );
        } else if url_opened {
            tracing::warn!(
                origin,
                why,
                "the origin does not answer for a URL: it is asked for that now and then only"
            );
        }
    }

    /// Notes that a question to an origin was given up because no connection came about.
    pub(super) fn gave_up(&self, url: &Url, now: Instant) {
        let mut seen = self.lock();
        if let Some(breaker) = seen.get_mut(&url.origin()).and_then(|known| known.whole.as_mut()) {
            breaker.gave_up(&self.rules, now);
        }
    }

    /// Notes that a URL was answered: its origin is there. Of other URLs that says nothing.
    pub(super) fn clear(&self, url: &Url) {
        if !self.any.load(Relaxed) {
            return;
        }
        let mut seen = self.lock();
        let Some(known) = seen.get_mut(&url.origin()) else { return };
        let whole = known.whole.take();
        known.paths.remove(url.path());
        known.paths.values_mut().for_each(|silent| silent.others_answered = true);
        if !known.keep_recent(Instant::now()) {
            seen.remove(&url.origin());
        }
        self.any.store(!seen.is_empty(), Relaxed);
        drop(seen);
        if whole.is_some_and(|breaker| breaker.is_open()) {
            let origin = url.origin().ascii_serialization();
            tracing::info!(origin, "the origin answers again");
        }
    }

    /// Returns a sentence for each origin whose circuit, or that of a URL of it, is open, in the order
    /// of their names; none for one that nobody has asked for a while.
    pub(super) fn away(&self, now: Instant) -> Vec<String> {
        let every = self.rules.probe_every.as_secs();
        let open = |breaker: &&Breaker| breaker.is_open() && breaker.age(now) < FORGET;
        let mut told = Vec::new();
        for (origin, known) in &*self.lock() {
            let origin = origin.ascii_serialization();
            let mut silent = known.paths.values().map(|silent| &silent.breaker).filter(open);
            if let Some(breaker) = known.whole.as_ref().filter(open) {
                let why = breaker.why();
                told.push(format!("{origin} is away ({why}); it is asked every {every} s"));
            } else if let Some(first) = silent.next() {
                let (why, urls) = (first.why(), 1 + silent.count());
                told.push(format!(
                    "{origin} does not answer for {urls} of its URLs ({why}); it is asked for each every {every} s"
                ));
            }
        }
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
        let refused = fault(FailureKind::Unreachable, Hope::Connect);
        let admits = |path| {
            let url = url(&format!("http://a/{path}"));
            dead.admit(&url, Asker::Other, start).is_ok()
        };
        let fails =
            |path, fault| dead.failed(&url(&format!("http://a/{path}")), fault, false, start);
        let answers = |path| dead.clear(&url(&format!("http://a/{path}")));
        for _ in 0..9 {
            fails("bad", &ended);
        }
        assert!(!admits("bad?again") && admits("good"));
        let told = dead.away(start);
        assert!(told[0].contains("does not answer for 1 of its URLs"), "{told:?}");
        // Another that fails once is not held for it, nor is the first let go by what others get.
        fails("worse", &ended);
        assert!(admits("worse"));
        answers("good");
        assert!(!admits("bad") && admits("worse"));
        // Connections that cannot be made are counted for themselves, and forgotten for themselves.
        for _ in 0..2 {
            fails("bad", &refused);
            assert!(admits("good"));
        }
        fails("bad", &refused);
        assert!(!admits("good"), "nobody is there");
        fails("worse", &ended);
        assert!(admits("good") && !admits("bad"), "somebody is there");
        answers("bad");
        assert!(admits("bad"));

        // Of many that nothing was answered between it is the origin's.
        for path in ["1", "2", "3"] {
            answers("good");
            fails(path, &ended);
        }
        assert!(admits("good") && admits("1"));
        for path in ["1", "2"] {
            fails(path, &ended);
        }
        assert!(!admits("good"));
        answers("good");
        assert!(admits("good") && dead.away(start).is_empty());
    }
}
