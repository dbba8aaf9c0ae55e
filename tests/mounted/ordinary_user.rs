//! The daemon runs as an ordinary user and mounts by way of fusermount3.

use std::os::unix::process::CommandExt;
use std::process::Stdio;

use crate::support::guards::DeviceForAll;
use crate::support::{Body, Item, MIB, Mounted, Origin, needs, process, status};

/// `nobody`: fusermount3 serves users with a name alone.
const UID: u32 = 65534;

#[test]
fn an_ordinary_user_reads_the_same_and_is_told_that_passthrough_is_off() {
    needs!("fuse", "root", "fusermount3", "/etc/mtab", "python3");
    let _device = DeviceForAll::new();
    let origin = Origin::start();
    let body = Body::made(1, 3 * MIB);
    origin.put("/a", Item::made(1, body.len()));
    let mut script = Item::made(2, 0);
    script.body = Body::given("#!/bin/sh\necho ran\n");
    origin.put("/script", script);
    let mounted = Mounted::with()
        .download("a", &origin.url("/a"))
        .download("script", &origin.url("/script"))
        .user(UID)
        .start();
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
    let script =
        "cp -f a ../copy && cmp a ../copy && sha256sum < a && ./script && ls -l && stat -c %s a &&
        python3 -c 'import mmap; f = open(\"a\", \"rb\")
for flag in (mmap.MAP_SHARED, mmap.MAP_PRIVATE):
    print(len(mmap.mmap(f.fileno(), 0, flags=flag, prot=mmap.PROT_READ)[:]))'";
    for round in ["cold and warm", "warm"] {
        let output = process::command("sh")
            .args(["-ec", script])
            .current_dir(mounted.mnt())
            .uid(UID)
            .gid(UID)
            .stdin(Stdio::null())
            .output()
            .expect("run sh");
        let said = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && errors.is_empty(), "{round}: {said}{errors}");
        assert!(said.starts_with(&body.sha256()) && said.contains("ran\n"), "{round}: {said}");
        let length = body.len().to_string();
        let lengths = said.lines().filter(|line| *line == length).count();
        assert_eq!(lengths, 3, "{round}: stat and two mappings: {said}");
        mounted.wait_complete("script");
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
