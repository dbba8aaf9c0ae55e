//! Catalogs: files that bind names to sources, each with one owner.
//!
//! A file is read whole and parsed whole ([`parse`]); what several owners say is settled by a pure
//! rule ([`agree()`]) into the bindings in force ([`Bindings`]); what is in force, and the last good
//! state of each catalog, outlive the daemon. [`Catalogs`] ties these to directories,
//! and [`Watcher`] says when to look again.
//!
//! The owner of a catalog is its absolute path: two directories may hold files of one name, and a
//! `.toml` and a `.json` of one stem are two owners.

mod agree;
mod bindings;
mod buildpack;
mod catalogs;
mod check;
mod download;
mod file;
mod headers;
mod item;
mod memory;
mod place;
mod rules;
mod saved;
mod watch;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use agree::{Opinion, agree};
pub use bindings::{Binding, Bindings, Claim, Conflict, Diff};
pub use catalogs::{CatalogError, Catalogs, Change};
pub use check::check;
pub use download::Download;
pub use file::{CatalogFile, parse};
pub use headers::Secrets;
pub use place::missing;
pub use rules::Rules;
pub use watch::Watcher;

pub use crate::document::{Problem, Report};

/// Who declares a binding: the absolute path of a catalog, or the command line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Owner(Arc<str>);

impl Owner {
    /// Returns an owner of this name.
    pub fn new(name: &str) -> Owner {
        Owner(name.into())
    }

    /// Returns the owner of what `--download` and `--directory` give.
    pub fn command_line() -> Owner {
        Owner::new("command line")
    }

    /// Returns the name of the owner.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
