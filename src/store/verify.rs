//! Reads data again and compares.

use std::io::{self, Read};

use super::checksum::{BLOCK, Checksums};
use super::durable;
use super::layout::Layout;
use super::sidecar::Sidecar;
use crate::digest::{Digest, Hasher};
use crate::types::BlobId;

/// Returns the sidecar of a blob if the data match its checksums and, where there is one, a
/// digest; else says why not. Blocks on the disk for as long as it takes to read all.
///
/// # Errors
/// What the disk said. Damaged or missing files are no errors here.
pub(super) fn verify(
    layout: &Layout,
    id: BlobId,
    digest: Option<&Digest>,
) -> io::Result<Result<Sidecar, String>> {
    match compare(layout, id, digest) {
        Err(e) if is_damage(&e) => Ok(Err(e.to_string())),
        done => done,
    }
}

fn compare(
    layout: &Layout,
    id: BlobId,
    digest: Option<&Digest>,
) -> io::Result<Result<Sidecar, String>> {
    let sidecar = Sidecar::read(id, &layout.meta(id))?;
    let mut file = durable::open_regular(&layout.data(id))?;
    let expected = sidecar.record.length;
    let length = file.metadata()?.len();
    if length != expected {
        return Ok(Err(format!("it has {length} bytes instead of {expected}")));
    }
    let mut sums = Checksums::default();
    let mut hasher = digest.map(|d| Hasher::new(d.algorithm));
    let mut buf = vec![0; BLOCK as usize];
    loop {
        let read = match file.read(&mut buf) {
            Ok(0) => break,
            Ok(read) => read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        sums.update(&buf[..read]);
        if let Some(hasher) = &mut hasher {
            hasher.update(&buf[..read]);
        }
    }
    let found = sums.finish();
    if found != sidecar.crc32c {
        let same = found.iter().zip(&sidecar.crc32c).take_while(|(a, b)| a == b);
        let at = same.count();
        return Ok(Err(format!("its MiB number {at} is not what was written")));
    }
    if let Some((found, wanted)) = hasher.map(Hasher::finish).zip(digest)
        && found != *wanted
    {
        return Ok(Err(format!("its digest is {found} instead of {wanted}")));
    }
    Ok(Ok(sidecar))
}

/// Says whether an error means that the blob is bad, rather than that it cannot be told now.
fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::NotFound)
}
