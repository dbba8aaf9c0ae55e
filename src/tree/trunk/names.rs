//! What a member is called, for errors.

use super::state::State;
use crate::tree::error::TreeError;
use crate::tree::index::{Index, NodeNo};
use crate::tree::path::shown;

/// More than any limit allows; a path is cut there.
const DEEPEST: usize = 256;

/// Puts the path of a member before an error about it, where its index is complete.
pub(super) fn named(state: &State, node: NodeNo, error: TreeError) -> TreeError {
    match state.whole().and_then(|whole| path(&whole.index, node)) {
        Some(path) => {
            let message = format!("the member {}: {}", shown(&path), error.message);
            TreeError { message, ..error }
        }
        None => error,
    }
}

/// Returns the path of a node; of several, that where it was first seen.
fn path(index: &Index, node: NodeNo) -> Option<Vec<u8>> {
    let mut parts = Vec::new();
    let mut at = node;
    while at != NodeNo::ROOT && parts.len() < DEEPEST {
        let parent = index.parent(at)?;
        let name = index.children(parent, 0).find(|(child, _)| *child == at)?.1;
        parts.push(name);
        at = parent;
    }
    parts.reverse();
    Some(parts.join(&b'/'))
}
