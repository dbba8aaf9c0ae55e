//! What is written beside a part, so that a later daemon can go on with it.

use std::ops::Range;
use std::{fs, io};

use serde::{Deserialize, Serialize};

use super::layout::Layout;
use super::ranges::RangeSet;
use super::sealed::{self, Damage};
use super::site::Site;
use super::{Record, durable};
use crate::types::BlobId;

const KIND: &str = "part";
const VERSION: u32 = 1;

/// The longest sidecar of a part: enough for a hundred thousand ranges.
const LIMIT: u64 = 4 << 20;

/// The content of the sidecar of a part. It holds no checksums: what is not durable is trusted only
/// where the page cache survived.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    /// The blob it is to become, so that one that strayed beside another is noticed.
    pub(super) id: BlobId,
    /// When this was written, see [`super::state::State::epoch`].
    pub(super) epoch: u64,
    /// The boot in which this was written without any fsync: in no other does it hold, however
    /// cleanly the store was closed. `None` where data and sidecar were made durable.
    pub(super) boot: Option<String>,
    pub(super) record: Record,
    /// The ranges present, each as its first byte and the one after its last: in order, none empty,
    /// no two of which touch, all within the announced length.
    pub(super) present: Vec<(u64, u64)>,
}

impl Part {
    /// Returns the ranges present.
    pub(super) fn ranges(&self) -> RangeSet {
        self.present.iter().map(|(start, end)| *start..*end).collect()
    }

    /// Says whether the data still hold what was written.
    pub(super) fn trusted(&self, site: &Site) -> bool {
        self.epoch == site.epoch && (self.boot.is_none() || self.boot == site.boot)
    }

    /// Returns the content of the file.
    ///
    /// # Errors
    /// `InvalidInput` for a time before 1970, or too many ranges.
    pub(super) fn encode(&self) -> io::Result<Vec<u8>> {
        let invalid = |why: String| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("the sidecar of part {} cannot be written: {why}", self.id),
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

    /// Reads the content of the sidecar of part `id`.
    ///
    /// # Errors
    /// Damage; what belongs to another part or does not fit together.
    pub(super) fn decode(id: BlobId, bytes: &[u8]) -> Result<Part, Damage> {
        let body = sealed::unseal(KIND, VERSION, bytes)?;
        let part: Part = serde_json::from_slice(body).map_err(|_| Damage::Content)?;
        let ranges = part.ranges();
        let fits = part.id == id
            && pairs(ranges.ranges()) == part.present
            && ranges.end() <= part.record.length;
        fits.then_some(part).ok_or(Damage::Content)
    }

    /// Reads the sidecar of part `id`, and looks whether its data can be what it says. Returns the
    /// bytes of disk that both take besides. Reads no data. Blocks on the disk.
    ///
    /// # Errors
    /// What the disk said; `InvalidData` for damage, or data of another length.
    pub(super) fn examine(layout: &Layout, id: BlobId) -> io::Result<(Part, u64)> {
        let invalid = |why| io::Error::new(io::ErrorKind::InvalidData, why);
        let path = layout.part_meta(id);
        let bytes = durable::read(&path, LIMIT)?;
        let part = Part::decode(id, &bytes).map_err(|e| invalid(format!("its sidecar: {e}")))?;
        let data = durable::open_regular(&layout.part(id))?.metadata()?;
        let reached = part.ranges().end();
        // One that is too long could not become the blob either.
        if !(reached..=part.record.length).contains(&data.len()) {
            return Err(invalid(format!(
                "its data have {} bytes; its sidecar says at least {reached}, and {} in the end",
                data.len(),
                part.record.length
            )));
        }
        let usage = durable::allocated(&data) + durable::allocated(&fs::symlink_metadata(path)?);
        Ok((part, usage))
    }
}

/// Returns ranges as they are written.
pub(super) fn pairs(ranges: &[Range<u64>]) -> Vec<(u64, u64)> {
    ranges.iter().map(|range| (range.start, range.end)).collect()
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::*;
    use crate::validators::Validators;

    fn part() -> Part {
        let record = Record {
            name: "ruby.zip".parse().unwrap(),
            source: "key:ruby".to_owned(),
            validators: Validators {
                etag: Some("\"a-1\"".to_owned()),
                last_modified: None,
                resource: None,
            },
            length: 1000,
            digest: None,
            validated_at: UNIX_EPOCH,
            fetched_at: UNIX_EPOCH,
            shown_at: UNIX_EPOCH,
            lifetime: None,
        };
        let boot = Some("b-1".to_owned());
        Part { id: BlobId(26), epoch: 4, boot, record, present: vec![(0, 10), (20, 1000)] }
    }

    /// If this fails, programs that are out there cannot read the parts any more: raise `VERSION`.
    #[test]
    fn the_format_is_this() {
        let encoded = String::from_utf8(part().encode().unwrap()).unwrap();
        let (header, body) = encoded.split_once('\n').unwrap();
        assert!(header.starts_with("cached-downloads part 1 crc32c:"));
        let golden = concat!(
            r#"{"id":26,"epoch":4,"boot":"b-1","record":{"name":"ruby.zip","source":"key:ruby","#,
            r#""validators":{"etag":"\"a-1\""},"length":1000,"digest":null,"#,
            r#""validated_at":{"secs_since_epoch":0,"nanos_since_epoch":0},"#,
            r#""fetched_at":{"secs_since_epoch":0,"nanos_since_epoch":0},"#,
            r#""shown_at":{"secs_since_epoch":0,"nanos_since_epoch":0}},"#,
            r#""present":[[0,10],[20,1000]]}"#,
            "\n",
        );
        assert_eq!(body, golden);
        assert_eq!(Part::decode(BlobId(26), encoded.as_bytes()), Ok(part()));
    }

    #[test]
    fn damage_to_any_byte_is_noticed() {
        let good = part().encode().unwrap();
        for at in 0..good.len() {
            for flip in [1, 2, 4, 8, 16, 32, 64, 128, 255] {
                let mut bad = good.clone();
                bad[at] ^= flip;
                assert!(Part::decode(BlobId(26), &bad).is_err(), "byte {at}");
            }
            assert!(Part::decode(BlobId(26), &good[..at]).is_err(), "cut {at}");
        }
        let longer = [&good[..], b"\n"].concat();
        assert!(Part::decode(BlobId(26), &longer).is_err());
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let refused = |change: fn(&mut Part)| {
            let mut part = part();
            change(&mut part);
            Part::decode(BlobId(26), &part.encode().unwrap()) == Err(Damage::Content)
        };
        assert!(refused(|p| p.id = BlobId(27)), "of another part");
        assert!(refused(|p| p.record.length = 999), "past the end");
        assert!(refused(|p| p.present = vec![(20, 30), (0, 10)]), "out of order");
        assert!(refused(|p| p.present = vec![(0, 10), (10, 20)]), "touching");
        assert!(refused(|p| p.present = vec![(0, 10), (5, 20)]), "overlapping");
        assert!(refused(|p| p.present = vec![(5, 5)]), "empty");
        #[expect(clippy::reversed_empty_ranges, reason = "that is what is tested")]
        let reversed = 9..3;
        assert_eq!(pairs(&[reversed]), [(9, 3)]);
        assert!(refused(|p| p.present = vec![(9, 3)]), "reversed");
        assert!(!refused(|p| p.present.clear()), "nothing has come yet");
    }

    #[test]
    fn what_was_not_made_durable_holds_in_its_boot_only() {
        let site = |epoch, boot: Option<&str>| Site {
            layout: std::sync::Arc::new(Layout::new(std::path::Path::new("/s"))),
            turns: Default::default(),
            boot: boot.map(str::to_owned),
            epoch,
        };
        let noted = part();
        let durable = Part { boot: None, ..part() };
        for (epoch, boot, noted_holds, durable_holds) in [
            (4, Some("b-1"), true, true),
            (4, Some("b-2"), false, true),
            (4, None, false, true),
            (5, Some("b-1"), false, false),
            (3, Some("b-1"), false, false),
        ] {
            assert_eq!(noted.trusted(&site(epoch, boot)), noted_holds, "{epoch} {boot:?}");
            assert_eq!(durable.trusted(&site(epoch, boot)), durable_holds, "{epoch} {boot:?}");
        }
    }

    proptest! {
        #[test]
        fn rubbish_never_panics(bytes: Vec<u8>, body in ".{0,200}", ends: Vec<(u64, u64)>) {
            prop_assert!(Part::decode(BlobId(1), &bytes).is_err());
            let sealed = sealed::seal(KIND, VERSION, body.as_bytes());
            prop_assert!(Part::decode(BlobId(1), &sealed).is_err());
            let odd = Part { present: ends, ..part() };
            if let Ok(read) = Part::decode(BlobId(26), &odd.encode().unwrap()) {
                prop_assert_eq!(read, odd);
            }
        }
    }
}
