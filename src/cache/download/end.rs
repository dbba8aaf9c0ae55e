//! What a whole body is checked against, and its commit.

use std::sync::Arc;

use super::check_size;
use crate::cache::error::OpenError;
use crate::metrics::Refusal;
use crate::origin::Framing;
use crate::source::Source;
use crate::store::{Record, Staging};

/// What the end of a body is checked against.
pub(super) struct End {
    pub(super) source: Arc<Source>,
    pub(super) framing: Framing,
    pub(super) record: Record,
    pub(super) keep: bool,
}

impl End {
    /// Commits a part that was received whole, or fails it. Returns the bytes of disk it takes.
    /// Blocks on the disk.
    pub(super) fn reach(
        mut self,
        staging: &Staging,
        received: Result<(), OpenError>,
    ) -> (u64, Result<(), OpenError>) {
        self.record.length = staging.written();
        let allocated = staging.allocated();
        let checked = received.and_then(|()| self.check(staging));
        if let Err(error) = checked {
            staging.blob().fail(error.broken());
            return (allocated, Err(error));
        }
        staging.end();
        let kept = if self.keep { staging.commit(&self.record) } else { staging.keep_private() };
        match kept {
            Ok(on_disk) => (on_disk, Ok(())),
            Err(error) => {
                let what = format!("{}: cannot commit the download", self.record.name);
                (allocated, Err(OpenError::disk(&what, &error)))
            }
        }
    }

    fn check(&self, staging: &Staging) -> Result<(), OpenError> {
        let (name, length) = (&self.record.name, self.record.length);
        check_size(&self.source, name.as_str(), length)?;
        let (why, text) = match (&self.record.digest, staging.digest()) {
            (Some(declared), Some(computed)) if *declared != computed => (
                Refusal::Digest,
                format!(
                    "{name}: the digest does not match: declared {declared}, the origin's bytes have {computed}"
                ),
            ),
            (Some(_), None) => (
                Refusal::Store,
                format!("{name}: what was downloaded cannot be read back to be checked"),
            ),
            (None, _) if self.framing == Framing::Close && !self.source.allow_close_delimited => (
                Refusal::BadBody,
                format!(
                    "{name}: the body of {length} bytes ended only by the closing of the connection, so a cut cannot be told from the end; declare a digest, or set allow_close_delimited = true"
                ),
            ),
            _ => return Ok(()),
        };
        Err(OpenError::new(why, text))
    }
}
