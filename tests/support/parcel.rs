//! Archives packed in memory, for origins that change theirs faster than a program could pack them.

/// A zip whose members are stored as they are.
#[derive(Default)]
pub(crate) struct Parcel {
    bytes: Vec<u8>,
    directory: Vec<u8>,
    members: u16,
}

impl Parcel {
    /// Returns an empty zip.
    pub(crate) fn new() -> Parcel {
        Parcel::default()
    }

    /// Adds a file that anybody may read, and execute.
    pub(crate) fn file(self, path: &str, content: impl AsRef<[u8]>) -> Parcel {
        self.member(path, content.as_ref(), 0o100755)
    }

    /// Adds a file that nobody may execute.
    pub(crate) fn plain(self, path: &str, content: impl AsRef<[u8]>) -> Parcel {
        self.member(path, content.as_ref(), 0o100644)
    }

    /// Adds a symbolic link.
    pub(crate) fn link(self, path: &str, target: &str) -> Parcel {
        self.member(path, target.as_bytes(), 0o120777)
    }

    fn member(mut self, path: &str, content: &[u8], mode: u32) -> Parcel {
        let at = self.bytes.len() as u32;
        let shared = shared(path, content);
        self.bytes.extend(b"PK\x03\x04");
        self.bytes.extend(&shared);
        self.bytes.extend(path.as_bytes());
        self.bytes.extend(content);
        // Made on Unix, by version 3.0 of the description.
        self.directory.extend(b"PK\x01\x02\x1e\x03");
        self.directory.extend(&shared);
        // No comment, the first disk, no internal attributes.
        self.directory.extend([0; 6]);
        self.directory.extend((mode << 16).to_le_bytes());
        self.directory.extend(at.to_le_bytes());
        self.directory.extend(path.as_bytes());
        self.members += 1;
        self
    }

    /// Returns the bytes of the zip.
    pub(crate) fn pack(self) -> Vec<u8> {
        let Parcel { mut bytes, directory, members } = self;
        let at = bytes.len() as u32;
        bytes.extend(&directory);
        bytes.extend(b"PK\x05\x06\0\0\0\0");
        bytes.extend(members.to_le_bytes());
        bytes.extend(members.to_le_bytes());
        bytes.extend((directory.len() as u32).to_le_bytes());
        bytes.extend(at.to_le_bytes());
        bytes.extend([0; 2]);
        bytes
    }
}

/// Returns what the local header and the central directory have in common.
fn shared(path: &str, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Version 2.0 to extract; names are UTF-8; stored; 2020-01-01, midnight.
    for field in [20u16, 1 << 11, 0, 0, (40 << 9) | (1 << 5) | 1] {
        bytes.extend(field.to_le_bytes());
    }
    bytes.extend(crc32fast::hash(content).to_le_bytes());
    for length in [content.len() as u32; 2] {
        bytes.extend(length.to_le_bytes());
    }
    bytes.extend((path.len() as u16).to_le_bytes());
    // No extra field.
    bytes.extend([0; 2]);
    bytes
}

/// Returns a tar (ustar) of files.
pub(crate) fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (path, content) in files {
        let mut header = [0; 512];
        let mut put = |at: usize, text: &str| {
            header[at..at + text.len()].copy_from_slice(text.as_bytes());
        };
        put(0, path);
        put(100, "0000755\0");
        put(108, "0000000\x000000000\0");
        put(124, &format!("{:011o}\0", content.len()));
        put(136, "13500000000\0");
        // While the sum is taken its own place holds spaces.
        put(148, "        ");
        put(156, "0");
        put(257, "ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        bytes.extend(header);
        bytes.extend(*content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}
