//! What holds of the store as a whole: which ids are used up, and whether its data can be trusted.

use std::path::Path;
use std::{fs, io};

use serde::{Deserialize, Serialize};

use super::durable;
use super::layout::Layout;
use super::sealed::{self, Damage};

const KIND: &str = "state";
const VERSION: u32 = 1;
const LIMIT: u64 = 4096;

/// How far the next id jumps when the state file is lost: further than what was counted up to
/// since the highest id that is still seen (a hundred a second for a year are fewer), and little
/// enough for hundreds of losses below [`ID_LIMIT`](super::layout::ID_LIMIT).
const JUMP: u64 = 1 << 32;

/// The content of the state file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    /// The boot in which a daemon last had the store; `None` where the system does not tell.
    pub(super) boot: Option<String>,
    /// Whether that daemon ended in order.
    pub(super) clean: bool,
    /// Counts the losses of trust. A sidecar holds the epoch in which its data were last known to
    /// be good; those of an earlier epoch are checked before they are served.
    pub(super) epoch: u64,
    /// Every id below this may have been used.
    pub(super) next_id: u64,
}

impl State {
    /// The state of a new store.
    pub(super) fn fresh() -> State {
        State { boot: None, clean: true, epoch: 1, next_id: 1 }
    }

    /// The state to go on with when the state file is lost, given the highest id and epoch that
    /// are still to be seen. Trusts nothing.
    pub(super) fn lost(highest_id: u64, highest_epoch: u64) -> State {
        State {
            boot: None,
            clean: false,
            epoch: highest_epoch,
            next_id: highest_id.saturating_add(JUMP),
        }
    }

    /// Returns the state as it is while a daemon of this boot has the store: power may have failed
    /// since the last one, unless that was in this boot or ended in order.
    pub(super) fn take_over(self, boot: Option<String>) -> State {
        let same_boot = boot.is_some() && self.boot == boot;
        State {
            boot,
            clean: false,
            epoch: self.epoch.saturating_add(u64::from(!same_boot && !self.clean)),
            next_id: self.next_id,
        }
    }

    fn encode(&self) -> io::Result<Vec<u8>> {
        let mut body = serde_json::to_vec(self)?;
        body.push(b'\n');
        Ok(sealed::seal(KIND, VERSION, &body))
    }

    fn decode(bytes: &[u8]) -> Result<State, Damage> {
        let body = sealed::unseal(KIND, VERSION, bytes)?;
        serde_json::from_slice(body).map_err(|_| Damage::Content)
    }

    /// Writes the state so that it survives a power cut. Blocks on the disk.
    ///
    /// # Errors
    /// What the disk said.
    pub(super) fn write(&self, layout: &Layout) -> io::Result<()> {
        let path = layout.state();
        durable::replace(&path, &path.with_extension("new"), &self.encode()?)?;
        durable::sync_dir(layout.root())
    }

    /// Reads the state. Blocks on the disk. `None` if there is none, or none that is intact.
    pub(super) fn read(path: &Path) -> Option<State> {
        let read = durable::read(path, LIMIT)
            .and_then(|bytes| State::decode(&bytes).map_err(io::Error::other));
        match read {
            Ok(state) => Some(state),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => {
                tracing::warn!(path = %path.display(), "the state of the store cannot be used: {e}; every blob will be checked before it is served");
                None
            }
        }
    }
}

/// Returns what names the running boot of the kernel (`/proc/sys/kernel/random/boot_id`).
pub(super) fn boot_id() -> Option<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(name: &str) -> Option<String> {
        Some(name.to_owned())
    }

    /// If this fails, programs that are out there cannot read the store any more: raise `VERSION`,
    /// say what happens to older files, and only then change the text.
    #[test]
    fn the_format_is_this() {
        let state = State { boot: boot("b-1"), clean: true, epoch: 3, next_id: 65_537 };
        let golden = "cached-downloads state 1 crc32c:c9c5bed8\n\
            {\"boot\":\"b-1\",\"clean\":true,\"epoch\":3,\"next_id\":65537}\n";
        assert_eq!(String::from_utf8(state.encode().unwrap()).unwrap(), golden);
        assert_eq!(State::decode(golden.as_bytes()), Ok(state));
    }

    #[test]
    fn trust_is_lost_only_when_power_may_have_failed() {
        let running = |epoch| State { boot: boot("a"), clean: false, epoch, next_id: 9 };
        assert_eq!(State::fresh().take_over(boot("a")).epoch, 1);
        assert_eq!(running(4).take_over(boot("a")).epoch, 4, "killed, same boot");
        assert_eq!(running(4).take_over(boot("b")).epoch, 5, "another boot");
        assert_eq!(running(4).take_over(None).epoch, 5, "no telling");
        let stopped = State { clean: true, ..running(4) };
        assert_eq!(stopped.take_over(boot("b")), State { boot: boot("b"), ..running(4) });
    }

    #[test]
    fn a_lost_state_reuses_no_id_and_trusts_nothing() {
        let lost = State::lost(70, 3).take_over(boot("a"));
        assert_eq!((lost.epoch, lost.next_id), (4, 70 + JUMP));
    }

    #[test]
    fn boot_has_a_name() {
        assert_eq!(boot_id(), boot_id());
        assert!(boot_id().is_some());
    }
}
