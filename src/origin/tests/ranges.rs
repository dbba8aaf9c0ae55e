//! Questions for some bytes: of a known version, and the first of an unknown one.

use super::raw::Seen;
use super::*;

const WHOLE: &str = "0123456789";

/// Returns a question for bytes 2 to 4 of version "a" of ten bytes.
fn piece(url: &str) -> RangeAsk {
    RangeAsk {
        source: Arc::new(source(url)),
        range: 2..5,
        validators: tag("\"a\""),
        length: 10,
        patience: Patience::Warm,
    }
}

fn first(url: &str, count: u64) -> Ask {
    Ask { first: Some(count), ..cold(url) }
}

/// Answers as an origin with ranges would: a part of [`WHOLE`] where one is asked for.
fn serve(seen: &Seen, lines: &str) -> Vec<Act> {
    let Some(range) = seen.field("range") else {
        return vec![answer("200 OK", lines, WHOLE)];
    };
    let (from, to) = range.strip_prefix("bytes=").and_then(|r| r.split_once('-')).expect("a range");
    let (from, to): (usize, usize) = (from.parse().expect("first"), to.parse().expect("last"));
    let to = to.min(WHOLE.len() - 1);
    let lines = format!("Content-Range: bytes {from}-{to}/10\r\n{lines}");
    vec![answer("206 Partial Content", &lines, &WHOLE[from..=to])]
}

async fn part(answer: Result<RangeAnswer, Failure>) -> Result<Vec<u8>, Failure> {
    match answer.expect("an answer") {
        RangeAnswer::Part(mut body) => read(&mut *body).await,
        RangeAnswer::Changed => panic!("changed, a part is expected"),
        RangeAnswer::NotServed => panic!("not served, a part is expected"),
        RangeAnswer::Unusable(failure) => panic!("{failure}, a part is expected"),
    }
}

/// Asks for the piece, and names what came.
async fn outcome(origin: &HttpOrigin, url: &str) -> Result<&'static str, Failure> {
    Ok(match origin.range(piece(url)).await? {
        RangeAnswer::Part(_) => "part",
        RangeAnswer::Changed => "changed",
        RangeAnswer::NotServed => "not served",
        RangeAnswer::Unusable(failure) => {
            assert_eq!(failure.kind, FailureKind::BadAnswer, "{failure}");
            assert!(failure.message.contains("/x (bytes 2-4): "), "{failure}");
            assert!(!failure.message.contains("CANARY"), "{failure}");
            return Ok(Box::leak(failure.message.into_boxed_str()));
        }
    })
}

/// Asks for the piece and has it answered with one text.
async fn answered(text: &str) -> Result<&'static str, Failure> {
    let text = text.to_owned();
    let raw = Raw::start(move |_, _| vec![send(&text), Act::Close]).await;
    let result = outcome(&origin(quick()), &raw.url("/x?CANARY")).await;
    assert_eq!(raw.seen().len(), 1, "asked once");
    result
}

#[tokio::test]
async fn a_piece_of_a_known_version_starts_from_the_configured_url() {
    let raw = Raw::start(|_, seen| match seen.head.split(' ').nth(1) {
        Some("/x") => vec![answer("302 Found", "Location: /x?signed\r\n", "")],
        _ => serve(seen, "ETag: \"a\"\r\n"),
    })
    .await;
    let origin = origin(quick());
    for _ in 0..2 {
        let bytes = part(origin.range(piece(&raw.url("/x"))).await).await;
        assert_eq!(bytes.expect("a body"), b"234");
    }
    let seen = raw.seen();
    let paths: Vec<_> = seen.iter().filter_map(|seen| seen.head.split(' ').nth(1)).collect();
    assert_eq!(paths, ["/x", "/x?signed", "/x", "/x?signed"]);
    for one in &seen {
        assert_eq!(one.field("range"), Some("bytes=2-4"));
        assert_eq!(one.field("if-range"), Some("\"a\""));
        assert_eq!(one.field("if-none-match"), None);
    }
    let stats = origin.stats().snapshot();
    assert_eq!((stats.ranges, stats.partial, stats.found, stats.bytes), (4, 2, 0, 6));
}

#[tokio::test]
async fn a_piece_is_retried_like_anything_else() {
    let raw = Raw::start(|n, seen| match n {
        0 => vec![answer("503 Busy", "", "")],
        1 => vec![Act::Reset],
        _ => serve(seen, "ETag: \"a\"\r\n"),
    })
    .await;
    let origin = origin(quick());
    let ask = RangeAsk { patience: Patience::Cold, ..piece(&raw.url("/x")) };
    assert_eq!(part(origin.range(ask).await).await.expect("a body"), b"234");
    assert_eq!(raw.seen().len(), 3);
}

#[tokio::test]
async fn answers_about_another_version_are_told_apart_from_wrong_ones() {
    let changed = [
        "HTTP/1.1 206 Part\r\nContent-Range: bytes 2-4/10\r\nContent-Length: 3\r\nETag: \"b\"\r\n\r\n234",
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nETag: \"b\"\r\n\r\n0123456789",
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nETag: \"a\"\r\n\r\n012345678",
        "HTTP/1.1 412 Failed\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 416 Range\r\nContent-Range: bytes */4\r\nContent-Length: 0\r\n\r\n",
    ];
    for text in changed {
        assert_eq!(answered(text).await.expect(text), "changed", "{text}");
    }
    let same = "Content-Length: 3\r\nETag: \"a\"";
    let wrong = [
        (format!("206 Part\r\n{same}\r\n\r\n234"), "without Content-Range"),
        (
            format!("206 Part\r\nContent-Range: bytes 2-4/11\r\n{same}\r\n\r\n234"),
            "bytes 2-4/11 instead of bytes 2-4/10",
        ),
        (
            format!(
                "206 Part\r\nContent-Type: multipart/byteranges; boundary=z\r\n{same}\r\n\r\n234"
            ),
            "several parts",
        ),
        (
            "200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\nETag: \"a\"\r\n\r\nx"
                .to_owned(),
            "compressed",
        ),
        ("304 Not Modified\r\n\r\n".to_owned(), "without a condition"),
        (
            "416 Range\r\nContent-Range: bytes */10\r\nContent-Length: 0\r\n\r\n".to_owned(),
            "the 10 bytes known",
        ),
        ("416 Range\r\nContent-Length: 0\r\n\r\n".to_owned(), "416"),
    ];
    for (text, says) in wrong {
        let unusable = answered(&format!("HTTP/1.1 {text}")).await.expect(&text);
        assert!(unusable.contains(says), "{text}: {unusable}");
    }
    let gone = answered("HTTP/1.1 404 Gone\r\nContent-Length: 0\r\n\r\n").await;
    let gone = gone.expect_err("no answer");
    assert_eq!(gone.kind, FailureKind::Gone);
    assert!(gone.message.contains("/x (bytes 2-4): 404"), "{gone}");
}

/// The whole for a range, or nonsense, is said of this URL; its rest may be asked for all the same.
#[tokio::test]
async fn of_what_no_range_is_served_none_is_asked_for_a_while() {
    for (status, named) in [("200 OK", "not served"), ("206 Part", "without Content-Range")] {
        let raw = Raw::start(move |_, seen| match seen.field("if-range") {
            Some(_) => vec![answer(status, "ETag: \"a\"\r\n", WHOLE)],
            None => serve(seen, "ETag: \"a\"\r\nAccept-Ranges: bytes\r\n"),
        })
        .await;
        let origin = origin(quick());
        let (head, _) = found(origin.get(cold(&raw.url("/x"))).await);
        assert!(head.ranges && head.offered);
        let said = outcome(&origin, &raw.url("/x")).await.expect("an answer");
        assert!(said.contains(named), "{said}");
        assert_eq!(outcome(&origin, &raw.url("/x")).await.expect("an answer"), "not served");
        assert_eq!(raw.seen().len(), 2, "the second range was not asked for");
        let (head, _) = found(origin.get(first(&raw.url("/x"), 4)).await);
        assert!(head.ranges && !head.offered && head.part.is_none());
        assert_eq!(raw.seen()[2].field("range"), None);
        let (head, _) = found(origin.get(first(&raw.url("/other"), 4)).await);
        assert!(head.ranges && head.offered && head.part.is_some(), "others of the same origin");
    }
}

#[tokio::test]
async fn who_lied_is_not_asked_for_ranges() {
    let raw = Raw::start(|_, seen| serve(seen, "ETag: \"a\"\r\n")).await;
    let origin = origin(quick());
    origin.lied(&source(&raw.url("/other")));
    assert_eq!(outcome(&origin, &raw.url("/x")).await.expect("an answer"), "not served");
    assert!(raw.seen().is_empty());
    let (head, mut body) = found(origin.get(first(&raw.url("/x"), 4)).await);
    assert!(!head.ranges && head.part.is_none());
    assert_eq!(read(&mut *body).await.expect("a body"), WHOLE.as_bytes());
    assert_eq!(origin.stats().snapshot().lied, 1);
}

#[tokio::test]
async fn ranges_need_a_strong_tag_a_length_and_leave() {
    let cases = [
        ("Content-Length: 1\r\nETag: \"a\"", true),
        ("Content-Length: 1\r\nETag: \"a\"\r\nAccept-Ranges: bytes", true),
        ("Content-Length: 1\r\nETag: \"a\"\r\nAccept-Ranges: None", false),
        ("Content-Length: 1\r\nETag: W/\"a\"", false),
        ("Content-Length: 1", false),
        ("ETag: \"a\"", false),
    ];
    for (lines, ranges) in cases {
        let text = format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\nx");
        let raw = Raw::start(move |_, _| vec![send(&text), Act::Close]).await;
        let (head, _) = found(origin(quick()).get(cold(&raw.url("/x"))).await);
        assert_eq!(head.ranges, ranges, "{lines}");
    }
}

#[tokio::test]
async fn the_first_bytes_come_with_the_length_of_all() {
    let raw = Raw::start(|_, seen| serve(seen, "ETag: \"a\"\r\n")).await;
    for (count, part) in [(4, 0..4), (10, 0..10), (11, 0..10)] {
        let (head, mut body) = found(origin(quick()).get(first(&raw.url("/x"), count)).await);
        assert_eq!((head.length, head.part), (Some(10), Some(part.clone())));
        assert!(head.ranges);
        let bytes = read(&mut *body).await.expect("a body");
        assert_eq!(bytes, &WHOLE.as_bytes()[..part.end as usize]);
    }
    let seen = raw.seen();
    assert_eq!(seen[0].field("range"), Some("bytes=0-3"));
    assert_eq!(seen[0].field("if-range"), None);
}

#[tokio::test]
async fn a_condition_wins_over_the_first_bytes() {
    let raw = Raw::start(|_, _| vec![send("HTTP/1.1 304 Not Modified\r\n\r\n")]).await;
    let ask = Ask { first: Some(4), ..ask(source(&raw.url("/x")), Some(tag("\"a\""))) };
    assert!(matches!(origin(quick()).get(ask).await, Ok(Answer::NotModified(_))));
    let seen = raw.seen();
    assert_eq!(seen[0].field("if-none-match"), Some("\"a\""));
    assert_eq!(seen[0].field("range"), Some("bytes=0-3"));
}

#[tokio::test]
async fn a_beginning_that_cannot_be_gone_on_from_is_asked_for_whole() {
    let part = |lines: &str| format!("HTTP/1.1 206 Part\r\nContent-Length: 4\r\n{lines}\r\n0123");
    let cases = [
        part("Content-Range: bytes 0-3/10\r\nETag: W/\"a\"\r\n"),
        part("Content-Range: bytes 0-3/10\r\n"),
        part("Content-Range: bytes 0-3/10\r\nETag: \"a\"\r\nAccept-Ranges: none\r\n"),
        part("Content-Range: bytes 0-3/*\r\nETag: \"a\"\r\n"),
        part("Content-Range: bytes 1-4/10\r\nETag: \"a\"\r\n"),
        part("ETag: \"a\"\r\n"),
        part("Content-Range: bytes 0-3/10\r\nETag: \"a\"\r\nContent-Encoding: gzip\r\n"),
        "HTTP/1.1 416 Range\r\nContent-Length: 0\r\nContent-Range: bytes */0\r\n\r\n".to_owned(),
        "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
    ];
    for text in cases {
        let case = text.clone();
        let raw = Raw::start(move |_, seen| match seen.field("range") {
            Some(_) => vec![send(&text)],
            None => vec![answer("200 OK", "ETag: \"a\"\r\n", WHOLE)],
        })
        .await;
        let origin = origin(quick());
        let (head, mut body) = found(origin.get(first(&raw.url("/x"), 4)).await);
        assert_eq!((head.length, head.part), (Some(10), None), "{case}");
        assert_eq!(read(&mut *body).await.expect(&case), WHOLE.as_bytes());
        assert_eq!(raw.seen().len(), 2, "{case}");
        assert_eq!(origin.stats().snapshot().retries, 0, "{case}");
    }
}

#[tokio::test]
async fn a_whole_body_is_taken_where_a_beginning_was_asked_for() {
    let raw = Raw::start(|_, _| vec![answer("200 OK", "ETag: \"a\"\r\n", WHOLE)]).await;
    let (head, mut body) = found(origin(quick()).get(first(&raw.url("/x"), 4)).await);
    assert_eq!((head.length, head.part), (Some(10), None));
    assert_eq!(read(&mut *body).await.expect("a body"), WHOLE.as_bytes());
    assert_eq!(raw.seen().len(), 1);
}

#[tokio::test]
async fn a_part_has_as_many_bytes_as_it_says() {
    let head = "HTTP/1.1 206 Part\r\nContent-Range: bytes 2-4/10\r\nETag: \"a\"\r\n";
    let cases = [
        ("Content-Length: 3\r\n\r\n23", "2 of 3 bytes"),
        ("Transfer-Encoding: chunked\r\n\r\n2\r\n23\r\n0\r\n\r\n", "2 of 3 bytes"),
        ("Transfer-Encoding: chunked\r\n\r\n4\r\n2345\r\n0\r\n\r\n", "longer than announced"),
        ("Transfer-Encoding: chunked\r\n\r\n3\r\n234\r\n", "cut after"),
        ("Connection: close\r\n\r\n23", "2 of 3 bytes"),
    ];
    for (rest, says) in cases {
        let text = format!("{head}{rest}");
        let raw = Raw::start(move |_, _| vec![send(&text), Act::Close]).await;
        let failure = part(origin(quick()).range(piece(&raw.url("/x"))).await).await;
        let failure = failure.expect_err(rest);
        assert_eq!(failure.kind, FailureKind::BadAnswer, "{rest}");
        assert!(failure.message.contains(says), "{rest}: {failure}");
    }
    for rest in ["Transfer-Encoding: chunked\r\n\r\n3\r\n234\r\n0\r\n\r\n", "\r\n234"] {
        let text = format!("{head}{rest}");
        let raw = Raw::start(move |_, _| vec![send(&text), Act::Close]).await;
        let bytes = part(origin(quick()).range(piece(&raw.url("/x"))).await).await;
        assert_eq!(bytes.expect(rest), b"234");
    }
}

#[tokio::test]
async fn what_cannot_be_asked_for_is_not_sent() {
    let raw = Raw::start(|_, seen| serve(seen, "")).await;
    let good = piece(&raw.url("/x"));
    for bad in [
        RangeAsk { range: 5..5, ..good.clone() },
        RangeAsk { validators: tag("W/\"a\""), ..good.clone() },
        RangeAsk { validators: tag("\"\n\""), ..good.clone() },
    ] {
        let failure = origin(quick()).range(bad).await.err().expect("refused");
        assert_eq!(failure.kind, FailureKind::Local, "{failure}");
    }
    assert!(raw.seen().is_empty());
}

#[tokio::test]
async fn a_declared_digest_comes_with_the_head() {
    let lines = "ETag: \"a\"\r\nContent-MD5: eB5eJF1ptWaXm4bijSPyxw==\r\n";
    let raw = Raw::start(move |_, seen| serve(seen, lines)).await;
    let (head, _) = found(origin(quick()).get(cold(&raw.url("/x"))).await);
    let md5 = "md5:781e5e245d69b566979b86e28d23f2c7";
    assert_eq!(head.digest.expect("a digest").to_string(), md5);
    let (head, _) = found(origin(quick()).get(first(&raw.url("/x"), 4)).await);
    assert_eq!(head.digest, None, "of the part, not of the whole");
}
