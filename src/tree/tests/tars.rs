//! A writer of tars that can lie about everything.

/// A header, with the checksum that it should have.
#[derive(Clone)]
pub(crate) struct Block(pub(super) [u8; 512]);

impl Block {
    /// Makes the header of a file in ustar format.
    pub(crate) fn new(path: impl AsRef<[u8]>, kind: u8, size: u64) -> Block {
        Block([0; 512])
            .set(0, path)
            .set(100, "0000644\0")
            .set(108, "0001750\0")
            .set(116, "0001750\0")
            .set(124, format!("{size:011o}\0"))
            .set(136, "13615674562\0")
            .set(156, [kind])
            .set(257, "ustar\x0000")
    }

    /// Makes one without a magic, as v7 did.
    pub(crate) fn v7(path: impl AsRef<[u8]>, kind: u8, size: u64) -> Block {
        Block::new(path, kind, size).set(257, [0; 8])
    }

    pub(crate) fn set(mut self, at: usize, bytes: impl AsRef<[u8]>) -> Block {
        let bytes = bytes.as_ref();
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// Returns the header with its checksum, and the bytes behind it with their padding.
    pub(crate) fn with(self, data: impl AsRef<[u8]>) -> Vec<u8> {
        let block = self.set(148, "        ");
        let sum: u64 = block.0.iter().map(|byte| u64::from(*byte)).sum();
        let block = block.set(148, format!("{sum:06o}\0 "));
        [&block.0[..], &padded(data.as_ref())].concat()
    }
}

/// Fills bytes up to whole blocks.
pub(crate) fn padded(data: &[u8]) -> Vec<u8> {
    let mut out = data.to_vec();
    out.resize(data.len().next_multiple_of(512), 0);
    out
}

/// Makes a file.
pub(crate) fn file(path: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Vec<u8> {
    let data = data.as_ref();
    Block::new(path, b'0', data.len() as u64).with(data)
}

/// Makes a link, or what else has a target and no bytes.
pub(crate) fn link(path: impl AsRef<[u8]>, kind: u8, target: impl AsRef<[u8]>) -> Vec<u8> {
    Block::new(path, kind, 0).set(157, target).with("")
}

/// Makes one record of PAX.
pub(crate) fn record(key: &str, value: impl AsRef<[u8]>) -> Vec<u8> {
    let value = value.as_ref();
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length.to_string().len() + rest != length {
        length += 1;
    }
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

/// Makes an extended header of PAX.
pub(crate) fn pax(kind: u8, records: impl AsRef<[u8]>) -> Vec<u8> {
    let records = records.as_ref();
    Block::new("PaxHeaders/x", kind, records.len() as u64).with(records)
}

/// Puts members together, and ends the tar.
pub(crate) fn tar(members: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut out: Vec<u8> = members.into_iter().flatten().collect();
    out.resize(out.len() + 1024, 0);
    out
}
