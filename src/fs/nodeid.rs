//! Nodeids: what the kernel keys its caches on.
//!
//! Each can be worked out again by a later process: a file's is made of its blob, a member's of the
//! number its tree's root was made for and of the member's place in the index.

use crate::tree::NodeNo;
use crate::types::{BlobId, Ino};

/// Set in the nodeids of trees; those of files stay far below, since a blob's number does.
const TREE: u64 = 1 << 62;

/// How many bits a node's number takes: an archive of more members is refused.
const NODE_BITS: u32 = 21;

/// What a nodeid stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The directory of all names.
    Root,
    /// A download shown as a file, or an alias.
    Name,
    /// A node of a tree: the number its root was made for, and the node.
    Tree(u64, NodeNo),
}

/// Says what a nodeid stands for.
pub(super) fn place(ino: Ino) -> Place {
    match ino {
        Ino::ROOT => Place::Root,
        Ino(id) if id & TREE != 0 => {
            let node = (id & ((1 << NODE_BITS) - 1)) as u32;
            Place::Tree((id & (TREE - 1)) >> NODE_BITS, NodeNo(node))
        }
        Ino(_) => Place::Name,
    }
}

/// Returns the nodeid of a node of a tree.
pub(super) fn member(number: u64, node: NodeNo) -> Ino {
    Ino(TREE | number << NODE_BITS | u64::from(node.0))
}

/// Returns the nodeid of a blob with gaps, or of one to come.
pub(super) fn partial(blob: BlobId) -> Ino {
    Ino(blob.0 * 2)
}

/// Returns the nodeid of a complete blob.
pub(super) fn whole(blob: BlobId) -> Ino {
    Ino(blob.0 * 2 + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_nodeid_says_what_it_was_made_of(number in 0u64..1 << 41, node in 0u32..1 << 21) {
            let ino = member(number, NodeNo(node));
            prop_assert_eq!(place(ino), Place::Tree(number, NodeNo(node)));
            // Programs that read it as a signed number see no negative one.
            prop_assert!(ino.0 < 1 << 63);
            for file in [partial(BlobId(number)), whole(BlobId(number))] {
                prop_assert!(file == Ino::ROOT || place(file) == Place::Name);
            }
        }
    }
}
