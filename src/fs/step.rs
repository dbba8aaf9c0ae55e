//! Steps into a tree: names, attributes, links. All is served from the version that the tree stands
//! for; what waits, waits for an archive that still arrives.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::crown::Crown;
use super::{Attr, Fs, Kind, LONG, Looked, Refused};
use crate::cache::freshness::JUST_LANDED;
use crate::cache::{OpenError, check_digest, number};
use crate::tree::{self, Found, NodeAttr, NodeNo, Tree, TreeError, Why};

impl Fs {
    /// Looks a name up in a directory of a tree; `None` where the LOOKUP must wait. Never waits.
    pub(super) fn step(
        &self,
        crown: &Crown,
        dir: NodeNo,
        name: &OsStr,
    ) -> Option<Result<Looked, Refused>> {
        let tree = crown.tree()?;
        match tree.look(dir, name.as_bytes()) {
            Ok(Found::Node(node)) => {
                let attr = tree.attr(node)?;
                self.found(crown, &tree, (dir, name), (node, attr)).map(Ok)
            }
            Ok(Found::Absent) => absent(crown, &tree, dir, name).map(Ok),
            // It may have been given up for a reason that is over.
            Ok(Found::NotYet) | Err(_) => None,
        }
    }

    /// As [`step`](Fs::step), and waits: for the first version, and while the name may come.
    ///
    /// # Errors
    /// The archive cannot be had or cannot be shown.
    pub(super) async fn stepped(
        &self,
        crown: &Arc<Crown>,
        dir: NodeNo,
        name: &OsStr,
    ) -> Result<Looked, Refused> {
        let tree = self.rooted(crown).await?;
        let find = |tree: Arc<Tree>| async move { tree.find(dir, name.as_bytes()).await };
        let (tree, node) = self.asked(crown, tree, find).await?;
        Ok(match node {
            Some(node) => {
                let attr = tree.known(node).await.map_err(|error| refused(crown, error))?;
                let found = self.found(crown, &tree, (dir, name), (node, attr));
                found.ok_or(Refused::Errno(libc::ESTALE))?
            }
            None => absent(crown, &tree, dir, name).ok_or(Refused::Errno(libc::ESTALE))?,
        })
    }

    /// Counts a node that was found; `None` where the crown has come to stand for other bytes since.
    fn found(
        &self,
        crown: &Crown,
        tree: &Tree,
        (dir, name): (NodeNo, &OsStr),
        (node, attr): (NodeNo, NodeAttr),
    ) -> Option<Looked> {
        let complete = tree.index().is_some();
        if !crown.found(tree.blob().id(), (dir, name.as_bytes()), node, complete) {
            return None;
        }
        let (attr, attr_ttl) = self.node_attr(crown, tree, node, attr);
        let entry_ttl = if complete { LONG } else { Duration::ZERO };
        Some(Looked::Found { ino: crown.ino(node), attr, attr_ttl, entry_ttl })
    }

    /// Returns the tree of a crown, begun if need be; binds the crown to a version where it has none
    /// yet. Call within the runtime.
    ///
    /// # Errors
    /// As [`Cache::open`](crate::cache::Cache::open).
    pub(super) async fn rooted(&self, crown: &Arc<Crown>) -> Result<Arc<Tree>, Refused> {
        if let Some(tree) = crown.tree()
            && tree.failed().is_none()
            && !crown.is_broken()
        {
            return Ok(tree);
        }
        if crown.version().is_none() || crown.is_broken() {
            self.bind(crown).await?;
        }
        let version = crown.version().ok_or(Refused::Errno(libc::ESTALE))?;
        if let Some(broken) = version.blob.broken() {
            // Its file may be gone: what came is in the tree that saw it come, and in no other.
            return crown.tree().ok_or_else(|| OpenError::from(broken).into());
        }
        let Some(_pin) = self.cache.ledger().pin(version.blob.id()) else {
            // What is left of a version whose download failed goes with its last reference.
            return crown.tree().ok_or(Refused::Errno(libc::ESTALE));
        };
        let tree = self.cache.tree(crown.entry(), &version);
        crown.grown(&version, &tree);
        Ok(tree)
    }

    /// Returns the tree of a crown as it is, whatever became of it; begun where there is none.
    ///
    /// # Errors
    /// As [`rooted`](Fs::rooted).
    pub(super) async fn standing(&self, crown: &Arc<Crown>) -> Result<Arc<Tree>, Refused> {
        match crown.tree() {
            Some(tree) => Ok(tree),
            None => self.rooted(crown).await,
        }
    }

    async fn bind(&self, crown: &Arc<Crown>) -> Result<(), Refused> {
        let opened = match self.cache.open(crown.entry()).await {
            Ok(opened) => opened,
            // Members that have come stay readable.
            Err(_) if crown.tree().is_some() => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let reference = self.cache.ledger().refer(opened.version.blob.id());
        crown.bind(opened.version, reference);
        Ok(())
    }

    /// Asks the tree of a crown; where its download broke, also the one that stands in its place then.
    /// Returns which one answered.
    ///
    /// # Errors
    /// What the last one said.
    pub(super) async fn asked<T, F: Future<Output = Result<T, TreeError>>>(
        &self,
        crown: &Arc<Crown>,
        tree: Arc<Tree>,
        ask: impl Fn(Arc<Tree>) -> F,
    ) -> Result<(Arc<Tree>, T), Refused> {
        let error = match ask(tree.clone()).await {
            Ok(answer) => return Ok((tree, answer)),
            Err(error) => error,
        };
        if tree.blob().broken().is_none() {
            if error.why == Why::Damaged {
                check_digest(self.cache.ledger(), crown.entry(), tree.blob());
            }
            return Err(refused(crown, error));
        }
        let other = self.rooted(crown).await?;
        if Arc::ptr_eq(&other, &tree) {
            return Err(refused(crown, error));
        }
        let answer = ask(other.clone()).await.map_err(|error| refused(crown, error))?;
        Ok((other, answer))
    }

    /// Returns the attributes of a node of a tree, and how long the kernel may keep them. Waits where
    /// the tree was grown anew and has not come so far.
    ///
    /// # Errors
    /// ESTALE for a node that the kernel should not know; the tree is not to be had any more.
    pub(super) async fn member_attr(
        &self,
        crown: &Arc<Crown>,
        node: NodeNo,
    ) -> Result<(Attr, Duration), Refused> {
        if node == NodeNo::ROOT {
            return Ok(self.root_attr_of(crown));
        }
        let tree = self.standing(crown).await?;
        let known = |tree: Arc<Tree>| async move { tree.known(node).await };
        let (tree, attr) = self.asked(crown, tree, known).await?;
        Ok(self.node_attr(crown, &tree, node, attr))
    }

    /// Returns the attributes of a tree's root, and how long the kernel may keep them. They are there
    /// before the tree is.
    pub(super) fn root_attr_of(&self, crown: &Crown) -> (Attr, Duration) {
        let (tree, time) = (crown.tree(), crown.time(self.shown_at(crown)));
        let known = tree.as_ref().and_then(|tree| tree.attr(NodeNo::ROOT));
        let ttl = match tree.is_some_and(|tree| tree.index().is_some()) {
            true => LONG,
            false => self.cache.timing().window.max(JUST_LANDED),
        };
        let (mode, links) = known.map_or((0o555, 2), |attr| (attr.mode, attr.links));
        let number = number(crown.name().as_str());
        // What an archive says of its root's time is not known before it has come.
        (Attr { number, kind: Kind::Directory, size: 0, mode, links, time }, ttl)
    }

    fn node_attr(
        &self,
        crown: &Crown,
        tree: &Tree,
        node: NodeNo,
        attr: NodeAttr,
    ) -> (Attr, Duration) {
        let ttl = if tree.index().is_some() { LONG } else { Duration::ZERO };
        let attr = Attr {
            number: crown.ino(node).0,
            kind: attr.kind.into(),
            size: attr.size,
            mode: attr.mode,
            links: attr.links,
            time: attr.modified.unwrap_or_else(|| self.shown_at(crown)),
        };
        (attr, ttl)
    }

    /// Returns when what a crown stands for was first shown.
    fn shown_at(&self, crown: &Crown) -> SystemTime {
        match crown.version() {
            Some(version) => version.shown_at,
            None => crown.entry().promise().map_or(self.started, |(_, declared_at)| declared_at),
        }
    }
}

/// Says that a name is missing; `None` where the crown has come to stand for other bytes since.
fn absent(crown: &Crown, tree: &Tree, dir: NodeNo, name: &OsStr) -> Option<Looked> {
    let noted = crown.missed(tree.blob().id(), dir, name.as_bytes());
    noted.then_some(Looked::Absent { ttl: LONG })
}

/// Makes a refusal of what a tree says.
pub(super) fn refused(crown: &Crown, error: TreeError) -> Refused {
    let mut error = OpenError::from(error);
    error.message = format!("{}: {}", crown.name(), error.message);
    if error.errno == libc::ENOENT {
        // Its origin has the archive no more. Of a name in it that says nothing.
        error.errno = libc::EIO;
    }
    error.into()
}

impl From<tree::Kind> for Kind {
    fn from(kind: tree::Kind) -> Kind {
        match kind {
            tree::Kind::Directory => Kind::Directory,
            tree::Kind::File => Kind::File,
            tree::Kind::Symlink => Kind::Symlink,
        }
    }
}
