//! A writer of zips that can lie about everything.

/// One member, as both of its headers tell it.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) name: Vec<u8>,
    pub(crate) data: Vec<u8>,
    /// The length unpacked.
    pub(crate) size: u64,
    pub(crate) crc: u32,
    pub(crate) method: u16,
    pub(crate) flags: u16,
    pub(crate) system: u8,
    pub(crate) attributes: u32,
    pub(crate) date: u16,
    pub(crate) time: u16,
    /// Extra fields of the central header.
    pub(crate) extra: Vec<u8>,
    /// Extra fields of the local header.
    pub(crate) local_extra: Vec<u8>,
    /// Whether all numbers stand in zip64 fields.
    pub(crate) zip64: bool,
    /// Changes the local header before it is written.
    pub(crate) lie: fn(&mut File),
}

impl File {
    pub(crate) fn new(name: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> File {
        let data = data.as_ref();
        File {
            name: name.as_ref().to_vec(),
            data: data.to_vec(),
            size: data.len() as u64,
            crc: crc32fast::hash(data),
            method: 0,
            flags: 0,
            system: 3,
            attributes: 0o100_644 << 16,
            date: (2020 - 1980) << 9 | 2 << 5 | 3,
            time: 4 << 11 | 5 << 5 | 3,
            extra: Vec::new(),
            local_extra: Vec::new(),
            zip64: false,
            lie: |_| {},
        }
    }

    pub(crate) fn mode(mut self, mode: u32) -> File {
        self.attributes = mode << 16;
        self
    }

    fn numbers(&self, offset: Option<u64>) -> (Vec<u8>, u32, u32, u32) {
        let packed = self.data.len() as u64;
        let Some(numbers) = self.zip64.then_some([Some(self.size), Some(packed), offset]) else {
            let narrow = |n: u64| n.min(u64::from(u32::MAX)) as u32;
            return (Vec::new(), narrow(self.size), narrow(packed), narrow(offset.unwrap_or(0)));
        };
        let mut field = Vec::new();
        for number in numbers.into_iter().flatten() {
            field.extend(number.to_le_bytes());
        }
        (extra(1, &field), u32::MAX, u32::MAX, u32::MAX)
    }
}

/// Returns an extra field.
pub(crate) fn extra(id: u16, field: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(id.to_le_bytes());
    out.extend((field.len() as u16).to_le_bytes());
    out.extend(field);
    out
}

/// A zip, and how its end is told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Zip {
    pub(crate) files: Vec<File>,
    pub(crate) comment: Vec<u8>,
    /// Whether the end is told by zip64 records.
    pub(crate) zip64: bool,
    /// What stands before the archive and is not counted in its offsets.
    pub(crate) before: Vec<u8>,
    /// What stands behind it.
    pub(crate) after: Vec<u8>,
    /// What is added to the number of members.
    pub(crate) more: i64,
}

impl Zip {
    pub(crate) fn of(files: impl IntoIterator<Item = File>) -> Zip {
        Zip { files: files.into_iter().collect(), ..Zip::default() }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = self.before.clone();
        let shift = out.len() as u64;
        let mut directory = Vec::new();
        for file in &self.files {
            let offset = out.len() as u64 - shift;
            let mut local = file.clone();
            (file.lie)(&mut local);
            let (wide, size, packed, _) = local.numbers(None);
            out.extend(b"PK\x03\x04\x2d\x00");
            for number in [local.flags, local.method, local.time, local.date] {
                out.extend(number.to_le_bytes());
            }
            for number in [local.crc, packed, size] {
                out.extend(number.to_le_bytes());
            }
            let extra = [wide, local.local_extra].concat();
            out.extend((local.name.len() as u16).to_le_bytes());
            out.extend((extra.len() as u16).to_le_bytes());
            out.extend(&local.name);
            out.extend(&extra);
            out.extend(&file.data);
            central(&mut directory, file, offset);
        }
        let start = out.len() as u64 - shift;
        out.extend(&directory);
        self.end(&mut out, start, directory.len() as u64, shift);
        out.extend(&self.after);
        out
    }

    fn end(&self, out: &mut Vec<u8>, start: u64, size: u64, shift: u64) {
        let members = (self.files.len() as i64 + self.more) as u64;
        if self.zip64 {
            let here = out.len() as u64 - shift;
            out.extend(b"PK\x06\x06");
            out.extend(44u64.to_le_bytes());
            out.extend([45, 3, 45, 0]);
            out.extend([0; 8]);
            for number in [members, members, size, start] {
                out.extend(number.to_le_bytes());
            }
            out.extend(b"PK\x06\x07\0\0\0\0");
            out.extend(here.to_le_bytes());
            out.extend(1u32.to_le_bytes());
        }
        out.extend(b"PK\x05\x06\0\0\0\0");
        let (members, size, start) = if self.zip64 {
            (u16::MAX, u32::MAX, u32::MAX)
        } else {
            (members as u16, size as u32, start as u32)
        };
        out.extend(members.to_le_bytes());
        out.extend(members.to_le_bytes());
        out.extend(size.to_le_bytes());
        out.extend(start.to_le_bytes());
        out.extend((self.comment.len() as u16).to_le_bytes());
        out.extend(&self.comment);
    }
}

fn central(out: &mut Vec<u8>, file: &File, offset: u64) {
    let (wide, size, packed, offset) = file.numbers(Some(offset));
    out.extend(b"PK\x01\x02\x2d");
    out.push(file.system);
    out.extend(b"\x2d\x00");
    for number in [file.flags, file.method, file.time, file.date] {
        out.extend(number.to_le_bytes());
    }
    for number in [file.crc, packed, size] {
        out.extend(number.to_le_bytes());
    }
    let extra = [wide, file.extra.clone()].concat();
    out.extend((file.name.len() as u16).to_le_bytes());
    out.extend((extra.len() as u16).to_le_bytes());
    out.extend([0; 6]);
    out.extend(file.attributes.to_le_bytes());
    out.extend(offset.to_le_bytes());
    out.extend(&file.name);
    out.extend(&extra);
}

/// Returns some `length` bytes of end records, each behind a locator that says that its record lies
/// so many bytes before it; nothing of them is true.
pub(crate) fn chained(length: usize, back: u64) -> Vec<u8> {
    let mut bytes = b"PK\x03\x04".to_vec();
    while bytes.len() < length {
        let stated = (bytes.len() as u64).saturating_sub(back);
        bytes.extend_from_slice(b"PK\x06\x07\0\0\0\0");
        bytes.extend_from_slice(&stated.to_le_bytes());
        bytes.extend_from_slice(&1u32.to_le_bytes());
        bytes.extend_from_slice(b"PK\x05\x06");
        bytes.extend_from_slice(&[0; 18]);
    }
    bytes.push(b'#');
    bytes
}
