//! The harness itself: what the other tests rely on.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::origin::At;
use crate::support::{Body, Item, KIB, MIB, Nginx, Origin, needs};

fn exchange(origin: &Origin, head: &str) -> String {
    let mut stream = TcpStream::connect(origin.addr()).expect("connect");
    stream.write_all(format!("GET {head}Connection: close\r\n\r\n").as_bytes()).expect("ask");
    stream.shutdown(std::net::Shutdown::Write).expect("end the request");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn bodies_show_every_foreign_page() {
    let (a, b) = (Body::made(1, MIB + 100), Body::made(2, MIB + 100));
    let bytes = a.all();
    assert_eq!(a.differs(0, &bytes), None);
    assert_eq!(a.slice(5000, 9000), bytes[5000..14000]);
    assert_eq!(a.slice(MIB, 4096).len(), 100);
    for page in 0..256 {
        let at = page * 4 * KIB;
        assert_eq!(a.differs(at, &b.slice(at, 4096)), Some(at), "page {page}");
        let other = a.slice((at + 64 * KIB) % MIB, 4096);
        assert!(a.differs(at, &other).is_some(), "page {page} from elsewhere");
    }
}

#[test]
fn origin_answers_conditions_and_gates() {
    let mut origin = Origin::start();
    origin.put("/a", Item::made(7, 10));
    let plain = exchange(&origin, "/a?x=1 HTTP/1.1\r\n");
    assert!(plain.starts_with("HTTP/1.1 200 OK\r\nContent-Length: 10\r\nETag: \"v7\""));
    let same = exchange(&origin, "/a HTTP/1.1\r\nIf-None-Match: \"v7\"\r\n");
    assert!(same.starts_with("HTTP/1.1 304"));
    assert_eq!((origin.count("/a", 200), origin.count("/a", 304)), (1, 1));
    assert_eq!(origin.sent("/a"), 10);
    assert!(exchange(&origin, "/b HTTP/1.1\r\n").starts_with("HTTP/1.1 404"));

    origin.put("/a", Item::made(8, MIB));
    origin.hold("/a", At::Byte(MIB / 2));
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| exchange(&origin, "/a HTTP/1.1\r\n"));
        origin.wait_held("/a", 1);
        assert_eq!(origin.seen().last().map(|seen| seen.sent), Some(MIB / 2));
        origin.release("/a");
        assert!(reader.join().expect("the reader").len() > MIB as usize / 2);
    });

    origin.stop();
    assert!(TcpStream::connect(origin.addr()).is_err());
    origin.start_again();
    assert!(exchange(&origin, "/a HTTP/1.1\r\n").starts_with("HTTP/1.1 200"));
}

#[test]
fn origin_cuts_and_resets() {
    let origin = Origin::start();
    origin.put("/a", Item::made(1, MIB));
    origin.edit("/a", |item| item.cut_at = Some(1000));
    let cut = exchange(&origin, "/a HTTP/1.1\r\n");
    assert!(cut.len() < 4000);
    origin.edit("/a", |item| {
        item.cut_at = None;
        item.reset_at = Some(1000);
    });
    let mut stream = TcpStream::connect(origin.addr()).expect("connect");
    stream.write_all(b"GET /a HTTP/1.1\r\n\r\n").expect("ask");
    let error = stream.read_to_end(&mut Vec::new()).expect_err("a reset");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn nginx_serves_and_logs() {
    needs!("nginx");
    let nginx = Nginx::start();
    nginx.put("a", &Body::made(1, 100));
    let mut stream = TcpStream::connect(("127.0.0.1", nginx.port())).expect("connect");
    stream.write_all(b"GET /a HTTP/1.0\r\n\r\n").expect("ask");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    assert!(answer.starts_with(b"HTTP/1.1 200"));
    crate::support::wait_until("the log line", std::time::Duration::from_secs(1), || {
        nginx.count("a", 200) == 1
    });
}

#[test]
fn guards_undo_what_they_did() {
    use crate::support::guards::{Bind, LoopFs, TempDir, mounts_below};
    needs!("root", "mkfs.ext4", "losetup");
    let dir = TempDir::new();
    let disk = LoopFs::new(16);
    std::fs::write(disk.path().join("a"), "x").expect("write to the small disk");
    let space = crate::support::os::statvfs(disk.path()).expect("statvfs");
    assert!(space.total < 16 * MIB);
    let bind = Bind::new(&disk.path().join("a"), dir.path(), "bound");
    assert_eq!(mounts_below(dir.path()), [bind.path()]);
    drop(bind);
    assert!(mounts_below(dir.path()).is_empty());
    let (disk_path, dir_path) = (disk.path().to_owned(), dir.path().to_owned());
    drop((disk, dir));
    assert!(mounts_below(&disk_path).is_empty());
    assert!(!disk_path.exists() && !dir_path.exists());
}
