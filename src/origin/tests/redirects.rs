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
    assert_eq!(head.validators, tag("\"y\""));
    let seen = raw.seen();
    assert_eq!(seen[1].field("if-none-match"), Some("\"a\""));
    assert_eq!(seen[1].field("x-tenant"), Some("a"), "the same origin");
    assert_eq!(seen[1].field("referer"), None);
    assert_eq!(seen[1].connection, 0, "on the kept connection");
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
