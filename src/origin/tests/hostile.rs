//! Origins that send too much, or nothing that ends.

use std::time::Instant;

use super::*;

async fn refusal(acts: Vec<Act>) -> Failure {
    let raw = Raw::start(move |_, _| acts.clone()).await;
    let failure = failed(origin(quick()).get(cold(&raw.url("/x"))).await);
    assert_eq!(raw.seen().len(), 1, "not tried again: {failure}");
    failure
}

#[tokio::test]
async fn a_flood_of_fields_is_refused() {
    let fields = |count: usize| -> String { (0..count).map(|n| format!("X-{n}: y\r\n")).collect() };
    let raw = Raw::start(move |_, _| vec![answer("200 OK", &fields(99), "x")]).await;
    found(origin(quick()).get(cold(&raw.url("/x"))).await);
    let failure = refusal(vec![answer("200 OK", &fields(100), "x"), Act::Close]).await;
    assert_eq!(failure.kind, FailureKind::BadAnswer);
    assert!(failure.message.contains("more than 100 fields"), "{failure}");
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let long = |size: usize| format!("X-Long: {}\r\n", "y".repeat(size));
    let raw = Raw::start(move |_, _| vec![answer("200 OK", &long(60_000), "x")]).await;
    found(origin(quick()).get(cold(&raw.url("/x"))).await);
    for status in ["200 OK", "302 Found", "500 Oops"] {
        let failure = refusal(vec![answer(status, &long(66_000), "x")]).await;
        assert_eq!(failure.kind, FailureKind::BadAnswer);
        assert!(failure.message.contains("at most 65536 are read"), "{failure}");
    }
    // Longer than the client ever buffers.
    let failure = refusal(vec![answer("200 OK", &long(1_000_000), "x"), Act::Close]).await;
    assert_eq!(failure.kind, FailureKind::BadAnswer);
    assert!(failure.message.contains("is too long"), "{failure}");
}

#[tokio::test]
async fn interim_answers_without_end_are_silence() {
    let mut acts = Vec::new();
    for _ in 0..200 {
        acts.extend([send("HTTP/1.1 103 Early\r\nX: y\r\n\r\n"), raw::wait(10)]);
    }
    let raw = Raw::start(move |_, _| acts.clone()).await;
    let start = Instant::now();
    let failure = failed(origin(quick()).get(warm(&raw.url("/x"), "\"a\"")).await);
    assert_eq!(failure.kind, FailureKind::Silent, "{failure}");
    assert!(start.elapsed() < Duration::from_millis(1500), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_head_without_its_body_is_a_body_that_was_cut() {
    let head = send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n");
    let raw = Raw::start(move |_, _| vec![head.clone(), Act::Close]).await;
    let (head, mut body) = found(origin(quick()).get(cold(&raw.url("/x"))).await);
    assert_eq!(head.length, Some(9));
    let failure = read(&mut *body).await.expect_err("cut");
    assert_eq!(failure.kind, FailureKind::BadAnswer);
    assert!(failure.message.contains("0 of 9 bytes"), "{failure}");
}
