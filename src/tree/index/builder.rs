//! An index while its archive is read.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use super::super::error::{TreeError, Why};
use super::super::limits::Limits;
use super::super::path::{self, LONGEST_TARGET, shown};
use super::super::stamp::Stamp;
use super::member::{Content, ContentNo, Member, NodeAttr, NodeNo, Packed, What};
use super::records::{Dir, Entry, Node, Records, Shape, Target};
use super::whole::Index;

/// What members may unpack to whatever the ratio: a small archive of zeros does no harm.
const RATIO_FROM: u64 = 1 << 20;

/// An index that grows while its archive is read; what is in it already can be asked for.
#[derive(Clone)]
pub struct Builder {
    limits: Limits,
    /// The length of the archive.
    archive: Option<u64>,
    /// The entries in the order they came; a name that is taken again keeps its place.
    records: Records,
    /// Numbers of entries, found by directory and name. Keyed at random, so that no archive can
    /// choose names that collide.
    by_name: HashTable<u32>,
    keys: RandomState,
    /// Members and implied directories so far.
    members: u64,
    /// What all members unpack to.
    expanded: u64,
}

impl Builder {
    /// Begins an index. `archive` is the length of the archive, for the ratio, where known.
    pub fn new(limits: Limits, archive: Option<u64>) -> Builder {
        Builder {
            limits,
            archive,
            records: Records::new(),
            by_name: HashTable::new(),
            keys: RandomState::new(),
            members: 0,
            expanded: 0,
        }
    }

    /// Notes the length of the archive, in bytes, where it was not announced.
    ///
    /// # Errors
    /// What has been added unpacks to too much for that.
    pub fn measured(&mut self, archive: u64) -> Result<(), TreeError> {
        if self.archive.replace(archive).is_some() || !self.passes_ratio(archive) {
            return Ok(());
        }
        let text = format!(
            "the archive of {archive} bytes unpacks to {} bytes or more, {} times as much; archives.ratio allows {}",
            self.expanded,
            self.expanded / archive.max(1),
            self.limits.ratio
        );
        Err(TreeError::new(Why::Limit, text))
    }

    /// Adds a member; `None` for what is left out. A later member takes the name of an earlier one
    /// of the same path; the earlier node stays, for whoever holds it. A hard link is another name
    /// of the node that it links to.
    ///
    /// # Errors
    /// A path that is absolute, climbs or is no path; a file in the place of a directory; a hard
    /// link to nothing; a limit that is passed.
    pub fn add(&mut self, member: &Member<'_>) -> Result<Option<NodeNo>, TreeError> {
        self.add_named(member, 0)
    }

    /// As [`add`](Builder::add), with the checksum of the name that the local header must have.
    pub(in crate::tree) fn add_named(
        &mut self,
        member: &Member<'_>,
        name: u32,
    ) -> Result<Option<NodeNo>, TreeError> {
        self.count_member()?;
        let mut parts = path::components(member.path, "the member", &self.limits)?.peekable();
        if matches!(member.what, What::Other) {
            return Ok(None);
        }
        let mut dir = 0;
        while let Some(part) = parts.next() {
            if parts.peek().is_none() && !matches!(member.what, What::Directory) {
                return self.add_leaf(dir, part, member, name).map(Some);
            }
            dir = self.directory(dir, part, member.path, parts.peek().is_some())?;
        }
        let What::Directory = member.what else {
            return Err(TreeError::new(
                Why::Damaged,
                format!(
                    "the member {} is the root of the archive and no directory; pack it again",
                    shown(member.path)
                ),
            ));
        };
        let node = self.dir_node(dir);
        if let Some(root) = self.records.nodes.get_mut(node as usize) {
            root.modified = Stamp::new(member.modified);
        }
        Ok(Some(NodeNo(node)))
    }

    /// Adds what is no directory.
    fn add_leaf(
        &mut self,
        dir: u32,
        name: &[u8],
        member: &Member<'_>,
        check: u32,
    ) -> Result<NodeNo, TreeError> {
        let shape = match member.what {
            What::HardLink(target) => {
                let node = self.linked(member.path, target)?;
                self.place(dir, name, node, member.path)?;
                return Ok(NodeNo(node));
            }
            What::Symlink(target) => self.add_target(member.path, target)?,
            What::PackedSymlink { size, packed } => {
                check_target(member.path, size)?;
                Shape::PackedSymlink(self.add_content(member.path, size, packed, check)?)
            }
            What::File { size, packed } => {
                Shape::File(self.add_content(member.path, size, packed, check)?)
            }
            // `add_named` answers for these.
            What::Directory | What::Other => return Ok(NodeNo(self.dir_node(dir))),
        };
        let node = self.add_node(Node {
            modified: Stamp::new(member.modified),
            shape,
            parent: dir,
            executable: member.executable.unwrap_or(true),
        });
        self.place(dir, name, node, member.path)?;
        Ok(NodeNo(node))
    }

    /// Returns the directory of a name in another, which is made where it is missing.
    fn directory(
        &mut self,
        parent: u32,
        name: &[u8],
        path: &[u8],
        implied: bool,
    ) -> Result<u32, TreeError> {
        if let Some(entry) = self.find(parent, name) {
            return self.records.dir_of(NodeNo(self.node_of(entry))).ok_or_else(|| {
                TreeError::new(
                    Why::Damaged,
                    format!(
                        "the member {} needs a directory where the archive has a file or link \
                         ({}); pack it again with one of them",
                        shown(path),
                        shown(name)
                    ),
                )
            });
        }
        if implied {
            self.count_member()?;
        }
        let dir = self.records.dirs.len() as u32;
        let node = self.add_node(Node {
            modified: Stamp::NONE,
            shape: Shape::Directory(dir),
            parent,
            executable: true,
        });
        self.records.dirs.push(Dir { node, dirs: 0, first: 0, count: 0 });
        self.place(parent, name, node, path)?;
        Ok(dir)
    }

    /// Gives a name to a node. Whatever had it before loses it.
    fn place(&mut self, dir: u32, name: &[u8], node: u32, path: &[u8]) -> Result<(), TreeError> {
        if let Some(at) = self.find(dir, name) {
            let before = self.node_of(at);
            if self.records.dir_of(NodeNo(before)).is_some() {
                return Err(TreeError::new(
                    Why::Damaged,
                    format!(
                        "the member {} is a file or link where the archive has a directory; pack \
                         it again with one of them",
                        shown(path)
                    ),
                ));
            }
            if let Some(entry) = self.records.entries.get_mut(at as usize) {
                entry.node = node;
            }
            self.records.count_name(before, -1);
        } else {
            let name_at = self.add_text(name)?;
            let at = self.records.entries.len() as u32;
            let name_len = u8::try_from(name.len()).unwrap_or(u8::MAX);
            self.records.entries.push(Entry { dir, node, name_at, name_len });
            let (records, keys) = (&self.records, &self.keys);
            let hash_of = |at: &u32| match records.entries.get(*at as usize) {
                Some(entry) => keys.hash_one((entry.dir, records.name(entry))),
                None => 0,
            };
            self.by_name.insert_unique(hash_of(&at), at, hash_of);
        }
        self.records.count_name(node, 1);
        self.check_memory()
    }

    /// Finds the node that a hard link means.
    fn linked(&mut self, path: &[u8], target: &[u8]) -> Result<u32, TreeError> {
        let role = format!("the target of the hard link {}:", shown(path));
        let mut parts = path::components(target, &role, &self.limits)?.peekable();
        let mut dir = 0;
        while let Some(part) = parts.next() {
            let Some(entry) = self.find(dir, part) else { break };
            let node = self.node_of(entry);
            match (self.records.dir_of(NodeNo(node)), parts.peek()) {
                (Some(inner), Some(_)) => dir = inner,
                (None, None) => return Ok(node),
                _ => break,
            }
        }
        Err(TreeError::new(
            Why::Damaged,
            format!(
                "the hard link {} means {}, which is no file or link before it in the archive; \
                 pack it again",
                shown(path),
                shown(target)
            ),
        ))
    }

    fn add_node(&mut self, node: Node) -> u32 {
        let number = self.records.nodes.len() as u32;
        self.records.nodes.push(node);
        number
    }

    fn add_target(&mut self, path: &[u8], target: &[u8]) -> Result<Shape, TreeError> {
        check_target(path, target.len() as u64)?;
        if target.contains(&0) {
            return Err(TreeError::new(
                Why::Damaged,
                format!(
                    "the target {} of the symbolic link {} holds a NUL byte; pack the archive \
                     again",
                    shown(target),
                    shown(path)
                ),
            ));
        }
        let at = self.add_text(target)?;
        let len = u16::try_from(target.len()).unwrap_or(u16::MAX);
        self.records.targets.push(Target { at, len, links: 0 });
        Ok(Shape::Symlink(self.records.targets.len() as u32 - 1))
    }

    fn add_content(
        &mut self,
        path: &[u8],
        size: u64,
        packed: Packed,
        name: u32,
    ) -> Result<u32, TreeError> {
        let passed = |what: String, key: &str, allowed: u64| {
            TreeError::new(
                Why::Limit,
                format!("the member {} {what}; archives.{key} allows {allowed}", shown(path)),
            )
        };
        if size > self.limits.member {
            return Err(passed(format!("unpacks to {size} bytes"), "member", self.limits.member));
        }
        self.expanded = self.expanded.saturating_add(size);
        let expanded = self.expanded;
        if expanded > self.limits.expanded {
            let what = format!("brings what the archive unpacks to to {expanded} bytes");
            return Err(passed(what, "expanded", self.limits.expanded));
        }
        if let Some(archive) = self.archive
            && self.passes_ratio(archive)
        {
            let what = format!(
                "brings what the archive of {archive} bytes unpacks to to {expanded} bytes, {} \
                 times as much",
                expanded / archive.max(1)
            );
            return Err(passed(what, "ratio", self.limits.ratio));
        }
        self.records
            .push_content(size, packed, name)
            .ok_or_else(|| passed(format!("unpacks to {size} bytes"), "member", i64::MAX as u64))
    }

    fn passes_ratio(&self, archive: u64) -> bool {
        self.expanded > self.limits.ratio.saturating_mul(archive).max(RATIO_FROM)
    }

    fn add_text(&mut self, text: &[u8]) -> Result<u32, TreeError> {
        let at = u32::try_from(self.records.text.len());
        self.records.text.extend_from_slice(text);
        match (at, u32::try_from(self.records.text.len())) {
            (Ok(at), Ok(_)) => Ok(at),
            _ => Err(TreeError::new(
                Why::Limit,
                "the names of the archive's members take more than 4 GiB; split the archive",
            )),
        }
    }

    fn count_member(&mut self) -> Result<(), TreeError> {
        // The root has a number too.
        let allowed = self.limits.members.min(NodeNo::END - 1);
        self.members += 1;
        if self.members <= u64::from(allowed) {
            return Ok(());
        }
        Err(TreeError::new(
            Why::Limit,
            format!(
                "the archive has more than {allowed} members (with implied directories); \
                 archives.members allows {}, and no tree can have {} or more",
                self.limits.members,
                NodeNo::END
            ),
        ))
    }

    fn check_memory(&self) -> Result<(), TreeError> {
        let memory = self.records.memory();
        if memory <= self.limits.index {
            return Ok(());
        }
        Err(TreeError::new(
            Why::Limit,
            format!(
                "the index of the archive takes {memory} bytes of memory after {} members; \
                 archives.index allows {}",
                self.members, self.limits.index
            ),
        ))
    }

    fn find(&self, dir: u32, name: &[u8]) -> Option<u32> {
        let hash = self.keys.hash_one((dir, name));
        let is = |at: &u32| {
            let entry = self.records.entries.get(*at as usize);
            entry.is_some_and(|entry| entry.dir == dir && self.records.name(entry) == name)
        };
        self.by_name.find(hash, is).copied()
    }

    fn node_of(&self, entry: u32) -> u32 {
        self.records.entries.get(entry as usize).map_or(0, |entry| entry.node)
    }

    fn dir_node(&self, dir: u32) -> u32 {
        self.records.dirs.get(dir as usize).map_or(0, |dir| dir.node)
    }

    /// As [`Index::child`], of what is there so far.
    pub fn child(&self, dir: NodeNo, name: &[u8]) -> Option<NodeNo> {
        let dir = self.records.dir_of(dir)?;
        self.find(dir, name).map(|entry| NodeNo(self.node_of(entry)))
    }

    /// As [`Index::attr`].
    pub fn attr(&self, node: NodeNo) -> Option<NodeAttr> {
        self.records.attr(node)
    }

    /// As [`Index::parent`].
    pub fn parent(&self, node: NodeNo) -> Option<NodeNo> {
        self.records.parent(node)
    }

    /// As [`Index::target`].
    pub fn target(&self, node: NodeNo) -> Option<&[u8]> {
        self.records.target(node)
    }

    /// As [`Index::content_of`].
    pub fn content_of(&self, node: NodeNo) -> Option<ContentNo> {
        self.records.content_of(node)
    }

    /// As [`Index::content`].
    pub fn content(&self, content: ContentNo) -> Option<Content> {
        self.records.content(content)
    }

    /// Ends it.
    ///
    /// # Errors
    /// A limit that only the end can tell.
    pub fn finish(self) -> Result<Index, TreeError> {
        let mut records = self.records;
        drop(self.by_name);
        records.sort();
        records.shrink();
        Ok(Index { records })
    }
}

/// Refuses a target that Linux could not show.
fn check_target(path: &[u8], length: u64) -> Result<(), TreeError> {
    if (1..=LONGEST_TARGET as u64).contains(&length) {
        return Ok(());
    }
    Err(TreeError::new(
        Why::Damaged,
        format!(
            "the target of the symbolic link {} has {length} bytes; Linux knows links of 1 to \
             {LONGEST_TARGET} bytes; pack the archive again",
            shown(path)
        ),
    ))
}
