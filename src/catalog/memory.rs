//! What outlives the daemon: the bindings in force, and the last good state of each catalog.
//!
//! Both are needed to start beside a catalog that cannot be read: the names it last declared stay,
//! and a conflict goes on being settled the way it was. They are kept as parsed, since a binding in
//! force may stand in no file any more. The file is `catalogs.json`, readable by the daemon's
//! user alone: like the catalogs it may hold credentials.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::saved::SavedSource;
use super::{Binding, Bindings, CatalogFile, Opinion, Owner};
use crate::source::{Form, Source};
use crate::types::Name;

/// Changes whenever the format does; a file of another version is not read.
const VERSION: u32 = 1;

/// What was remembered.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Memory {
    /// The bindings in force, without conflicts and aliases: those follow from the opinions.
    pub(super) bindings: Bindings,
    /// What each owner last said.
    pub(super) last: BTreeMap<Owner, Arc<CatalogFile>>,
}

impl Memory {
    /// Forgets the names that were shown as files.
    pub(super) fn forget_files(&mut self) {
        let stays = |source: &Source| source.form == Form::Directory;
        self.bindings.names.retain(|_, binding| stays(&binding.source));
        // As if such an owner had never been heard: nothing is pruned for want of its names.
        self.last.retain(|_, file| file.bindings.values().all(|source| stays(source)));
    }
}

/// Reads what was remembered in a directory; nothing, if nothing was. Blocks on the disk.
///
/// # Errors
/// Says why the file cannot be used.
pub(super) fn load(dir: &Path) -> Result<Memory, String> {
    match std::fs::read(path(dir)) {
        Ok(bytes) => decode(&bytes),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Memory::default()),
        Err(e) => Err(e.to_string()),
    }
}

/// Puts what `encode` made where `load` finds it, durably and in one step. Blocks on the disk.
pub(super) fn store(dir: &Path, bytes: &[u8]) -> io::Result<()> {
    let private = dir.join("catalogs.json.new");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&private)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&private, path(dir))?;
    File::open(dir)?.sync_all()
}

/// Returns the file in a directory.
pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join("catalogs.json")
}

#[derive(Serialize, Deserialize)]
struct Saved {
    version: u32,
    /// Each source once, however many owners declare it; the numbers below are places in here.
    sources: Vec<SavedSource>,
    in_force: BTreeMap<Name, SavedBinding>,
    last: BTreeMap<Owner, SavedCatalog>,
}

#[derive(Serialize, Deserialize)]
struct SavedBinding {
    source: usize,
    owners: Vec<Owner>,
    declared_at: SystemTime,
}

#[derive(Serialize, Deserialize)]
struct SavedCatalog {
    declared_at: SystemTime,
    names: BTreeMap<Name, usize>,
}

/// Returns the bytes to remember. What the command line says is not: it says it anew each time.
///
/// # Errors
/// A path that is not UTF-8.
pub(super) fn encode(
    bindings: &Bindings,
    opinions: &BTreeMap<Owner, Opinion>,
) -> serde_json::Result<Vec<u8>> {
    let mut pool = Pool::default();
    let in_force = bindings
        .names()
        .map(|(name, binding)| {
            let saved = SavedBinding {
                source: pool.number(&binding.source),
                owners: binding.owners.clone(),
                declared_at: binding.declared_at,
            };
            (name.clone(), saved)
        })
        .collect();
    let command_line = Owner::command_line();
    let last = opinions
        .iter()
        .filter(|(owner, _)| **owner != command_line)
        .filter_map(|(owner, opinion)| Some((owner, opinion.file()?)))
        .map(|(owner, file)| {
            let number =
                |(name, source): (&Name, &Arc<Source>)| (name.clone(), pool.number(source));
            let saved = SavedCatalog {
                declared_at: file.declared_at,
                names: file.bindings.iter().map(number).collect(),
            };
            (owner.clone(), saved)
        })
        .collect();
    serde_json::to_vec(&Saved { version: VERSION, sources: pool.sources, in_force, last })
}

/// Returns what the bytes of [`encode`] say, or why they say nothing.
fn decode(bytes: &[u8]) -> Result<Memory, String> {
    let saved: Saved = serde_json::from_slice(bytes)
        .map_err(|e| format!("it is damaged at line {}, column {}", e.line(), e.column()))?;
    if saved.version != VERSION {
        return Err(format!("its version is {}, not {VERSION}", saved.version));
    }
    let sources: Vec<Arc<Source>> = saved
        .sources
        .into_iter()
        .map(|source| source.restore().map(Arc::new))
        .collect::<Result<_, _>>()?;
    let source = |at: usize| {
        let found = sources.get(at).cloned();
        found.ok_or_else(|| "it refers to a source that it lacks".to_owned())
    };
    let mut memory = Memory::default();
    for (name, saved) in saved.in_force {
        let binding = Binding {
            source: source(saved.source)?,
            owners: saved.owners,
            conflict: None,
            declared_at: saved.declared_at,
        };
        memory.bindings.names.insert(name, binding);
    }
    for (owner, saved) in saved.last {
        let names = saved.names.into_iter();
        let file = CatalogFile {
            owner: owner.clone(),
            bindings: names
                .map(|(name, at)| Ok((name, source(at)?)))
                .collect::<Result<_, String>>()?,
            declared_at: saved.declared_at,
        };
        memory.last.insert(owner, Arc::new(file));
    }
    Ok(memory)
}

/// Numbers sources by their address: most are both in force and in a catalog.
#[derive(Default)]
struct Pool {
    sources: Vec<SavedSource>,
    numbers: HashMap<*const Source, usize>,
}

impl Pool {
    fn number(&mut self, source: &Arc<Source>) -> usize {
        let next = self.sources.len();
        let number = *self.numbers.entry(Arc::as_ptr(source)).or_insert(next);
        if number == next {
            self.sources.push(SavedSource::of(source));
        }
        number
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::catalog::{Secrets, agree, parse};

    const TEXT: &[u8] = br#"
        [defaults]
        headers = { Authorization = "canary" }
        [downloads.a]
        url = "https://h/a?sig=canary"
        key = "k"
        size = 5
        revalidate = "5m"
        integrity = "eventual"
        aliases = ["x", "y"]
        allow_close_delimited = true
        stale_if_error = "1h"
        [downloads.b]
        url = "http://h/b"
        md5 = "900150983cd24fb0d6963f7d28e17f72"
        headers = { X-A = { file = "token" } }
    "#;

    fn opinions() -> BTreeMap<Owner, Opinion> {
        let owner = Owner::new("/c/a.toml");
        let at = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_234_567_891);
        let parsed =
            parse(owner.clone(), Path::new("/c/a.toml"), TEXT, at, &Secrets::Unchecked.into());
        [(owner, Opinion::Says(Arc::new(parsed.unwrap())))].into()
    }

    #[test]
    fn round_trip() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(dir.path()), Ok(Memory::default()));
        let opinions = opinions();
        let (bindings, _) = agree(&Bindings::default(), &opinions);
        let bytes = encode(&bindings, &opinions).unwrap();
        store(dir.path(), &bytes).unwrap();
        store(dir.path(), &bytes).unwrap();
        let memory = load(dir.path()).unwrap();
        assert_eq!(memory.bindings.names, bindings.names);
        let owner = Owner::new("/c/a.toml");
        assert_eq!(Some(&memory.last[&owner]), opinions[&owner].file());
        let source = &memory.bindings.names["a"].source;
        assert!(Arc::ptr_eq(source, &memory.last[&owner].bindings["a"]));
        let mode = std::fs::metadata(path(dir.path())).unwrap();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn damage_is_told_without_the_content() {
        let opinions = opinions();
        let (bindings, _) = agree(&Bindings::default(), &opinions);
        let bytes = encode(&bindings, &opinions).unwrap();
        for cut in 0..bytes.len() {
            let error = decode(&bytes[..cut]).unwrap_err();
            assert!(!error.contains("canary"), "{error}");
        }
        let text = String::from_utf8(bytes).unwrap();
        let other = text.replacen("\"version\":1", "\"version\":9", 1);
        assert_eq!(decode(other.as_bytes()).unwrap_err(), "its version is 9, not 1");
        let lacking = text.replacen("\"source\":0", "\"source\":99", 1);
        assert!(decode(lacking.as_bytes()).unwrap_err().contains("lacks"));
    }
}
