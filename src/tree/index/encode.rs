//! An index as bytes. Only what cannot be worked out is written: counts of links, the place of
//! each content and where the entries of a directory begin follow from the rest.
//!
//! Little-endian: the magic, the number of rows of each table, the tables one behind the other,
//! CRC32C of all that.

use super::member::Packed;
use super::records::{Records, Shape};

/// What a file of this form begins with; its last byte is the form's number.
pub(super) const MAGIC: &[u8; 8] = b"cdtree\0\x01";

/// The bytes of the magic and the number of rows.
pub(super) const HEAD: usize = 8 + 5 * 4;

/// The bytes of one row of each table.
pub(super) const ENTRY: usize = 13;
pub(super) const NODE: usize = 18;
pub(super) const CONTENT: usize = 33;
pub(super) const TARGET: usize = 6;

/// Kinds of nodes, as numbers.
pub(super) const DIRECTORY: u8 = 0;
pub(super) const FILE: u8 = 1;
pub(super) const SYMLINK: u8 = 2;
pub(super) const PACKED_SYMLINK: u8 = 3;

/// Kinds of packing, as numbers.
pub(super) const PLAIN: u8 = 0;
pub(super) const STORED: u8 = 1;
pub(super) const DEFLATED: u8 = 2;
pub(super) const STREAMED: u8 = 3;
pub(super) const ENCRYPTED: u8 = 4;
pub(super) const UNKNOWN: u8 = 5;

pub(super) fn encode(records: &Records) -> Vec<u8> {
    let length = HEAD
        + records.text.len()
        + records.entries.len() * ENTRY
        + records.nodes.len() * NODE
        + records.contents.len() * CONTENT
        + records.targets.len() * TARGET
        + 4;
    let mut out = Vec::with_capacity(length);
    out.extend_from_slice(MAGIC);
    let tables = [
        records.text.len(),
        records.entries.len(),
        records.nodes.len(),
        records.contents.len(),
        records.targets.len(),
    ];
    for rows in tables {
        // Every table is counted by u32 while it is built.
        out.extend_from_slice(&(rows as u32).to_le_bytes());
    }
    out.extend_from_slice(&records.text);
    for entry in &records.entries {
        for number in [entry.dir, entry.node, entry.name_at] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.push(entry.name_len);
    }
    for node in &records.nodes {
        let (kind, number) = match node.shape {
            Shape::Directory(dir) => (DIRECTORY, dir),
            Shape::File(content) => (FILE, content),
            Shape::Symlink(target) => (SYMLINK, target),
            Shape::PackedSymlink(content) => (PACKED_SYMLINK, content),
        };
        out.push(kind);
        out.push(u8::from(node.executable));
        out.extend_from_slice(&number.to_le_bytes());
        out.extend_from_slice(&node.parent.to_le_bytes());
        out.extend_from_slice(&node.modified.bits().to_le_bytes());
    }
    for bytes in &records.contents {
        let (kind, at, length, check) = match bytes.content.packed {
            Packed::Plain { at } => (PLAIN, at, 0, 0),
            Packed::Stored { header, crc } => (STORED, header, 0, crc),
            Packed::Deflated { header, length, crc } => (DEFLATED, header, length, crc),
            Packed::Streamed => (STREAMED, 0, 0, 0),
            Packed::Encrypted => (ENCRYPTED, 0, 0, 0),
            Packed::Unknown { method } => (UNKNOWN, 0, 0, u32::from(method)),
        };
        out.push(kind);
        for number in [bytes.content.size, at, length] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&check.to_le_bytes());
        out.extend_from_slice(&bytes.content.name.to_le_bytes());
    }
    for target in &records.targets {
        out.extend_from_slice(&target.at.to_le_bytes());
        out.extend_from_slice(&target.len.to_le_bytes());
    }
    let sum = crc32c::crc32c(&out);
    out.extend_from_slice(&sum.to_le_bytes());
    out
}
