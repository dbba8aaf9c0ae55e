//! Holds the documents against the sources: the tests that `docs/semantics.md` names exist, and no
//! link between documents leads nowhere.

use std::collections::BTreeSet;
use std::path::Path;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns every source file below a directory as one text.
fn sources(dir: &str) -> String {
    let mut text = String::new();
    let mut open = vec![root().join(dir)];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).expect("list a directory").flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text.push_str(&read(&path));
            }
        }
    }
    text
}

/// Returns what stands between single backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// Says whether a quoted word is the name of a test, with or without its place: a sentence in
/// snake case. Keys and fields have at most three words.
fn is_test(word: &str) -> bool {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == ':';
    word.chars().all(legal) && (word.contains("::") || word.matches('_').count() >= 3)
}

#[test]
fn the_tests_that_prove_the_promises_exist() {
    let known = sources("src") + &sources("tests");
    // `fn name()`, or `name: ...` in a macro that makes tests.
    let exists = |test: &str| {
        known.contains(&format!("fn {test}(")) || known.contains(&format!("\n    {test}: "))
    };
    let text = read(&root().join("docs/semantics.md"));
    let named: BTreeSet<&str> = quoted(&text).filter(|word| is_test(word)).collect();
    let missing: Vec<&&str> = named
        .iter()
        .filter(|word| match word.strip_prefix("mounted::").filter(|rest| !rest.contains("::")) {
            Some(file) => !root().join(format!("tests/mounted/{file}.rs")).exists(),
            None => !exists(word.rsplit("::").next().unwrap_or(word)),
        })
        .collect();
    assert!(missing.is_empty(), "docs/semantics.md names tests that do not exist: {missing:#?}");
    assert!(named.len() > 50, "only {} tests are named", named.len());
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut documents = vec![root().join("README.md"), root().join("CHANGELOG.md")];
    let listed = std::fs::read_dir(root().join("docs")).expect("list docs");
    documents.extend(listed.flatten().map(|entry| entry.path()));
    let mut broken = Vec::new();
    for document in documents {
        let text = read(&document);
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => document.clone(),
                file => document.parent().unwrap_or(Path::new("")).join(file),
            };
            if !leads(&target, anchor) {
                broken.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// Says whether a file is there and has a heading of that anchor.
fn leads(target: &Path, anchor: &str) -> bool {
    let Ok(text) = std::fs::read_to_string(target) else { return false };
    let slug = |heading: &str| {
        let kept = heading.to_lowercase().replace(' ', "-");
        kept.replace(|c: char| !(c.is_alphanumeric() || c == '-' || c == '_'), "")
    };
    anchor.is_empty()
        || text
            .lines()
            .filter_map(|line| line.strip_prefix('#'))
            .any(|heading| slug(heading.trim_start_matches('#').trim()) == anchor)
}
