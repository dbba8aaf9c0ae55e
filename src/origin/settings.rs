//! What an operator may set about the HTTP side.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::by_origin::{host, parse_origin};
use crate::route::{HostPattern, Proxy};

/// The settings of [`HttpOrigin`](super::HttpOrigin); the defaults are those of production.
#[derive(Clone, Debug)]
pub struct OriginSettings {
    /// The User-Agent field value.
    pub user_agent: String,
    /// TLS by origin; the key is `host` (every port) or `host:port`, the more exact one wins.
    pub per_origin: HashMap<String, OriginTls>,
    /// Proxies by origin; keys as in [`per_origin`](Self::per_origin). Without one requests go
    /// straight, whatever the environment says.
    pub proxies: HashMap<String, Proxy>,
    /// The only hosts that redirects of an origin may lead to, beside itself; keys as in
    /// [`per_origin`](Self::per_origin). Without a list the general rules decide alone.
    pub redirect_hosts: HashMap<String, Vec<HostPattern>>,
    /// How many connections one body may use, by origin; keys as in
    /// [`per_origin`](Self::per_origin).
    pub connections: HashMap<String, usize>,
    /// How many connections one body may use where nothing else is set.
    pub default_connections: usize,
    /// How long one connection may take to be made, name resolution and TLS included.
    pub connect_timeout: Duration,
    /// How long a head may take, from the sending of a request.
    pub head_timeout: Duration,
    /// How long a body may bring no byte.
    pub idle_timeout: Duration,
    /// The least a body must bring, in bytes per second, over [`floor_window`](Self::floor_window).
    pub floor: u64,
    /// The time over which the floor is measured; only time spent waiting counts.
    pub floor_window: Duration,
    /// How long a question without a copy at hand goes on when no connection can be made. Below
    /// 10 s, so that the caller's whole open ends within 10 s.
    pub cold_connect: Duration,
    /// How long such a question goes on otherwise. Below 30 s, so that what the origin did answer
    /// is known before the caller's own deadline passes.
    pub cold: Duration,
    /// As [`OriginSettings::cold_connect`], of a range instead of which the whole can be asked for:
    /// what is left is for that.
    pub range_connect: Duration,
    /// As [`OriginSettings::cold`], of such a range.
    pub range: Duration,
    /// How long a question with a copy at hand is retried.
    pub warm: Duration,
    /// How long a cold question to an origin that could not be connected to fails at once.
    pub dead_for: Duration,
    /// After how many failed connections in a row an origin counts as away; at least 1.
    pub breaker_after: u32,
    /// How often an origin that is away is asked.
    pub probe_every: Duration,
    /// The most retries an origin gets, in percent of its requests of the last 10 s.
    pub retry_percent: u32,
    /// How many retries it gets in 10 s in any case: as many as one question makes by itself, so
    /// that the patience with a single cold name is not cut short.
    pub retry_floor: u32,
    /// The upper end of the first retry's random delay; doubled for each later one.
    pub retry_base: Duration,
    /// Where the doubling ends.
    pub retry_cap: Duration,
}

impl Default for OriginSettings {
    fn default() -> Self {
        OriginSettings {
            user_agent: concat!("cached-downloads/", env!("CARGO_PKG_VERSION")).to_owned(),
            per_origin: HashMap::new(),
            proxies: HashMap::new(),
            redirect_hosts: HashMap::new(),
            connections: HashMap::new(),
            default_connections: 4,
            connect_timeout: Duration::from_secs(5),
            head_timeout: Duration::from_secs(10),
            // Less than a reader waits: the rest is asked for again on another connection.
            idle_timeout: Duration::from_secs(10),
            floor: 16 * 1024,
            floor_window: Duration::from_secs(30),
            cold_connect: Duration::from_secs(8),
            cold: Duration::from_secs(28),
            range_connect: Duration::from_secs(6),
            range: Duration::from_secs(18),
            warm: Duration::from_millis(1500),
            dead_for: Duration::from_secs(2),
            breaker_after: 5,
            probe_every: Duration::from_secs(5),
            retry_percent: 20,
            retry_floor: 10,
            retry_base: Duration::from_millis(200),
            retry_cap: Duration::from_secs(4),
        }
    }
}

impl OriginSettings {
    /// Returns how many connections one body of this URL may use; at least 1. The more exact key
    /// wins.
    pub fn connections_for(&self, url: &Url) -> usize {
        let of = |port: Option<u16>| {
            self.connections.iter().find_map(|(origin, count)| {
                let (its_host, its_port) = parse_origin(origin).ok()?;
                (host(url) == Some(&*its_host) && its_port == port).then_some(*count)
            })
        };
        let set = of(url.port_or_known_default()).or_else(|| of(None));
        set.unwrap_or(self.default_connections).max(1)
    }
}

/// TLS towards one origin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct OriginTls {
    /// PEM certificates trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Trusts no certificates but those of `ca_file`, which it needs.
    pub ca_only: bool,
    /// The client certificate chain, PEM; needs `key_file`.
    pub cert_file: Option<PathBuf>,
    /// The private key of the client certificate, PEM; needs `cert_file`.
    pub key_file: Option<PathBuf>,
    /// Accepts any server certificate. For laboratories.
    pub insecure_skip_verify: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exact_port_decides_about_connections_before_the_host() {
        let connections = [("A", 2), ("a:444", 6), ("b:443", 0)];
        let settings = OriginSettings {
            connections: connections.map(|(origin, n)| (origin.to_owned(), n)).into(),
            ..OriginSettings::default()
        };
        let of = |url: &str| settings.connections_for(&Url::parse(url).expect("a URL"));
        assert_eq!(of("https://a:444/x"), 6);
        assert_eq!(of("https://a/x"), 2);
        assert_eq!(of("https://b/x"), 1, "none is no connection to fetch with");
        assert_eq!(of("https://b:444/x"), 4);
    }
}
