//! The index once the archive is read.

use super::super::error::TreeError;
use super::member::{Content, ContentNo, NodeAttr, NodeNo};
use super::records::Records;
use super::{decode, encode};

/// A complete index; immutable.
pub struct Index {
    /// The entries of each directory stand together, sorted by name.
    pub(super) records: Records,
}

impl Index {
    /// Returns how many nodes there are, the root and nodes whose name was taken included.
    pub fn nodes(&self) -> u32 {
        self.records.nodes.len() as u32
    }

    /// Returns how many contents there are.
    pub fn contents(&self) -> u32 {
        self.records.contents.len() as u32
    }

    /// Returns the node of a name in a directory.
    pub fn child(&self, dir: NodeNo, name: &[u8]) -> Option<NodeNo> {
        let entries = self.records.sorted_entries(dir)?;
        let found = entries.binary_search_by(|entry| self.records.name(entry).cmp(name)).ok()?;
        entries.get(found).map(|entry| NodeNo(entry.node))
    }

    /// Returns the children of a directory from the `skip`th on, in an order that stays, with their
    /// names.
    pub fn children(&self, dir: NodeNo, skip: usize) -> impl Iterator<Item = (NodeNo, &[u8])> {
        let entries = self.records.sorted_entries(dir).unwrap_or_default();
        entries.iter().skip(skip).map(|entry| (NodeNo(entry.node), self.records.name(entry)))
    }

    /// Returns the directory that a node lies in, of a node of several names that of the first; the
    /// root lies in itself.
    pub fn parent(&self, node: NodeNo) -> Option<NodeNo> {
        self.records.parent(node)
    }

    /// Returns the attributes of a node.
    pub fn attr(&self, node: NodeNo) -> Option<NodeAttr> {
        self.records.attr(node)
    }

    /// Returns where a symbolic link points; `None` where its content has to be read for it.
    pub fn target(&self, node: NodeNo) -> Option<&[u8]> {
        self.records.target(node)
    }

    /// Returns the number of the bytes of a file, or of a symbolic link whose target is packed.
    pub fn content_of(&self, node: NodeNo) -> Option<ContentNo> {
        self.records.content_of(node)
    }

    /// Returns the bytes of a file.
    pub fn content(&self, content: ContentNo) -> Option<Content> {
        self.records.content(content)
    }

    /// Returns the length of the tree's file once everything is unpacked.
    pub fn unpacked(&self) -> u64 {
        self.records.unpacked
    }

    /// Returns the memory it takes, in bytes.
    pub fn memory(&self) -> u64 {
        self.records.memory()
    }

    /// Writes it down in the form that [`decode`](Index::decode) reads, checksum included.
    pub fn encode(&self) -> Vec<u8> {
        encode::encode(&self.records)
    }

    /// Reads what [`encode`](Index::encode) wrote.
    ///
    /// # Errors
    /// Anything else, also a damaged or hostile one: no panic, no index that lies outside itself.
    pub fn decode(bytes: &[u8]) -> Result<Index, TreeError> {
        decode::decode(bytes).map(|records| Index { records })
    }
}
