//! The tables that an index is made of. They hold numbers of each other, and few bytes a member.

use std::mem::size_of;

use super::super::stamp::Stamp;
use super::member::{Content, ContentNo, Kind, NodeAttr, NodeNo, Packed};

/// Where the bytes of the next content may begin.
const ALIGNMENT: u64 = 4096;

/// A name in a directory.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    /// The number of the directory among the directories.
    pub(super) dir: u32,
    pub(super) node: u32,
    pub(super) name_at: u32,
    pub(super) name_len: u8,
}

/// What a node is, and its number in the table of such things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Directory(u32),
    File(u32),
    /// Its target is in the index.
    Symlink(u32),
    /// Its target is a content.
    PackedSymlink(u32),
}

#[derive(Clone, Copy)]
pub(super) struct Node {
    pub(super) modified: Stamp,
    pub(super) shape: Shape,
    /// The directory of its first name, a number among the directories.
    pub(super) parent: u32,
    pub(super) executable: bool,
}

#[derive(Clone, Copy)]
pub(super) struct Dir {
    pub(super) node: u32,
    /// How many directories are in it.
    pub(super) dirs: u32,
    /// Its entries, once they are sorted.
    pub(super) first: u32,
    pub(super) count: u32,
}

#[derive(Clone, Copy)]
pub(super) struct Bytes {
    pub(super) content: Content,
    pub(super) links: u32,
}

#[derive(Clone, Copy)]
pub(super) struct Target {
    pub(super) at: u32,
    pub(super) len: u16,
    pub(super) links: u32,
}

#[derive(Clone)]
pub(super) struct Records {
    /// Names and targets, one behind the other.
    pub(super) text: Vec<u8>,
    pub(super) entries: Vec<Entry>,
    pub(super) nodes: Vec<Node>,
    pub(super) dirs: Vec<Dir>,
    pub(super) contents: Vec<Bytes>,
    pub(super) targets: Vec<Target>,
    /// The end of the last content's place.
    pub(super) unpacked: u64,
}

impl Records {
    /// Makes the tables of a tree with nothing in it.
    pub(super) fn new() -> Records {
        let mut records = Records::empty();
        records.dirs.push(Dir { node: 0, dirs: 0, first: 0, count: 0 });
        records.nodes.push(Node {
            modified: Stamp::NONE,
            shape: Shape::Directory(0),
            parent: 0,
            executable: true,
        });
        records
    }

    /// Makes tables without even a root.
    pub(super) fn empty() -> Records {
        Records {
            text: Vec::new(),
            entries: Vec::new(),
            nodes: Vec::new(),
            dirs: Vec::new(),
            contents: Vec::new(),
            targets: Vec::new(),
            unpacked: 0,
        }
    }

    pub(super) fn name(&self, entry: &Entry) -> &[u8] {
        self.text_at(entry.name_at, usize::from(entry.name_len))
    }

    fn text_at(&self, at: u32, len: usize) -> &[u8] {
        let at = at as usize;
        self.text.get(at..at + len).unwrap_or_default()
    }

    fn node(&self, node: NodeNo) -> Option<&Node> {
        self.nodes.get(node.0 as usize)
    }

    /// Returns the number of a node among the directories, if it is one.
    pub(super) fn dir_of(&self, node: NodeNo) -> Option<u32> {
        match self.node(node)?.shape {
            Shape::Directory(dir) => Some(dir),
            _ => None,
        }
    }

    /// Returns the entries of a directory of a sorted index.
    pub(super) fn sorted_entries(&self, dir: NodeNo) -> Option<&[Entry]> {
        let dir = self.dirs.get(self.dir_of(dir)? as usize)?;
        let first = dir.first as usize;
        self.entries.get(first..first + dir.count as usize)
    }

    pub(super) fn parent(&self, node: NodeNo) -> Option<NodeNo> {
        let parent = self.node(node)?.parent;
        self.dirs.get(parent as usize).map(|dir| NodeNo(dir.node))
    }

    pub(super) fn attr(&self, node: NodeNo) -> Option<NodeAttr> {
        let node = self.node(node)?;
        let (kind, size, links) = match node.shape {
            Shape::Directory(dir) => (Kind::Directory, 0, 2 + self.dirs.get(dir as usize)?.dirs),
            Shape::File(content) => {
                let bytes = self.contents.get(content as usize)?;
                (Kind::File, bytes.content.size, bytes.links)
            }
            Shape::Symlink(target) => {
                let target = self.targets.get(target as usize)?;
                (Kind::Symlink, u64::from(target.len), target.links)
            }
            Shape::PackedSymlink(content) => {
                let bytes = self.contents.get(content as usize)?;
                (Kind::Symlink, bytes.content.size, bytes.links)
            }
        };
        let mode = match kind {
            Kind::Symlink => 0o777,
            Kind::Directory => 0o555,
            Kind::File if node.executable => 0o555,
            Kind::File => 0o444,
        };
        Some(NodeAttr { kind, mode, size, modified: node.modified.time(), links })
    }

    pub(super) fn target(&self, node: NodeNo) -> Option<&[u8]> {
        let Shape::Symlink(target) = self.node(node)?.shape else { return None };
        let target = self.targets.get(target as usize)?;
        Some(self.text_at(target.at, usize::from(target.len)))
    }

    pub(super) fn content_of(&self, node: NodeNo) -> Option<ContentNo> {
        match self.node(node)?.shape {
            Shape::File(content) | Shape::PackedSymlink(content) => Some(ContentNo(content)),
            _ => None,
        }
    }

    pub(super) fn content(&self, content: ContentNo) -> Option<Content> {
        self.contents.get(content.0 as usize).map(|bytes| bytes.content)
    }

    /// Adds bytes that nobody names yet, and gives them a place where they need one. `None` where
    /// no file could hold them.
    pub(super) fn push_content(&mut self, size: u64, packed: Packed, name: u32) -> Option<u32> {
        let place = if packed.has_to_be_unpacked() { size } else { 0 };
        let end = self.unpacked.checked_add(place)?.checked_next_multiple_of(ALIGNMENT)?;
        let at = if place == 0 { 0 } else { self.unpacked };
        i64::try_from(end).ok()?;
        self.unpacked = end;
        let content = Content { size, packed, at, name };
        self.contents.push(Bytes { content, links: 0 });
        Some(self.contents.len() as u32 - 1)
    }

    /// Counts a name more, or less, of a node.
    pub(super) fn count_name(&mut self, node: u32, by: i32) {
        let Some(node) = self.nodes.get(node as usize) else { return };
        let links = match node.shape {
            // A directory has one name, and counts the directories in it.
            Shape::Directory(_) => self.dirs.get_mut(node.parent as usize).map(|d| &mut d.dirs),
            Shape::File(content) | Shape::PackedSymlink(content) => {
                self.contents.get_mut(content as usize).map(|bytes| &mut bytes.links)
            }
            Shape::Symlink(target) => {
                self.targets.get_mut(target as usize).map(|target| &mut target.links)
            }
        };
        if let Some(links) = links {
            *links = links.saturating_add_signed(by);
        }
    }

    /// Sorts the entries and tells each directory where its own are.
    pub(super) fn sort(&mut self) {
        let text = &self.text;
        let name = |entry: &Entry| {
            let at = entry.name_at as usize;
            text.get(at..at + usize::from(entry.name_len))
        };
        self.entries.sort_by(|a, b| a.dir.cmp(&b.dir).then_with(|| name(a).cmp(&name(b))));
        self.point_at_entries();
    }

    /// Tells each directory where its entries are, which stand together.
    pub(super) fn point_at_entries(&mut self) {
        for (at, entry) in (0..).zip(&self.entries) {
            if let Some(dir) = self.dirs.get_mut(entry.dir as usize) {
                dir.first = if dir.count == 0 { at } else { dir.first };
                dir.count += 1;
            }
        }
    }

    /// Gives back what the tables have reserved and do not use.
    pub(super) fn shrink(&mut self) {
        self.text.shrink_to_fit();
        self.entries.shrink_to_fit();
        self.nodes.shrink_to_fit();
        self.dirs.shrink_to_fit();
        self.contents.shrink_to_fit();
        self.targets.shrink_to_fit();
    }

    /// Returns the bytes that the tables need.
    pub(super) fn memory(&self) -> u64 {
        let bytes = self.text.len()
            + self.entries.len() * size_of::<Entry>()
            + self.nodes.len() * size_of::<Node>()
            + self.dirs.len() * size_of::<Dir>()
            + self.contents.len() * size_of::<Bytes>()
            + self.targets.len() * size_of::<Target>();
        (bytes + size_of::<Records>()) as u64
    }
}
