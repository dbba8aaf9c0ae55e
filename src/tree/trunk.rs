//! One archive as a tree: built behind, asked for at any time.
//!
//! A task for each tree ([`sprout`]) loads the index that was saved, or makes it: of a zip from its
//! end ([`zipped`]), of a tar while it streams by ([`stream`]), when its members are unpacked as
//! well. The members of a zip are unpacked when they are opened ([`unpack`]), each once, whoever
//! waits for it ([`members`]).
//!
//! Locks, each alone: the index that grows; the jobs of a zip and what failed of it; what is read
//! ahead; the gate between bytes that come and the thread that unpacks a stream. None is held across
//! a wait, a system call or a callback. What is complete is read without any.

mod ahead;
mod budget;
mod decode;
mod gate;
mod growth;
mod inflate;
mod members;
mod names;
mod purse;
mod sprout;
mod state;
mod stream;
mod unpack;
mod whole;
mod zipped;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::error::{TreeError, Why};
use super::index::{Content, ContentNo, Index, Kind, NodeAttr, NodeNo, Packed};
use super::limits::Limits;
use crate::store::{Blob, Canopy};
use crate::sys;
use crate::types::Pending;
use state::State;

/// A file whose unpacked length is at most this is waited for when it is opened, so that it is whole
/// from then on.
const SOON: u64 = 4 << 20;

/// Who gives room for what is unpacked.
pub trait Room: Send + Sync {
    /// Books `bytes` that are about to be written to the tree's files; waits while enough is going.
    /// What is written lies between a `grow` and the next [`settled`](Room::settled).
    ///
    /// # Errors
    /// [`Why::NoRoom`], [`Why::DiskFull`], [`Why::TooLarge`].
    fn grow(&self, bytes: u64) -> Pending<'_, Result<(), TreeError>>;

    /// Refuses a tree whose archive and unpacked bytes could never fit, or that was refused before.
    ///
    /// # Errors
    /// [`Why::TooLarge`]; what was remembered.
    fn fits(&self, unpacked: u64) -> Result<(), TreeError>;

    /// Says what the tree's files take on the disk now, in bytes, and that nothing that was booked
    /// is still to be written.
    fn settled(&self, on_disk: u64);

    /// Notes why the tree cannot be shown, or not all of it now, for the operator.
    fn failed(&self, error: &TreeError);

    /// Says that the index is complete, and how many members it has.
    fn indexed(&self, members: u32) {
        let _ = members;
    }

    /// Says that so many contents were unpacked.
    fn unpacked(&self, contents: u32) {
        let _ = contents;
    }
}

/// What a tree is made of.
pub struct Parts {
    /// The archive, whole or still with gaps.
    pub blob: Arc<Blob>,
    /// Where the index and the unpacked bytes lie on the disk.
    pub canopy: Canopy,
    /// Who gives room.
    pub room: Arc<dyn Room>,
    /// How much of an archive is believed.
    pub limits: Limits,
    /// How long a caller waits without a byte coming.
    pub stall: Duration,
}

/// What a directory says of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It is there.
    Node(NodeNo),
    /// It is not, and will not come.
    Absent,
    /// The archive still arrives, and it may come.
    NotYet,
}

/// A file that is ready to be read.
#[derive(Clone, Debug)]
pub enum Ready {
    /// Every byte is there and checked: these of the file.
    Whole {
        /// The file of the archive or of the tree.
        file: Arc<File>,
        /// Where the bytes lie in it.
        range: Range<u64>,
    },
    /// Bytes still come; [`Tree::read`] waits for them.
    Arriving,
}

/// One archive as a tree. There is one at most of each blob, and it is dropped before the blob is
/// removed.
///
/// Dropping it ends what is done behind: what is being unpacked is given up within a step.
pub struct Tree {
    state: Arc<State>,
}

impl Tree {
    /// Begins a tree; a task builds its index behind. Call within the runtime.
    pub fn grow(parts: Parts) -> Arc<Tree> {
        let state = Arc::new(State::new(parts));
        tokio::spawn(sprout::live(state.clone()));
        Arc::new(Tree { state })
    }

    /// Returns the archive.
    pub fn blob(&self) -> &Arc<Blob> {
        &self.state.blob
    }

    /// Returns the complete index, once there is one.
    pub fn index(&self) -> Option<&Arc<Index>> {
        self.state.whole().map(|whole| &whole.index)
    }

    /// Says why the tree cannot be shown, if so.
    pub fn failed(&self) -> Option<TreeError> {
        self.state.failed().cloned()
    }

    /// Returns its files that have no name any more: the number of each, which may be another tree's
    /// too, and its allocated bytes. Blocks on the disk.
    ///
    /// # Errors
    /// What the disk said.
    pub fn unlinked(&self) -> io::Result<Vec<(u64, u64)>> {
        self.state.canopy.unlinked()
    }

    /// Says whether more of it comes, or is to: it is not whole, and nothing has ended or stopped it.
    pub fn is_growing(&self) -> bool {
        self.index().is_none() && self.state.failed().is_none() && !self.state.stands_still()
    }

    /// Looks a name up in memory; never waits.
    ///
    /// # Errors
    /// The tree cannot be shown. What arrived before stays readable through nodes that are known;
    /// where only the rest of the archive will not come, it is found too.
    pub fn look(&self, dir: NodeNo, name: &[u8]) -> Result<Found, TreeError> {
        self.state.look(dir, name)
    }

    /// As [`look`](Tree::look), waiting while it may come and bytes do.
    ///
    /// # Errors
    /// As there; and no byte came for as long as a caller waits.
    pub async fn find(&self, dir: NodeNo, name: &[u8]) -> Result<Option<NodeNo>, TreeError> {
        let look = || match self.state.look(dir, name) {
            Ok(Found::NotYet) => self.state.halted().map(Err),
            Ok(Found::Node(node)) => Some(Ok(Some(node))),
            Ok(Found::Absent) => Some(Ok(None)),
            Err(error) => Some(Err(error)),
        };
        self.state.until(self.state.changed(), look).await?
    }

    /// Waits until the index is complete: for a listing.
    ///
    /// # Errors
    /// As [`find`](Tree::find).
    pub async fn whole(&self) -> Result<Arc<Index>, TreeError> {
        let look = || match (self.state.tainted(), self.state.whole()) {
            (Some(error), _) => Some(Err(error)),
            (None, Some(whole)) => Some(Ok(whole.index.clone())),
            (None, None) => self.state.wanting().map(Err),
        };
        self.state.until(self.state.changed(), look).await?
    }

    /// Returns the attributes of a node that a lookup gave; never waits.
    pub fn attr(&self, node: NodeNo) -> Option<NodeAttr> {
        self.state.with(|index| index.attr(node), |builder| builder.attr(node))
    }

    /// Waits until a node is known that a lookup gave: one of a tree that was grown anew, from the
    /// same bytes, may still be to come. Ready at the first poll where it is.
    ///
    /// # Errors
    /// It is in no part that came or will come: ESTALE, or why the tree cannot be shown; or no byte
    /// came for as long as a caller waits.
    pub async fn known(&self, node: NodeNo) -> Result<NodeAttr, TreeError> {
        let look = || {
            // Before the look: what came before the end is found after it.
            let (failed, whole) = (self.state.failed(), self.state.whole().is_some());
            match (self.attr(node), failed) {
                (Some(attr), _) => Some(Ok(attr)),
                (None, Some(error)) => Some(Err(error.clone())),
                (None, None) if whole => Some(Err(refused(libc::ESTALE, "not known"))),
                (None, None) => self.state.halted().map(Err),
            }
        };
        self.state.until(self.state.changed(), look).await?
    }

    /// Returns where a symbolic link points; never waits. `None` also where a zip has it packed:
    /// see [`link`](Tree::link).
    pub fn target(&self, node: NodeNo) -> Option<Vec<u8>> {
        let owned = |target: Option<&[u8]>| target.map(<[u8]>::to_vec);
        self.state.with(|index| owned(index.target(node)), |builder| owned(builder.target(node)))
    }

    /// Returns where a symbolic link points, unpacking it where it has to be.
    ///
    /// # Errors
    /// EINVAL for what is no link; else as [`open`](Tree::open).
    pub async fn link(&self, node: NodeNo) -> Result<Vec<u8>, TreeError> {
        if let Some(error) = self.state.tainted() {
            return Err(error);
        }
        if let Some(target) = self.target(node) {
            return Ok(target);
        }
        let (content_no, content) = match self.known(node).await?.kind {
            Kind::Symlink => match self.target(node) {
                Some(target) => return Ok(target),
                None => self.content(node)?,
            },
            _ => return Err(refused(libc::EINVAL, "no symbolic link")),
        };
        let (file, range) = match self.state.open(content_no, content).await {
            Ok(Ready::Whole { file, range }) => (file, range),
            Ok(Ready::Arriving) => self.state.read(content_no, content, 0..content.size).await?,
            Err(error) => return Err(self.name(node, error)),
        };
        let target = read_small(file, range).await.map_err(|error| self.name(node, error))?;
        if target.contains(&0) {
            let text = "the target of the symbolic link holds a NUL byte; pack the archive again";
            return Err(self.name(node, TreeError::new(Why::Damaged, text)));
        }
        Ok(target)
    }

    /// Says whether every byte of a file is there and checked; never waits, allocates nothing. It
    /// may say no of a file whose bytes turn out to be there ([`open`](Tree::open) tells).
    pub fn ready(&self, node: NodeNo) -> bool {
        self.content(node).is_ok_and(|(no, content)| self.state.ready(no, content))
    }

    /// Looks whether what was read of a file just now may be handed out; never waits.
    ///
    /// # Errors
    /// It was found to be damaged, or the archive to be wrong.
    pub fn still(&self, node: NodeNo) -> Result<(), TreeError> {
        let found = match (self.state.tainted(), self.content(node)) {
            (Some(error), _) => Err(error),
            (None, Ok((no, _))) => self.state.damage(no).map_or(Ok(()), Err),
            (None, Err(_)) => Ok(()),
        };
        found.map_err(|error| self.name(node, error))
    }

    /// Opens a file: begins to unpack it where it is not, and waits for its end where that is soon.
    ///
    /// # Errors
    /// The member cannot be had; EISDIR and ELOOP for what is no file.
    pub async fn open(&self, node: NodeNo) -> Result<Ready, TreeError> {
        let (no, content) = self.file(node).await?;
        self.state.open(no, content).await.map_err(|error| self.name(node, error))
    }

    /// Returns the file and the range in it that hold `range` of a node's bytes (clipped to its
    /// length), once they are there. The last byte comes only after the whole was checked. Ready
    /// at the first poll where nothing is waited for.
    ///
    /// # Errors
    /// As [`open`](Tree::open), and no byte came for as long as a caller waits.
    pub async fn read(
        &self,
        node: NodeNo,
        range: Range<u64>,
    ) -> Result<(Arc<File>, Range<u64>), TreeError> {
        let (no, content) = self.file(node).await?;
        let start = range.start.min(content.size);
        let range = start..range.end.clamp(start, content.size);
        self.state.read(no, content, range).await.map_err(|error| self.name(node, error))
    }

    /// Returns the content of a node that is a file.
    async fn file(&self, node: NodeNo) -> Result<(ContentNo, Content), TreeError> {
        match self.known(node).await?.kind {
            Kind::File => self.content(node),
            Kind::Directory => Err(refused(libc::EISDIR, "a directory")),
            Kind::Symlink => Err(refused(libc::ELOOP, "a symbolic link")),
        }
    }

    fn content(&self, node: NodeNo) -> Result<(ContentNo, Content), TreeError> {
        let found = self.state.with(
            |index| index.content_of(node).and_then(|no| Some((no, index.content(no)?))),
            |builder| builder.content_of(node).and_then(|no| Some((no, builder.content(no)?))),
        );
        found.ok_or_else(|| refused(libc::ESTALE, "without bytes"))
    }

    /// Says in an error which member it is about.
    fn name(&self, node: NodeNo, error: TreeError) -> TreeError {
        names::named(&self.state, node, error)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        self.state.stop();
    }
}

/// Returns the error for a node that is not what is asked of it.
fn refused(errno: i32, what: &str) -> TreeError {
    TreeError { why: Why::Damaged, errno, message: format!("the node of the tree is {what}") }
}

/// Returns the error for what the disk said.
fn disk(what: &str, error: &std::io::Error) -> TreeError {
    let full = matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT));
    let why = if full { Why::DiskFull } else { Why::Disk };
    TreeError::new(why, format!("{what}: {error}"))
}

/// Reads a few bytes, on a thread that may wait for the disk where they are not in memory.
async fn read_small(file: Arc<File>, range: Range<u64>) -> Result<Vec<u8>, TreeError> {
    use std::os::unix::fs::FileExt as _;
    let mut bytes = vec![0; (range.end - range.start) as usize];
    let cannot = |error| disk("the target of the symbolic link cannot be read", &error);
    if let Some(read) = sys::pread_nowait(&file, &mut bytes, range.start).map_err(cannot)?
        && read == bytes.len()
    {
        return Ok(bytes);
    }
    state::blocking(move || {
        file.read_exact_at(&mut bytes, range.start)?;
        Ok(bytes)
    })
    .await?
    .map_err(cannot)
}
