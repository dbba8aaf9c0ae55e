//! Everything that the program shows, to be searched for what it must not show.

use std::path::{Path, PathBuf};

use super::{Mounted, os, process};

/// One thing that was shown, and how it came about.
pub(crate) struct Output {
    what: String,
    text: String,
}

/// Returns what the daemon and the client verbs show: the log, the status, the lists, the errors,
/// the extended attributes of these names, what the checks say of the files that it was started
/// with, and what else than bodies and the catalogs lies in the store.
pub(crate) fn all(mounted: &Mounted, names: &[&str], config: &Path) -> Vec<Output> {
    let mut outputs = vec![Output { what: "the log".to_owned(), text: mounted.log() }];
    let mut say = |what: String, text: String| outputs.push(Output { what, text });
    let both = |output: std::process::Output| {
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    for verb in [&["status"][..], &["status", "--json"], &["ls"], &["ls", "--json"]] {
        say(verb.join(" "), both(mounted.client(verb)));
    }
    for name in names {
        for key in ["url", "state", "version", "etag", "digest", "error"] {
            let value = os::xattr(&mounted.path(name), &format!("user.cached_downloads.{key}"));
            say(format!("the xattr {key} of {name}"), value.unwrap_or_default());
        }
        // Held, so that it is refused; and then not.
        let held = std::fs::File::open(mounted.path(name));
        say(format!("evict {name}, held"), both(mounted.client(&["evict", name])));
        drop(held);
        say(format!("evict {name}"), both(mounted.client(&["evict", name])));
    }
    let catalogs = std::fs::read_dir(mounted.catalog_path("")).into_iter().flatten().flatten();
    let catalogs: Vec<_> = catalogs.map(|entry| entry.path()).collect();
    let check = |what: &str, files: &[PathBuf]| {
        let args = [what.as_ref(), "check".as_ref(), "--config".as_ref(), config].into_iter();
        let files = files.iter().map(PathBuf::as_path);
        both(process::run(env!("CARGO_BIN_EXE_cached-downloads"), args.chain(files)))
    };
    say("catalog check".to_owned(), check("catalog", &catalogs));
    say("config check".to_owned(), check("config", &[]));
    for (what, text) in sidecars(mounted.store()) {
        say(what, text);
    }
    // Once more: what was done meanwhile was logged as well.
    say("the log at the end".to_owned(), mounted.log());
    outputs
}

/// Holds outputs against what must not be in any of them.
///
/// # Panics
/// One of the secrets appears somewhere.
#[track_caller]
pub(crate) fn assert_silent(outputs: &[Output], secrets: &[&str]) {
    for Output { what, text } in outputs {
        for secret in secrets {
            if let Some(line) = text.lines().find(|line| line.contains(secret)) {
                panic!("{what} shows `{secret}`: {line}");
            }
        }
    }
    for Output { what, text } in outputs.iter().filter(|output| !output.what.contains("xattr")) {
        assert!(!text.is_empty(), "{what} shows nothing at all");
    }
}

/// Returns the files of the store that are neither bodies nor the catalogs, which only the daemon's
/// user can read.
fn sidecars(store: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open = vec![store.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if path.is_dir() {
                open.push(path);
            } else if name != "catalogs.json" && (name.contains('.') || name == "state") {
                let bytes = std::fs::read(&path).unwrap_or_default();
                let text = String::from_utf8_lossy(&bytes).into_owned();
                found.push((format!("{name} in the store"), text));
            }
        }
    }
    found
}
