//! Zips byte by byte (PKWARE's APPNOTE.TXT 6.3), so that any field can lie.

use std::io::Write;
use std::process::Stdio;
use std::sync::LazyLock;

use super::process;

/// What a header says of a member.
#[derive(Clone)]
pub(crate) struct Header {
    pub(crate) name: Vec<u8>,
    pub(crate) flags: u16,
    pub(crate) method: u16,
    pub(crate) crc: u32,
    pub(crate) packed: u32,
    pub(crate) size: u32,
    pub(crate) extra: Vec<u8>,
}

/// A member: what the central directory says, what stands before the bytes, and the bytes.
#[derive(Clone)]
pub(crate) struct Member {
    pub(crate) central: Header,
    pub(crate) local: Header,
    pub(crate) data: Vec<u8>,
    /// What stands behind the bytes.
    pub(crate) descriptor: Vec<u8>,
    /// The system that it was made on; 3 is Unix.
    pub(crate) system: u8,
    /// The mode, from bit 16 on.
    pub(crate) attributes: u32,
    pub(crate) disk: u16,
    /// Where the central directory says that the local header is; where it is if `None`.
    pub(crate) offset: Option<u32>,
}

/// A zip.
#[derive(Clone, Default)]
pub(crate) struct Zip {
    /// What stands before the first member.
    pub(crate) before: Vec<u8>,
    pub(crate) members: Vec<Member>,
    /// What stands between the last member and the central directory.
    pub(crate) between: Vec<u8>,
    pub(crate) comment: Vec<u8>,
    /// What stands behind the end.
    pub(crate) after: Vec<u8>,
    /// What the end record says instead of the truth.
    pub(crate) count: Option<u16>,
    pub(crate) directory_size: Option<u32>,
    pub(crate) directory_at: Option<u32>,
    pub(crate) disk: u16,
    /// With the records of zip64, whose count and place these are where given.
    pub(crate) zip64: Option<(Option<u64>, Option<u64>)>,
}

const REGULAR: u32 = 0o100_644;
/// 2001-09-09 01:46:40.
const TIME: u16 = 0x0dd4;
const DATE: u16 = 0x2b29;

impl Member {
    /// Returns a file whose bytes are stored as they are.
    pub(crate) fn stored(name: impl AsRef<[u8]>, bytes: impl AsRef<[u8]>) -> Member {
        let bytes = bytes.as_ref();
        Member::packed(name, 0, bytes.to_vec(), bytes)
    }

    /// Returns a file whose bytes are deflated.
    pub(crate) fn deflated(name: impl AsRef<[u8]>, bytes: impl AsRef<[u8]>) -> Member {
        let bytes = bytes.as_ref();
        Member::packed(name, 8, deflate(bytes), bytes)
    }

    /// Returns a file whose bytes were packed by a method.
    pub(crate) fn packed(
        name: impl AsRef<[u8]>,
        method: u16,
        data: Vec<u8>,
        bytes: &[u8],
    ) -> Member {
        let header = Header {
            name: name.as_ref().to_vec(),
            flags: 0,
            method,
            crc: crc32(bytes),
            packed: data.len() as u32,
            size: bytes.len() as u32,
            extra: Vec::new(),
        };
        Member {
            local: header.clone(),
            central: header,
            data,
            descriptor: Vec::new(),
            system: 3,
            attributes: REGULAR << 16,
            disk: 0,
            offset: None,
        }
    }

    /// Returns a directory.
    pub(crate) fn directory(name: impl AsRef<[u8]>) -> Member {
        let member = Member::stored(name, b"");
        Member { attributes: 0o040_755 << 16, ..member }
    }

    /// Returns a symbolic link.
    pub(crate) fn symlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Member {
        let member = Member::stored(name, target);
        Member { attributes: 0o120_777 << 16, ..member }
    }

    /// Changes both headers.
    pub(crate) fn both(mut self, change: impl Fn(&mut Header)) -> Member {
        change(&mut self.central);
        change(&mut self.local);
        self
    }

    /// Changes what the central directory says.
    pub(crate) fn central(mut self, change: impl FnOnce(&mut Header)) -> Member {
        change(&mut self.central);
        self
    }

    /// Changes what the local header says.
    pub(crate) fn local(mut self, change: impl FnOnce(&mut Header)) -> Member {
        change(&mut self.local);
        self
    }

    /// Gives it another mode, its kind included.
    pub(crate) fn mode(self, mode: u32) -> Member {
        Member { attributes: mode << 16, ..self }
    }

    /// Returns its local header and its bytes.
    fn bytes(&self) -> Vec<u8> {
        let mut out = b"PK\x03\x04\x14\0".to_vec();
        self.local.put(&mut out);
        out.extend_from_slice(&self.local.name);
        out.extend_from_slice(&self.local.extra);
        out.extend_from_slice(&self.data);
        out.extend_from_slice(&self.descriptor);
        out
    }

    fn central_bytes(&self, at: usize) -> Vec<u8> {
        let mut out = b"PK\x01\x02\x14".to_vec();
        out.push(self.system);
        out.extend_from_slice(b"\x14\0");
        self.central.put(&mut out);
        // No comment.
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&self.disk.to_le_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&self.attributes.to_le_bytes());
        out.extend_from_slice(&self.offset.unwrap_or(at as u32).to_le_bytes());
        out.extend_from_slice(&self.central.name);
        out.extend_from_slice(&self.central.extra);
        out
    }
}

impl Header {
    /// Appends the fields that both headers have.
    fn put(&self, out: &mut Vec<u8>) {
        for number in [self.flags, self.method, TIME, DATE] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for number in [self.crc, self.packed, self.size] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for length in [self.name.len(), self.extra.len()] {
            out.extend_from_slice(&(length as u16).to_le_bytes());
        }
    }
}

impl Zip {
    /// Returns a zip of members.
    pub(crate) fn of(members: impl IntoIterator<Item = Member>) -> Zip {
        Zip { members: members.into_iter().collect(), ..Zip::default() }
    }

    /// Returns its bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = self.before.clone();
        let mut places = Vec::new();
        for member in &self.members {
            places.push(out.len());
            out.extend_from_slice(&member.bytes());
        }
        out.extend_from_slice(&self.between);
        let directory = out.len();
        for (member, at) in self.members.iter().zip(places) {
            out.extend_from_slice(&member.central_bytes(at));
        }
        let size = out.len() - directory;
        if let Some((count, at)) = self.zip64 {
            let end = out.len() as u64;
            let count = count.unwrap_or(self.members.len() as u64);
            out.extend_from_slice(b"PK\x06\x06\x2c\0\0\0\0\0\0\0\x2d\x03\x2d\0\0\0\0\0\0\0\0\0");
            for number in [count, count, size as u64, at.unwrap_or(directory as u64)] {
                out.extend_from_slice(&number.to_le_bytes());
            }
            out.extend_from_slice(b"PK\x06\x07\0\0\0\0");
            out.extend_from_slice(&end.to_le_bytes());
            out.extend_from_slice(&1_u32.to_le_bytes());
        }
        let wide = self.zip64.is_some();
        let count = if wide { u16::MAX } else { self.members.len() as u16 };
        let count = self.count.unwrap_or(count);
        out.extend_from_slice(b"PK\x05\x06");
        for number in [self.disk, self.disk, count, count] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let truth = |number: usize| if wide { u32::MAX } else { number as u32 };
        let size = self.directory_size.unwrap_or(truth(size));
        let at = self.directory_at.unwrap_or(truth(directory));
        out.extend_from_slice(&size.to_le_bytes());
        out.extend_from_slice(&at.to_le_bytes());
        out.extend_from_slice(&(self.comment.len() as u16).to_le_bytes());
        out.extend_from_slice(&self.comment);
        out.extend_from_slice(&self.after);
        out
    }
}

/// Returns an extra field of a header (4.5).
pub(crate) fn extra(id: u16, numbers: &[u64]) -> Vec<u8> {
    let mut out = [id.to_le_bytes(), (numbers.len() as u16 * 8).to_le_bytes()].concat();
    for number in numbers {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out
}

/// Deflates bytes.
pub(crate) fn deflate(bytes: &[u8]) -> Vec<u8> {
    let gzip = filter("gzip", &["-6nc"], bytes);
    // RFC 1952: ten bytes before, eight behind.
    gzip[10..gzip.len() - 8].to_vec()
}

/// Runs bytes through a program.
pub(crate) fn filter(program: &str, args: &[&str], bytes: &[u8]) -> Vec<u8> {
    let mut child = process::command(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("start {program}: {error}"));
    let mut stdin = child.stdin.take().expect("a piped stdin");
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(bytes).expect("feed the program"));
        child.wait_with_output().expect("wait for the program")
    });
    assert!(output.status.success(), "{program} {args:?} failed");
    output.stdout
}

/// Returns the CRC-32 of a zip.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    static TABLE: LazyLock<[u32; 256]> = LazyLock::new(|| {
        let step = |c: u32| if c & 1 == 1 { c >> 1 ^ 0xedb8_8320 } else { c >> 1 };
        std::array::from_fn(|n| (0..8).fold(n as u32, |c, _| step(c)))
    });
    let table = &*TABLE;
    !bytes.iter().fold(!0, |crc: u32, byte| table[(crc as u8 ^ byte) as usize] ^ crc >> 8)
}
