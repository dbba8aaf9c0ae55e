//! Bodies: framed in every way, cut, stalled, dripping.

use super::raw::wait;
use super::*;

/// Fetches the one answer that `acts` make, and reads its body.
async fn fetch(acts: Vec<Act>) -> (Head, Result<Vec<u8>, Failure>) {
    let raw = Raw::start(move |_, _| acts.clone()).await;
    let (head, mut body) = found(origin(quick()).get(cold(&raw.url("/x?q"))).await);
    let bytes = read(&mut *body).await;
    if let Err(first) = &bytes {
        let again = body.chunk().await.expect_err("a failure stays");
        assert_eq!(again.message, first.message);
    }
    (head, bytes)
}

#[tokio::test]
async fn the_framing_is_known() {
    let cases: &[(&str, Framing, Option<u64>)] = &[
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", Framing::Length, Some(2)),
        ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", Framing::Length, Some(2)),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nh\r\n1\r\ni\r\n0\r\n\r\n",
            Framing::Chunked,
            None,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            Framing::Chunked,
            None,
        ),
        ("HTTP/1.1 200 OK\r\n\r\nhi", Framing::Close, None),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhi", Framing::Close, None),
        ("HTTP/1.0 200 OK\r\n\r\nhi", Framing::Close, None),
        (
            "HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
            Framing::Length,
            Some(2),
        ),
    ];
    for (text, framing, length) in cases {
        let (head, bytes) = fetch(vec![send(text), Act::Close]).await;
        assert_eq!((head.framing, head.length), (*framing, *length), "{text}");
        assert_eq!(bytes.expect(text), b"hi", "{text}");
    }
}

#[tokio::test]
async fn an_empty_body_has_a_length() {
    let (head, bytes) = fetch(vec![answer("200 OK", "", "")]).await;
    assert_eq!((head.framing, head.length), (Framing::Length, Some(0)));
    assert!(bytes.expect("empty").is_empty());
}

#[tokio::test]
async fn a_cut_body_fails() {
    for end in [Act::Close, Act::Reset] {
        let cut = send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
        let (_, bytes) = fetch(vec![cut, wait(50), end.clone()]).await;
        let failure = bytes.expect_err("cut");
        assert_eq!(failure.kind, FailureKind::BadAnswer, "{end:?}");
        assert!(failure.message.contains("4 of 9 bytes"), "{failure}");
        let cut = send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n");
        let (_, bytes) = fetch(vec![cut, wait(50), end]).await;
        let failure = bytes.expect_err("no last chunk");
        assert_eq!(failure.kind, FailureKind::BadAnswer, "{failure}");
    }
    let cut = send("HTTP/1.1 200 OK\r\n\r\nhalf");
    let (_, bytes) = fetch(vec![cut, wait(50), Act::Reset]).await;
    assert_eq!(bytes.expect_err("reset").kind, FailureKind::BadAnswer);
}

#[tokio::test]
async fn bytes_beyond_the_announced_length_are_not_the_body_nor_the_next_answer() {
    let raw = Raw::start(|n, _| match n {
        0 => vec![send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi and more")],
        _ => vec![answer("200 OK", "", "clean")],
    })
    .await;
    let origin = origin(quick());
    let (_, mut body) = found(origin.get(cold(&raw.url("/x"))).await);
    assert_eq!(read(&mut *body).await.expect("two bytes"), b"hi");
    let (_, mut body) = found(origin.get(cold(&raw.url("/x"))).await);
    assert_eq!(read(&mut *body).await.expect("a body"), b"clean");
}

#[tokio::test]
async fn a_stalled_body_fails_as_silent() {
    let head = send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
    let (_, bytes) = fetch(vec![head, Act::Hang]).await;
    let failure = bytes.expect_err("stalled");
    assert_eq!(failure.kind, FailureKind::Silent);
    assert!(failure.message.contains("/x: body no byte for 0.3 s"), "{failure}");
}

#[tokio::test]
async fn a_dripping_body_fails() {
    let mut acts = vec![send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")];
    for _ in 0..100 {
        acts.extend([send("x"), wait(50)]);
    }
    let (_, bytes) = fetch(acts).await;
    let failure = bytes.expect_err("too slow");
    assert_eq!(failure.kind, FailureKind::BadAnswer);
    assert!(failure.message.contains("too slow"), "{failure}");
}

#[tokio::test]
async fn a_reader_that_takes_its_time_is_not_held_against_the_origin() {
    let raw = Raw::start(|_, _| vec![answer("200 OK", "", &"x".repeat(100_000))]).await;
    let (_, mut body) = found(origin(quick()).get(cold(&raw.url("/x"))).await);
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert_eq!(read(&mut *body).await.expect("whole").len(), 100_000);
}

#[tokio::test]
async fn a_dropped_body_closes_its_connection() {
    let raw = Raw::start(|_, _| {
        let head = send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
        vec![head, Act::Send(vec![0; 10_000_000]), Act::Close]
    })
    .await;
    let origin = origin(quick());
    for _ in 0..2 {
        drop(found(origin.get(cold(&raw.url("/x"))).await));
    }
    let connections: Vec<_> = raw.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [0, 1]);
}
