//! Tars byte by byte (POSIX.1-2017, pax), so that any field can lie.

/// The format of a header: what stands in its magic field.
pub(crate) const USTAR: &[u8; 8] = b"ustar\x0000";
/// GNU tar's.
pub(crate) const GNU: &[u8; 8] = b"ustar  \0";
/// None: seventh edition.
pub(crate) const V7: &[u8; 8] = &[0; 8];

/// A header and what follows it.
#[derive(Clone)]
pub(crate) struct Block {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: u8,
    pub(crate) link: Vec<u8>,
    pub(crate) magic: [u8; 8],
    pub(crate) prefix: Vec<u8>,
    pub(crate) mode: u64,
    /// The size field as it stands; made from `data` if `None`.
    pub(crate) size: Option<Vec<u8>>,
    /// The time field as it stands.
    pub(crate) time: Vec<u8>,
    /// The checksum field as it stands; right if `None`.
    pub(crate) checksum: Option<Vec<u8>>,
    pub(crate) data: Vec<u8>,
}

impl Block {
    /// Returns a header of a kind (its type flag).
    pub(crate) fn new(kind: u8, name: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Block {
        Block {
            name: name.as_ref().to_vec(),
            kind,
            link: Vec::new(),
            magic: *USTAR,
            prefix: Vec::new(),
            mode: 0o644,
            size: None,
            // 2001-09-09 01:46:40.
            time: b"07346545000".to_vec(),
            checksum: None,
            data: data.as_ref().to_vec(),
        }
    }

    /// Returns a file.
    pub(crate) fn file(name: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Block {
        Block::new(b'0', name, data)
    }

    /// Returns a directory.
    pub(crate) fn directory(name: impl AsRef<[u8]>) -> Block {
        Block { mode: 0o755, ..Block::new(b'5', name, b"") }
    }

    /// Returns a symbolic link.
    pub(crate) fn symlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Block {
        Block { link: target.as_ref().to_vec(), ..Block::new(b'2', name, b"") }
    }

    /// Returns another name of a file.
    pub(crate) fn hard_link(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Block {
        Block { link: target.as_ref().to_vec(), ..Block::new(b'1', name, b"") }
    }

    /// Returns a PAX header of records, for the next member.
    pub(crate) fn pax(records: &[(&str, &[u8])]) -> Block {
        let mut data = Vec::new();
        for (key, value) in records {
            data.extend_from_slice(&record(key, value));
        }
        Block::new(b'x', "PaxHeaders/x", data)
    }

    /// Returns GNU tar's long name for the next member.
    pub(crate) fn long_name(name: impl AsRef<[u8]>) -> Block {
        let data = [name.as_ref(), b"\0"].concat();
        Block { magic: *GNU, ..Block::new(b'L', "././@LongLink", data) }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut block = [0; 512];
        let mut put = |at: usize, width: usize, bytes: &[u8]| {
            let length = bytes.len().min(width);
            block[at..at + length].copy_from_slice(&bytes[..length]);
        };
        put(0, 100, &self.name);
        put(100, 8, format!("{:07o}", self.mode).as_bytes());
        put(108, 8, b"0000000");
        put(116, 8, b"0000000");
        let size = format!("{:011o}", self.data.len()).into_bytes();
        put(124, 12, self.size.as_ref().unwrap_or(&size));
        put(136, 12, &self.time);
        put(148, 8, b"        ");
        put(156, 1, &[self.kind]);
        put(157, 100, &self.link);
        put(257, 8, &self.magic);
        put(345, 155, &self.prefix);
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        let right = format!("{sum:06o}\0 ").into_bytes();
        let checksum = self.checksum.as_ref().unwrap_or(&right);
        block[148..148 + checksum.len()].copy_from_slice(checksum);
        let mut out = block.to_vec();
        out.extend_from_slice(&self.data);
        out.resize(out.len().next_multiple_of(512), 0);
        out
    }
}

/// Returns a PAX record, which counts its own length.
pub(crate) fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

/// Returns headers and what follows them, without an end.
pub(crate) fn open(blocks: &[Block]) -> Vec<u8> {
    blocks.iter().map(Block::bytes).collect::<Vec<_>>().concat()
}

/// Returns a tar.
pub(crate) fn tar(blocks: &[Block]) -> Vec<u8> {
    let mut out = open(blocks);
    out.resize(out.len() + 1024, 0);
    out
}
