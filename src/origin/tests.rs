//! The origin against servers on loopback that send every byte themselves.

mod bodies;
mod hostile;
mod proxied;
mod ranges;
mod raw;
mod redirects;
mod retries;
mod tls_changes;
mod tls_origins;

use std::sync::Arc;
use std::time::Duration;

use url::Url;

use self::raw::{Act, Raw, answer, send};
use super::*;
use crate::source::{Header, HeaderValue};

/// Settings with short times, so that a test of patience is short.
fn quick() -> OriginSettings {
    OriginSettings {
        connect_timeout: Duration::from_millis(1500),
        head_timeout: Duration::from_millis(500),
        idle_timeout: Duration::from_millis(300),
        floor_window: Duration::from_millis(600),
        cold_connect: Duration::from_millis(500),
        cold: Duration::from_millis(1700),
        warm: Duration::from_millis(250),
        retry_base: Duration::from_millis(20),
        retry_cap: Duration::from_millis(100),
        ..OriginSettings::default()
    }
}

fn origin(settings: OriginSettings) -> HttpOrigin {
    HttpOrigin::new(settings).expect("an origin")
}

fn source(url: &str) -> Source {
    Source::new(Url::parse(url).expect("a URL"))
}

fn header(name: &str, value: &str) -> Header {
    Header { name: name.to_owned(), value: HeaderValue::Literal(value.to_owned()) }
}

fn cold(url: &str) -> Ask {
    ask(source(url), None)
}

fn ask(source: Source, validators: Option<Validators>) -> Ask {
    Ask { source: Arc::new(source), validators, patience: Patience::Cold, first: None }
}

fn warm(url: &str, etag: &str) -> Ask {
    Ask { patience: Patience::Warm, ..ask(source(url), Some(tag(etag))) }
}

fn tag(etag: &str) -> Validators {
    Validators { etag: Some(etag.to_owned()), last_modified: None, resource: None }
}

fn found(answer: Result<Answer, Failure>) -> (Head, Box<dyn Body>) {
    match answer {
        Ok(Answer::Found(head, body)) => (head, body),
        Ok(Answer::NotModified(_)) => panic!("304, a body is expected"),
        Err(failure) => panic!("{failure}"),
    }
}

fn failed(answer: Result<Answer, Failure>) -> Failure {
    match answer {
        Ok(Answer::Found(head, _)) => panic!("{head:?}, a failure is expected"),
        Ok(Answer::NotModified(_)) => panic!("304, a failure is expected"),
        Err(failure) => failure,
    }
}

async fn read(body: &mut dyn Body) -> Result<Vec<u8>, Failure> {
    let mut all = Vec::new();
    while let Some(bytes) = body.chunk().await? {
        all.extend_from_slice(&bytes);
    }
    Ok(all)
}

#[tokio::test]
async fn a_download_then_a_304_on_one_connection() {
    let lines = "ETag: \"a\"\r\nLast-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n";
    let raw = Raw::start(move |n, _| match n {
        0 => vec![answer("200 OK", lines, "hello")],
        _ => vec![send("HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n")],
    })
    .await;
    let origin = origin(quick());
    let url = raw.url("/x?sig=1");
    let (head, mut body) = found(origin.get(cold(&url)).await);
    assert_eq!(head.length, Some(5));
    assert_eq!(head.framing, Framing::Length);
    assert_eq!(head.validators.strong(), Some("\"a\""));
    assert_eq!(read(&mut *body).await.expect("a body"), b"hello");
    assert!(body.chunk().await.expect("still the end").is_none());

    let again = ask(source(&url), Some(head.validators.clone()));
    match origin.get(again).await {
        Ok(Answer::NotModified(kept)) => assert_eq!(kept.validators, head.validators),
        _ => panic!("304 is expected"),
    }
    let seen = raw.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!((seen[0].connection, seen[1].connection), (0, 0));
    assert!(seen[0].head.starts_with("GET /x?sig=1 HTTP/1.1\r\n"));
    assert_eq!(seen[0].field("accept-encoding"), Some("identity"));
    assert_eq!(seen[0].field("if-none-match"), None);
    assert_eq!(seen[1].field("if-none-match"), Some("\"a\""));
    assert_eq!(seen[1].field("if-modified-since"), None);
    let stats = origin.stats().snapshot();
    assert_eq!((stats.requests, stats.found, stats.not_modified), (2, 1, 1));
    assert_eq!((stats.bytes, stats.retries), (5, 0));
}

#[tokio::test]
async fn a_date_is_sent_back_byte_for_byte() {
    let raw = Raw::start(|_, _| vec![send("HTTP/1.1 304 Not Modified\r\n\r\n")]).await;
    let validators = Validators {
        last_modified: Some("yesterday, about noon".to_owned()),
        ..Validators::default()
    };
    let ask = ask(source(&raw.url("/x")), Some(validators.clone()));
    match origin(quick()).get(ask).await {
        Ok(Answer::NotModified(kept)) => assert_eq!(kept.validators, validators),
        _ => panic!("304 is expected"),
    }
    let sent = raw.seen();
    assert_eq!(sent[0].field("if-modified-since"), Some("yesterday, about noon"));
}

#[tokio::test]
async fn a_304_without_a_condition_is_no_answer() {
    let raw = Raw::start(|_, _| vec![send("HTTP/1.1 304 Not Modified\r\n\r\n")]).await;
    let origin = origin(quick());
    for validators in [None, Some(Validators::default())] {
        let ask = ask(source(&raw.url("/x")), validators);
        let failure = failed(origin.get(ask).await);
        assert_eq!(failure.kind, FailureKind::BadAnswer, "{failure}");
    }
    assert_eq!(raw.seen().len(), 2, "not tried again");
}

#[tokio::test]
async fn a_304_about_another_version_is_asked_again_without_condition() {
    let raw = Raw::start(|_, seen| match seen.field("if-none-match") {
        Some(_) => vec![send("HTTP/1.1 304 Not Modified\r\nETag: \"b\"\r\n\r\n")],
        None => vec![answer("200 OK", "ETag: \"b\"\r\n", "new")],
    })
    .await;
    let ask = ask(source(&raw.url("/x")), Some(tag("\"a\"")));
    let (head, mut body) = found(origin(quick()).get(ask).await);
    assert_eq!(head.validators, tag("\"b\""));
    assert_eq!(read(&mut *body).await.expect("a body"), b"new");
    assert_eq!(raw.seen().len(), 2);
}

#[tokio::test]
async fn answers_that_cannot_be_used() {
    let cases: &[(&str, FailureKind, &str)] = &[
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", FailureKind::Gone, "404"),
        ("HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n", FailureKind::Gone, "410"),
        ("HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n", FailureKind::Denied, "401"),
        ("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", FailureKind::Denied, "403"),
        ("HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n", FailureKind::Denied, "407"),
        ("HTTP/1.1 418 Pot\r\nContent-Length: 0\r\n\r\n", FailureKind::Status, "418"),
        ("HTTP/1.1 204 No Content\r\n\r\n", FailureKind::Status, "204"),
        ("HTTP/1.1 206 Part\r\nContent-Length: 1\r\n\r\nx", FailureKind::Status, "206"),
        ("HTTP/1.1 300 Many\r\nContent-Length: 0\r\n\r\n", FailureKind::Status, "300"),
        (
            "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx",
            FailureKind::BadAnswer,
            "compressed",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx",
            FailureKind::BadAnswer,
            "Transfer-Encoding",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            FailureKind::BadAnswer,
            "Transfer-Encoding",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
            FailureKind::BadAnswer,
            "HTTP/1.1",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nxx", FailureKind::BadAnswer, "HTTP/1.1"),
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n", FailureKind::BadAnswer, "HTTP/1.1"),
    ];
    for (text, kind, says) in cases {
        let raw = Raw::start(move |_, _| vec![send(text), Act::Close]).await;
        let failure = failed(origin(quick()).get(cold(&raw.url("/x"))).await);
        assert_eq!(failure.kind, *kind, "{text}: {failure}");
        assert!(failure.message.contains(says), "{text}: {failure}");
        assert_eq!(raw.seen().len(), 1, "{text}: not tried again");
    }
}

#[tokio::test]
async fn header_files_are_read_at_each_request_and_named_when_wrong() {
    let raw = Raw::start(|_, _| vec![answer("200 OK", "", "x")]).await;
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("token");
    let mut with_file = source(&raw.url("/x"));
    with_file.headers =
        vec![Header { name: "authorization".to_owned(), value: HeaderValue::File(file.clone()) }];
    let ask = ask(with_file, None);
    let origin = origin(quick());
    for token in ["one", "two"] {
        std::fs::write(&file, format!("{token}\n")).expect("written");
        found(origin.get(ask.clone()).await);
        let last = raw.seen().pop().expect("a request");
        assert_eq!(last.field("authorization"), Some(token));
    }
    let bad = [None, Some("".to_owned()), Some("CANARY\nCANARY".to_owned())];
    for content in bad.into_iter().chain([Some("CANARY".repeat(10_000))]) {
        match content {
            Some(text) => std::fs::write(&file, text).expect("written"),
            None => std::fs::remove_file(&file).expect("removed"),
        }
        let failure = failed(origin.get(ask.clone()).await);
        assert_eq!(failure.kind, FailureKind::Local, "{failure}");
        assert!(failure.message.contains("token"), "{failure}");
        assert!(!failure.message.contains("CANARY"), "{failure}");
    }
    assert_eq!(raw.seen().len(), 2);
}

#[tokio::test]
async fn headers_that_are_not_a_sources_business_are_refused() {
    let mut meddling = source("http://127.0.0.1:9/");
    meddling.headers = vec![header("range", "bytes=CANARY-")];
    let failure = failed(origin(quick()).get(ask(meddling, None)).await);
    assert_eq!(failure.kind, FailureKind::Local);
    assert!(failure.message.contains("range") && !failure.message.contains("CANARY"));
}

#[tokio::test]
async fn userinfo_becomes_basic_authorization_unless_a_header_says_otherwise() {
    let raw = Raw::start(|_, _| vec![answer("200 OK", "", "x")]).await;
    let origin = origin(quick());
    let url = format!("http://Aladdin:open%20sesame@{}/x", raw.address);
    found(origin.get(cold(&url)).await);
    let mut with_header = source(&url);
    with_header.headers = vec![header("authorization", "Bearer t")];
    found(origin.get(ask(with_header, None)).await);
    let seen = raw.seen();
    let basic = Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    assert_eq!(seen[0].field("authorization"), basic);
    assert_eq!(seen[0].field("host"), Some(&*raw.address.to_string()));
    assert_eq!(seen[1].field("authorization"), Some("Bearer t"));
}

#[tokio::test]
async fn no_failure_tells_a_secret() {
    let bad: Vec<Vec<Act>> = vec![
        vec![answer("404 Not Found", "", "")],
        vec![answer("403 Forbidden", "", "CANARY")],
        vec![answer("500 CANARY", "", "CANARY")],
        vec![Act::Reset],
        vec![Act::Close],
        vec![Act::Hang],
        vec![send("CANARY CANARY\r\n\r\n"), Act::Close],
        vec![send("HTTP/1.1 200 OK\r\nCANARY\r\n\r\n"), Act::Close],
        vec![answer("302 Found", "Location: http://u:CANARY@b/\r\n", "")],
        vec![answer("302 Found", "Location: ftp://b/?CANARY\r\n", "")],
        vec![answer("302 Found", "Location: http://169.254.1.1/?CANARY\r\n", "")],
        vec![answer("302 Found", "Location: http://127.0.0.1:1/?CANARY\r\n", "")],
        vec![answer("302 Found", "Location: ?CANARY\r\n", "")],
        vec![send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nCANARY"), Act::Close],
        vec![send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nCANARY\r\n"), Act::Close],
    ];
    for acts in bad {
        let case = format!("{acts:?}");
        let raw = Raw::start(move |_, _| acts.clone()).await;
        let mut secret = source(&format!("http://CANARY:CANARY@{}/x?CANARY#CANARY", raw.address));
        secret.headers = vec![header("x-secret", "CANARY")];
        let question = Ask { patience: Patience::Warm, ..ask(secret, None) };
        let failure = match origin(quick()).get(question).await {
            Ok(Answer::Found(_, mut body)) => read(&mut *body).await.expect_err(&case),
            other => failed(other),
        };
        let said = format!("{failure} {failure:?}");
        assert!(!said.contains("CANARY"), "{case}: {said}");
        assert!(said.contains(&format!("GET http://{}/x: ", raw.address)), "{said}");
    }
}
