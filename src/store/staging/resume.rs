//! Going on with what an earlier download left.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use super::ending::discard;
use super::{Allocation, Staging};
use crate::store::part::Part;
use crate::store::site::Site;
use crate::store::{Record, canopy, durable};
use crate::types::BlobId;

impl Staging {
    /// Takes over the unfinished part `from` as `id`. Blocks on the disk.
    ///
    /// # Errors
    /// What the disk said; `InvalidData` for what is damaged or cannot be trusted. Nothing is then
    /// left of the part.
    pub(in crate::store) fn resume(
        site: &Arc<Site>,
        id: BlobId,
        from: BlobId,
        room: Allocation,
    ) -> io::Result<(Staging, Record)> {
        let _turn = site.turns.take(from);
        take_over(site, id, from, room).inspect_err(|_| {
            for id in [from, id] {
                discard(&site.layout.new_meta(id));
                discard(&site.layout.part_meta(id));
                discard(&site.layout.part(id));
                // The next start tries again.
                let _ = canopy::remove(&site.layout, id);
            }
        })
    }
}

fn take_over(
    site: &Arc<Site>,
    id: BlobId,
    from: BlobId,
    room: Allocation,
) -> io::Result<(Staging, Record)> {
    let layout = &site.layout;
    let (found, _) = Part::examine(layout, from)?;
    if !found.trusted(site) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "part {from} was left by another boot, which may have ended before its bytes were on disk"
            ),
        ));
    }
    let files = (
        OpenOptions::new().write(true).custom_flags(libc::O_NOFOLLOW).open(layout.part(from))?,
        durable::open_regular(&layout.part(from))?,
    );
    // Whenever the process dies, data and sidecar of one of the two numbers are there. Without a
    // boot to name in it, the new sidecar would claim too much.
    let part = Part { id, boot: site.boot.clone(), ..found };
    if part.boot.is_some() {
        durable::replace_unsynced(&layout.part_meta(id), &layout.new_meta(id), &[&part.encode()?])?;
    }
    fs::rename(layout.part(from), layout.part(id))?;
    // What was unpacked of it stays where it can; it can be made again.
    if let Err(e) = canopy::rename(layout, from, id) {
        tracing::warn!(blob = %id, "the tree of a download that goes on is made anew: {e}");
    }
    durable::remove(&layout.part_meta(from))?;
    let length = Some(part.record.length);
    let staging = Staging::over(site, id, length, room, files, part.ranges());
    Ok((staging, part.record))
}
