//! Reads archives as a tree does, whoever made them, and holds what comes of it against the rules.
//! The targets of `tests/fuzz/` use this too.

use std::ops::Range;

use super::sound;
use crate::tree::tar::{Sink, read};
use crate::tree::zip::{self, End};
use crate::tree::{
    Builder, Content, ContentNo, Index, Limits, Member, NodeNo, Packed, TreeError, What,
};

/// Reads a zip: its end, its directory, and the local header of each member.
pub(super) fn zip(bytes: &[u8], limits: &Limits) -> Result<(End, Index), TreeError> {
    let length = bytes.len() as u64;
    let mut from = length.saturating_sub(zip::TAIL);
    let mut asked = 0;
    let end = loop {
        match zip::end(&bytes[from as usize..], length) {
            Ok(end) => break end,
            Err(Err(error)) => return Err(error),
            Err(Ok(longer)) => {
                assert!(longer < from, "asked for no more than it had");
                from = longer;
                asked += 1;
                assert!(asked <= 2, "asks for more and more");
            }
        }
    };
    let Range { start, end: stop } = end.directory;
    let index = zip::directory(&bytes[start as usize..stop as usize], &end, length, limits)?;
    sound::check(&index);
    check_limits(&index, limits);
    for content in (0..index.contents()).filter_map(|number| index.content(ContentNo(number))) {
        if let Ok(range) = packed(bytes, &end, &content) {
            assert!(range.start <= range.end && range.end <= start, "outside the archive");
        }
    }
    Ok((end, index))
}

/// Returns where the packed bytes of a member lie, by way of its local header.
pub(super) fn packed(bytes: &[u8], end: &End, content: &Content) -> Result<Range<u64>, TreeError> {
    let header = match content.packed {
        Packed::Stored { header, .. } | Packed::Deflated { header, .. } => header,
        _ => 0,
    };
    let mut length = 30;
    loop {
        let until = (header + length).min(bytes.len() as u64);
        match zip::data(&bytes[header as usize..until as usize], content, end.directory.start) {
            Ok(range) => return Ok(range),
            Err(Err(error)) => return Err(error),
            Err(Ok(longer)) => {
                assert!(longer > length && longer <= zip::HEADER, "asked for no more");
                assert!(header + longer <= end.directory.start, "asked for what is not there");
                length = longer;
            }
        }
    }
}

fn check_limits(index: &Index, limits: &Limits) {
    assert!(index.nodes() <= limits.members + 1 && index.memory() <= limits.index);
    let contents = (0..index.contents()).filter_map(|number| index.content(ContentNo(number)));
    assert!(contents.map(|content| content.size).sum::<u64>() <= limits.expanded);
}

/// Takes a tar into an index and a list of what its files hold.
pub(super) struct Taken {
    builder: Builder,
    /// Each file with its place and how many of its bytes came.
    files: Vec<(NodeNo, u64, u64)>,
    open: bool,
}

impl Taken {
    pub(super) fn new(limits: Limits) -> Taken {
        Taken { builder: Builder::new(limits, None), files: Vec::new(), open: false }
    }
}

impl Sink for Taken {
    fn member(&mut self, member: &Member<'_>) -> Result<(), TreeError> {
        assert!(!self.open, "a member within a file");
        let node = self.builder.add(member)?;
        if let What::File { packed: Packed::Plain { at }, .. } = member.what {
            self.files.push((node.expect("a file is not left out"), at, 0));
            self.open = true;
        }
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), TreeError> {
        assert!(self.open && !bytes.is_empty(), "bytes of no file");
        self.files.last_mut().expect("a file").2 += bytes.len() as u64;
        Ok(())
    }

    fn end(&mut self) -> Result<(), TreeError> {
        assert!(std::mem::take(&mut self.open), "the end of no file");
        Ok(())
    }
}

/// Reads a tar: each file has as many bytes as its size says, and they stand where it says.
pub(super) fn tar(bytes: &[u8], limits: Limits) -> Result<Index, TreeError> {
    let mut taken = Taken::new(limits);
    read(bytes, &mut taken)?;
    assert!(!taken.open, "a file without an end");
    let index = taken.builder.finish()?;
    sound::check(&index);
    check_limits(&index, &limits);
    let mut last = 512;
    for (node, at, length) in taken.files {
        let content = index.content_of(node).and_then(|content| index.content(content));
        let content = content.expect("a file has a content");
        assert_eq!((content.size, content.packed), (length, Packed::Plain { at }));
        assert!(at >= last && at % 512 == 0 && at + length <= bytes.len() as u64);
        last = at + length;
    }
    Ok(index)
}
