//! What holds of every index, however it came about.

use std::collections::BTreeMap;

use crate::tree::{ContentNo, Index, Kind, NodeNo, Packed};

/// Checks everything that an index says of itself against the rest of it.
pub(super) fn check(index: &Index) {
    assert!((1..=NodeNo::END).contains(&index.nodes()));
    let mut names = BTreeMap::<NodeNo, u32>::new();
    let mut open = vec![NodeNo::ROOT];
    let mut directories = 0;
    while let Some(dir) = open.pop() {
        directories += 1;
        let children: Vec<_> = index.children(dir, 0).collect();
        assert!(children.windows(2).all(|pair| pair[0].1 < pair[1].1), "sorted, none twice");
        let mut inner = 0;
        for (at, (node, name)) in children.iter().enumerate() {
            assert_eq!(index.child(dir, name), Some(*node));
            assert_eq!(index.children(dir, at).next(), Some((*node, *name)));
            assert!((1..=255).contains(&name.len()) && *name != b"." && *name != b"..");
            assert!(!name.contains(&b'/') && !name.contains(&0));
            if index.attr(*node).unwrap().kind == Kind::Directory {
                assert_eq!(index.parent(*node), Some(dir));
                open.push(*node);
                inner += 1;
            }
            *names.entry(*node).or_default() += 1;
        }
        assert_eq!(index.attr(dir).unwrap().links, 2 + inner);
        assert!(index.children(dir, children.len()).next().is_none());
        for strange in [&b""[..], b"/", b"a/b", b"\0", &[b'x'; 300]] {
            assert_eq!(index.child(dir, strange), None);
        }
    }
    assert_eq!(index.parent(NodeNo::ROOT), Some(NodeNo::ROOT));
    assert!(!names.contains_key(&NodeNo::ROOT));
    let mut contents = BTreeMap::new();
    for node in (0..index.nodes()).map(NodeNo) {
        let attr = index.attr(node).unwrap();
        let parent = index.parent(node).unwrap();
        assert_eq!(index.attr(parent).unwrap().kind, Kind::Directory);
        if attr.kind == Kind::Directory {
            directories -= 1;
            assert!(index.content_of(node).is_none() && index.target(node).is_none());
            continue;
        }
        assert_eq!(attr.links, names.get(&node).copied().unwrap_or(0));
        assert!(index.children(node, 0).next().is_none() && index.child(node, b"a").is_none());
        if let Some(target) = index.target(node) {
            assert_eq!((attr.kind, attr.size), (Kind::Symlink, target.len() as u64));
            assert!((1..=4095).contains(&target.len()) && !target.contains(&0));
            continue;
        }
        let content = index.content_of(node).expect("bytes");
        assert_eq!(index.content(content).unwrap().size, attr.size);
        assert!(contents.insert(content, node).is_none(), "two nodes share bytes");
    }
    assert_eq!(directories, 0, "every directory is reached from the root");
    check_places(index);
    let end = NodeNo(index.nodes());
    assert!(index.attr(end).is_none() && index.parent(end).is_none());
    assert!(index.content(ContentNo(index.contents())).is_none());
}

/// Checks that unpacked bytes do not overlap.
fn check_places(index: &Index) {
    let mut end = 0;
    for number in 0..index.contents() {
        let content = index.content(ContentNo(number)).unwrap();
        match content.packed {
            Packed::Deflated { .. } | Packed::Streamed if content.size > 0 => {
                assert_eq!(content.at % 4096, 0);
                assert!(content.at >= end, "places overlap");
                end = content.at + content.size;
            }
            _ => assert_eq!(content.at, 0),
        }
    }
    assert!(index.unpacked() >= end && index.unpacked() < end + 4096);
}
