//! Whether the kernel reads complete blobs itself, and the ids by which it does.

use std::io;
use std::sync::{Arc, OnceLock};

use fuser::{BackingId, ReplyOpen};

use crate::fs::{Seated, Whole};

/// Passthrough: on, or off and why. One backing id per inode: it must live until the opener has seen
/// the reply, which cannot be observed, so the inode keeps it until the kernel forgets it.
#[derive(Default)]
pub struct Passthrough {
    state: OnceLock<Result<(), String>>,
}

impl Passthrough {
    /// Says whether it is on; the error says why not.
    pub fn state(&self) -> Result<(), &str> {
        match self.state.get() {
            Some(Ok(())) => Ok(()),
            Some(Err(why)) => Err(why),
            None => Err("not tried yet"),
        }
    }

    pub(super) fn turned_on(&self) {
        self.decide(Ok(()));
    }

    pub(super) fn turned_off(&self) {
        self.decide(Err("turned off by --no-passthrough or `passthrough = false`".into()));
    }

    pub(super) fn failed(&self, error: &io::Error) {
        let why = match error.raw_os_error() {
            Some(libc::EPERM) => "the daemon lacks CAP_SYS_ADMIN".to_owned(),
            Some(libc::ELOOP) => "the store is on a stacked filesystem (overlayfs)".to_owned(),
            Some(libc::EOPNOTSUPP | libc::ENOTTY | libc::EINVAL) => {
                format!("the kernel does not offer it (Linux 6.9 or newer is needed): {error}")
            }
            _ => error.to_string(),
        };
        self.decide(Err(why));
    }

    fn decide(&self, state: Result<(), String>) {
        match &state {
            Ok(()) => {
                tracing::info!("passthrough is on: the kernel reads complete downloads itself")
            }
            Err(why) => tracing::info!(why, "passthrough is off: reads go through the daemon"),
        }
        // Decided once, before the first request.
        let _ = self.state.set(state);
    }

    /// Returns the backing id of an inode, registering its file at the first open. Whether there is
    /// one is decided once for each inode: two ways on one inode are an error.
    pub(super) fn backing(&self, whole: &Whole, reply: &ReplyOpen) -> Option<Arc<BackingId>> {
        if self.state().is_err() {
            return None;
        }
        if whole.seat.get().is_none() {
            let new = match reply.open_backing(&*whole.file) {
                Ok(id) => Some(Arc::new(id) as Seated),
                Err(error) => {
                    tracing::warn!(%error, "cannot register a file for passthrough; it is read through the daemon");
                    None
                }
            };
            // Of two opens at once the first decides for both.
            let _ = whole.seat.set(new);
        }
        whole.seat.get()?.clone()?.downcast().ok()
    }
}
