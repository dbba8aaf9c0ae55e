//! The head of a saved index: the boot and the epoch in which the files of its tree hold.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use serde::{Deserialize, Serialize};

use crate::store::sealed;
use crate::store::site::Site;

const KIND: &str = "tree";
const VERSION: u32 = 1;

/// More than a stamp takes.
const LIMIT: usize = 512;

/// When the files of a tree were written.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stamp {
    /// See [`crate::store::state::State::epoch`].
    epoch: u64,
    /// The boot: what was not fsynced holds in no other, however cleanly the store was closed.
    boot: String,
}

/// Returns what stands before an index that is written now.
///
/// # Errors
/// `Unsupported` where the system does not name its boot.
pub(super) fn encode(site: &Site) -> io::Result<Vec<u8>> {
    let boot = site.boot.clone().ok_or_else(|| {
        io::Error::new(io::ErrorKind::Unsupported, "the system does not name its boot")
    })?;
    let mut body = serde_json::to_vec(&Stamp { epoch: site.epoch, boot })?;
    body.push(b'\n');
    Ok(sealed::seal(KIND, VERSION, &body))
}

/// Checks that the file of an index was written in this boot, and returns where the index begins
/// in it.
///
/// # Errors
/// What the disk said; `InvalidData` for another boot, and for damage.
pub(super) fn read(file: &File, site: &Site) -> io::Result<u64> {
    let mut head = [0; LIMIT];
    let mut length = 0;
    loop {
        match file.read_at(&mut head[length..], length as u64)? {
            0 => break,
            read => length += read,
        }
    }
    let head = &head[..length];
    // Two lines: that of the seal, and the stamp.
    let mut ends = head.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at);
    let end = ends.nth(1).ok_or_else(|| invalid("it has no stamp"))? + 1;
    let body = sealed::unseal(KIND, VERSION, &head[..end]).map_err(|e| invalid(&e.to_string()))?;
    let stamp: Stamp = serde_json::from_slice(body)?;
    if stamp.epoch == site.epoch && Some(&stamp.boot) == site.boot.as_ref() {
        Ok(end as u64)
    } else {
        Err(invalid("it was written in another boot"))
    }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::store::layout::Layout;

    fn site(epoch: u64, boot: Option<&str>) -> Site {
        Site {
            layout: Arc::new(Layout::new(Path::new("/s"))),
            turns: Default::default(),
            boot: boot.map(str::to_owned),
            epoch,
        }
    }

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file
    }

    /// If this fails, programs that are out there cannot read the trees any more: raise `VERSION`.
    #[test]
    fn the_format_is_this() {
        let stamp = String::from_utf8(encode(&site(4, Some("b-1"))).unwrap()).unwrap();
        let (header, body) = stamp.split_once('\n').unwrap();
        assert!(header.starts_with("cached-downloads tree 1 crc32c:"));
        assert_eq!(body, "{\"epoch\":4,\"boot\":\"b-1\"}\n");
    }

    #[test]
    fn it_holds_in_its_boot_only() {
        let here = site(4, Some("b-1"));
        let mut written = encode(&here).unwrap();
        let length = written.len() as u64;
        assert_eq!(read(&file(&written), &here).unwrap(), length);
        written.extend_from_slice(&[b'\n'; 2000]);
        assert_eq!(read(&file(&written), &here).unwrap(), length);
        for other in
            [site(5, Some("b-1")), site(3, Some("b-1")), site(4, Some("b-2")), site(4, None)]
        {
            assert_eq!(
                read(&file(&written), &other).unwrap_err().kind(),
                io::ErrorKind::InvalidData
            );
        }
        assert!(encode(&site(4, None)).is_err());
    }

    #[test]
    fn damage_to_any_byte_is_noticed() {
        let here = site(4, Some("b-1"));
        let good = encode(&here).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(read(&file(&bad), &here).is_err(), "byte {at}");
            assert!(read(&file(&good[..at]), &here).is_err(), "cut at {at}");
        }
        assert!(read(&file(&[0; 4096]), &here).is_err());
    }
}
