//! How many bodies come from each origin at once, over all downloads.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use url::{Origin, Url};

/// The connections that bring something, by scheme, host and port. Locked alone.
#[derive(Default)]
pub(super) struct Lanes(Mutex<HashMap<Origin, usize>>);

/// The place of one connection; dropping it leaves.
pub(super) struct Lane {
    lanes: Arc<Lanes>,
    origin: Origin,
}

impl Lanes {
    /// Counts a connection that is needed in any case.
    pub(super) fn enter(self: &Arc<Self>, url: &Url) -> Lane {
        let origin = url.origin();
        *self.lock().entry(origin.clone()).or_default() += 1;
        Lane { lanes: self.clone(), origin }
    }

    /// Counts one that could be done without, if there are then no more than `most`.
    pub(super) fn enter_within(self: &Arc<Self>, url: &Url, most: usize) -> Option<Lane> {
        let origin = url.origin();
        {
            let mut lanes = self.lock();
            let count = lanes.entry(origin.clone()).or_default();
            if *count >= most {
                return None;
            }
            *count += 1;
        }
        Some(Lane { lanes: self.clone(), origin })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Origin, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let mut lanes = self.lanes.lock();
        if let Some(count) = lanes.get_mut(&self.origin) {
            *count -= 1;
            if *count == 0 {
                lanes.remove(&self.origin);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_of_one_origin_and_is_free_again() {
        let lanes = Arc::new(Lanes::default());
        let url = |text: &str| Url::parse(text).unwrap();
        let (here, there) = (url("http://h/a"), url("https://h/a"));
        let first = lanes.enter(&here);
        let second = lanes.enter_within(&url("http://h:80/b"), 2);
        assert!(second.is_some() && lanes.enter_within(&here, 2).is_none());
        assert!(lanes.enter_within(&there, 1).is_some());
        let third = lanes.enter(&here);
        drop(first);
        assert!(lanes.enter_within(&here, 2).is_none());
        drop((second, third));
        assert!(lanes.lock().is_empty());
    }
}
