//! The bindings in force.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use super::Owner;
use crate::source::Source;
use crate::types::Name;

/// Names, aliases, and what they are bound to. Never changed once made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bindings {
    pub(super) names: BTreeMap<Name, Binding>,
    pub(super) aliases: BTreeMap<Name, Name>,
    pub(super) blind: bool,
}

/// What a name is bound to, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The source in force.
    pub source: Arc<Source>,
    /// The owners who declare that source. Empty while it is kept though nobody declares it: in a
    /// conflict that goes on, or while a catalog that was never read may still declare it.
    pub owners: Vec<Owner>,
    /// What other owners declare instead.
    pub conflict: Option<Conflict>,
    /// When the catalog that `source` is taken from was last changed.
    pub declared_at: SystemTime,
}

/// Declarations that differ from what is in force. It is in force all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Those who differ, by owner.
    pub claims: Vec<Claim>,
}

/// What one owner declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The owner.
    pub owner: Owner,
    /// The source declared.
    pub source: Arc<Source>,
}

impl fmt::Display for Claim {
    /// Shows owner, URL and digest; no secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} declares {}", self.owner, self.source.shown_url())?;
        if let Some(digest) = &self.source.digest {
            write!(f, " ({digest})")?;
        }
        Ok(())
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, claim) in self.claims.iter().enumerate() {
            write!(f, "{}{claim}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl Bindings {
    /// Returns what a name is bound to. Does not allocate.
    pub fn get(&self, name: &str) -> Option<&Binding> {
        self.names.get(name)
    }

    /// Returns the name that an alias stands for. Does not allocate.
    pub fn alias(&self, alias: &str) -> Option<&Name> {
        self.aliases.get(alias)
    }

    /// Returns the names in order, with their bindings.
    pub fn names(&self) -> impl ExactSizeIterator<Item = (&Name, &Binding)> {
        self.names.iter()
    }

    /// Returns the aliases in order, each with the name it stands for. No alias is also a name.
    pub fn aliases(&self) -> impl ExactSizeIterator<Item = (&Name, &Name)> {
        self.aliases.iter()
    }

    /// Returns how many names there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Says whether there is no name.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Returns how many names are in conflict.
    pub fn conflicts(&self) -> usize {
        self.names.values().filter(|b| b.conflict.is_some()).count()
    }

    /// Says whether what is bound here is all there is. While it is false some catalog was never
    /// read, and cached data of names that are missing here must not be pruned: it may be theirs.
    pub fn may_prune(&self) -> bool {
        !self.blind
    }

    /// Returns what differs from `before`.
    pub fn since(&self, before: &Bindings) -> Diff {
        let mut diff = Diff::default();
        for (name, binding) in &self.names {
            match before.names.get(name) {
                None => diff.added.push(name.clone()),
                Some(old) if old.source != binding.source => diff.changed.push(name.clone()),
                Some(_) => {}
            }
        }
        let gone = |name: &&Name| !self.names.contains_key(*name);
        diff.removed = before.names.keys().filter(gone).cloned().collect();
        let moved = |(alias, target): &(&Name, &Name)| before.aliases.get(*alias) != Some(*target);
        let lost = |alias: &&Name| !self.aliases.contains_key(*alias);
        diff.aliases = self
            .aliases
            .iter()
            .filter(moved)
            .map(|(alias, _)| alias)
            .chain(before.aliases.keys().filter(lost))
            .cloned()
            .collect();
        diff
    }
}

/// What differs between two states.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// Names that were not there before.
    pub added: Vec<Name>,
    /// Names that are there no more, and are to be pruned.
    pub removed: Vec<Name>,
    /// Names whose source differs in anything, its identity or only, say, a header.
    pub changed: Vec<Name>,
    /// Aliases that came, went, or stand for another name.
    pub aliases: Vec<Name>,
}
