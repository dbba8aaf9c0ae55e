//! A container with its own user, mount and pid namespaces looks at the mount.

use std::process::Stdio;
use std::time::Duration;

use crate::support::container::Container;
use crate::support::origin::At;
use crate::support::{Body, Item, MIB, Mounted, Origin, Proc, needs, process, wait_until};

#[test]
fn an_unprivileged_container_reads_runs_maps_and_links_but_changes_nothing() {
    needs!("fuse", "root", "runc", "python3");
    const SCRIPT: &str = r#"
set -e
cd /downloads
stat -c %n a > /dev/null
ls -l > /dev/null
test "$(sha256sum < a)" = "$SUM  -"
test "$(readlink other)" = a
test "$(sha256sum < other)" = "$SUM  -"
ln -s /downloads/a /tmp/link
test "$(sha256sum < /tmp/link)" = "$SUM  -"
sh ./script > /tmp/said
test "$(cat /tmp/said)" = "ran inside"
test "$(./script)" = "ran inside"
test "$(./binary and so does a binary)" = "and so does a binary"
/usr/bin/python3 - <<'END'
import mmap, hashlib, os
f = open('/downloads/a', 'rb')
for flag in (mmap.MAP_SHARED, mmap.MAP_PRIVATE):
    m = mmap.mmap(f.fileno(), 0, flags=flag, prot=mmap.PROT_READ)
    assert hashlib.sha256(m).hexdigest() == os.environ['SUM']
END
for try in 'echo x > a' 'echo x > new' 'rm a' 'mkdir d' 'mv a b' 'chmod 777 a' 'touch a' 'ln a c'; do
    if said=$(LC_ALL=C sh -c "$try" 2>&1); then echo "could: $try"; exit 1; fi
    case $said in *"Read-only file system"*) ;; *) echo "$try: $said"; exit 1 ;; esac
done
echo fine
"#;
    let origin = Origin::start();
    let body = Body::made(1, 3 * MIB);
    let sum = body.sha256();
    origin.put("/a", Item::made(1, body.len()));
    let mut script = Item::made(2, 0);
    script.body = Body::given("#!/bin/sh\necho ran inside\n");
    origin.put("/script", script);
    let echo = std::fs::read(process::find("echo").expect("an echo to copy")).expect("read it");
    let mut binary = Item::made(3, 0);
    binary.body = Body::given(&echo);
    origin.put("/binary", binary);
    let mounted = Mounted::with()
        .catalog(
            "test.toml",
            &format!(
                "[downloads.a]\nurl = \"{}\"\naliases = [\"other\"]\n[downloads.script]\nurl = \"{}\"\n\
                 [downloads.binary]\nurl = \"{}\"\n",
                origin.url("/a"),
                origin.url("/script"),
                origin.url("/binary")
            ),
        )
        .start();
    for round in ["cold", "warm"] {
        let script = format!("SUM={sum}; export SUM\n{SCRIPT}");
        let container =
            Container::new(&[(&mounted.mnt(), "/downloads")], &["/bin/sh", "-c", &script]);
        let output = container.run();
        let (said, errors) = (
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        );
        assert!(
            output.status.success() && said.ends_with("fine\n"),
            "{round}: {}: {said}{errors}",
            output.status
        );
        mounted.wait_complete("a");
    }
}

#[test]
fn killing_a_container_that_waits_leaves_nothing_stuck() {
    needs!("fuse", "root", "runc");
    let origin = Origin::start();
    origin.put("/a", Item::made(1, 4 * MIB));
    origin.put("/b", Item::made(2, 4 * MIB));
    origin.hold("/a", At::Byte(MIB));
    origin.hold("/b", At::Head);
    let mounted = Mounted::names(&[("a", &origin.url("/a")), ("b", &origin.url("/b"))]);
    let script = "cat /downloads/a > /dev/null & cat /downloads/b > /dev/null & wait";
    let container = Container::new(&[(&mounted.mnt(), "/downloads")], &["/bin/sh", "-c", script]);
    let mut runner = Proc::start(container.command().stdout(Stdio::null()).stderr(Stdio::null()));
    origin.wait_held("/a", 1);
    origin.wait_held("/b", 1);
    let mut pids = Vec::new();
    wait_until("three processes inside", Duration::from_secs(5), || {
        pids = container.pids();
        pids.len() >= 3
    });
    std::thread::sleep(Duration::from_millis(300));
    let status = container.runc(&["kill", &container.id, "KILL"]).status().expect("run runc");
    assert!(status.success());
    let gone = |pids: &[u32]| {
        pids.iter().all(|pid| !matches!(process::state(*pid), Some('D' | 'S' | 'R')))
    };
    wait_until("all of it is gone", Duration::from_millis(1000), || gone(&pids));
    assert!(runner.wait(Duration::from_secs(2)).is_some());
}
