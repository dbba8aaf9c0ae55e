//! How several owners agree on what a name is bound to.
//!
//! | declared now | in force before | in force after |
//! |---|---|---|
//! | one source, by one owner or many | anything or nothing | that source |
//! | several sources | something | the same as before, in conflict |
//! | several sources | nothing | that of the first owner by name, in conflict |
//! | nothing | something | nothing: the name is pruned |
//! | nothing, and some catalog was never read | something | the same as before |
//!
//! An owner who is silent (the file cannot be read or parsed, the directory is gone) goes on
//! declaring what it last did. Sources are the same when their identities are; where they then
//! differ in the URL or in anything else, the catalog that was changed last decides.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::{Binding, Bindings, CatalogFile, Claim, Conflict, Owner, Problem};
use crate::source::Source;
use crate::types::Name;

/// What an owner has to say. An owner who withdraws has no opinion in the map at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opinion {
    /// The catalog was read.
    Says(Arc<CatalogFile>),
    /// The catalog cannot be read now; it said this when it last could, if it ever did.
    Silent(Option<Arc<CatalogFile>>),
}

impl Opinion {
    /// Returns what the owner declares, now or last.
    pub fn file(&self) -> Option<&Arc<CatalogFile>> {
        match self {
            Opinion::Says(file) => Some(file),
            Opinion::Silent(last) => last.as_ref(),
        }
    }

    /// Returns the same as of a catalog that can no longer be read.
    pub(super) fn silenced(&self) -> Opinion {
        Opinion::Silent(self.file().cloned())
    }
}

/// Settles what is in force after `previous`, given what each owner says now.
///
/// Also returns the aliases that clash across catalogs; they are left out. A conflict about a name
/// is no problem of this kind: it stands in its binding.
pub fn agree(previous: &Bindings, opinions: &BTreeMap<Owner, Opinion>) -> (Bindings, Vec<Problem>) {
    let mut claims: BTreeMap<&Name, Vec<Said<'_>>> = BTreeMap::new();
    for file in opinions.values().filter_map(Opinion::file) {
        for (name, source) in &file.bindings {
            claims.entry(name).or_default().push(Said {
                owner: &file.owner,
                source,
                at: file.declared_at,
            });
        }
    }
    let blind = opinions.values().any(|opinion| opinion.file().is_none());
    let mut names: BTreeMap<Name, Binding> = claims
        .iter()
        .map(|(name, claims)| ((*name).clone(), settle(previous.names.get(*name), claims)))
        .collect();
    if blind {
        for (name, binding) in &previous.names {
            names.entry(name.clone()).or_insert_with(|| Binding {
                owners: Vec::new(),
                conflict: None,
                ..binding.clone()
            });
        }
    }
    let (aliases, problems) = aliases(previous, &names, &claims);
    let bindings = Bindings { names, aliases, blind };
    (bindings, problems)
}

/// One owner's declaration of one name.
struct Said<'a> {
    owner: &'a Owner,
    source: &'a Arc<Source>,
    at: SystemTime,
}

/// Settles one name that somebody declares. `claims` is not empty, and in the order of the owners.
fn settle(previous: Option<&Binding>, claims: &[Said<'_>]) -> Binding {
    let split = claims.iter().any(|c| !c.source.same(claims[0].source));
    let kept = previous.filter(|_| split);
    let wanted = kept.map_or(claims[0].source, |binding| &binding.source);
    let (agreeing, differing): (Vec<_>, Vec<_>) =
        claims.iter().partition(|claim| claim.source.same(wanted));
    let latest = agreeing.iter().max_by_key(|claim| (claim.at, claim.owner));
    let (source, declared_at) = match (latest, kept) {
        (Some(latest), _) => (latest.source, latest.at),
        (None, Some(kept)) => (&kept.source, kept.declared_at),
        // Unreachable: without a kept binding the first claim agrees with itself.
        (None, None) => (claims[0].source, claims[0].at),
    };
    Binding {
        // The pointer stays the same while the source does.
        source: previous
            .map(|binding| &binding.source)
            .filter(|old| *old == source)
            .unwrap_or(source)
            .clone(),
        owners: agreeing.iter().map(|claim| claim.owner.clone()).collect(),
        conflict: split.then(|| Conflict {
            claims: differing
                .into_iter()
                .map(|claim| Claim { owner: claim.owner.clone(), source: claim.source.clone() })
                .collect(),
        }),
        declared_at,
    }
}

/// Gathers the aliases of what is in force. A name goes before an alias; an alias that stands for
/// a name goes on doing so while somebody wants it; else the first name by order has it.
fn aliases(
    previous: &Bindings,
    names: &BTreeMap<Name, Binding>,
    claims: &BTreeMap<&Name, Vec<Said<'_>>>,
) -> (BTreeMap<Name, Name>, Vec<Problem>) {
    let mut wanted: BTreeMap<&Name, Vec<(&Name, &str)>> = BTreeMap::new();
    for (name, binding) in names {
        let says = claims.get(name).map(Vec::as_slice).unwrap_or_default();
        let in_force = says.iter().filter(|c| c.source.same(&binding.source));
        let declared = in_force.map(|c| (c.owner.as_str(), c.source));
        let kept = binding.owners.is_empty().then_some(("", &binding.source));
        for (owner, source) in declared.chain(kept) {
            for alias in &source.aliases {
                wanted.entry(alias).or_default().push((name, owner));
            }
        }
    }
    let mut aliases = BTreeMap::new();
    let mut problems = Vec::new();
    for (alias, wants) in wanted {
        let mut refuse = |owner: &str, target: &Name, why: String| {
            problems.push(Problem {
                file: Path::new(owner).to_owned(),
                line: None,
                text: format!("the alias `{alias}` of `{target}` is left out: {why}"),
            });
        };
        if names.contains_key(alias) {
            for (target, owner) in wants {
                refuse(owner, target, "another catalog has that name".to_owned());
            }
            continue;
        }
        let before = previous.aliases.get(alias);
        let target = wants
            .iter()
            .map(|(target, _)| *target)
            .find(|target| Some(*target) == before)
            .unwrap_or(wants[0].0);
        for (other, owner) in wants.iter().filter(|(other, _)| *other != target) {
            refuse(owner, other, format!("it stands for `{target}`"));
        }
        aliases.insert(alias.clone(), target.clone());
    }
    (aliases, problems)
}
