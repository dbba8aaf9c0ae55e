//! The demo's origin: an HTTP/1.1 server on loopback that can be watched, changed and stopped.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{
    ACCEPT_RANGES, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue,
    IF_NONE_MATCH, IF_RANGE, RANGE,
};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Interval;

/// How often a slow body moves on.
const TICK: Duration = Duration::from_millis(50);

/// One thing an origin offers.
#[derive(Clone)]
pub(super) struct Sample {
    /// The bytes.
    pub(super) body: Bytes,
    /// Becomes the ETag.
    pub(super) revision: u32,
    /// Bytes a second; as fast as possible without.
    pub(super) rate: Option<usize>,
    /// An archive: it is to be shown as a directory, and ranges of it are served.
    pub(super) archive: bool,
}

impl Sample {
    /// Returns a body that comes whole, as fast as possible.
    pub(super) fn file(body: Bytes, revision: u32) -> Sample {
        Sample { body, revision, rate: None, archive: false }
    }
}

/// One request, as it was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// The method and the path.
    pub(super) what: String,
    /// The status of the answer.
    pub(super) status: u16,
    /// The length of its body.
    pub(super) sent: usize,
}

#[derive(Default)]
struct Shared {
    samples: Mutex<BTreeMap<String, Sample>>,
    seen: Mutex<Vec<Seen>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A server on loopback. Dropping it stops it.
pub(super) struct Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
    running: Option<JoinHandle<()>>,
}

impl Drop for Origin {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.abort();
        }
    }
}

impl Origin {
    /// Starts on a free port.
    pub(super) async fn start(samples: Vec<(&str, Sample)>) -> io::Result<Origin> {
        let shared = Arc::new(Shared::default());
        for (name, sample) in samples {
            lock(&shared.samples).insert(format!("/{name}"), sample);
        }
        let mut origin = Origin { address: (Ipv4Addr::LOCALHOST, 0).into(), shared, running: None };
        origin.resume().await?;
        Ok(origin)
    }

    /// Starts again after [`stop`](Origin::stop), on the same port.
    pub(super) async fn resume(&mut self) -> io::Result<()> {
        let listener = TcpListener::bind(self.address).await?;
        self.address = listener.local_addr()?;
        self.running = Some(tokio::spawn(accept(listener, Arc::clone(&self.shared))));
        Ok(())
    }

    /// Closes the port and every connection.
    pub(super) async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
            // Ends once the listener and the connections are dropped.
            let _ = running.await;
        }
    }

    /// Returns where a sample is.
    pub(super) fn url(&self, name: &str) -> String {
        format!("http://{}/{name}", self.address)
    }

    /// Returns every name.
    pub(super) fn names(&self) -> Vec<String> {
        lock(&self.shared.samples)
            .keys()
            .map(|path| path.trim_start_matches('/').to_owned())
            .collect()
    }

    /// Says whether a name is to be shown as a directory.
    pub(super) fn is_archive(&self, name: &str) -> bool {
        lock(&self.shared.samples).get(&format!("/{name}")).is_some_and(|sample| sample.archive)
    }

    /// Returns the bytes that are offered under a name now.
    pub(super) fn body(&self, name: &str) -> Bytes {
        lock(&self.shared.samples)
            .get(&format!("/{name}"))
            .map(|sample| sample.body.clone())
            .unwrap_or_default()
    }

    /// Offers something else under a name.
    pub(super) fn replace(&self, name: &str, sample: Sample) {
        lock(&self.shared.samples).insert(format!("/{name}"), sample);
    }

    /// Returns the requests since the last call, in the order of their answers.
    pub(super) fn take_seen(&self) -> Vec<Seen> {
        std::mem::take(&mut *lock(&self.shared.seen))
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with this task, and then all connections are closed.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(converse(stream, Arc::clone(&shared)));
                }
                // Out of descriptors, most likely: do not spin.
                Err(_) => tokio::time::sleep(TICK).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn converse(stream: TcpStream, shared: Arc<Shared>) {
    // Only speed is lost without.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let answer = answer(&request, &shared);
        async move { Ok::<_, Infallible>(answer) }
    });
    // A client that hangs up is none of our business.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn answer(request: &Request<Incoming>, shared: &Shared) -> Response<Paced> {
    let path = request.uri().path();
    let sample = lock(&shared.samples).get(path).cloned();
    let mut response = match sample {
        _ if request.method() != Method::GET => empty(StatusCode::METHOD_NOT_ALLOWED),
        None => empty(StatusCode::NOT_FOUND),
        Some(sample) => offered(request.headers(), sample),
    };
    let status = response.status().as_u16();
    let sent = response.body().rest.len();
    lock(&shared.seen).push(Seen { what: format!("{} {path}", request.method()), status, sent });
    if sent > 0 {
        let octets = HeaderValue::from_static("application/octet-stream");
        response.headers_mut().insert(CONTENT_TYPE, octets);
    }
    response
}

/// Answers a request for what is there: 304, one range (RFC 9110, 14), or the whole.
fn offered(asked: &HeaderMap, sample: Sample) -> Response<Paced> {
    let tag = format!("\"r{}\"", sample.revision);
    let said = |name: HeaderName| asked.get(name).and_then(|value| value.to_str().ok());
    let range = said(RANGE).filter(|_| said(IF_RANGE).is_none_or(|condition| condition == tag));
    let range = range.filter(|_| sample.archive).and_then(|range| range_of(range, &sample.body));
    let mut response = match range {
        _ if said(IF_NONE_MATCH) == Some(&tag) => empty(StatusCode::NOT_MODIFIED),
        Some((first, end)) => {
            let whole = sample.body.len();
            let mut part = Response::new(Paced::new(sample.body.slice(first..end), sample.rate));
            *part.status_mut() = StatusCode::PARTIAL_CONTENT;
            let said = format!("bytes {first}-{}/{whole}", end - 1);
            part.headers_mut().extend(said.parse().ok().map(|said| (CONTENT_RANGE, said)));
            part
        }
        None => Response::new(Paced::new(sample.body, sample.rate)),
    };
    let headers = response.headers_mut();
    headers.extend(tag.parse().ok().map(|tag| (ETAG, tag)));
    let ranges = if sample.archive { "bytes" } else { "none" };
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static(ranges));
    response
}

/// Returns the first byte and the end of a single range that can be served; any other is ignored,
/// as RFC 9110, 14.2 allows.
fn range_of(range: &str, body: &Bytes) -> Option<(usize, usize)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let (first, end) = match (first, last) {
        ("", suffix) => (body.len().saturating_sub(suffix.parse().ok()?), body.len()),
        (first, "") => (first.parse().ok()?, body.len()),
        (first, last) => (first.parse().ok()?, last.parse::<usize>().ok()?.saturating_add(1)),
    };
    let end = end.min(body.len());
    (first < end).then_some((first, end))
}

fn empty(status: StatusCode) -> Response<Paced> {
    let mut response = Response::new(Paced::new(Bytes::new(), None));
    *response.status_mut() = status;
    response
}

/// A body of known length that comes at a steady rate.
struct Paced {
    rest: Bytes,
    step: usize,
    clock: Option<Interval>,
}

impl Paced {
    fn new(body: Bytes, rate: Option<usize>) -> Paced {
        let ticks = 1000 / TICK.as_millis() as usize;
        Paced {
            rest: body,
            step: rate.map_or(usize::MAX, |rate| (rate / ticks).max(1)),
            clock: rate.map(|_| tokio::time::interval(TICK)),
        }
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        if let Some(clock) = &mut self.clock {
            ready!(clock.poll_tick(context));
        }
        let step = self.step.min(self.rest.len());
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(step)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
