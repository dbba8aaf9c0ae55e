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
    let origin = origin(OriginSettings {
        dead_for: Duration::from_millis(700),
        breaker_after: 100,
        ..quick()
    });
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

#[tokio::test]
async fn an_origin_that_is_away_is_asked_by_one_probe_at_a_time_and_found_again() {
    let address = nobody().await;
    let probe_every = Duration::from_millis(400);
    let origin = origin(OriginSettings { probe_every, ..quick() });
    let url = format!("http://{address}/x?CANARY");
    let requests = || origin.stats().snapshot().requests;
    while requests() < 5 {
        failed(origin.get(warm(&url, "\"a\"")).await);
    }
    assert_eq!(origin.problems().len(), 1, "{:?}", origin.problems());

    let start = Instant::now();
    let mut questions = 0;
    while start.elapsed() < 2 * probe_every {
        for question in [warm(&url, "\"a\""), cold(&url)] {
            let begun = Instant::now();
            let failure = failed(origin.get(question).await);
            assert_eq!(failure.kind, FailureKind::Unreachable);
            assert!(begun.elapsed() < Duration::from_secs(1), "{failure}");
            questions += 1;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let sent = requests() - 5;
    assert!(sent <= 4 && questions > 10, "{sent} requests for {questions} questions");

    let _back = Raw::start_at(address, |_, _| vec![answer("200 OK", "", "x")]).await;
    let back = Instant::now();
    while origin.get(warm(&url, "\"a\"")).await.is_err() {
        assert!(back.elapsed() < 4 * probe_every, "not found again");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    found(origin.get(cold(&url)).await);
    assert!(origin.problems().is_empty());
}

#[tokio::test]
async fn a_question_that_waits_already_lives_through_an_open_circuit() {
    let address = nobody().await;
    let settings = OriginSettings {
        probe_every: Duration::from_millis(300),
        cold_connect: Duration::from_secs(5),
        cold: Duration::from_secs(5),
        ..quick()
    };
    let origin = Arc::new(origin(settings));
    let waiting = tokio::spawn({
        let (origin, url) = (Arc::clone(&origin), format!("http://{address}/x"));
        async move { origin.get(cold(&url)).await }
    });
    while origin.problems().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let _back = Raw::start_at(address, |_, _| vec![answer("200 OK", "", "x")]).await;
    found(waiting.await.expect("no panic"));
}

#[tokio::test]
async fn retries_end_with_the_budget_of_the_origin() {
    let raw = Raw::start(|_, _| vec![answer("503 Busy", "", "")]).await;
    let origin = origin(OriginSettings { retry_floor: 2, ..quick() });
    let failure = failed(origin.get(cold(&raw.url("/x"))).await);
    assert!(failure.message.contains("(3 tries in "), "{failure}");
    for _ in 0..6 {
        failed(origin.get(cold(&raw.url("/y"))).await);
    }
    assert_eq!(raw.seen().len(), 9, "nothing is left for other names");
    // Ten requests: the share is no more than the floor; the fifteenth earns a third retry.
    for _ in 0..6 {
        failed(origin.get(cold(&raw.url("/z"))).await);
    }
    let stats = origin.stats().snapshot();
    assert_eq!((stats.retries, stats.requests), (3, 16));
}

#[tokio::test]
async fn a_pause_asked_for_by_one_answer_holds_the_retries_of_others() {
    let raw = Raw::start(|n, _| match n {
        0 => vec![answer("429 Slow", "Retry-After: 60\r\n", "")],
        _ => vec![answer("500 Oops", "", "")],
    })
    .await;
    let origin = origin(quick());
    failed(origin.get(cold(&raw.url("/x"))).await);
    let failure = failed(origin.get(cold(&raw.url("/y"))).await);
    assert_eq!(failure.retry_after, None, "the pause is not for the name");
    assert_eq!(raw.seen().len(), 2, "asked once, not tried again");
}

#[tokio::test]
async fn a_date_in_retry_after_is_of_the_origins_clock() {
    let lines = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                 Retry-After: Sun, 06 Nov 1994 08:50:37 GMT\r\n";
    let raw = Raw::start(move |_, _| vec![answer("503 Busy", lines, "")]).await;
    let failure = failed(origin(quick()).get(cold(&raw.url("/x"))).await);
    assert_eq!(failure.retry_after, Some(Duration::from_secs(60)));
    assert_eq!(raw.seen().len(), 1);
}
