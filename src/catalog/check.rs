//! `catalog check`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Bindings, Opinion, Owner, Problem, Report, Rules, agree, parse, place};

/// Checks catalogs, each alone and all together: files, and those that a directory holds. Blocks
/// on the disk.
///
/// `rules` are those of the mount they are meant for.
pub fn check(paths: &[PathBuf], rules: &Rules) -> Report {
    let mut problems = Vec::new();
    let mut opinions = BTreeMap::new();
    let files = files_of(paths, &mut problems);
    for path in &files {
        let owner = Owner::new(&path.to_string_lossy());
        match place::read(path) {
            Err(e) => problems.push(Problem {
                file: path.clone(),
                line: None,
                text: format!("cannot be read: {e}"),
            }),
            Ok((bytes, changed)) => match parse(owner.clone(), path, &bytes, changed, rules) {
                Err(wrong) => problems.extend(wrong),
                Ok(file) => {
                    opinions.insert(owner, Opinion::Says(Arc::new(file)));
                }
            },
        }
    }
    let (bindings, clashes) = agree(&Bindings::default(), &opinions);
    problems.extend(clashes);

    let mut text = String::new();
    for problem in &problems {
        let _ = writeln!(text, "{problem}");
    }
    for (name, binding) in bindings.names() {
        let Some(conflict) = &binding.conflict else {
            continue;
        };
        let owner = binding.owners.first().map_or("nobody", Owner::as_str);
        let url = binding.source.shown_url();
        let _ = writeln!(
            text,
            "conflict: `{name}`: {owner} declares {url}, {conflict}; \
             the one in force stays until they agree"
        );
    }
    let _ = writeln!(
        text,
        "{}, {}, {}, {}, {}",
        count(files.len(), "file"),
        count(bindings.len(), "name"),
        count(bindings.aliases().len(), "alias"),
        count(problems.len(), "problem"),
        count(bindings.conflicts(), "conflict"),
    );
    Report { fine: problems.is_empty() && bindings.conflicts() == 0, text }
}

/// Returns the files, each once, with every directory replaced by the catalogs in it.
fn files_of(paths: &[PathBuf], problems: &mut Vec<Problem>) -> BTreeSet<PathBuf> {
    let mut files = BTreeSet::new();
    for path in paths {
        if !path.is_dir() {
            files.insert(path.clone());
            continue;
        }
        match place::list(path, problems) {
            Ok(found) => files.extend(found),
            Err(e) => problems.push(Problem {
                file: path.clone(),
                line: None,
                text: format!("the catalog directory cannot be read: {e}"),
            }),
        }
    }
    files
}

fn count(n: usize, what: &str) -> String {
    let plural = match what {
        _ if n == 1 => "",
        "alias" => "es",
        _ => "s",
    };
    format!("{n} {what}{plural}")
}
