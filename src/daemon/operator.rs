//! What an operator sees and does.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use tokio::sync::watch;

use super::{origins, table};
use crate::cache::{Cache, Entry, EvictOutcome, KernelSide, Leftover, OpenError, Shown, Version};
use crate::catalog::{Bindings, Catalogs, Change, Problem};
use crate::config::Config;
use crate::control::{
    CatalogState, CatalogStatus, ConflictStatus, Counters, EvictRefusal, EvictRefused, Evicted,
    LastError, NameCounts, NameState, NameStatus, Now, Operator, PassthroughStatus, ReloadReport,
    Space, Status, TreeStatus,
};
use crate::fs::Fs;
use crate::kernel::Passthrough;
use crate::origin::HttpOrigin;
use crate::source::Form;
use crate::store::Store;
use crate::types::{BlobId, Bytes, Name, Pending};

/// How many last errors `status` shows.
const LAST_ERRORS: usize = 50;

/// How many ranges of a blob with gaps are shown.
const SHOWN_RANGES: usize = 1000;

/// What the catalogs said when they were read last.
pub(super) struct Known {
    bindings: Arc<Bindings>,
    problems: Vec<Problem>,
    opinions: Vec<(String, Option<PathBuf>, usize, bool)>,
}

impl Known {
    pub(super) fn of(catalogs: &Catalogs) -> Arc<Known> {
        Arc::new(Known {
            bindings: catalogs.bindings().clone(),
            problems: catalogs.problems().to_vec(),
            opinions: catalogs.opinions(),
        })
    }
}

/// Everything an operator may ask about.
pub(super) struct Daemon {
    pub(super) cache: Arc<Cache>,
    pub(super) fs: Arc<Fs>,
    pub(super) store: Arc<Store>,
    /// Held while catalogs are read and carried out, so that no older table is bound last. Only
    /// threads that may wait take it.
    pub(super) catalogs: Mutex<Catalogs>,
    /// What the last reading brought, for those who must not wait.
    pub(super) known: RwLock<Arc<Known>>,
    pub(super) config: Config,
    pub(super) mountpoint: PathBuf,
    pub(super) passthrough: Arc<Passthrough>,
    pub(super) teller: Arc<dyn KernelSide>,
    pub(super) origin: Arc<HttpOrigin>,
    pub(super) started: SystemTime,
    pub(super) stop: watch::Sender<bool>,
}

impl Daemon {
    /// Reads the catalogs again and has everybody told what changed. Blocks on the disk.
    pub(super) fn look_again(&self) -> Change {
        let mut catalogs = self.catalogs.lock().unwrap_or_else(PoisonError::into_inner);
        let change = catalogs.reload();
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Known::of(&catalogs);
        self.carry_out(&change);
        change
    }

    /// Reads everything again that may change while the daemon runs, for an operator who asks for it.
    /// Blocks on the disk.
    pub(super) fn reread(&self) -> Change {
        self.origin.look_again();
        origins::warn(&self.config);
        self.look_again()
    }

    fn known(&self) -> Arc<Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has the cache and the kernel follow what the catalogs say now.
    fn carry_out(&self, change: &Change) {
        for problem in &change.problems {
            tracing::warn!("{problem}");
        }
        let diff = &change.diff;
        if diff.added.is_empty()
            && diff.removed.is_empty()
            && diff.changed.is_empty()
            && diff.aliases.is_empty()
        {
            return;
        }
        for name in self.cache.bind(table::of(&change.bindings)) {
            self.teller.leaving(&name);
        }
        self.teller.relisted();
        tracing::info!(
            added = diff.added.len(),
            removed = diff.removed.len(),
            changed = diff.changed.len(),
            names = change.bindings.len(),
            "catalogs read"
        );
    }

    fn name_status(
        &self,
        name: &Name,
        form: Form,
        entry: &Arc<Entry>,
        bindings: &Bindings,
    ) -> NameStatus {
        let binding = bindings.get(name.as_str());
        let version = entry.version().filter(|v| self.cache.ledger().contains(v.blob.id()));
        let error = failure(form, entry);
        let blob = version.as_ref().map(|version| &version.blob);
        let kept = entry.leftover().filter(|part| self.cache.ledger().contains(part.id));
        let reason = error.as_ref().map(|(_, error)| error);
        let state = state(entry, version.as_deref(), kept.is_some(), reason);
        let kept = kept.filter(|_| state == NameState::Kept);
        let present = present(version.as_deref(), kept.as_ref());
        NameStatus {
            name: name.clone(),
            state,
            conflict: binding.is_some_and(|b| b.conflict.is_some()),
            url: entry.source().shown_url(),
            length: blob
                .map_or(kept.as_ref().map(|part| part.length), |blob| blob.length())
                .map(Bytes),
            filled: Bytes(match (blob, &kept) {
                (Some(blob), _) => blob.filled(),
                (None, Some(part)) => part.present.iter().map(|(start, end)| end - start).sum(),
                (None, None) => 0,
            }),
            present,
            version: blob.map(|blob| blob.id().to_string()),
            etag: match &version {
                Some(version) => version.validators.etag.clone(),
                None => kept.and_then(|part| part.etag),
            },
            digest: version
                .as_ref()
                .filter(|version| version.complete())
                .and_then(|version| version.digest.as_ref().map(ToString::to_string)),
            pins: blob.map_or(0, |blob| u64::from(self.cache.ledger().pins(blob.id()))),
            validated_at: blob.and_then(|_| entry.validated_at()).map(Into::into),
            last_error: error.map(|error| last_error(name, error)),
            owners: binding
                .map(|b| b.owners.iter().map(|owner| owner.as_str().to_owned()).collect())
                .unwrap_or_default(),
            aliases: binding.map(|b| b.source.aliases.clone()).unwrap_or_default(),
            tree: match (form, blob) {
                (Form::Directory, Some(blob)) => Some(self.tree_status(blob.id())),
                _ => None,
            },
            form,
        }
    }

    fn tree_status(&self, blob: BlobId) -> TreeStatus {
        let tree = self.cache.known_tree(blob);
        let index = tree.as_ref().and_then(|tree| tree.index());
        TreeStatus {
            indexed: index.is_some(),
            // Its root is none.
            members: index.map(|index| u64::from(index.nodes()).saturating_sub(1)),
            unpacked: Bytes(self.cache.ledger().tree(blob)),
        }
    }

    fn space(&self) -> Space {
        let limits = self.cache.ledger().limits();
        let balance = self.cache.ledger().balance();
        Space {
            quota: Bytes(limits.quota),
            hard_limit: Bytes(limits.hard),
            min_free: Bytes(limits.min_free),
            disk_free: Bytes(self.store.disk().map_or(0, |(free, _)| free)),
            stored: Bytes(balance.stored),
            pinned: Bytes(balance.pinned + balance.held),
            idle: Bytes(balance.idle),
            condemned: Bytes(balance.condemned),
            trees: Bytes(balance.trees),
            reserved: Bytes(balance.reserved),
            blobs: balance.blobs,
        }
    }

    fn counters(&self) -> Counters {
        let (counters, origin) = (self.cache.counters(), self.origin.stats().snapshot());
        Counters {
            opens: counters.opens.get(),
            hits: counters.hits.get(),
            misses: counters.misses.get(),
            revalidations: counters.revalidations.get(),
            not_modified: origin.not_modified,
            stale_served: counters.stale_served.get(),
            bytes_from_origin: Bytes(counters.bytes_from_origin.get()),
            evictions: counters.evictions.get(),
            resumed: counters.resumed.get(),
            ranges_asked: origin.ranges,
            lied: origin.lied,
            evicted_bytes: Bytes(counters.evicted_bytes.get()),
            evicted_then_wanted_again: counters.evicted_then_wanted.get(),
            damaged: counters.damaged.get(),
            trees_indexed: counters.trees_indexed.get(),
            members_unpacked: counters.members_unpacked.get(),
            refusals: counters
                .refusals()
                .map(|(why, count)| (why.as_str().to_owned(), count))
                .collect(),
            origin_failures: origin
                .failures
                .into_iter()
                .map(|(kind, count)| (kind.to_owned(), count))
                .collect(),
        }
    }
}

/// Returns the first ranges of what is not whole.
fn present(version: Option<&Version>, kept: Option<&Leftover>) -> Vec<(u64, u64)> {
    match (version, kept) {
        (Some(version), _) if version.complete() => Vec::new(),
        (Some(version), _) => {
            let ranges = version.blob.present_ranges().into_iter().take(SHOWN_RANGES);
            ranges.map(|range| (range.start, range.end)).collect()
        }
        (None, Some(part)) => part.present.iter().copied().take(SHOWN_RANGES).collect(),
        (None, None) => Vec::new(),
    }
}

/// Returns why a name cannot be used in this form, and since when.
fn failure(form: Form, entry: &Entry) -> Option<(SystemTime, OpenError)> {
    match form {
        Form::File => entry.last_error(),
        Form::Directory => entry.tree_error(),
    }
}

fn last_error(name: &Name, (at, error): (SystemTime, OpenError)) -> LastError {
    LastError {
        name: name.clone(),
        kind: error.why.as_str().to_owned(),
        message: error.message,
        at: at.into(),
    }
}

fn state(
    entry: &Entry,
    version: Option<&Version>,
    kept: bool,
    error: Option<&OpenError>,
) -> NameState {
    use crate::metrics::Refusal;
    match (version, entry.flying()) {
        (None, true) => NameState::Fetching,
        (None, false) if error.is_some_and(|e| e.why == Refusal::Gone) => NameState::Gone,
        (None, false) if kept => NameState::Kept,
        (None, false) => NameState::Absent,
        (Some(version), _) if !version.complete() && version.digest.is_some() => {
            NameState::PartialUnverified
        }
        (Some(version), _) if !version.complete() => NameState::Partial,
        (Some(_), true) => NameState::Refreshing,
        (Some(_), false) if error.is_some_and(OpenError::excusable) => NameState::Stale,
        (Some(_), false) => NameState::Ready,
    }
}

impl Operator for Daemon {
    fn status(&self) -> Status {
        let known = self.known();
        let Known { bindings, problems, opinions } = &*known;
        let shown = self.cache.names();
        let rows = shown.downloads();
        let mut names = NameCounts { total: rows.len() as u64, ..NameCounts::default() };
        let mut errors = Vec::new();
        let mut flying = HashSet::new();
        for (name, form, entry) in rows {
            if entry.flying() {
                // A file and a directory may be one download.
                flying.insert(Arc::as_ptr(entry));
            }
            match entry.version() {
                Some(version) if version.complete() => names.ready += 1,
                Some(_) => names.fetching += 1,
                None if entry.flying() => names.fetching += 1,
                None => names.absent += 1,
            }
            errors.extend(failure(form, entry).map(|error| last_error(name, error)));
        }
        errors.sort_by_key(|error| std::cmp::Reverse(error.at));
        errors.truncate(LAST_ERRORS);
        let passthrough = self.passthrough.state();
        let counters = self.cache.counters();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started_at: Some(self.started.into()),
            mountpoint: self.mountpoint.clone(),
            store: self.config.store.clone(),
            control: self.config.control.clone(),
            passthrough: PassthroughStatus {
                on: passthrough.is_ok(),
                reason: passthrough.err().map(str::to_owned),
            },
            unwatched_callers_seen: counters.unwatchable_caller.load(Ordering::Relaxed),
            space: self.space(),
            counters: self.counters(),
            now: Now {
                open_handles: self.fs.handles() as u64,
                waiting_requests: counters.waiting.get(),
                flights: flying.len() as u64,
            },
            names,
            last_errors: errors,
            conflicts: conflicts(bindings),
            catalogs: opinions
                .iter()
                .cloned()
                .map(|(owner, path, names, ok)| CatalogStatus {
                    problem: problems
                        .iter()
                        .find(|problem| Some(&problem.file) == path.as_ref())
                        .map(ToString::to_string),
                    owner,
                    path,
                    names: names as u64,
                    state: if ok { CatalogState::Ok } else { CatalogState::NoOpinion },
                })
                .collect(),
            problems: problems
                .iter()
                .map(ToString::to_string)
                .chain(self.origin.problems())
                .chain(origins::unchecked(&self.config))
                .collect(),
        }
    }

    fn names(&self) -> Vec<NameStatus> {
        let known = self.known();
        let names = self.cache.names();
        let rows = names.downloads().into_iter();
        rows.map(|(name, form, entry)| self.name_status(name, form, entry, &known.bindings))
            .collect()
    }

    fn evict(&self, name: Name) -> Pending<'_, Result<Evicted, EvictRefused>> {
        Box::pin(async move {
            let refused = |reason, message| Err(EvictRefused { reason, message });
            let names = self.cache.names();
            let Some((_, entry)) = names.get(name.as_str()).and_then(Shown::download) else {
                let text = match self.known().bindings.alias(name.as_str()) {
                    Some(target) => format!(
                        "{name}: is an alias of `{target}`; evict that name: \
                         cached-downloads evict {target}"
                    ),
                    None => {
                        format!("{name}: no catalog binds this name; see `cached-downloads ls`")
                    }
                };
                return refused(EvictRefusal::UnknownName, text);
            };
            match self.cache.evict(entry).await {
                EvictOutcome::Evicted(bytes) => Ok(Evicted { name, freed: Bytes(bytes) }),
                EvictOutcome::Nothing => Ok(Evicted { name, freed: Bytes(0) }),
                EvictOutcome::Pinned(pins) => {
                    let text = format!(
                        "{name}: {pins} open handles or downloads hold it; close them first"
                    );
                    refused(EvictRefusal::Pinned, text)
                }
                EvictOutcome::Arriving => {
                    let text =
                        format!("{name}: its download is not done with it; try again in a moment");
                    refused(EvictRefusal::Pinned, text)
                }
                EvictOutcome::Held => {
                    let text = format!(
                        "{name}: the kernel holds it: a bind mount, a working directory, an O_PATH descriptor, or, with directories_only, an open file; release it first"
                    );
                    refused(EvictRefusal::Pinned, text)
                }
            }
        })
    }

    fn reload(&self) -> ReloadReport {
        let change = self.reread();
        ReloadReport {
            added: change.diff.added.len() as u64,
            removed: change.diff.removed.len() as u64,
            changed: change.diff.changed.len() as u64,
            problems: change.problems.iter().map(ToString::to_string).collect(),
        }
    }

    fn shutdown(&self) {
        // Nobody to tell means that it is stopping already.
        let _ = self.stop.send(true);
    }
}

fn conflicts(bindings: &Bindings) -> Vec<ConflictStatus> {
    let mut all = BTreeMap::new();
    for (name, binding) in bindings.names() {
        let Some(conflict) = &binding.conflict else { continue };
        let words = |owner: &crate::catalog::Owner| owner.as_str().to_owned();
        let status = ConflictStatus {
            name: name.clone(),
            in_force: binding.owners.iter().map(words).collect(),
            others: conflict.claims.iter().map(|claim| words(&claim.owner)).collect(),
        };
        all.insert(name, status);
    }
    all.into_values().collect()
}
