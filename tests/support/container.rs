//! Containers with namespaces of their own for users, mounts and processes.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::guards::TempDir;
use super::process;

/// A bundle for runc with the host's programs read-only and a few directories of the host's; what
/// runs in it is uid 2000. Deleted when dropped.
pub(crate) struct Container {
    /// What runc knows it by.
    pub(crate) id: String,
    dir: TempDir,
}

impl Container {
    /// Prepares a container that runs a program; `binds` are directories and where they are shown,
    /// not recursively and read-only.
    pub(crate) fn new(binds: &[(&Path, &str)], args: &[&str]) -> Container {
        let dir = TempDir::new();
        let root = dir.path().join("root");
        for sub in ["proc", "usr", "etc", "tmp", "dev"] {
            std::fs::create_dir_all(root.join(sub)).expect("make the container's root");
        }
        for link in ["bin", "lib", "lib64", "sbin"] {
            if Path::new("/").join(link).is_symlink() {
                std::os::unix::fs::symlink(format!("usr/{link}"), root.join(link))
                    .expect("link into usr");
            }
        }
        // runc gives a tmpfs the mode of the directory below it.
        std::fs::set_permissions(root.join("tmp"), std::fs::Permissions::from_mode(0o1777))
            .expect("open the container's /tmp to all");
        let bind = |from: &Path, to: &str| {
            serde_json::json!({ "destination": to, "source": from, "type": "bind",
                "options": ["bind", "ro", "nosuid", "nodev"] })
        };
        let mut mounts = vec![
            serde_json::json!({ "destination": "/proc", "type": "proc", "source": "proc" }),
            serde_json::json!({ "destination": "/tmp", "type": "tmpfs", "source": "tmpfs",
                "options": ["mode=1777"] }),
            serde_json::json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "mode=755"] }),
            bind(Path::new("/usr"), "/usr"),
        ];
        for (from, to) in binds {
            // Below /tmp runc makes the place by itself, in the tmpfs.
            if !to.starts_with("/tmp/") {
                std::fs::create_dir_all(root.join(&to[1..])).expect("make the place of a bind");
            }
            mounts.push(bind(from, to));
        }
        let config = serde_json::json!({
            "ociVersion": "1.0.2",
            "process": {
                "terminal": false,
                "user": { "uid": 2000, "gid": 2000 },
                "args": args,
                "env": ["PATH=/usr/bin:/bin"],
                "cwd": "/",
                "noNewPrivileges": true,
                "capabilities": {},
            },
            "root": { "path": root, "readonly": true },
            "mounts": mounts,
            "linux": {
                "namespaces": [
                    { "type": "user" }, { "type": "mount" }, { "type": "pid" }, { "type": "ipc" },
                ],
                "uidMappings": [{ "containerID": 0, "hostID": 100_000, "size": 65536 }],
                "gidMappings": [{ "containerID": 0, "hostID": 100_000, "size": 65536 }],
            },
        });
        std::fs::write(dir.path().join("config.json"), config.to_string())
            .expect("write the bundle");
        let id = format!(
            "cached-downloads-test-{}",
            dir.path()
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or("bundle")
                .trim_start_matches("cached-downloads-test")
        );
        Container { id, dir }
    }

    /// Returns a command of runc.
    pub(crate) fn runc(&self, args: &[&str]) -> Command {
        let mut command = process::command("runc");
        command.arg("--root").arg(self.dir.path().join("state")).args(args).stdin(Stdio::null());
        command
    }

    /// Returns the command that runs it.
    pub(crate) fn command(&self) -> Command {
        let mut command = self.runc(&["run", "--bundle"]);
        command.arg(self.dir.path()).arg(&self.id);
        command
    }

    /// Runs it to its end.
    pub(crate) fn run(&self) -> Output {
        self.command().output().expect("run runc")
    }

    /// Returns the process ids of everything inside, as the host sees them.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let output = self.runc(&["state", &self.id]).output().expect("run runc");
        let state: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let Some(init) = state["pid"].as_u64().filter(|pid| *pid > 0) else {
            return Vec::new();
        };
        let mut pids = vec![init as u32];
        let children = |pid: u32| -> Vec<u32> {
            std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
                .unwrap_or_default()
                .split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect()
        };
        let mut at = 0;
        while at < pids.len() {
            pids.extend(children(pids[at]));
            at += 1;
        }
        pids
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.runc(&["delete", "--force", &self.id]).stderr(Stdio::null()).status();
    }
}
