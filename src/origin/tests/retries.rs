//! What is tried again, how long, and what is remembered.

use std::time::Instant;

use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::*;

#[tokio::test]
async fn what_can_pass_is_tried_again() {
    for first in [
        vec![answer("503 Busy", "", "later")],
        vec![answer("500 Oops", "", "")],
        vec![answer("429 Slow", "Retry-After: 0\r\n", "")],
        vec![answer("408 Late", "", "")],
        vec![answer("425 Early", "", "")],
        vec![Act::Close],
        vec![Act::Reset],
        vec![Act::Hang],
    ] {
        let case = format!("{first:?}");
        let raw = Raw::start(move |n, _| match n {
            0 => first.clone(),
            _ => vec![answer("200 OK", "", "x")],
        })
        .await;
        let origin = origin(quick());
        found(origin.get(cold(&raw.url("/x"))).await);
        assert_eq!(raw.seen().len(), 2, "{case}");
        assert_eq!(origin.stats().snapshot().retries, 1, "{case}");
    }
}

#[tokio::test]
async fn a_warm_question_gives_up_soon_and_counts_its_tries() {
    let raw = Raw::start(|_, _| vec![answer("503 Busy", "", "")]).await;
    let origin = origin(quick());
    let start = Instant::now();
    let failure = failed(origin.get(warm(&raw.url("/x"), "\"a\"")).await);
    assert!(start.elapsed() < Duration::from_millis(1000), "{:?}", start.elapsed());
    assert_eq!(failure.kind, FailureKind::Status);
    let text = &failure.message;
    assert!(text.contains("503 Service Unavailable (") && text.contains(" tries in "), "{text}");
    let stats = origin.stats().snapshot();
    assert!(stats.retries > 1);
    assert_eq!(stats.failures["status"], 1);
}

#[tokio::test]
async fn a_long_retry_after_is_reported_and_not_waited_for() {
    let raw = Raw::start(|_, _| vec![answer("503 Busy", "Retry-After: 60\r\n", "")]).await;
    let start = Instant::now();
    let failure = failed(origin(quick()).get(cold(&raw.url("/x"))).await);
    assert!(start.elapsed() < Duration::from_millis(1000));
    assert_eq!(failure.retry_after, Some(Duration::from_secs(60)));
    assert_eq!(raw.seen().len(), 1);
}

#[tokio::test]
async fn a_silent_origin_is_silent() {
    let raw = Raw::start(|_, _| vec![Act::Hang]).await;
    let origin = origin(quick());
    let start = Instant::now();
    let failure = failed(origin.get(warm(&raw.url("/x"), "\"a\"")).await);
    assert_eq!(failure.kind, FailureKind::Silent);
    assert!((500..950).contains(&start.elapsed().as_millis()), "once, for the time of a head");
    let failure = failed(origin.get(cold(&raw.url("/x"))).await);
    assert_eq!(failure.kind, FailureKind::Silent);
    let text = failure.message;
    assert!(text.contains("no answer within") && text.contains("tries"), "{text}");
}

#[tokio::test]
async fn a_kept_connection_that_died_is_replaced_uncounted() {
    // The server ends the kept connection only when the next request has come: the client cannot
    // have known.
    let raw = Raw::start(|n, _| match n {
        1 => vec![Act::Reset],
        _ => vec![answer("200 OK", "", "x")],
    })
    .await;
    let origin = origin(quick());
    let (_, mut body) = found(origin.get(cold(&raw.url("/x"))).await);
    read(&mut *body).await.expect("a body");
    found(origin.get(warm(&raw.url("/x"), "\"a\"")).await);
    let connections: Vec<_> = raw.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [0, 0, 1]);
    assert_eq!(origin.stats().snapshot().retries, 0);
}

/// Returns an address where nobody listens.
async fn nobody() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    listener.local_addr().expect("an address")
}

#[tokio::test]
async fn a_dead_origin_is_remembered_for_cold_questions() {
    let address = nobody().await;
    let origin = origin(OriginSettings { dead_for: Duration::from_millis(700), ..quick() });
    let url = format!("http://{address}/x?CANARY");
    let start = Instant::now();
    let failure = failed(origin.get(cold(&url)).await);
    assert_eq!(failure.kind, FailureKind::Unreachable);
    let text = failure.message;
    assert!(text.contains(&format!("GET http://{address}/x: connection refused (")), "{text}");
    assert!((150..1400).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());

    let start = Instant::now();
    for _ in 0..200 {
        let failure = failed(origin.get(cold(&format!("http://{address}/y"))).await);
        assert_eq!(failure.kind, FailureKind::Unreachable);
        assert!(failure.message.contains("connection refused, 0."), "{failure}");
    }
    assert!(start.elapsed() < Duration::from_millis(600), "{:?}", start.elapsed());

    // It comes back: a warm question finds out at once, and then cold ones go through.
    let _back = Raw::start_at(address, |_, _| vec![answer("200 OK", "", "x")]).await;
    found(origin.get(warm(&url, "\"a\"")).await);
    found(origin.get(cold(&url)).await);
}

#[tokio::test]
async fn a_connection_that_does_not_come_about_ends_with_the_patience() {
    // A listener whose queue is full: further connections are neither accepted nor refused.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let listener = socket.listen(0).expect("listening");
    let address = listener.local_addr().expect("an address");
    let mut full = Vec::new();
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_millis(100), TcpStream::connect(address)).await
    {
        full.push(stream);
    }
    let origin = origin(quick());
    let start = Instant::now();
    let failure = failed(origin.get(warm(&format!("http://{address}/x"), "\"a\"")).await);
    assert_eq!(failure.kind, FailureKind::Unreachable, "{failure}");
    assert!(failure.message.contains("no connection within 0.3 s"), "{failure}");
    assert!(start.elapsed() < Duration::from_millis(1000), "{:?}", start.elapsed());
}
