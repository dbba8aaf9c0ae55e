//! Which failures are tried again, when, and for how long.

use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, SystemTime};

use super::Patience;
use super::settings::OriginSettings;

/// What a failed attempt says about trying again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hope {
    /// It would fail the same way.
    None,
    /// No connection could be made.
    Connect,
    /// The connection ended before a byte of the head.
    Reset,
    /// Nothing came within the time for a head.
    Silent,
    /// The origin says that it cannot answer now: 408, 425, 429, 5xx.
    Busy,
}

/// The time one question has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    /// When the question ends, whatever it is doing, counted from its start.
    pub(super) total: Duration,
    /// Until when an attempt may follow one that found no connection.
    connect: Duration,
    /// Until when an attempt may follow any other.
    other: Duration,
    connect_timeout: Duration,
    base: Duration,
    cap: Duration,
}

/// The least time a connection gets, however little of the patience is left.
const LEAST_CONNECT: Duration = Duration::from_millis(300);

impl Schedule {
    /// Returns the schedule for a kind of patience.
    pub(super) fn new(settings: &OriginSettings, patience: Patience) -> Schedule {
        let (total, connect, other) = match patience {
            Patience::Cold => (settings.cold, settings.cold_connect, settings.cold),
            Patience::Range => (settings.range, settings.range_connect, settings.range),
            Patience::Instead { spent } => {
                let left = |all: Duration, range| all.saturating_sub(spent.min(range));
                let total = left(settings.cold, settings.range);
                (total, left(settings.cold_connect, settings.range_connect), total)
            }
            Patience::Warm => (settings.head_timeout, settings.warm, settings.warm),
        };
        Schedule {
            total,
            connect,
            other,
            connect_timeout: settings.connect_timeout,
            base: settings.retry_base,
            cap: settings.retry_cap,
        }
    }

    /// Returns how long making a connection may take that is begun now.
    pub(super) fn connect_limit(&self, elapsed: Duration) -> Duration {
        let left = self.connect.saturating_sub(elapsed).max(LEAST_CONNECT);
        left.min(self.connect_timeout)
    }

    /// Returns how long to wait before the next attempt, or `None` if there shall be none.
    ///
    /// `tries` counts the attempts made, `random` is in `0.0..1.0`: full jitter, so that the many
    /// who failed together do not return together. What the origin asked for in Retry-After is the
    /// least; if that does not fit into the patience, there is no next attempt.
    pub(super) fn next(
        &self,
        hope: Hope,
        tries: u32,
        elapsed: Duration,
        retry_after: Option<Duration>,
        random: f64,
    ) -> Option<Duration> {
        let end = match hope {
            Hope::None => return None,
            Hope::Connect => self.connect,
            Hope::Reset | Hope::Silent | Hope::Busy => self.other,
        };
        let doubled = self.base.saturating_mul(1 << tries.saturating_sub(1).min(16));
        let jittered = doubled.min(self.cap).mul_f64(random);
        // An origin that says "0" every time is not asked in a tight loop either.
        let delay = retry_after.map_or(jittered, |asked| asked.max(jittered));
        (elapsed.saturating_add(delay) < end).then_some(delay)
    }
}

/// Returns a number in `0.0..1.0`, good enough to spread retries. The standard library keys each
/// `RandomState` anew.
pub(super) fn random() -> f64 {
    let bits = RandomState::new().hash_one(0u8) >> 11;
    bits as f64 / (1u64 << 53) as f64
}

/// Parses a Retry-After value: seconds, or a date (RFC 9110, section 10.2.3). A date that has
/// passed means now.
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than a u64 holds still mean "not soon".
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(s: f64) -> Duration {
        Duration::from_secs_f64(s)
    }

    #[test]
    fn patience_decides_how_long_is_tried() {
        let settings = OriginSettings::default();
        let cold = Schedule::new(&settings, Patience::Cold);
        let warm = Schedule::new(&settings, Patience::Warm);
        let tries = |s: &Schedule, hope, at| s.next(hope, 1, seconds(at), None, 0.5).is_some();
        for hope in [Hope::Connect, Hope::Reset, Hope::Silent, Hope::Busy] {
            assert!(tries(&cold, hope, 0.1) && tries(&warm, hope, 0.1), "{hope:?}");
            assert!(!tries(&warm, hope, 1.6), "{hope:?}");
            assert_eq!(tries(&cold, hope, 20.0), hope != Hope::Connect, "{hope:?}");
            assert!(!tries(&cold, hope, 29.0), "{hope:?}");
        }
        assert!(!tries(&cold, Hope::None, 0.0) && !tries(&warm, Hope::None, 0.0));
    }

    #[test]
    fn delays_double_up_to_the_cap_with_full_jitter() {
        let schedule = Schedule::new(&OriginSettings::default(), Patience::Cold);
        let delay = |tries, random| schedule.next(Hope::Busy, tries, Duration::ZERO, None, random);
        assert_eq!(delay(1, 0.0), Some(Duration::ZERO));
        assert_eq!(delay(1, 0.5), Some(Duration::from_millis(100)));
        assert_eq!(delay(3, 0.5), Some(Duration::from_millis(400)));
        assert_eq!(delay(30, 0.5), Some(Duration::from_secs(2)));
        assert_eq!(delay(u32::MAX, 0.5), Some(Duration::from_secs(2)));
        let many: Vec<f64> = (0..1000).map(|_| random()).collect();
        assert!(many.iter().all(|r| (0.0..1.0).contains(r)));
        let mean = many.iter().sum::<f64>() / 1000.0;
        assert!((0.4..0.6).contains(&mean), "{mean}");
    }

    #[test]
    fn a_range_and_the_whole_instead_of_it_share_the_time_of_one_question() {
        let settings = OriginSettings::default();
        let of = |patience| {
            let schedule = Schedule::new(&settings, patience);
            (schedule.total, schedule.connect)
        };
        let instead = |spent| of(Patience::Instead { spent: Duration::from_secs(spent) });
        let (cold, range) = (of(Patience::Cold), of(Patience::Range));
        assert!(range < cold);
        assert_eq!(instead(0), cold, "it was refused at once");
        assert_eq!(instead(4), (cold.0 - seconds(4.0), cold.1 - seconds(4.0)));
        for spent in [18, 28, 1000] {
            assert_eq!(instead(spent), (cold.0 - range.0, cold.1 - range.1), "{spent}");
        }
    }

    #[test]
    fn retry_after_wins_within_patience() {
        let settings = OriginSettings::default();
        let cold = Schedule::new(&settings, Patience::Cold);
        let warm = Schedule::new(&settings, Patience::Warm);
        let three = Some(seconds(3.0));
        assert_eq!(cold.next(Hope::Busy, 1, seconds(1.0), three, 0.9), three);
        assert_eq!(warm.next(Hope::Busy, 1, seconds(1.0), three, 0.9), None);
        let zero = Some(Duration::ZERO);
        let delay = cold.next(Hope::Busy, 5, seconds(1.0), zero, 0.5);
        assert_eq!(delay, Some(seconds(1.6)));
        let long = Some(Duration::from_secs(u64::MAX));
        assert_eq!(cold.next(Hope::Busy, 1, seconds(1.0), long, 0.9), None);
    }

    #[test]
    fn connections_get_what_is_left_of_their_patience() {
        let settings = OriginSettings::default();
        let cold = Schedule::new(&settings, Patience::Cold);
        let warm = Schedule::new(&settings, Patience::Warm);
        assert_eq!(cold.connect_limit(seconds(0.0)), seconds(5.0));
        assert_eq!(cold.connect_limit(seconds(6.0)), seconds(2.0));
        assert_eq!(cold.connect_limit(seconds(20.0)), LEAST_CONNECT);
        assert_eq!(warm.connect_limit(seconds(0.0)), seconds(1.5));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").expect("a date");
        for (text, want) in [
            ("0", Some(0)),
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sunday, 06-Nov-94 08:49:47 GMT", Some(10)),
            ("Sun Nov  6 08:49:47 1994", Some(10)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
        ] {
            assert_eq!(retry_after(text, now).map(|d| d.as_secs()), want, "{text}");
        }
    }
}
