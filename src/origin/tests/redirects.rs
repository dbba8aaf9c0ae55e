//! Redirects over real connections; the rules alone have their table in `redirect`.

use super::*;

fn to(location: &str) -> Vec<Act> {
    let line = format!("Location: {location}\r\n");
    vec![answer("302 Found", &line, "moved")]
}

#[tokio::test]
async fn conditions_go_along_and_validators_come_from_the_last() {
    let raw = Raw::start(|_, seen| match seen.head.split(' ').nth(1) {
        Some("/x") => to("/y?signed=1"),
        _ => vec![answer("200 OK", "ETag: \"y\"\r\n", "body")],
    })
    .await;
    let mut with_header = source(&raw.url("/x"));
    with_header.headers = vec![header("x-tenant", "a")];
    let (head, _) = found(origin(quick()).get(ask(with_header, Some(tag("\"a\"")))).await);
    let resource = head.validators.resource.clone();
    assert!(resource.is_some(), "of another path than was asked for");
    assert_eq!(head.validators, Validators { resource, ..tag("\"y\"") });
    let seen = raw.seen();
    assert_eq!(seen[1].field("if-none-match"), Some("\"a\""));
    assert_eq!(seen[1].field("x-tenant"), Some("a"), "the same origin");
    assert_eq!(seen[1].field("referer"), None);
    assert_eq!(seen[1].connection, 0, "on the kept connection");
}

/// A tag tells the versions of one resource apart, and nothing of another's.
#[tokio::test]
async fn what_was_said_of_one_resource_is_not_taken_for_another() {
    let leads_to = Arc::new(std::sync::Mutex::new("/1/disk.img?signed=1"));
    let target = Arc::clone(&leads_to);
    let raw = Raw::start(move |_, seen| {
        let path = seen.head.split(' ').nth(1);
        let lines = "ETag: \"same\"\r\nContent-Range: bytes 2-4/10\r\n";
        match path {
            Some("/latest") => to(*target.lock().expect("not poisoned")),
            _ if seen.field("if-none-match").is_some() => {
                vec![send("HTTP/1.1 304 Not Modified\r\nETag: \"same\"\r\n\r\n")]
            }
            _ if seen.field("if-range").is_some() => {
                vec![answer("206 Partial Content", lines, "234")]
            }
            _ => vec![answer("200 OK", "ETag: \"same\"\r\n", "0123456789")],
        }
    })
    .await;
    let origin = origin(quick());
    let latest = || source(&raw.url("/latest"));
    let (head, _) = found(origin.get(ask(latest(), None)).await);
    let validators = head.validators.clone();
    let range = || RangeAsk {
        source: Arc::new(latest()),
        range: 2..5,
        validators: validators.clone(),
        length: 10,
        patience: Patience::Warm,
    };
    // Signed anew, it is the same.
    *leads_to.lock().expect("not poisoned") = "/1/disk.img?signed=2";
    match origin.get(ask(latest(), Some(validators.clone()))).await {
        Ok(Answer::NotModified(kept)) => assert_eq!(kept.validators, validators),
        _ => panic!("304 is expected"),
    }
    assert!(matches!(origin.range(range()).await, Ok(RangeAnswer::Part(_))));

    *leads_to.lock().expect("not poisoned") = "/2/disk.img?signed=3";
    let mut with_digest = latest();
    with_digest.digest = crate::cache::tests::sha256(b"0123456789");
    let kept = origin.get(ask(with_digest, Some(validators.clone()))).await;
    assert!(matches!(kept, Ok(Answer::NotModified(_))), "the digest tells");
    let (other, _) = found(origin.get(ask(latest(), Some(validators.clone()))).await);
    assert_eq!(other.validators.etag, validators.etag);
    assert!(!other.validators.same_strong(&validators));
    assert!(matches!(origin.range(range()).await, Ok(RangeAnswer::Changed)));
    let hidden = serde_json::to_string(&other.validators).expect("JSON");
    assert!(!hidden.contains("disk"), "{hidden}");
}

/// Paths that are signed, and mirrors, are another path each time, and say nothing by it.
#[tokio::test]
async fn a_redirect_that_leads_elsewhere_each_time_says_nothing_by_it() {
    let raw = Raw::start(|n, seen| {
        let lines = "ETag: \"a\"\r\nContent-Range: bytes 2-4/10\r\n";
        match seen.head.split(' ').nth(1) {
            Some("/x") => to(&format!("/signed-{n}/x.tgz")),
            _ if seen.field("if-none-match").is_some() => {
                vec![send("HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n")]
            }
            _ if seen.field("if-range").is_some() => {
                vec![answer("206 Partial Content", lines, "234")]
            }
            _ => vec![answer("200 OK", "ETag: \"a\"\r\n", "0123456789")],
        }
    })
    .await;
    let origin = origin(quick());
    let x = || source(&raw.url("/x"));
    let (head, body) = found(origin.get(ask(x(), None)).await);
    drop(body);
    assert!(head.validators.resource.is_some());
    let range = RangeAsk {
        source: Arc::new(x()),
        range: 2..5,
        validators: head.validators.clone(),
        length: 10,
        patience: Patience::Warm,
    };
    assert!(matches!(origin.range(range.clone()).await, Ok(RangeAnswer::Part(_))));
    assert_eq!(raw.seen().len(), 2 + 4, "asked once more");
    assert!(matches!(origin.range(range).await, Ok(RangeAnswer::Part(_))));
    match origin.get(ask(x(), Some(head.validators.clone()))).await {
        Ok(Answer::NotModified(kept)) => {
            let any = Some(crate::validators::ANY_RESOURCE.to_owned());
            assert_eq!(kept.validators, Validators { resource: any, ..tag("\"a\"") });
        }
        _ => panic!("304 is expected"),
    }
    assert_eq!(raw.seen().len(), 2 + 4 + 2 + 2, "known by then");
    let (again, _) = found(origin.get(ask(x(), None)).await);
    assert!(again.validators.same_strong(&head.validators));
}

/// Where a name leads is for its redirect to say, each time unless that says for how long.
#[tokio::test]
async fn what_redirects_led_to_is_fresh_for_as_long_as_they_are() {
    let raw = Raw::start(|_, seen| {
        let redirect = |lines: &str| {
            let lines = format!("Location: /immutable\r\n{lines}");
            vec![answer("302 Found", &lines, "")]
        };
        match seen.head.split(' ').nth(1) {
            Some("/says-nothing") => redirect(""),
            Some("/a-minute") => redirect("Cache-Control: max-age=60\r\n"),
            Some("/both") => vec![answer("302 Found", "Location: /a-minute\r\n", "")],
            _ => vec![answer("200 OK", "ETag: \"a\"\r\nCache-Control: max-age=3600\r\n", "x")],
        }
    })
    .await;
    let origin = origin(quick());
    for (path, fresh_for) in
        [("/immutable", 3600), ("/a-minute", 60), ("/says-nothing", 0), ("/both", 0)]
    {
        let (head, _) = found(origin.get(cold(&raw.url(path))).await);
        let fresh = |seconds: u64| {
            let elapsed = Some(Duration::from_secs(seconds));
            let clock = crate::lifetime::Clock { now: SystemTime::now(), elapsed };
            head.lifetime.verdict(clock) == crate::lifetime::Use::Fresh
        };
        assert!(fresh_for == 0 || fresh(fresh_for - 2), "{path}");
        assert!(!fresh(fresh_for), "{path}");
    }
}

#[tokio::test]
async fn secrets_stay_with_their_origin_and_do_not_come_back() {
    // home/x -> away/y -> home/z: the last is the origin the secrets are for, but it was the other
    // one that chose to ask it.
    let home_address = Arc::new(std::sync::OnceLock::<String>::new());
    let back = Arc::clone(&home_address);
    let away = Raw::start(move |_, _| to(back.get().expect("known by now"))).await;
    let leave = away.url("/y");
    let home = Raw::start(move |_, seen| match seen.head.split(' ').nth(1) {
        Some("/x") => to(&leave),
        _ => vec![answer("200 OK", "", "x")],
    })
    .await;
    home_address.set(home.url("/z")).expect("set once");

    let mut secret = source(&format!("http://u:p@{}/x", home.address));
    secret.headers = vec![header("x-secret", "s")];
    found(origin(quick()).get(ask(secret, Some(tag("\"a\"")))).await);
    let (home, away) = (home.seen(), away.seen());
    assert_eq!((home.len(), away.len()), (2, 1));
    assert_eq!(home[0].field("x-secret"), Some("s"));
    assert!(home[0].field("authorization").is_some());
    for later in [&away[0], &home[1]] {
        assert_eq!(later.field("x-secret"), None);
        assert_eq!(later.field("authorization"), None);
        assert_eq!(later.field("if-none-match"), Some("\"a\""));
    }
}

#[tokio::test]
async fn a_loop_ends_after_five() {
    let raw = Raw::start(|_, _| to("/x")).await;
    let failure = failed(origin(quick()).get(cold(&raw.url("/x"))).await);
    assert_eq!(failure.kind, FailureKind::Redirect);
    assert!(failure.message.contains("more than 5 redirects"), "{failure}");
    assert_eq!(raw.seen().len(), 6);
}

#[tokio::test]
async fn refused_targets_are_not_asked() {
    for location in [
        "http://169.254.169.254/latest/meta-data",
        "http://2852039166/",
        "http://[fe80::1]/",
        "file:///etc/passwd",
        "http://u:p@127.0.0.1:1/",
    ] {
        let raw = Raw::start(move |_, _| to(location)).await;
        let failure = failed(origin(quick()).get(cold(&raw.url("/x"))).await);
        assert_eq!(failure.kind, FailureKind::Redirect, "{location}: {failure}");
        assert_eq!(raw.seen().len(), 1, "{location}");
    }
}

#[tokio::test]
async fn a_name_that_resolves_to_a_refused_address_is_not_connected_to() {
    let raw = Raw::start(|_, _| vec![answer("200 OK", "", "x")]).await;
    let settings = quick();
    let clients = clients::Clients::new(&settings).expect("clients");
    let url = Url::parse(&format!("http://localhost:{}/", raw.address.port())).expect("a URL");
    let get = |reach| clients.pick(&url, reach).get(url.clone()).send();
    let error = get(redirect::Reach::Public).await.expect_err("refused");
    let fault = fault::Fault::sending(&error);
    assert_eq!(fault.kind, FailureKind::Redirect, "{}", fault.text);
    assert!(raw.seen().is_empty());
    get(redirect::Reach::Local).await.expect("loopback may go on to loopback");
    get(redirect::Reach::Any).await.expect("a configured URL may be anywhere");
}

#[tokio::test]
async fn every_attempt_starts_from_the_configured_url() {
    let raw = Raw::start(|n, seen| match seen.head.split(' ').nth(1) {
        Some("/x") => to(&format!("/signed?{n}")),
        _ if n < 2 => vec![answer("503 Busy", "Retry-After: 0\r\n", "")],
        _ => vec![answer("200 OK", "", "x")],
    })
    .await;
    found(origin(quick()).get(cold(&raw.url("/x"))).await);
    let paths: Vec<_> = raw
        .seen()
        .iter()
        .map(|seen| seen.head.split(' ').nth(1).expect("a path").to_owned())
        .collect();
    assert_eq!(paths, ["/x", "/signed?0", "/x", "/signed?2"]);
}

#[tokio::test]
async fn a_dead_target_is_named_without_its_query() {
    let raw = Raw::start(|_, _| to("http://127.0.0.1:1/y?sig=CANARY")).await;
    let failure = failed(origin(quick()).get(cold(&raw.url("/x"))).await);
    assert_eq!(failure.kind, FailureKind::Unreachable);
    let text = failure.message;
    assert!(text.contains("redirected to http://127.0.0.1:1/y: connection refused"), "{text}");
}

#[tokio::test]
async fn a_list_of_hosts_holds_for_every_hop() {
    let end = Raw::start(|_, _| vec![answer("200 OK", "", "x")]).await;
    let (there, far) = (end.url("/z"), format!("http://localhost:{}/z", end.address.port()));
    let middle = Raw::start(move |_, seen| match seen.head.split(' ').nth(1) {
        Some("/near") => to(&there),
        _ => to(&far),
    })
    .await;
    let (near, far) = (middle.url("/near"), middle.url("/far"));
    let home = Raw::start(move |_, seen| match seen.head.split(' ').nth(1) {
        Some("/near") => to(&near),
        Some("/self") => to("/near"),
        _ => to(&far),
    })
    .await;
    let hosts = vec!["127.0.0.1".parse().expect("a host")];
    let origin = origin(OriginSettings {
        redirect_hosts: [(home.address.to_string(), hosts)].into(),
        ..quick()
    });
    found(origin.get(cold(&home.url("/near"))).await);
    found(origin.get(cold(&home.url("/self"))).await);
    let failure = failed(origin.get(cold(&home.url("/far"))).await);
    assert_eq!(failure.kind, FailureKind::Redirect);
    assert!(failure.message.contains("allowed_redirect_hosts"), "{failure}");
    assert_eq!(end.seen().len(), 2);
}
