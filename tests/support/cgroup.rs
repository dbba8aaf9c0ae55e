//! A limit on the memory of the program under test, by a control group of either version.

use std::path::{Path, PathBuf};

/// Where the hierarchies are usually mounted, and the names of what they tell.
const VERSIONS: [Version; 2] = [
    Version {
        root: "/sys/fs/cgroup/memory",
        limit: "memory.limit_in_bytes",
        events: "memory.oom_control",
        peak: "memory.max_usage_in_bytes",
    },
    Version {
        root: "/sys/fs/cgroup",
        limit: "memory.max",
        events: "memory.events",
        peak: "memory.peak",
    },
];

struct Version {
    root: &'static str,
    limit: &'static str,
    events: &'static str,
    peak: &'static str,
}

/// A control group with a limit; removed when dropped, after its processes have ended.
pub(crate) struct MemoryLimit {
    dir: PathBuf,
    version: &'static Version,
}

impl MemoryLimit {
    /// Makes one of so many bytes, page cache included and swap excluded. `None` where this
    /// machine has no memory controller, or does not let us have it.
    pub(crate) fn new(bytes: u64) -> Option<MemoryLimit> {
        VERSIONS.iter().find_map(|version| {
            let root = Path::new(version.root);
            // For the children of the root of version 2; fails in the other one.
            let _ = std::fs::write(root.join("cgroup.subtree_control"), "+memory");
            let dir = root.join(format!("cached-downloads-test-{}", std::process::id()));
            std::fs::create_dir(&dir).ok()?;
            // From here on the drop removes it.
            let limit = MemoryLimit { dir, version };
            // No such file where the controller is another hierarchy's.
            std::fs::write(limit.file(version.limit), bytes.to_string()).ok()?;
            let _ = std::fs::write(limit.file("memory.swap.max"), "0");
            let _ = std::fs::write(limit.file("memory.swappiness"), "0");
            Some(limit)
        })
    }

    /// Says whether this machine has them.
    pub(crate) fn available() -> bool {
        MemoryLimit::new(1 << 30).is_some()
    }

    /// Returns the file to which a process that belongs to it is written.
    pub(crate) fn members(&self) -> PathBuf {
        self.file("cgroup.procs")
    }

    /// Returns how many of its processes were killed for want of memory.
    pub(crate) fn killed(&self) -> u64 {
        let text = std::fs::read_to_string(self.file(self.version.events)).expect("read events");
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|count| count.parse().ok()).expect("a count of kills")
    }

    /// Returns the most that it took, page cache included, in bytes; where the kernel tells it.
    pub(crate) fn peak(&self) -> Option<u64> {
        std::fs::read_to_string(self.file(self.version.peak)).ok()?.trim().parse().ok()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir(&self.dir) {
            eprintln!("{} stays behind: {error}", self.dir.display());
        }
    }
}
