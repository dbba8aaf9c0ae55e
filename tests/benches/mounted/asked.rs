//! Complete files outside the window: the origin is asked at every open.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::proxy;
use crate::report::Report;
use crate::support::{Body, KIB, Mounted, Nginx, median};
use crate::warm::open_read_close;

/// Measures opens that are revalidated, beside bare conditional requests.
pub(crate) fn run(report: &mut Report) {
    let nginx = Nginx::start();
    nginx.put("near", &Body::made(1, 256 * KIB));
    nginx.put("far", &Body::made(2, 256 * KIB));
    let direct: SocketAddr = ([127, 0, 0, 1], nginx.port()).into();
    let distant = proxy::start(nginx.port(), Duration::from_millis(100));
    let mounted = Mounted::with()
        .download("near", &nginx.url("near"))
        .download("far", &format!("http://{distant}/far"))
        .args(["--revalidate-window", "0"])
        .start();

    near(report, &nginx, &mounted, direct);
    far(report, &mounted, distant);
    report.note(&mounted);
}

fn near(report: &mut Report, nginx: &Nginx, mounted: &Mounted, addr: SocketAddr) {
    const COUNT: usize = 3000;
    let path = mounted.path("near");
    open_read_close(&path);
    mounted.wait_complete("near");
    // What has just landed is a hit for a second.
    mounted.settle();
    let mut bare = Bare::connect(addr, "/near");
    bare.ask();
    std::thread::sleep(Duration::from_millis(100));
    let before = nginx.count("near", 304);
    let (mut ours, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..COUNT {
        ours.push(micros(|| open_read_close(&path)));
    }
    wait_for_log();
    let asked = nginx.count("near", 304) - before;
    for _ in 0..COUNT {
        beside.push(micros(|| bare.ask()));
    }
    let beside = format!("{:.0} us, a bare 304 on a kept connection", median(beside));
    report.below("open + read 4 KiB + close, revalidated, p50", "us", median(ours), &beside, 200.0);
    report.exactly(&format!("requests for {COUNT} such opens"), asked, COUNT);
}

fn far(report: &mut Report, mounted: &Mounted, addr: SocketAddr) {
    const COUNT: usize = 31;
    let path = mounted.path("far");
    open_read_close(&path);
    mounted.wait_complete("far");
    mounted.settle();
    let mut bare = Bare::connect(addr, "/far");
    bare.ask();
    let (mut ours, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..COUNT {
        ours.push(micros(|| open_read_close(&path)) / 1e3);
        beside.push(micros(|| bare.ask()) / 1e3);
    }
    report.at_most(
        "the same, an origin 100 ms away, p50",
        "ms",
        median(ours),
        (median(beside), "its round trip"),
        1.05,
    );
}

/// nginx writes its log when it is done with an answer.
fn wait_for_log() {
    std::thread::sleep(Duration::from_millis(200));
}

fn micros(call: impl FnOnce()) -> f64 {
    let begin = Instant::now();
    call();
    begin.elapsed().as_secs_f64() * 1e6
}

/// A kept connection that sends conditional requests and nothing else.
struct Bare {
    stream: TcpStream,
    request: String,
}

impl Bare {
    fn connect(addr: SocketAddr, path: &str) -> Bare {
        let mut stream = TcpStream::connect(addr).expect("connect");
        stream.set_nodelay(true).expect("nodelay");
        let plain = format!("HEAD {path} HTTP/1.1\r\nHost: {addr}\r\n\r\n");
        stream.write_all(plain.as_bytes()).expect("ask");
        let head = read_head(&mut stream);
        let tag = head.lines().find_map(|line| line.strip_prefix("ETag: ")).expect("a tag");
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nIf-None-Match: {tag}\r\n\r\n");
        Bare { stream, request }
    }

    fn ask(&mut self) {
        self.stream.write_all(self.request.as_bytes()).expect("ask");
        let head = read_head(&mut self.stream);
        assert!(head.starts_with("HTTP/1.1 304"), "{head}");
    }
}

/// Reads up to the empty line; neither a HEAD nor a 304 has a body.
fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut buf = [0; 2048];
    while !head.ends_with(b"\r\n\r\n") {
        let n = stream.read(&mut buf).expect("read");
        assert!(n > 0, "the origin closed a kept connection");
        head.extend_from_slice(&buf[..n]);
    }
    String::from_utf8_lossy(&head).into_owned()
}
