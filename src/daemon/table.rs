//! From what the catalogs agree on to what the cache is told.

use crate::cache::{Bound, Table};
use crate::catalog::Bindings;

/// Returns the names and aliases in force.
pub(super) fn of(bindings: &Bindings) -> Table {
    Table {
        downloads: bindings
            .names()
            .map(|(name, binding)| {
                let bound =
                    Bound { source: binding.source.clone(), declared_at: binding.declared_at };
                (name.clone(), bound)
            })
            .collect(),
        aliases: bindings
            .aliases()
            .map(|(alias, target)| (alias.clone(), target.clone()))
            .collect(),
        may_prune: bindings.may_prune(),
    }
}
