//! The processor time that unpacking may take.

use std::time::Duration;

use crate::sys;
use crate::tree::error::{TreeError, Why};

/// What is always allowed.
const FREE: Duration = Duration::from_secs(10);

/// What has to be done in each second beyond that, packed and unpacked bytes together. The slowest
/// that is honest, incompressible xz on a slow processor, does several times as much.
const LEAST: u64 = 2 << 20;

/// The processor time that one archive, or one member, has taken.
#[derive(Default)]
pub(super) struct Budget {
    spent: Duration,
    bytes: u64,
}

impl Budget {
    /// Does a step that returns how many bytes it took in and gave out. The time counts that this
    /// thread was given, so that others on the machine do not matter.
    ///
    /// # Errors
    /// Those of the step; [`Why::Limit`] when all steps together were too slow.
    pub(super) fn step<T>(
        &mut self,
        step: impl FnOnce() -> Result<(T, u64), TreeError>,
    ) -> Result<T, TreeError> {
        let before = sys::thread_time();
        let (done, bytes) = step()?;
        self.spend(sys::thread_time().saturating_sub(before), bytes)?;
        Ok(done)
    }

    fn spend(&mut self, time: Duration, bytes: u64) -> Result<(), TreeError> {
        self.spent += time;
        self.bytes = self.bytes.saturating_add(bytes);
        let allowed = FREE + Duration::from_secs_f64(self.bytes as f64 / LEAST as f64);
        if self.spent <= allowed {
            return Ok(());
        }
        let text = format!(
            "it took {:?} of processor time for {} bytes, packed and unpacked; it was made to be slow",
            self.spent, self.bytes
        );
        Err(TreeError::new(Why::Limit, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_slow_beyond_measure_is_stopped_and_nothing_else() {
        let mut budget = Budget::default();
        let second = Duration::from_secs(1);
        for _ in 0..10 {
            budget.spend(second, 0).unwrap();
        }
        for _ in 0..100 {
            budget.spend(second, LEAST).unwrap();
        }
        let error = budget.spend(second, 0).unwrap_err();
        assert_eq!((error.why, error.errno), (Why::Limit, libc::EIO));
        assert!(error.to_string().contains("111s"), "{error}");
    }

    #[test]
    fn the_time_of_this_thread_counts() {
        let mut budget = Budget::default();
        let sum = budget.step(|| Ok(((0..10_000_000u64).fold(0, |a, b| a ^ (b * b)), 8))).unwrap();
        assert!(sum > 0 && budget.bytes == 8);
        let before = budget.spent;
        budget.step(|| Ok((std::thread::sleep(Duration::from_millis(50)), 0))).unwrap();
        assert!(budget.spent - before < Duration::from_millis(40));
    }
}
