//! The catalogs of a daemon, read again and again.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::download::command_line;
use super::place::{Place, dir_of, list, owner_of, read, split};
use super::{
    Bindings, Diff, Download, Opinion, Owner, Problem, Rules, Watcher, agree, memory, parse,
};
use crate::digest::sha256_hex;

/// Why the daemon cannot start with these catalogs. One problem a line, none with a secret in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n"))]
pub struct CatalogError(pub Vec<Problem>);

/// What one reading of the catalogs brought.
#[derive(Clone, Debug)]
pub struct Change {
    /// What is in force now.
    pub bindings: Arc<Bindings>,
    /// What differs from before.
    pub diff: Diff,
    /// What is wrong with the catalogs now, old and new.
    pub problems: Vec<Problem>,
}

/// Files and directories of them, with what they said and what is in force.
pub struct Catalogs {
    places: Vec<Place>,
    rules: Rules,
    state_dir: PathBuf,
    opinions: BTreeMap<Owner, Opinion>,
    /// The last good content of each file by its hash, so that it is not parsed again.
    seen: BTreeMap<Owner, Seen>,
    bindings: Arc<Bindings>,
    problems: Vec<Problem>,
    /// The hash of what is remembered on disk.
    saved: String,
}

struct Seen {
    hash: String,
    changed: SystemTime,
}

impl Catalogs {
    /// Reads every catalog and settles what is in force, starting from what `state_dir` remembers.
    /// Blocks on the disk.
    ///
    /// # Errors
    /// A path that is missing; a file, given as itself and not through its directory, that is
    /// wrong; a name that `downloads` has twice. What is wrong within a directory is no error: it
    /// is among [`problems`](Catalogs::problems), and what that file last said still holds.
    pub fn open(
        paths: &[PathBuf],
        downloads: &[Download],
        rules: Rules,
        state_dir: &Path,
    ) -> Result<Catalogs, CatalogError> {
        let places = paths.iter().map(|path| Place::find(path));
        let (places, errors) = split(places);
        if !errors.is_empty() {
            return Err(CatalogError(errors));
        }
        let command_line = command_line(downloads).map_err(|e| CatalogError(vec![e]))?;
        let mut problems = Vec::new();
        let mut memory = memory::load(state_dir).unwrap_or_else(|e| {
            problems.push(Problem {
                file: memory::path(state_dir),
                line: None,
                text: format!("what was in force before the restart is lost: {e}"),
            });
            memory::Memory::default()
        });
        if rules.directories_only {
            // Another mount of this store may have shown files.
            memory.forget_files();
        }
        let mut catalogs = Catalogs {
            rules,
            state_dir: state_dir.to_owned(),
            opinions: memory
                .last
                .into_iter()
                .filter(|(owner, _)| places.iter().any(|place| place.has(owner)))
                .map(|(owner, file)| (owner, Opinion::Silent(Some(file))))
                .collect(),
            places,
            seen: BTreeMap::new(),
            bindings: Arc::new(memory.bindings),
            problems: Vec::new(),
            saved: String::new(),
        };
        if let Some(file) = command_line {
            let owner = file.owner.clone();
            catalogs.opinions.insert(owner, Opinion::Says(Arc::new(file)));
        }
        let change = catalogs.reload();
        let given: BTreeSet<&Path> = catalogs.places.iter().filter_map(Place::file).collect();
        let bad = change.problems.iter().filter(|problem| {
            given.contains(problem.file.as_path())
                && !matches!(
                    catalogs.opinions.get(&owner_of(&problem.file)),
                    Some(Opinion::Says(_))
                )
        });
        let bad: Vec<_> = bad.cloned().collect();
        if !bad.is_empty() {
            return Err(CatalogError(bad));
        }
        catalogs.problems.splice(0..0, problems);
        Ok(catalogs)
    }

    /// Returns what is in force.
    pub fn bindings(&self) -> &Arc<Bindings> {
        &self.bindings
    }

    /// Returns what is wrong with the catalogs, as of the last reading. Conflicts stand in the
    /// bindings.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Returns each owner with its file, how many names it declares, and whether it could be read.
    pub fn opinions(&self) -> Vec<(String, Option<PathBuf>, usize, bool)> {
        let line = |(owner, opinion): (&Owner, &Opinion)| {
            let path = (*owner != Owner::command_line()).then(|| PathBuf::from(owner.as_str()));
            let names = opinion.file().map_or(0, |file| file.bindings.len());
            (owner.as_str().to_owned(), path, names, matches!(opinion, Opinion::Says(_)))
        };
        self.opinions.iter().map(line).collect()
    }

    /// Calls `on_change`, from a thread of its own, at once and soon after anything may have changed,
    /// until the watcher is dropped. It should have [`reload`](Catalogs::reload) called.
    pub fn watch(&self, on_change: impl Fn() + Send + 'static) -> Watcher {
        let dirs = self.places.iter().map(|place| match place {
            Place::Dir(dir) => dir.clone(),
            Place::File(file) => dir_of(file).to_owned(),
        });
        Watcher::start(dirs.collect(), on_change)
    }

    /// Reads every catalog again and settles what is in force. Blocks on the disk; what did not
    /// change is not parsed again.
    pub fn reload(&mut self) -> Change {
        let mut problems = Vec::new();
        let mut opinions = BTreeMap::new();
        for place in std::mem::take(&mut self.places) {
            self.look(&place, &mut opinions, &mut problems);
            self.places.push(place);
        }
        let command_line = Owner::command_line();
        if let Some(opinion) = self.opinions.remove(&command_line) {
            opinions.insert(command_line, opinion);
        }
        self.seen.retain(|owner, _| opinions.contains_key(owner));
        let (bindings, clashes) = agree(&self.bindings, &opinions);
        problems.extend(clashes);
        let diff = bindings.since(&self.bindings);
        self.opinions = opinions;
        self.bindings = Arc::new(bindings);
        // Before anybody acts on it: a daemon that dies in between must not settle otherwise.
        if let Err(text) = self.remember() {
            problems.push(Problem { file: memory::path(&self.state_dir), line: None, text });
        }
        self.problems = problems.clone();
        Change { bindings: self.bindings.clone(), diff, problems }
    }

    fn look(
        &mut self,
        place: &Place,
        opinions: &mut BTreeMap<Owner, Opinion>,
        problems: &mut Vec<Problem>,
    ) {
        let dir = match place {
            Place::File(file) => {
                if let Some(opinion) = self.opinion(file, problems) {
                    opinions.insert(owner_of(file), opinion);
                }
                return;
            }
            Place::Dir(dir) => dir,
        };
        match list(dir, problems) {
            Ok(files) => {
                for file in files {
                    if let Some(opinion) = self.opinion(&file, problems) {
                        opinions.insert(owner_of(&file), opinion);
                    }
                }
            }
            Err(e) => {
                problems.push(Problem {
                    file: dir.clone(),
                    line: None,
                    text: format!(
                        "the catalog directory cannot be read, what it said last holds: {e}"
                    ),
                });
                let silent = self.opinions.iter().filter(|(owner, _)| place.has(owner));
                opinions.extend(silent.map(|(owner, opinion)| (owner.clone(), opinion.silenced())));
            }
        }
    }

    /// Returns what a file has to say; `None` when it is deleted.
    fn opinion(&mut self, path: &Path, problems: &mut Vec<Problem>) -> Option<Opinion> {
        let owner = owner_of(path);
        let last = self.opinions.get(&owner).and_then(|o| o.file().cloned());
        let (bytes, changed) = match read(path) {
            Ok(read) => read,
            Err(e) => {
                // A dangling symlink is there; a file whose directory is gone may be.
                let deleted = e.kind() == io::ErrorKind::NotFound
                    && path.symlink_metadata().is_err()
                    && dir_of(path).is_dir();
                if deleted {
                    return None;
                }
                let what = if last.is_some() { ", what it said last holds" } else { "" };
                problems.push(Problem {
                    file: path.to_owned(),
                    line: None,
                    text: format!("cannot be read{what}: {e}"),
                });
                return Some(Opinion::Silent(last));
            }
        };
        let hash = sha256_hex(&bytes);
        if let (Some(last), Some(seen)) = (&last, self.seen.get(&owner))
            && seen.hash == hash
            && seen.changed == changed
        {
            return Some(Opinion::Says(last.clone()));
        }
        match parse(owner.clone(), path, &bytes, changed, &self.rules) {
            Ok(file) => {
                self.seen.insert(owner, Seen { hash, changed });
                Some(Opinion::Says(Arc::new(file)))
            }
            Err(wrong) => {
                problems.extend(wrong);
                self.seen.remove(&owner);
                Some(Opinion::Silent(last))
            }
        }
    }

    fn remember(&mut self) -> Result<(), String> {
        let failed = |e: &dyn std::fmt::Display| format!("what is in force cannot be kept: {e}");
        let bytes = memory::encode(&self.bindings, &self.opinions).map_err(|e| failed(&e))?;
        let hash = sha256_hex(&bytes);
        if hash != self.saved {
            memory::store(&self.state_dir, &bytes).map_err(|e| failed(&e))?;
            self.saved = hash;
        }
        Ok(())
    }
}
