//! What happens while a connection is made: its time limit, whether one was made at all, and which
//! addresses a redirect may reach.

use std::cell::Cell;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tower_layer::Layer;
use tower_service::Service;

use super::redirect::{Reach, permitted};

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

/// Wraps the client's connector with the limit of the request it works for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The limit where the request is not known.
    pub(super) otherwise: Duration,
}

impl<S> Layer<S> for Limits {
    type Service = Limited<S>;

    fn layer(&self, inner: S) -> Limited<S> {
        Limited { inner, otherwise: self.otherwise }
    }
}

/// A connector with a time limit.
#[derive(Clone, Debug)]
pub(super) struct Limited<S> {
    inner: S,
    otherwise: Duration,
}

impl<S, T> Service<T> for Limited<S>
where
    S: Service<T, Error = BoxError>,
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
        let connecting = self.inner.call(target);
        Box::pin(async move {
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
#[derive(Clone, Copy, Debug)]
pub(super) struct GuardedResolver(pub(super) Reach);

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.0;
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
