//! Quota, hard limit and free space, against the size of the disk.

use super::{ConfigError, MinFree, Settings};
use crate::types::Bytes;

const QUOTA: u64 = 10_000_000_000;
const MIN_FREE_PERCENT: u8 = 5;
const MIN_FREE: u64 = 1 << 30;

/// The disk that the limits must fit.
pub(super) struct Room {
    /// Its size in bytes.
    pub(super) disk: u64,
    /// The path of the store, for messages.
    pub(super) place: String,
}

impl Room {
    /// Returns quota, hard limit and minimal free space. What was written must fit; what was not
    /// is made to fit, with a notice.
    pub(super) fn limits(
        &self,
        settings: &Settings,
        notices: &mut Vec<String>,
    ) -> Result<(Bytes, Bytes, Bytes), ConfigError> {
        let mut errors = Vec::new();
        for (key, given) in [
            ("quota", settings.quota),
            ("hard_limit", settings.hard_limit),
            ("min_free", settings.min_free.map(|m| m.of(self.disk))),
        ] {
            match given {
                Some(given) if given.0 > self.disk => errors.push(format!(
                    "{key} is {}, but the disk below {} has {} in all; give less, or another store",
                    written(given),
                    self.place,
                    Bytes(self.disk)
                )),
                Some(Bytes(0)) if key != "min_free" => {
                    errors.push(format!(
                        "{key} is 0, so nothing could be kept; give a size, for example 10GB"
                    ));
                }
                _ => {}
            }
        }
        if let (Some(quota), Some(hard)) = (settings.quota, settings.hard_limit)
            && hard < quota
        {
            errors.push(format!(
                "hard_limit is {hard}, less than the quota of {quota}; give at least the quota"
            ));
        }
        if !errors.is_empty() {
            return Err(ConfigError(errors));
        }

        let min_free = match settings.min_free {
            Some(given) => given.of(self.disk),
            // On a disk smaller than 2 GiB the floor of 1 GiB would leave less than half of it.
            None => MinFree::Percent(MIN_FREE_PERCENT)
                .of(self.disk)
                .max(Bytes(MIN_FREE.min(self.disk / 2))),
        };
        let usable = self.disk - min_free.0;
        let quota = settings.quota.unwrap_or_else(|| {
            let most = settings.hard_limit.map_or(usable, |hard| hard.0.min(usable));
            let quota = Bytes(QUOTA.min(most / 6 * 5).max(1));
            if quota.0 < QUOTA {
                notices.push(format!(
                    "the default quota of {} does not fit {}; it is {quota}",
                    Bytes(QUOTA),
                    self.place
                ));
            }
            quota
        });
        let hard_limit = settings.hard_limit.unwrap_or_else(|| {
            let wanted = quota.0.saturating_add(quota.0 / 5);
            if wanted > self.disk {
                notices.push(format!(
                    "the default hard limit of {} does not fit {}; it is {}",
                    Bytes(wanted),
                    self.place,
                    Bytes(self.disk)
                ));
            }
            Bytes(wanted.min(self.disk))
        });
        Ok((quota, hard_limit, min_free))
    }
}

/// Returns a size as it was most likely written, and in powers of two, for comparison with others.
fn written(size: Bytes) -> String {
    const UNITS: [(&str, u64); 8] = [
        ("TiB", 1 << 40),
        ("TB", 1_000_000_000_000),
        ("GiB", 1 << 30),
        ("GB", 1_000_000_000),
        ("MiB", 1 << 20),
        ("MB", 1_000_000),
        ("KiB", 1 << 10),
        ("kB", 1_000),
    ];
    // The longest unit that it is a whole number of.
    match UNITS.iter().find(|(_, factor)| size.0 != 0 && size.0.is_multiple_of(*factor)) {
        Some((unit, factor)) => format!("{}{unit} ({size})", size.0 / factor),
        None => size.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_shown_as_they_were_written() {
        for (text, shown) in [
            ("900TB", "900TB (838190.3 GiB)"),
            ("10GB", "10GB (9.3 GiB)"),
            ("64GiB", "64GiB (64.0 GiB)"),
            ("1500MiB", "1500MiB (1.5 GiB)"),
            ("1234567891", "1.1 GiB"),
        ] {
            assert_eq!(written(text.parse().unwrap()), shown);
        }
    }
}
