//! Origins behind a proxy on loopback.

use std::net::SocketAddr;
use std::sync::Mutex;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::tls_origins::{Identity, pem, serve_with};
use super::*;

/// A proxy that opens a tunnel to whatever CONNECT names; stops when dropped.
struct Tunnels {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Tunnels {
    /// Starts the proxy; it answers CONNECT with `status`.
    async fn start(status: &'static str) -> Tunnels {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&heads);
        let task = tokio::spawn(async move {
            let mut tunnels = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let seen = Arc::clone(&seen);
                tunnels.spawn(async move { tunnel(stream, status, &seen).await });
            }
        });
        Tunnels { address, heads, task }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("not poisoned").clone()
    }
}

impl Drop for Tunnels {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn tunnel(mut near: TcpStream, status: &str, seen: &Mutex<Vec<String>>) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(near.read_u8().await.ok()?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let target = head.split(' ').nth(1)?.to_owned();
    seen.lock().expect("not poisoned").push(head);
    near.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes()).await.ok()?;
    let mut far = TcpStream::connect(target).await.ok()?;
    copy_bidirectional(&mut near, &mut far).await.ok().map(|_| ())
}

fn through(proxy: &str, origins: &[&str]) -> OriginSettings {
    let proxy: crate::route::Proxy = proxy.parse().expect("a proxy");
    let proxies = origins.iter().map(|origin| ((*origin).to_owned(), proxy.clone())).collect();
    OriginSettings { proxies, head_timeout: Duration::from_secs(5), ..quick() }
}

#[tokio::test]
async fn http_goes_to_the_proxy_with_its_credentials_and_none_of_them_to_others() {
    let proxy = Raw::start(|_, _| vec![answer("200 OK", "", "through")]).await;
    let straight = Raw::start(|_, _| vec![answer("200 OK", "", "straight")]).await;
    let at = format!("http://Aladdin:open%20sesame@{}", proxy.address);
    let origin = origin(through(&at, &["origin.invalid"]));
    // A name that nobody but the proxy could resolve.
    let (_, mut body) = found(origin.get(cold("http://origin.invalid:81/x?q")).await);
    assert_eq!(read(&mut *body).await.expect("a body"), b"through");
    let (_, mut body) = found(origin.get(cold(&straight.url("/x"))).await);
    assert_eq!(read(&mut *body).await.expect("a body"), b"straight");
    let (proxied, direct) = (&proxy.seen()[0], &straight.seen()[0]);
    assert!(proxied.head.starts_with("GET http://origin.invalid:81/x?q HTTP/1.1\r\n"));
    let basic = Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    assert_eq!(proxied.field("proxy-authorization"), basic);
    assert_eq!(direct.field("proxy-authorization"), None);
    assert!(direct.head.starts_with("GET /x HTTP/1.1\r\n"));
}

#[tokio::test]
async fn https_goes_through_a_tunnel_and_trusts_as_without_one() {
    let address = serve_with(2, Identity::First);
    let proxy = Tunnels::start("200 OK").await;
    let host = address.to_string();
    let tls = OriginTls {
        ca_file: Some(pem("ca.pem")),
        ca_only: true,
        cert_file: Some(pem("client.pem")),
        key_file: Some(pem("client.key")),
        ..OriginTls::default()
    };
    let at = format!("http://u:CANARY@{}", proxy.address);
    let mut settings = through(&at, &[&host]);
    settings.per_origin.insert(host.clone(), tls);
    let (_, mut body) =
        found(origin(settings.clone()).get(cold(&format!("https://{host}/x?CANARY"))).await);
    assert_eq!(read(&mut *body).await.expect("a body"), b"client");
    let head = &proxy.heads()[0];
    assert!(head.starts_with(&format!("CONNECT {host} HTTP/1.1\r\n")), "{head}");
    assert!(head.to_lowercase().contains("proxy-authorization: basic "), "{head}");
    assert!(!head.contains("/x"), "{head}");

    settings.per_origin.insert(host.clone(), OriginTls::default());
    let failure = failed(origin(settings).get(cold(&format!("https://{host}/x"))).await);
    assert_eq!(failure.kind, FailureKind::Tls, "{failure}");
}

#[tokio::test]
async fn a_proxy_that_refuses_or_is_not_there_makes_the_origin_unreachable() {
    let refusing = Tunnels::start("407 Proxy Authentication Required").await;
    for at in [refusing.address.to_string(), "127.0.0.1:1".to_owned()] {
        let origin = origin(through(&format!("http://u:CANARY@{at}"), &["origin.invalid"]));
        let failure = failed(origin.get(warm("https://origin.invalid/x?CANARY", "\"a\"")).await);
        assert_eq!(failure.kind, FailureKind::Unreachable, "{failure}");
        assert!(!format!("{failure:?}").contains("CANARY"), "{failure:?}");
    }
}

#[tokio::test]
async fn the_address_of_the_proxy_opens_no_way_to_loopback() {
    let proxy =
        Raw::start(|_, _| vec![answer("302 Found", "Location: http://127.0.0.1:1/secret\r\n", "")])
            .await;
    // By name, too: the guard of redirects must not stop the way to the proxy.
    let by_name = format!("http://localhost:{}", proxy.address.port());
    for at in [format!("http://{}", proxy.address), by_name.clone()] {
        let origin = origin(through(&at, &["origin.invalid"]));
        let failure = failed(origin.get(cold("http://origin.invalid/x")).await);
        assert_eq!(failure.kind, FailureKind::Redirect, "{failure}");
    }

    let proxy = Raw::start(|n, _| match n {
        0 => vec![answer("302 Found", "Location: http://other.invalid/y\r\n", "")],
        _ => vec![answer("200 OK", "", "x")],
    })
    .await;
    let by_name = format!("http://localhost:{}", proxy.address.port());
    let origin = origin(through(&by_name, &["origin.invalid", "other.invalid"]));
    found(origin.get(cold("http://origin.invalid/x")).await);
}
