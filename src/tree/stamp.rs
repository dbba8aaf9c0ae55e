//! Times of members, as archives record them.

use std::time::{Duration, SystemTime};

/// The earliest time kept: the earliest that ext4 keeps, in December 1901.
const FIRST: i64 = -(1 << 31);

/// The latest second kept: the latest that ext4 keeps, in May 2446.
const LAST: i64 = FIRST + (1 << 34) - 1;

/// How many bits the nanoseconds take.
const NANOS: u32 = 30;

/// A time, or none, in eight bytes: seconds since [`FIRST`] above 30 bits of nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp(u64);

impl Stamp {
    /// No time. Its nanoseconds are no nanoseconds.
    pub(super) const NONE: Stamp = Stamp(u64::MAX);

    /// Takes seconds since 1970 and nanoseconds. A time that ext4 could not keep becomes the
    /// nearest that it can, so that a tree shows what unpacking it to a disk would.
    pub(super) fn new(modified: Option<(i64, u32)>) -> Stamp {
        let Some((seconds, nanos)) = modified else { return Stamp::NONE };
        let (seconds, nanos) = match seconds {
            ..FIRST => (FIRST, 0),
            FIRST..=LAST => (seconds, nanos.min(999_999_999)),
            _ => (LAST, 0),
        };
        Stamp(((seconds - FIRST) as u64) << NANOS | u64::from(nanos))
    }

    /// Takes what [`bits`](Stamp::bits) gave; `None` for what it never gives.
    pub(super) fn from_bits(bits: u64) -> Option<Stamp> {
        let nanos = bits & ((1 << NANOS) - 1);
        (bits == u64::MAX || nanos < 1_000_000_000).then_some(Stamp(bits))
    }

    /// Returns it as a number.
    pub(super) fn bits(self) -> u64 {
        self.0
    }

    /// Returns it as the system counts time.
    pub(super) fn time(self) -> Option<SystemTime> {
        if self == Stamp::NONE {
            return None;
        }
        let since_first = Duration::new(self.0 >> NANOS, (self.0 & ((1 << NANOS) - 1)) as u32);
        let before_1970 = Duration::from_secs(FIRST.unsigned_abs());
        SystemTime::UNIX_EPOCH.checked_sub(before_1970)?.checked_add(since_first)
    }
}

/// Reads the two halves of a DOS time, which has no zone and is taken for UTC. `None` for what is
/// no time (a month 0, say).
pub(super) fn dos(date: u16, time: u16) -> Option<i64> {
    let (year, month, day) =
        (1980 + i64::from(date >> 9), i64::from(date >> 5 & 15), i64::from(date & 31));
    let (hour, minute, second) =
        (i64::from(time >> 11), i64::from(time >> 5 & 63), 2 * i64::from(time & 31));
    let sound = (1..=12).contains(&month) && day >= 1 && hour < 24 && minute < 60 && second < 60;
    if !sound || day > days_of(year, month) {
        return None;
    }
    Some(days_to(year, month) * 86_400 + (day - 1) * 86_400 + hour * 3600 + minute * 60 + second)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Returns the days from 1970 to the first of a month from 1980 on.
fn days_to(year: i64, month: i64) -> i64 {
    let years: i64 = (1970..year).map(|y| 365 + i64::from(is_leap(y))).sum();
    years + (1..month).map(|m| days_of(year, m)).sum::<i64>()
}

/// Reads a time of Windows NT: tenths of microseconds since 1601.
pub(super) fn windows(ticks: u64) -> (i64, u32) {
    const TO_1970: i64 = 11_644_473_600;
    let seconds = (ticks / 10_000_000) as i64 - TO_1970;
    (seconds, (ticks % 10_000_000) as u32 * 100)
}
