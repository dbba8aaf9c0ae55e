//! How long an answer may be used without asking again, by its own header: RFC 9111 as a private
//! cache reads it, and RFC 5861. Pure: no clock is read and no HTTP library named here.
//!
//! Whatever is missing, doubtful or contradicts itself counts as stale. That costs one conditional
//! request, which is allowed at any time (RFC 9111, section 4.2.1). No lifetime is guessed.

mod fields;

#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime};

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use fields::{Control, Fields};

/// What the header of one answer says of its use without asking.
///
/// The default says nothing, so the origin is asked every time. So does a saved form that this
/// release does not know.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Form")]
pub struct Lifetime {
    terms: Terms,
    arrival: Arrival,
}

/// What stays in force until an answer says otherwise. Each part is one header field: a 304
/// replaces it whole, or leaves it alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Terms {
    /// Cache-Control.
    #[serde(skip_serializing_if = "Option::is_none")]
    control: Option<Control>,
    /// Expires, in seconds since 1970; 0 for what is no date.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<u64>,
    /// The field names in Vary, in lower case and order; `*` stays itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    vary: Option<Vec<String>>,
    /// Whether Pragma holds `no-cache`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pragma_no_cache: Option<bool>,
}

/// What is true of one message only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Arrival {
    /// When its head came, by this machine's clock, in milliseconds since 1970.
    at: u64,
    /// How old it was then, in milliseconds; `None` where it contradicts itself.
    age: Option<u64>,
    /// When it was made, by the origin's clock, in seconds since 1970.
    date: u64,
    /// For how long the redirects that led to it may be taken without asking, in milliseconds;
    /// `None` where there were none.
    #[serde(skip_serializing_if = "Option::is_none")]
    within: Option<u64>,
}

/// The saved form; what was written by another release may be any other.
#[derive(Deserialize)]
#[serde(untagged)]
enum Form {
    Known(Known),
    Other(IgnoredAny),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    terms: Terms,
    arrival: Arrival,
}

impl From<Form> for Lifetime {
    fn from(form: Form) -> Lifetime {
        match form {
            Form::Known(Known { terms, arrival }) => Lifetime { terms, arrival },
            Form::Other(IgnoredAny) => Lifetime::default(),
        }
    }
}

/// The moment for which a verdict is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// The time by the wall clock, which may have been set since the answer came.
    pub now: SystemTime,
    /// The time since the answer by a clock that is never set, if it came in this process.
    pub elapsed: Option<Duration>,
}

/// How a stored answer may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Without asking.
    Fresh,
    /// Now, while the origin is asked (RFC 5861, section 3).
    StaleWhileRevalidate,
    /// Once the origin has confirmed it.
    Stale,
}

impl Lifetime {
    /// Reads the fields of an answer: names in lower case, values as received. `asked_at` is when
    /// its request was sent, `answered_at` when its head came.
    pub fn read<'a>(
        fields: impl Iterator<Item = (&'a str, &'a [u8])>,
        asked_at: SystemTime,
        answered_at: SystemTime,
    ) -> Lifetime {
        let Fields { control, expires, vary, pragma_no_cache, date, age } = Fields::read(fields);
        let arrival = Arrival::new(date, age, asked_at, answered_at);
        Lifetime { terms: Terms { control, expires, vary, pragma_no_cache }, arrival }
    }

    /// Returns what holds after a 304 with these fields: those that it lacks stay as they were
    /// (RFC 9111, sections 3.2 and 4.3.4). Date and Age speak of one message and are never kept.
    pub fn updated(&self, newer: &Lifetime) -> Lifetime {
        let (old, new) = (&self.terms, &newer.terms);
        Lifetime {
            terms: Terms {
                control: new.control.or(old.control),
                expires: new.expires.or(old.expires),
                vary: new.vary.clone().or_else(|| old.vary.clone()),
                pragma_no_cache: new.pragma_no_cache.or(old.pragma_no_cache),
            },
            arrival: newer.arrival.clone(),
        }
    }

    /// Says whether both set the same terms, whenever their answers came.
    pub fn same_terms(&self, other: &Lifetime) -> bool {
        self.terms == other.terms
    }

    /// Returns the same for an answer that redirects led to, which may themselves be taken without
    /// asking for so long from its arrival: each was stored under a URL of its own (RFC 9111, section
    /// 2), and is not to be used for longer than it lasts.
    pub fn within(mut self, redirects: Option<Duration>) -> Lifetime {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.arrival.within = redirects.map(millis);
        self
    }

    /// Returns for how long the answer may be used without asking from its arrival on. One that was
    /// chosen by request fields counts as none: which they were is not kept.
    pub fn left_at_arrival(&self) -> Duration {
        if self.asks_always() || self.terms.vary.as_ref().is_some_and(|vary| !vary.is_empty()) {
            return Duration::ZERO;
        }
        let age = self.arrival.age.map(Duration::from_millis);
        let left = self.span().zip(age).map(|(span, age)| span.saturating_sub(age));
        left.unwrap_or_default()
    }

    /// Says whether there is an age at which the answer may be used without asking.
    pub fn lasts(&self) -> bool {
        !self.asks_always()
            && self.span().is_some_and(|span| !span.is_zero())
            && self.arrival.within != Some(0)
    }

    /// Says whether the answer must not be kept beyond the use it was asked for (RFC 9111, section
    /// 5.2.2.5).
    pub fn no_store(&self) -> bool {
        self.control().no_store
    }

    /// Says whether the answer was chosen by a request field of this name, in lower case (RFC
    /// 9111, section 4.1).
    pub fn varies_by(&self, field: &str) -> bool {
        self.terms.vary.iter().flatten().any(|name| name == field)
    }

    /// Judges the use of the stored answer at a moment.
    pub fn verdict(&self, clock: Clock) -> Use {
        if self.asks_always() {
            return Use::Stale;
        }
        // Section 4.2.2 would let a lifetime be guessed; it never is.
        let (Some(span), Some(age)) = (self.span(), self.age(clock)) else {
            return Use::Stale;
        };
        let resident = self.resident(clock);
        if self.arrival.within.is_some_and(|within| {
            resident.is_none_or(|resident| resident >= Duration::from_millis(within))
        }) {
            return Use::Stale;
        }
        let control = self.control();
        // Section 4.2: fresh while the lifetime is greater than the age. RFC 8246: `immutable` has
        // no say after that, and until then nothing is asked anyway.
        if age < span {
            return Use::Fresh;
        }
        // RFC 5861, section 3, unless RFC 9111, section 5.2.2.2, forbids all stale use.
        match control.stale_while_revalidate {
            Some(grace) if !control.must_revalidate && age < span + seconds(grace) => {
                Use::StaleWhileRevalidate
            }
            _ => Use::Stale,
        }
    }

    /// Says whether the stored answer may be used although its origin fails; `None` where it says
    /// nothing of that, so that whoever keeps it decides (RFC 9111, section 4.2.4).
    pub fn usable_on_error(&self, clock: Clock) -> Option<bool> {
        let control = self.control();
        if self.asks_always() || control.must_revalidate {
            return Some(false);
        }
        // RFC 5861, section 4.
        let grace = self.span().unwrap_or_default() + seconds(control.stale_if_error?);
        Some(self.age(clock).is_some_and(|age| age < grace))
    }

    /// Says whether no age makes the answer usable without asking.
    fn asks_always(&self) -> bool {
        let control = self.control();
        // Sections 5.2.2.4 and 5.2.2.5.
        control.no_cache
            || control.no_store
            // Section 5.4: only for those who do not send Cache-Control.
            || (self.terms.control.is_none() && self.terms.pragma_no_cache == Some(true))
            // Section 4.1: `*` matches no request.
            || self.varies_by("*")
    }

    fn control(&self) -> Control {
        self.terms.control.unwrap_or_default()
    }

    /// Returns the freshness lifetime, if the answer gives one (RFC 9111, section 4.2.1). A private
    /// cache has no use for s-maxage.
    fn span(&self) -> Option<Duration> {
        match (self.control().max_age, self.terms.expires) {
            // Section 5.3: max-age wins, also a nonsensical one, which reads as 0.
            (Some(max_age), _) => Some(seconds(max_age)),
            (None, Some(expires)) => {
                Some(Duration::from_secs(expires.saturating_sub(self.arrival.date)))
            }
            (None, None) => None,
        }
    }

    /// Returns the current age (RFC 9111, section 4.2.3), or `None` if no clock can tell. Of two
    /// clocks that disagree the one that says more is believed.
    fn age(&self, clock: Clock) -> Option<Duration> {
        let resident = self.resident(clock)?;
        Some(Duration::from_millis(self.arrival.age?).saturating_add(resident))
    }

    /// Returns the time since the answer came.
    fn resident(&self, clock: Clock) -> Option<Duration> {
        let resident = millis(clock.now)?.checked_sub(self.arrival.at)?;
        Some(Duration::from_millis(resident).max(clock.elapsed.unwrap_or_default()))
    }
}

impl Arrival {
    /// Works out how old an answer was when it came (RFC 9111, section 4.2.3). `Err` marks a field
    /// that is there and cannot be used.
    fn new(
        date: Result<Option<SystemTime>, fields::Unusable>,
        age: Result<Option<u64>, fields::Unusable>,
        asked_at: SystemTime,
        answered_at: SystemTime,
    ) -> Arrival {
        // RFC 9110, section 6.6.1: without a Date, the time of receipt stands for it.
        let made_at = date.ok().flatten().unwrap_or(answered_at);
        let apparent = answered_at.duration_since(made_at).unwrap_or_default();
        let delay = answered_at.duration_since(asked_at);
        // The clock was set back while the origin was asked: no later age can be trusted.
        let age = match (date, age, delay) {
            (Ok(_), Ok(age), Ok(delay)) => {
                let corrected = Duration::from_secs(age.unwrap_or(0)).saturating_add(delay);
                u64::try_from(apparent.max(corrected).as_millis()).ok()
            }
            _ => None,
        };
        Arrival {
            at: millis(answered_at).unwrap_or(0),
            age,
            date: millis(made_at).unwrap_or(0) / 1000,
            within: None,
        }
    }
}

fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into())
}

/// Returns a time in milliseconds since 1970.
fn millis(time: SystemTime) -> Option<u64> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok()
}
