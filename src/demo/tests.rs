//! The origin of the demo; the tour itself needs a mount.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::header::{ETAG, IF_NONE_MATCH};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::origin::Origin;
use super::samples::{self, NOTES};

async fn get(url: &str, tag: Option<&str>) -> Option<(u16, String, Bytes)> {
    let rest = url.strip_prefix("http://")?;
    let (authority, path) = rest.split_once('/')?;
    let stream = TcpStream::connect(authority).await.ok()?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    let mut request = Request::get(format!("/{path}")).header("host", authority);
    if let Some(tag) = tag {
        request = request.header(IF_NONE_MATCH, tag);
    }
    let answer = sender.send_request(request.body(Empty::<Bytes>::new()).ok()?);
    let answer = answer.await.ok()?;
    let status = answer.status().as_u16();
    let tag = answer.headers().get(ETAG)?.to_str().ok()?.to_owned();
    let body = answer.into_body().collect().await.ok()?.to_bytes();
    Some((status, tag, body))
}

#[tokio::test]
async fn the_origin_answers_changes_stops_and_comes_back() {
    let mut origin = Origin::start(samples::all()).await.expect("starts");
    let url = origin.url(NOTES);
    let (status, tag, body) = get(&url, None).await.expect("answers");
    assert_eq!((status, &body), (200, &origin.body(NOTES)));
    let (status, _, body) = get(&url, Some(&tag)).await.expect("answers");
    assert_eq!((status, body.len()), (304, 0));

    origin.replace(NOTES, samples::notes(2));
    let (status, _, body) = get(&url, Some(&tag)).await.expect("answers");
    assert_eq!((status, body), (200, origin.body(NOTES)));
    let statuses: Vec<u16> = origin.take_seen().iter().map(|s| s.status).collect();
    assert_eq!(statuses, [200, 304, 200]);

    origin.stop().await;
    assert!(get(&url, None).await.is_none());
    origin.resume().await.expect("the same port again");
    assert!(get(&url, None).await.is_some());
}
