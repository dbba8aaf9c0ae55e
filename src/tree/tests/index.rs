//! The index against a model of it, and its form on the disk.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::sound;
use crate::tree::{Builder, Index, Kind, Limits, Member, NodeNo, Packed, What};

/// A member before it borrows.
#[derive(Clone, Debug)]
struct Given {
    path: String,
    what: Kinds,
    executable: Option<bool>,
    modified: Option<(i64, u32)>,
}

#[derive(Clone, Debug)]
enum Kinds {
    Directory,
    File(u64, Packed),
    Symlink(String),
    PackedSymlink(u64, Packed),
    HardLink(String),
    Other,
}

impl Given {
    fn member(&self) -> Member<'_> {
        let what = match &self.what {
            Kinds::Directory => What::Directory,
            Kinds::File(size, packed) => What::File { size: *size, packed: *packed },
            Kinds::Symlink(target) => What::Symlink(target.as_bytes()),
            Kinds::PackedSymlink(size, packed) => {
                What::PackedSymlink { size: *size, packed: *packed }
            }
            Kinds::HardLink(target) => What::HardLink(target.as_bytes()),
            Kinds::Other => What::Other,
        };
        let (executable, modified) = (self.executable, self.modified);
        Member { path: self.path.as_bytes(), what, executable, modified }
    }
}

/// What a tree should hold: directories, and names of the members given (by their number).
#[derive(Clone, Debug, PartialEq)]
enum Thing {
    Directory(Option<(i64, u32)>),
    Leaf(usize),
}

type Model = BTreeMap<Vec<String>, Thing>;

/// Adds a member to the model as semantics say; `false` refuses the archive.
fn add(model: &mut Model, number: usize, given: &Given) -> bool {
    let parts = |path: &str| {
        let bad = path.is_empty() || path.starts_with('/') || path.split('/').any(|p| p == "..");
        let parts = path.split('/').filter(|p| !p.is_empty() && *p != ".").map(str::to_owned);
        (!bad).then(|| parts.collect::<Vec<_>>())
    };
    let Some(path) = parts(&given.path) else { return false };
    if let Kinds::Other = given.what {
        return true;
    }
    for depth in 1..path.len() {
        let above = model.entry(path[..depth].to_vec()).or_insert(Thing::Directory(None));
        if let Thing::Leaf(_) = above {
            return false;
        }
    }
    let leaf = match &given.what {
        Kinds::Directory => {
            let before = model.insert(path, Thing::Directory(given.modified));
            return !matches!(before, Some(Thing::Leaf(_)));
        }
        Kinds::HardLink(target) => match parts(target).and_then(|target| model.get(&target)) {
            Some(Thing::Leaf(leaf)) => *leaf,
            _ => return false,
        },
        _ => number,
    };
    !path.is_empty() && !matches!(model.insert(path, Thing::Leaf(leaf)), Some(Thing::Directory(_)))
}

/// Lists an index in the words of the model; leaves by their nodes.
fn list(index: &Index) -> BTreeMap<Vec<String>, NodeNo> {
    let mut found = BTreeMap::from([(Vec::new(), NodeNo::ROOT)]);
    let mut open = vec![(Vec::new(), NodeNo::ROOT)];
    while let Some((path, dir)) = open.pop() {
        for (node, name) in index.children(dir, 0) {
            let mut path: Vec<String> = path.clone();
            path.push(String::from_utf8(name.to_vec()).unwrap());
            found.insert(path.clone(), node);
            open.push((path, node));
        }
    }
    found
}

fn packed() -> impl Strategy<Value = Packed> {
    prop_oneof![
        Just(Packed::Streamed),
        any::<u64>().prop_map(|at| Packed::Plain { at }),
        any::<(u64, u32)>().prop_map(|(header, crc)| Packed::Stored { header, crc }),
        any::<(u64, u64, u32)>().prop_map(|(header, length, crc)| Packed::Deflated {
            header,
            length,
            crc
        }),
        Just(Packed::Encrypted),
        any::<u16>().prop_map(|method| Packed::Unknown { method }),
    ]
}

/// Paths that meet each other often, and are seldom refused.
fn path() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        30 => "[abc]",
        10 => "[a-z\u{fc}\u{4e2d} -]{1,9}",
        3 => Just(".".to_owned()),
        2 => Just(String::new()),
    ];
    let path = prop::collection::vec(part, 1..5).prop_map(|parts| parts.join("/"));
    prop_oneof![60 => path, 1 => "[./a]{0,6}"]
}

fn given() -> impl Strategy<Value = Given> {
    let size = prop_oneof![Just(0), 1..20_000u64];
    let what = prop_oneof![
        3 => Just(Kinds::Directory),
        6 => (size, packed()).prop_map(|(size, packed)| Kinds::File(size, packed)),
        2 => "[a-z/.]{1,9}".prop_map(Kinds::Symlink),
        1 => (1..4096u64, packed()).prop_map(|(size, packed)| Kinds::PackedSymlink(size, packed)),
        2 => path().prop_map(Kinds::HardLink),
        1 => Just(Kinds::Other),
    ];
    let modified = prop::option::of((-(1i64 << 31)..1 << 33, 0..1_000_000_000u32));
    (path(), what, any::<Option<bool>>(), modified)
        .prop_map(|(path, what, executable, modified)| Given { path, what, executable, modified })
}

/// Builds an index of the members up to the first that is refused.
fn build(members: &[Given]) -> Index {
    let mut builder = Builder::new(Limits::default(), None);
    for given in members {
        if builder.add(&given.member()).is_err() {
            break;
        }
    }
    builder.finish().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn an_index_is_what_the_model_says(members in prop::collection::vec(given(), 0..24)) {
        let mut model = Model::from([(Vec::new(), Thing::Directory(None))]);
        let mut builder = Builder::new(Limits::default(), None);
        let mut nodes = BTreeMap::new();
        let mut refused = false;
        for (number, given) in members.iter().enumerate() {
            let taken = builder.add(&given.member());
            refused = !add(&mut model, number, given);
            prop_assert_eq!(taken.is_err(), refused, "{:?}", taken);
            if refused {
                break;
            }
            let left_out = matches!(given.what, Kinds::Other);
            let node = taken.unwrap();
            prop_assert_eq!(node.is_none(), left_out);
            if let Some(node) = node {
                nodes.insert(number, node);
                // What is there can be asked for before the end.
                let names = given.path.split('/').filter(|p| !p.is_empty() && *p != ".");
                let found = names.fold(NodeNo::ROOT, |dir, name| {
                    builder.child(dir, name.as_bytes()).unwrap()
                });
                prop_assert_eq!(found, node);
            }
        }
        let before: Vec<_> = nodes.values().map(|node| builder.attr(*node)).collect();
        let index = builder.finish().unwrap();
        sound::check(&index);
        let after: Vec<_> = nodes.values().map(|node| index.attr(*node)).collect();
        prop_assert_eq!(before, after);
        if refused {
            return Ok(());
        }
        let listed = list(&index);
        prop_assert!(listed.keys().eq(model.keys()));
        for (path, thing) in &model {
            let node = listed[path];
            let attr = index.attr(node).unwrap();
            match thing {
                Thing::Directory(modified) => {
                    prop_assert_eq!(attr.kind, Kind::Directory);
                    prop_assert_eq!(attr.modified.is_some(), modified.is_some());
                }
                Thing::Leaf(number) => {
                    prop_assert_eq!(node, nodes[number]);
                    let links = model.values().filter(|other| *other == thing).count();
                    prop_assert_eq!(attr.links as usize, links);
                    let mode = match (&members[*number].what, members[*number].executable) {
                        (Kinds::Symlink(_) | Kinds::PackedSymlink(..), _) => 0o777,
                        (_, Some(false)) => 0o444,
                        _ => 0o555,
                    };
                    prop_assert_eq!(attr.mode, mode);
                }
            }
        }
    }

    #[test]
    fn an_index_comes_back_as_it_was(members in prop::collection::vec(given(), 0..24)) {
        let index = build(&members);
        let again = Index::decode(&index.encode()).unwrap();
        sound::check(&again);
        prop_assert_eq!(list(&index), list(&again));
        for node in (0..index.nodes()).map(NodeNo) {
            prop_assert_eq!(index.attr(node), again.attr(node));
            prop_assert_eq!(index.target(node), again.target(node));
            prop_assert_eq!(index.parent(node), again.parent(node));
            let content = |index: &Index| index.content_of(node).and_then(|c| index.content(c));
            prop_assert_eq!(content(&index), content(&again));
        }
        let sizes = |index: &Index| (index.nodes(), index.contents(), index.unpacked());
        prop_assert_eq!(sizes(&index), sizes(&again));
        prop_assert_eq!(index.encode(), again.encode());
    }

    #[test]
    fn no_bytes_make_an_index_that_contradicts_itself(
        members in prop::collection::vec(given(), 1..12),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
        seal in prop::bool::weighted(0.9),
    ) {
        let whole = build(&members).encode();
        let mut bytes = whole.clone();
        bytes.truncate(cut.map_or(bytes.len(), |cut| cut.index(bytes.len())));
        for (at, byte) in changes {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        // As somebody would write it who knows the form.
        if seal && bytes.len() >= 4 {
            let body = bytes.len() - 4;
            let sum = crc32c::crc32c(&bytes[..body]).to_le_bytes();
            bytes[body..].copy_from_slice(&sum);
        }
        match Index::decode(&bytes) {
            Ok(index) => sound::check(&index),
            Err(_) => prop_assert!(bytes != whole),
        }
    }
}

#[test]
fn names_that_are_no_text_are_shown_escaped_and_long_ones_cut() {
    let mut builder = Builder::new(Limits::default(), None);
    let refused = |builder: &mut Builder, path: &[u8]| {
        let (executable, modified) = (None, None);
        let member = Member { path, what: What::Directory, executable, modified };
        builder.add(&member).unwrap_err().message
    };
    let message = refused(&mut builder, b"../\xff\n\x1b[31m\xc3\xbc");
    assert!(message.contains("\"../\\xff\\n\\u{1b}[31m\u{fc}\""), "{message}");
    let message = refused(&mut builder, &[b"/".repeat(300), b"end".to_vec()].concat());
    assert!(message.len() < 500 && message.contains("\" ... \"") && message.contains("end\""));
}
