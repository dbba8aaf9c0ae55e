//! An index back from bytes, every number in it held against the tables.

use super::super::error::{TreeError, Why};
use super::super::path::{LONGEST_TARGET, is_name};
use super::super::stamp::Stamp;
use super::encode::{
    CONTENT, DEFLATED, DIRECTORY, ENCRYPTED, ENTRY, FILE, HEAD, MAGIC, NODE, PACKED_SYMLINK, PLAIN,
    STORED, STREAMED, SYMLINK, TARGET, UNKNOWN,
};
use super::member::{NodeNo, Packed};
use super::records::{Dir, Entry, Node, Records, Shape, Target};

pub(super) fn decode(bytes: &[u8]) -> Result<Records, TreeError> {
    read(bytes).ok_or_else(|| {
        TreeError::new(
            Why::Damaged,
            format!(
                "an index of {} bytes is not one that this version wrote whole; it is made anew \
                 from the archive",
                bytes.len()
            ),
        )
    })
}

fn read(bytes: &[u8]) -> Option<Records> {
    let (body, sum) = bytes.split_last_chunk::<4>()?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*sum) {
        return None;
    }
    let (head, mut rest) = body.split_at_checked(HEAD)?;
    if !head.starts_with(MAGIC) {
        return None;
    }
    let mut rows = head[MAGIC.len()..].chunks_exact(4).map(u32_at);
    let mut table = |width: usize| {
        let length = (rows.next()? as usize).checked_mul(width)?;
        let (table, after) = rest.split_at_checked(length)?;
        rest = after;
        Some(table)
    };
    let mut records = Records::empty();
    records.text = table(1)?.to_vec();
    let (entries, nodes) = (table(ENTRY)?, table(NODE)?);
    let (contents, targets) = (table(CONTENT)?, table(TARGET)?);
    if !rest.is_empty() {
        return None;
    }
    read_contents(&mut records, contents)?;
    read_targets(&mut records, targets)?;
    read_nodes(&mut records, nodes)?;
    read_entries(&mut records, entries)?;
    records.shrink();
    Some(records)
}

fn read_contents(records: &mut Records, table: &[u8]) -> Option<()> {
    records.contents.reserve_exact(table.len() / CONTENT);
    for row in table.chunks_exact(CONTENT) {
        let (size, at, length) = (u64_at(&row[1..]), u64_at(&row[9..]), u64_at(&row[17..]));
        let (check, name) = (u32_at(&row[25..]), u32_at(&row[29..]));
        let packed = match row[0] {
            PLAIN => Packed::Plain { at },
            STORED => Packed::Stored { header: at, crc: check },
            DEFLATED => Packed::Deflated { header: at, length, crc: check },
            STREAMED => Packed::Streamed,
            ENCRYPTED => Packed::Encrypted,
            UNKNOWN => Packed::Unknown { method: check.try_into().ok()? },
            _ => return None,
        };
        records.push_content(size, packed, name)?;
    }
    Some(())
}

fn read_targets(records: &mut Records, table: &[u8]) -> Option<()> {
    records.targets.reserve_exact(table.len() / TARGET);
    for row in table.chunks_exact(TARGET) {
        let (at, len) = (u32_at(row), u16::from_le_bytes([row[4], row[5]]));
        let text = records.text.get(at as usize..(at as usize).checked_add(len.into())?)?;
        if !(1..=LONGEST_TARGET).contains(&text.len()) || text.contains(&0) {
            return None;
        }
        records.targets.push(Target { at, len, links: 0 });
    }
    Some(())
}

/// Reads the nodes. A directory comes before what is in it, so that no circle is possible, and the
/// directories, contents and targets are numbered in the order of their nodes.
fn read_nodes(records: &mut Records, table: &[u8]) -> Option<()> {
    let (mut contents, mut targets) = (0, 0);
    records.nodes.reserve_exact(table.len() / NODE);
    for row in table.chunks_exact(NODE) {
        let (number, parent) = (u32_at(&row[2..]), u32_at(&row[6..]));
        let next = records.dirs.len() as u32;
        let (shape, expected) = match row[0] {
            DIRECTORY => (Shape::Directory(number), next),
            FILE => (Shape::File(number), count(&mut contents)),
            SYMLINK => (Shape::Symlink(number), count(&mut targets)),
            PACKED_SYMLINK => (Shape::PackedSymlink(number), count(&mut contents)),
            _ => return None,
        };
        // The root lies in itself.
        let root = records.nodes.is_empty();
        let placed = parent < next || (root && parent == 0 && row[0] == DIRECTORY);
        if number != expected || !placed || row[1] > 1 {
            return None;
        }
        if let Shape::Directory(_) = shape {
            let node = records.nodes.len() as u32;
            records.dirs.push(Dir { node, dirs: 0, first: 0, count: 0 });
        }
        let modified = Stamp::from_bits(u64_at(&row[10..]))?;
        records.nodes.push(Node { modified, shape, parent, executable: row[1] == 1 });
    }
    let all =
        contents as usize == records.contents.len() && targets as usize == records.targets.len();
    (all && !records.nodes.is_empty() && records.nodes.len() <= NodeNo::END as usize).then_some(())
}

fn count(counter: &mut u32) -> u32 {
    *counter += 1;
    *counter - 1
}

/// Reads the entries: sorted, no name twice, each directory but the root in its parent once.
fn read_entries(records: &mut Records, table: &[u8]) -> Option<()> {
    records.entries.reserve_exact(table.len() / ENTRY);
    let mut named = vec![false; records.dirs.len()];
    for row in table.chunks_exact(ENTRY) {
        let (dir, node, name_at) = (u32_at(row), u32_at(&row[4..]), u32_at(&row[8..]));
        let entry = Entry { dir, node, name_at, name_len: row[12] };
        records.dirs.get(dir as usize)?;
        let name = records.name(&entry);
        if name.len() != usize::from(entry.name_len) || !is_name(name) {
            return None;
        }
        if let Some(last) = records.entries.last()
            && (last.dir, records.name(last)) >= (dir, name)
        {
            return None;
        }
        let named_node = records.nodes.get(node as usize)?;
        if let Shape::Directory(number) = named_node.shape {
            let first = !std::mem::replace(named.get_mut(number as usize)?, true);
            if number == 0 || !first || named_node.parent != dir {
                return None;
            }
        }
        records.entries.push(entry);
        records.count_name(node, 1);
    }
    records.point_at_entries();
    named.iter().skip(1).all(|named| *named).then_some(())
}

/// Reads a number at the beginning of a row; the rows are cut to their width.
fn u32_at(row: &[u8]) -> u32 {
    row.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(row: &[u8]) -> u64 {
    row.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
