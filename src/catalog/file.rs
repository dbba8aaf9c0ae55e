//! One catalog file, parsed whole.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::item::{self, Keys, quoted};
use super::{Owner, Problem, Rules};
use crate::document::{Format, Item, Reader, Table};
use crate::source::Source;
use crate::types::Name;

/// What one owner declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogFile {
    /// Whose file it is.
    pub owner: Owner,
    /// The names it binds.
    pub bindings: BTreeMap<Name, Arc<Source>>,
    /// When the file was last changed.
    pub declared_at: SystemTime,
}

/// Parses a catalog: JSON where `path` ends so, else TOML.
///
/// `[downloads]` must be there, if only empty: a file that a writer has just truncated must not be
/// taken for one that withdraws everything.
///
/// # Errors
/// Everything that is wrong, each with its line. Nothing of the file then counts.
pub fn parse(
    owner: Owner,
    path: &Path,
    bytes: &[u8],
    declared_at: SystemTime,
    rules: &Rules,
) -> Result<CatalogFile, Vec<Problem>> {
    let format = Format::of(path).unwrap_or(Format::Toml);
    let mut reader = Reader::new(path);
    let mut bindings = BTreeMap::new();
    if let Some(root) = reader.parse(format, bytes) {
        let (defaults, downloads) = top(&mut reader, &root, rules);
        for download in downloads.map(|t| t.0.as_slice()).unwrap_or_default() {
            bindings.extend(
                bind(&mut reader, download, format, &defaults, rules)
                    .map(|(name, source)| (name, Arc::new(source))),
            );
        }
        aliases(&mut reader, downloads, &bindings);
    }
    if !reader.problems.is_empty() {
        return Err(reader.problems);
    }
    Ok(CatalogFile { owner, bindings, declared_at })
}

/// Reads the two tables a catalog consists of.
fn top<'t>(reader: &mut Reader<'_>, root: &'t Table, rules: &Rules) -> (Keys, Option<&'t Table>) {
    let mut defaults = Keys::default();
    let mut downloads = None;
    for item in &root.0 {
        match item.key.as_str() {
            "defaults" => {
                if let Some(table) = reader.take(item, item.table()) {
                    defaults = item::defaults(reader, table, rules);
                }
            }
            "downloads" => downloads = Some(reader.take(item, item.table())),
            _ => reader.unknown(item, "a catalog", &["downloads", "defaults"]),
        }
    }
    if downloads.is_none() {
        reader.at(1, "has no [downloads]; a catalog that declares nothing has an empty one");
    }
    (defaults, downloads.flatten())
}

/// Reads one item of `[downloads]`.
fn bind(
    reader: &mut Reader<'_>,
    item: &Item,
    format: Format,
    defaults: &Keys,
    rules: &Rules,
) -> Option<(Name, Source)> {
    let Ok(table) = item.table() else {
        reader.at(
            item.line,
            format!(
                "[downloads.{}] must be a table with a `url`, not {}",
                quoted(&item.key),
                item.value.kind()
            ),
        );
        return None;
    };
    if format == Format::Toml {
        let dotted: Vec<_> = dotted_names(&item.key, table).collect();
        for (line, name) in &dotted {
            reader.at(
                *line,
                format!(
                    "the name `{0}` has dots and must be quoted: [downloads.\"{0}\"]",
                    name.escape_debug()
                ),
            );
        }
        if !dotted.is_empty() {
            return None;
        }
    }
    let name = match item.key.parse::<Name>() {
        Ok(name) => name,
        Err(e) => {
            reader.at(item.line, e.to_string());
            return None;
        }
    };
    item::source(reader, &name, item.line, table, defaults, rules).map(|source| (name, source))
}

/// Returns the names with unquoted dots, which TOML reads as tables in tables:
/// `[downloads.jdk-17.tgz]` is the table `tgz` in the table `jdk-17`.
fn dotted_names(key: &str, table: &Table) -> impl Iterator<Item = (usize, String)> {
    table.0.iter().filter(|inner| !item::KEYS.contains(&inner.key.as_str())).filter_map(
        move |inner| {
            let mut next = inner.table().ok()?;
            let mut name = format!("{key}.{}", inner.key);
            while let [only] = next.0.as_slice()
                && !item::KEYS.contains(&only.key.as_str())
                && let Ok(deeper) = only.table()
            {
                name = format!("{name}.{}", only.key);
                next = deeper;
            }
            Some((inner.line, name))
        },
    )
}

/// Refuses an alias that is also a name, or another name's alias.
fn aliases(
    reader: &mut Reader<'_>,
    downloads: Option<&Table>,
    bindings: &BTreeMap<Name, Arc<Source>>,
) {
    let lines: HashMap<&str, usize> = downloads
        .iter()
        .flat_map(|table| &table.0)
        .map(|item| (item.key.as_str(), item.line))
        .collect();
    let mut taken: HashMap<&Name, &Name> = HashMap::new();
    for (name, source) in bindings {
        for alias in &source.aliases {
            let what = if lines.contains_key(alias.as_str()) {
                "is also the name of a download".to_owned()
            } else if let Some(other) = taken.insert(alias, name) {
                format!("is also an alias of `{other}`")
            } else {
                continue;
            };
            let line = lines.get(name.as_str()).copied().unwrap_or(1);
            reader.at(line, format!("the alias `{alias}` of `{name}` {what}"));
        }
    }
}
