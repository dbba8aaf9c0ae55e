//! Trees on a disk that others fill.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use crate::support::dice::Dice;
use crate::support::guards::LoopFs;
use crate::support::origin::At;
use crate::support::tar_bytes::{Block, tar};
use crate::support::zip_bytes::filter;
use crate::support::{Body, Item, MIB, Mounted, Origin, needs, wait_until};

const COUNT: u64 = 20;

/// A MiB that is packed to little.
fn content(n: u64) -> Vec<u8> {
    Dice::branch(1, n).bytes(8192, true).repeat(128)
}

fn read(root: &Path, n: u64) -> Result<(), i32> {
    let bytes = std::fs::read(root.join(format!("f{n:02}")));
    let bytes = bytes.map_err(|error| error.raw_os_error().expect("an error of the system"))?;
    assert!(bytes == content(n), "file {n} has other bytes");
    Ok(())
}

/// Takes all room that there is.
fn fill(file: &Path) {
    let mut file = std::fs::File::create(file).expect("make a file");
    for size in [MIB, 64 << 10, 4096] {
        let bytes = vec![1; size as usize];
        while file.write_all(&bytes).is_ok() {}
    }
}

#[test]
fn a_stream_stands_still_where_others_fill_the_disk_and_goes_on() {
    needs!("fuse", "root", "mkfs.ext4", "losetup", "gzip");
    let blocks: Vec<Block> =
        (0..COUNT).map(|n| Block::file(format!("f{n:02}"), content(n))).collect();
    let archive = filter("gzip", &["-1nc"], &tar(&blocks));
    let half = archive.len() as u64 / 2;
    let disk = LoopFs::new(96);
    let origin = Origin::start();
    let etag = Some("\"v1\"".to_owned());
    origin.put("/a", Item { etag, ..Item::new(Body::given(archive)) });
    origin.hold("/a", At::Byte(half));
    let catalog = format!("[downloads.a]\nurl = \"{}\"\nas = \"directory\"\n", origin.url("/a"));
    let mounted = Mounted::with()
        .store(&disk.path().join("store"))
        .args(["--quota", "64MiB", "--min-free", "0"])
        .catalog("trees.toml", &catalog)
        .start();
    let root = mounted.path("a");
    assert_eq!(read(&root, 0), Ok(()));
    origin.wait_held("/a", 1);
    wait_until("half of it to be unpacked", Duration::from_secs(10), || {
        read(&root, COUNT / 2 - 2) == Ok(())
    });
    // What was booked is not written yet.
    let other = disk.path().join("other");
    fill(&other);
    // Not to its end: the archive could not be committed either.
    origin.hold("/a", At::Byte(half / 2 * 3));
    assert_eq!(read(&root, COUNT - 1), Err(libc::ENOSPC));
    for n in 0..COUNT / 2 - 1 {
        assert_eq!(read(&root, n), Ok(()), "file {n} has passed");
    }
    assert!(mounted.number("disk-full") > 0, "{:#}", mounted.status());
    std::fs::remove_file(&other).expect("remove a file");
    origin.release("/a");
    wait_until("it to go on", Duration::from_secs(10), || read(&root, COUNT - 1) == Ok(()));
    for n in 0..COUNT {
        assert_eq!(read(&root, n), Ok(()), "file {n}");
    }
    mounted.wait_complete("a");
    assert_eq!(origin.count("/a", 200), 1);
}
