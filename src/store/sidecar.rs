//! What is written beside a blob.

use std::io;
use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::sealed::{self, Damage};
use super::{checksum, durable};
use crate::digest::Digest;
use crate::lifetime::Lifetime;
use crate::types::{BlobId, Name};
use crate::validators::Validators;

const KIND: &str = "sidecar";
const VERSION: u32 = 1;

/// The longest sidecar: enough for the checksums of more than 5 TiB.
const LIMIT: u64 = 64 << 20;

/// Everything a version is, apart from its bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The name it was fetched for.
    pub name: Name,
    /// What [`crate::source::Source::identity`] said when it was fetched.
    pub source: String,
    /// ETag and Last-Modified.
    pub validators: Validators,
    /// Length in bytes; of a part, the length announced.
    pub length: u64,
    /// A digest that the bytes were seen to match.
    pub digest: Option<Digest>,
    /// When the origin last vouched for it (200 or 304).
    pub validated_at: SystemTime,
    /// When it was fetched.
    pub fetched_at: SystemTime,
    /// mtime and ctime as shown.
    pub shown_at: SystemTime,
    /// What its answer said of its use without asking.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<Lifetime>,
}

/// Whether the data of a recovered blob may be served as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Nothing happened since it was last known to be good that could have damaged it: the same
    /// boot, or a clean stop.
    Trusted,
    /// Another boot and no clean stop: checksums first.
    Unverified,
}

/// The content of a sidecar.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sidecar {
    /// The blob it belongs to, so that one that strayed beside another is noticed.
    pub(super) id: BlobId,
    /// When the data were last known to be good, see [`super::state::State::epoch`].
    pub(super) epoch: u64,
    pub(super) record: Record,
    /// The ranges present, each as its first byte and the one after its last.
    pub(super) present: Vec<(u64, u64)>,
    /// CRC32C of each MiB of the data.
    pub(super) crc32c: Vec<u32>,
}

impl Sidecar {
    /// Makes the sidecar of a blob without gaps.
    pub(super) fn whole(id: BlobId, epoch: u64, record: Record, crc32c: Vec<u32>) -> Sidecar {
        Sidecar { id, epoch, present: whole(record.length), record, crc32c }
    }

    /// Returns the content of the file.
    ///
    /// # Errors
    /// `InvalidInput` for a time before 1970, or a blob too long for its sidecar.
    pub(super) fn encode(&self) -> io::Result<Vec<u8>> {
        let invalid = |why: String| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("the sidecar of blob {} cannot be written: {why}", self.id),
            )
        };
        let mut body = serde_json::to_vec(self).map_err(|e| invalid(e.to_string()))?;
        body.push(b'\n');
        let sealed = sealed::seal(KIND, VERSION, &body);
        if sealed.len() as u64 > LIMIT {
            return Err(invalid(format!("it would be longer than {LIMIT} bytes")));
        }
        Ok(sealed)
    }

    /// Reads the content of the sidecar of `id`.
    ///
    /// # Errors
    /// Damage; what belongs to another blob, does not fit together, or has gaps.
    pub(super) fn decode(id: BlobId, bytes: &[u8]) -> Result<Sidecar, Damage> {
        let body = sealed::unseal(KIND, VERSION, bytes)?;
        let sidecar: Sidecar = serde_json::from_slice(body).map_err(|_| Damage::Content)?;
        let length = sidecar.record.length;
        let fits = sidecar.id == id
            && sidecar.crc32c.len() as u64 == checksum::count(length)
            && sidecar.present == whole(length);
        fits.then_some(sidecar).ok_or(Damage::Content)
    }

    /// Reads the sidecar of `id` from its file. Blocks on the disk.
    ///
    /// # Errors
    /// What the disk said; `InvalidData` for what [`decode`](Sidecar::decode) refuses.
    pub(super) fn read(id: BlobId, path: &Path) -> io::Result<Sidecar> {
        let bytes = durable::read(path, LIMIT)?;
        Sidecar::decode(id, &bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
    }

    /// Says whether the data need no check in this epoch.
    pub(super) fn trust(&self, epoch: u64) -> Trust {
        if self.epoch == epoch { Trust::Trusted } else { Trust::Unverified }
    }
}

fn whole(length: u64) -> Vec<(u64, u64)> {
    match length {
        0 => Vec::new(),
        _ => vec![(0, length)],
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;
    use crate::digest::Algorithm;

    fn sidecar() -> Sidecar {
        let at = |secs| UNIX_EPOCH + Duration::new(secs, 5);
        let record = Record {
            name: "ruby.zip".parse().unwrap(),
            source: "key:ruby".to_owned(),
            validators: Validators {
                etag: Some("\"a-1\"".to_owned()),
                last_modified: None,
                resource: None,
            },
            length: checksum::BLOCK + 7,
            digest: Some(Digest::parse(Algorithm::Md5, &"0f".repeat(16)).unwrap()),
            validated_at: at(3),
            fetched_at: at(2),
            shown_at: at(1),
            lifetime: None,
        };
        Sidecar::whole(BlobId(26), 4, record, vec![1, 4_294_967_295])
    }

    /// If this fails, programs that are out there cannot read the store any more: raise `VERSION`,
    /// say what happens to older files, and only then change the text.
    #[test]
    fn the_format_is_this() {
        let golden = concat!(
            "cached-downloads sidecar 1 crc32c:6fa181c9\n",
            r#"{"id":26,"epoch":4,"record":{"name":"ruby.zip","source":"key:ruby","#,
            r#""validators":{"etag":"\"a-1\""},"length":1048583,"#,
            r#""digest":"md5:0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f","#,
            r#""validated_at":{"secs_since_epoch":3,"nanos_since_epoch":5},"#,
            r#""fetched_at":{"secs_since_epoch":2,"nanos_since_epoch":5},"#,
            r#""shown_at":{"secs_since_epoch":1,"nanos_since_epoch":5}},"#,
            r#""present":[[0,1048583]],"crc32c":[1,4294967295]}"#,
            "\n",
        );
        let encoded = String::from_utf8(sidecar().encode().unwrap()).unwrap();
        assert_eq!(encoded, golden);
        assert_eq!(Sidecar::decode(BlobId(26), golden.as_bytes()), Ok(sidecar()));
    }

    #[test]
    fn damage_to_any_byte_is_noticed() {
        let good = sidecar().encode().unwrap();
        for at in 0..good.len() {
            for flip in [1, 2, 4, 8, 16, 32, 64, 128, 255] {
                let mut bad = good.clone();
                bad[at] ^= flip;
                assert!(Sidecar::decode(BlobId(26), &bad).is_err(), "byte {at}");
            }
            assert!(Sidecar::decode(BlobId(26), &good[..at]).is_err(), "cut {at}");
        }
        let longer = [&good[..], b"\n"].concat();
        assert!(Sidecar::decode(BlobId(26), &longer).is_err());
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let refused = |change: fn(&mut Sidecar)| {
            let mut sidecar = sidecar();
            change(&mut sidecar);
            Sidecar::decode(BlobId(26), &sidecar.encode().unwrap()) == Err(Damage::Content)
        };
        assert!(refused(|s| s.id = BlobId(27)), "of another blob");
        assert!(refused(|s| s.crc32c.push(0)), "too many checksums");
        assert!(refused(|s| s.record.length = u64::MAX), "too few checksums");
        assert!(refused(|s| s.present = vec![(0, 5), (6, 1_048_583)]), "gap");
        assert!(refused(|s| s.present.clear()), "nothing there");
    }

    #[test]
    fn a_time_before_1970_is_an_error_not_a_panic() {
        let mut sidecar = sidecar();
        sidecar.record.shown_at = UNIX_EPOCH - Duration::from_secs(1);
        let error = sidecar.encode().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    proptest! {
        #[test]
        fn comes_back_as_it_was(
            id in 1..u64::MAX,
            epoch: u64,
            name in "[a-z\u{e9}\u{1f980}\"\\\\][^/\\p{Cc}]{0,40}",
            source in ".{0,40}",
            etag in prop::option::of(".{0,40}"),
            last_modified in prop::option::of(".{0,40}"),
            length in 0..64 * checksum::BLOCK,
            lifetime in prop::option::of(Just(Lifetime::default())),
            secs in 0..1u64 << 40,
            nanos in 0..1_000_000_000u32,
            seed: u32,
        ) {
            let record = Record {
                name: name.parse().unwrap(),
                source,
                validators: Validators { etag, last_modified, resource: None },
                length,
                digest: None,
                validated_at: UNIX_EPOCH + Duration::new(secs, nanos),
                fetched_at: UNIX_EPOCH,
                shown_at: UNIX_EPOCH + Duration::new(secs / 2, nanos),
                lifetime,
            };
            let sums = (0..checksum::count(length) as u32).map(|i| seed.wrapping_mul(i + 1));
            let sidecar = Sidecar::whole(BlobId(id), epoch, record, sums.collect());
            let bytes = sidecar.encode().unwrap();
            prop_assert_eq!(Sidecar::decode(BlobId(id), &bytes), Ok(sidecar));
        }

        #[test]
        fn rubbish_never_panics(bytes: Vec<u8>, body in ".{0,200}") {
            prop_assert!(Sidecar::decode(BlobId(1), &bytes).is_err());
            let sealed = sealed::seal(KIND, VERSION, body.as_bytes());
            prop_assert!(Sidecar::decode(BlobId(1), &sealed).is_err());
        }
    }
}
