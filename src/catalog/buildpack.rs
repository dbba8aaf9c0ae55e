//! The names under which Cloud Foundry's buildpack builder looks for a buildpack.
//!
//! It hashes the key that the stager gives it: `<dir>/<xxhash64>` is tried first, then `<dir>/<md5>`,
//! both in lower-case hexadecimal (code.cloudfoundry.org/buildpackapplifecycle).

use twox_hash::XxHash64;

use crate::digest::{Algorithm, Hasher};
use crate::types::Name;

/// Returns the names of the buildpack with this key.
pub(super) fn names(key: &str) -> Result<[Name; 2], String> {
    let mut md5 = Hasher::new(Algorithm::Md5);
    md5.update(key.as_bytes());
    let name = |text: &str| text.parse::<Name>().map_err(|e| e.to_string());
    let first = format!("{:016x}", XxHash64::oneshot(0, key.as_bytes()));
    Ok([name(&first)?, name(md5.finish().hex())?])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of xxHash's own tools (`xxhsum -H64`, `md5sum`).
    #[test]
    fn known_answers() {
        for (key, xxh64, md5) in [
            ("abc", "44bc2cf5ad770999", "900150983cd24fb0d6963f7d28e17f72"),
            // The leading zero is kept: there are always 16 digits.
            (
                "The quick brown fox jumps over the lazy dog",
                "0b242d361fda71bc",
                "9e107d9d372bb6826bd81d3542a419d6",
            ),
            (
                "Nobody inspects the spammish repetition",
                "fbcea83c8a378bf1",
                "bb649c83dd1ea5c9d9dec9a18df0ffe9",
            ),
        ] {
            let names = names(key).unwrap();
            assert_eq!([names[0].as_str(), names[1].as_str()], [xxh64, md5]);
        }
    }
}
