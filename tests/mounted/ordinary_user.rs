//! The daemon runs as an ordinary user and mounts by way of fusermount3.

use std::os::unix::process::CommandExt;
use std::process::Stdio;

use crate::support::guards::DeviceForAll;
use crate::support::{Body, Item, MIB, Mounted, Origin, needs, process, status};

/// `nobody`: fusermount3 serves users with a name alone.
const UID: u32 = 65534;

#[test]
fn an_ordinary_user_reads_the_same_and_is_told_that_passthrough_is_off() {
    needs!("fuse", "root", "fusermount3");
    let _device = DeviceForAll::new();
    let origin = Origin::start();
    let body = Body::made(1, 3 * MIB);
    origin.put("/a", Item::made(1, body.len()));
    let mounted = Mounted::with().download("a", &origin.url("/a")).user(UID).start();
    for round in 0..3 {
        let output = process::command("cat")
            .arg(mounted.path("a"))
            .uid(UID)
            .gid(UID)
            .stdin(Stdio::null())
            .output()
            .expect("run cat");
        assert!(output.status.success(), "round {round}");
        assert_eq!(body.differs(0, &output.stdout), None, "round {round}");
        assert_eq!(output.stdout.len() as u64, body.len());
        if round == 0 {
            mounted.wait_complete("a");
        }
    }
    assert_eq!(origin.count("/a", 200), 1);
    let said = mounted.status();
    let passthrough = status::find(&said, "passthrough").expect("status speaks of passthrough");
    assert!(passthrough.to_string().contains("CAP_SYS_ADMIN"), "why it is off: {passthrough}");
    let log = mounted.log();
    assert!(
        log.lines().any(|line| line.contains("passthrough") && line.contains("CAP_SYS_ADMIN")),
        "{log}"
    );
}

#[test]
fn without_passthrough_reads_are_the_same() {
    needs!("fuse");
    let origin = Origin::start();
    let body = Body::made(1, 3 * MIB);
    origin.put("/a", Item::made(1, body.len()));
    let mounted =
        Mounted::with().download("a", &origin.url("/a")).args(["--no-passthrough"]).start();
    body.check(&mounted.path("a")).expect("cold");
    mounted.wait_complete("a");
    body.check(&mounted.path("a")).expect("warm");
    let file = std::fs::File::open(mounted.path("a")).expect("open");
    for shared in [true, false] {
        let mapping = crate::support::os::Mapping::new(&file, body.len() as usize, shared);
        let bytes = mapping.expect("map").copy(0, body.len() as usize);
        assert_eq!(body.differs(0, &bytes), None);
    }
}
