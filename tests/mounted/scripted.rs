//! The scripted origin itself: what the tests of faults stand on.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::origin::{Fault, Place, When};
use crate::support::{Framing, Item, KIB, Origin, timed};

/// Sends one request on a connection of its own and returns all that comes back.
fn ask(origin: &Origin, fields: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(origin.addr()).expect("connect");
    let request = format!("GET /a HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
    stream.write_all(request.as_bytes()).expect("send");
    stream.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
    let mut answer = Vec::new();
    // Ends by the close, the reset or, on a kept connection, the timeout.
    let _ = stream.read_to_end(&mut answer);
    answer
}

fn head(answer: &[u8]) -> String {
    String::from_utf8_lossy(answer).split("\r\n\r\n").next().unwrap_or_default().to_owned()
}

#[test]
fn ranges_are_answered_as_the_rfc_says() {
    let origin = Origin::start();
    let item = Item::ranged(7, 10 * KIB);
    origin.put("/a", item.clone());
    let cases: &[(&str, &str, &str)] = &[
        ("Range: bytes=5-9\r\n", "206", "bytes 5-9/10240"),
        ("Range: bytes=10000-\r\n", "206", "bytes 10000-10239/10240"),
        ("Range: bytes=-3\r\n", "206", "bytes 10237-10239/10240"),
        ("Range: bytes=0-1,5-6\r\n", "206", "bytes 0-1/10240"),
        ("Range: bytes=10240-\r\n", "416", "bytes */10240"),
        ("Range: bytes=5-9\r\nIf-Range: \"v7\"\r\n", "206", "bytes 5-9/10240"),
        ("Range: bytes=5-9\r\nIf-Range: \"v8\"\r\n", "200", ""),
        ("Range: bytes=5-9\r\nIf-None-Match: \"v7\"\r\n", "304", ""),
    ];
    for (fields, status, range) in cases {
        let head = head(&ask(&origin, fields));
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{fields}: {head}");
        let told = head.lines().find_map(|line| line.strip_prefix("Content-Range: "));
        assert_eq!(told.unwrap_or(""), *range, "{fields}: {head}");
    }
    let answer = ask(&origin, "Range: bytes=5000-5099\r\n");
    assert!(answer.ends_with(&item.body.slice(5000, 100)), "the bytes of the range");
    assert_eq!(origin.select("/a").last().map(|seen| (seen.from, seen.sent)), Some((5000, 100)));
}

#[test]
fn a_fault_strikes_its_kind_of_request_and_no_other() {
    let origin = Origin::start();
    let part = "Range: bytes=0-99\r\nIf-Range: \"v7\"\r\n";
    let wrong = Fault::Partial(Place::First);
    origin.put("/a", Item::ranged(7, KIB).strike(When::Part, wrong, 1));
    assert!(head(&ask(&origin, "")).starts_with("HTTP/1.1 200"));
    assert!(head(&ask(&origin, part)).contains("bytes 1-99/1024"), "struck");
    assert!(head(&ask(&origin, part)).contains("bytes 0-99/1024"), "once");

    let next = Item::ranged(8, KIB);
    let mut item = Item::ranged(7, KIB).strike(When::Plain, Fault::Change(100), 1);
    item.next = Some(Box::new(next.clone()));
    origin.put("/a", item.clone());
    assert!(ask(&origin, "").ends_with(&item.body.slice(0, 100)), "cut at the byte");
    assert!(ask(&origin, "").ends_with(&next.body.all()), "the next version");
}

#[test]
fn a_rate_is_kept() {
    let origin = Origin::start();
    let framing = Framing::Close;
    origin.put("/a", Item { rate: Some(400 * KIB), framing, ..Item::made(7, 200 * KIB) });
    let (answer, took) = timed(|| ask(&origin, ""));
    assert!(answer.len() as u64 > 200 * KIB, "{} bytes", answer.len());
    assert!(took > Duration::from_millis(480), "half a second's worth came after {took:?}");
}
