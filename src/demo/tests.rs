//! The origin of the demo; the tour itself needs a mount.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::header::{ETAG, HeaderName, IF_NONE_MATCH, IF_RANGE, RANGE};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::origin::Origin;
use super::samples::{self, DETECTED, NOTES, PACKED};

async fn get(url: &str, tag: Option<&str>) -> Option<(u16, String, Bytes)> {
    ask(url, &tag.map(|tag| (IF_NONE_MATCH, tag)).into_iter().collect::<Vec<_>>()).await
}

async fn ask(url: &str, headers: &[(HeaderName, &str)]) -> Option<(u16, String, Bytes)> {
    let rest = url.strip_prefix("http://")?;
    let (authority, path) = rest.split_once('/')?;
    let stream = TcpStream::connect(authority).await.ok()?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    let mut request = Request::get(format!("/{path}")).header("host", authority);
    for (name, value) in headers {
        request = request.header(name, *value);
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

#[tokio::test]
async fn the_origin_serves_ranges_of_the_archive_and_of_nothing_else() {
    let origin = Origin::start(samples::all()).await.expect("starts");
    let (url, whole) = (origin.url(PACKED), origin.body(PACKED));
    let length = whole.len();
    for (range, part) in [
        ("bytes=0-3", 0..4),
        ("bytes=8-", 8..length),
        ("bytes=-22", length - 22..length),
        ("bytes=4-99999999999", 4..length),
    ] {
        let (status, tag, body) = ask(&url, &[(RANGE, range)]).await.expect("answers");
        assert_eq!((status, body), (206, whole.slice(part)), "{range}");
        let held = ask(&url, &[(RANGE, range), (IF_RANGE, &tag)]).await.expect("answers");
        assert_eq!(held.0, 206, "{range} of {tag}");
        let other = ask(&url, &[(RANGE, range), (IF_RANGE, "\"other\"")]).await.expect("answers");
        assert_eq!(other.0, 200, "{range} of another version");
    }
    for range in ["bytes=4-2", "bytes=99999999999-", "lines=1-2", "bytes=-", "bytes=0-1,4-5"] {
        let (status, _, body) = ask(&url, &[(RANGE, range)]).await.expect("answers");
        assert_eq!((status, body.len()), (200, length), "{range}");
    }
    let notes = ask(&origin.url(NOTES), &[(RANGE, "bytes=0-3")]).await.expect("answers");
    assert_eq!(notes.0, 200);
    assert!(String::from_utf8_lossy(&whole).contains(DETECTED));
}
