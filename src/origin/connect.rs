//! What happens while a connection is made: its time limit, whether one was made at all, and which
//! addresses a redirect may reach.

use std::cell::Cell;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tower_layer::Layer;
use tower_service::Service;

use super::redirect::{Reach, permitted};
use super::tls::TlsFiles;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

tokio::task_local! {
    /// The road of the request that the current task is sending. The client runs the connector
    /// inside the future of the request that asks for a connection, so the connector sees it.
    static ROAD: Road;
}

struct Road {
    limit: Duration,
    connected: Cell<bool>,
}

/// Runs the sending of one request, during which making a connection may take `limit`. Returns
/// with its result whether a connection was begun; if not, a kept one was used.
pub(super) async fn watched<F: Future>(limit: Duration, sending: F) -> (F::Output, bool) {
    let road = Road { limit, connected: Cell::new(false) };
    let run = async {
        let result = sending.await;
        (result, ROAD.with(|road| road.connected.get()))
    };
    ROAD.scope(road, run).await
}

/// Wraps the client's connector: it gets the limit of the request it works for, and TLS files are
/// looked at first.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    /// The limit where the request is not known.
    pub(super) otherwise: Duration,
    /// What the handshake will use.
    pub(super) files: Option<Arc<TlsFiles>>,
}

impl<S> Layer<S> for Limits {
    type Service = Limited<S>;

    fn layer(&self, inner: S) -> Limited<S> {
        Limited { inner, otherwise: self.otherwise, files: self.files.clone() }
    }
}

/// A connector with a time limit.
#[derive(Clone, Debug)]
pub(super) struct Limited<S> {
    inner: S,
    otherwise: Duration,
    files: Option<Arc<TlsFiles>>,
}

impl<S, T> Service<T> for Limited<S>
where
    S: Service<T, Error = BoxError> + Clone + Send + 'static,
    T: Send + 'static,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, target: T) -> Self::Future {
        let limit = ROAD
            .try_with(|road| {
                road.connected.set(true);
                road.limit
            })
            .unwrap_or(self.otherwise);
        let files = self.files.clone();
        // The one that was polled ready is the one to call.
        let spare = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, spare);
        Box::pin(async move {
            let connecting = async move {
                if let Some(files) = files {
                    files.look_if_due().await;
                }
                inner.call(target).await
            };
            match tokio::time::timeout(limit, connecting).await {
                Ok(result) => result,
                Err(_) => Err(ConnectTimeout(limit).into()),
            }
        })
    }
}

/// Says that no connection came about in time.
#[derive(Debug, thiserror::Error)]
#[error("no connection within {:.1} s", .0.as_secs_f64())]
pub(super) struct ConnectTimeout(Duration);

/// Says that a redirect led to a name whose addresses are all refused.
#[derive(Debug, thiserror::Error)]
#[error("the redirect's target resolves to {0}, which redirects may not reach")]
pub(super) struct RefusedAddress(IpAddr);

/// Resolves names for requests that follow a redirect: leaves out the addresses that the rules
/// refuse. Literal addresses do not come here; [`permitted`] is asked about them before sending.
#[derive(Clone, Debug)]
pub(super) struct GuardedResolver {
    /// What the request may reach.
    pub(super) reach: Reach,
    /// The proxies, by the name that they are configured with: an operator chose their addresses.
    pub(super) exempt: Arc<[String]>,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let exempt = self.exempt.iter().any(|host| host == name.as_str());
        let reach = if exempt { Reach::Any } else { self.reach };
        Box::pin(async move {
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let first = found.first().copied();
            let (good, _refused): (Vec<_>, Vec<_>) =
                found.into_iter().partition(|address| permitted(address.ip(), reach));
            match first {
                Some(address) if good.is_empty() => Err(RefusedAddress(address.ip()).into()),
                _ => Ok(Box::new(good.into_iter()) as Addrs),
            }
        })
    }
}
