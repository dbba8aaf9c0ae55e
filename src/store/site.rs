//! What a store and the parts in it have in common.

use std::sync::Arc;

use super::layout::Layout;
use super::turns::Turns;

/// A store as its parts see it.
pub(super) struct Site {
    pub(super) layout: Arc<Layout>,
    pub(super) turns: Turns,
    /// What names the running boot; `None` where the system does not tell.
    pub(super) boot: Option<String>,
    /// See [`super::state::State::epoch`].
    pub(super) epoch: u64,
}
