//! Holds the map of the rooms against what the sources name. A room is a module at the top of
//! `src`; an arrow says which rooms its code may name. The map is explained in
//! `docs/architecture.md`; a change here is a change there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Room, then the rooms it may name besides [`LEAVES`]. `room::Item` allows that item alone.
const ARROWS: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    ("cli", &["daemon", "demo", "control", "config", "catalog", "supervisor", "telemetry"]),
    ("supervisor", &["daemon", "config", "control"]),
    (
        "daemon",
        &[
            "kernel",
            "fs",
            "cache",
            "origin",
            "store",
            "control",
            "config",
            "catalog",
            "tree",
            "telemetry",
        ],
    ),
    ("demo", &["control"]),
    ("control", &[]),
    ("telemetry", &["config::LogFormat"]),
    ("config", &["catalog", "document", "tree::Limits"]),
    ("catalog", &["document"]),
    ("document", &[]),
    // The cache calls the kernel's side of it through a trait of its own.
    ("kernel", &["fs", "cache::KernelSide"]),
    ("fs", &["cache", "tree", "store::Blob", "store::Broken", "store::WaitError"]),
    ("cache", &["origin", "store", "tree", "catalog"]),
    ("tree", &["store::Blob", "store::Broken", "store::Canopy", "store::WaitError"]),
    ("origin", &[]),
    ("store", &[]),
];

/// Rooms that anyone may name. They name each other at most.
const LEAVES: &[&str] = &[
    "types",
    "source",
    "route",
    "digest",
    "validators",
    "lifetime",
    "luck",
    "metrics",
    "mount",
    "sys",
];

/// A crate and the only room that may name it.
const CRATES: &[(&str, &str)] = &[("fuser", "kernel"), ("reqwest", "origin")];

/// Reads every source file as (room, path, text without comments, strings and tests). A test may
/// name any room.
fn sources() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut open = vec![root.clone()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).expect("list src").flatten() {
            let path = entry.path();
            if path.file_stem().is_some_and(|stem| stem == "tests") {
                continue;
            }
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let inside = path.strip_prefix(&root).expect("a path below src");
                let first = inside.components().next().expect("a component");
                let room = Path::new(first.as_os_str()).with_extension("");
                let text = std::fs::read_to_string(&path).expect("read a source file");
                found.push((room.display().to_string(), path, bare(&text)));
            }
        }
    }
    found
}

/// Returns a file's text up to its tests, without comments and string literals.
fn bare(text: &str) -> String {
    let code = match text.find("#[cfg(test)]\nmod ") {
        Some(at) if text[at..].contains("{\n") => &text[..at],
        _ => text,
    };
    let mut out = String::new();
    for line in code.lines() {
        let line = line.split("//").next().unwrap_or("");
        // Every second piece between quotes is the inside of a literal.
        let pieces = line.split('"').step_by(2);
        out.extend(pieces);
        out.push('\n');
    }
    out
}

/// Returns what follows each `crate::`, groups taken apart: `store::Blob`, `types`, ...
fn named(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        if text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        expand(&text[at + "crate::".len()..], "", &mut names);
    }
    names
}

/// Adds the path at the start of `text`, or each path of the group there.
fn expand(text: &str, prefix: &str, names: &mut BTreeSet<String>) {
    let Some(group) = text.strip_prefix('{') else {
        let end = text
            .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
            .unwrap_or(text.len());
        let path = &text[..end];
        match path.strip_suffix("::") {
            // A group inside a path: its items matter only where single items are allowed.
            Some(outer) if text[end..].starts_with('{') => {
                expand(&text[end..], &format!("{prefix}{outer}::"), names);
            }
            _ => {
                names.insert(format!("{prefix}{path}"));
            }
        }
        return;
    };
    let mut depth = 0;
    let mut start = 0;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            '}' | ',' if depth == 0 => {
                let part = group[start..at].trim();
                if !part.is_empty() {
                    expand(part, prefix, names);
                }
                start = at + 1;
                if c == '}' {
                    return;
                }
            }
            _ => {}
        }
    }
}

fn arrows(room: &str) -> Option<&'static [&'static str]> {
    ARROWS.iter().find(|(from, _)| *from == room).map(|(_, to)| *to)
}

fn allowed(room: &str, path: &str) -> bool {
    let mut parts = path.split("::");
    let target = parts.next().unwrap_or("");
    let item = parts.next().unwrap_or("");
    // Leaves name leaves; `crate::Something` at the root is no room.
    target == room
        || target.starts_with(char::is_uppercase)
        || LEAVES.contains(&target)
        || arrows(room).is_some_and(|to| {
            to.iter().any(|arrow| match arrow.split_once("::") {
                None => *arrow == target,
                Some((room, only)) => room == target && only == item,
            })
        })
}

#[test]
fn rooms_name_only_what_the_map_allows() {
    let mut wrong = Vec::new();
    for (room, file, text) in sources() {
        if room == "lib" {
            continue;
        }
        if arrows(&room).is_none() && !LEAVES.contains(&room.as_str()) {
            wrong.push(format!("{}: `{room}` is not on the map", file.display()));
        }
        for path in named(&text) {
            if !allowed(&room, &path) {
                wrong.push(format!("{}: `{room}` names crate::{path}", file.display()));
            }
        }
        for (library, home) in CRATES {
            if room != *home && text.contains(&format!("{library}::")) {
                wrong.push(format!("{}: only `{home}` names {library}", file.display()));
            }
        }
        let unsafe_code = text.contains("unsafe {") || text.contains("unsafe fn");
        if room != "sys" && unsafe_code {
            wrong.push(format!("{}: unsafe code outside sys.rs", file.display()));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_map_has_no_circle() {
    fn reaches(from: &str, goal: &str, seen: &mut Vec<&'static str>) -> bool {
        arrows(from).unwrap_or(&[]).iter().any(|arrow| {
            let next = arrow.split("::").next().unwrap_or(arrow);
            next == goal
                || (!seen.contains(&next) && {
                    seen.push(next);
                    reaches(next, goal, seen)
                })
        })
    }
    for (room, _) in ARROWS {
        assert!(!reaches(room, room, &mut Vec::new()), "`{room}` leads back to itself");
    }
}

#[test]
fn groups_are_taken_apart() {
    let text = "use crate::{a::{B, c::D}, e};\nlet x = crate::f::g();\nuse crate::h::{I, J};";
    let names: Vec<String> = named(text).into_iter().collect();
    assert_eq!(names, ["a::B", "a::c::D", "e", "f::g", "h::I", "h::J"]);
}
