//! The HTTP clients: one for each TLS setting, proxy and reach.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Client;
use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue};
use url::Url;

use super::by_origin::ByOrigin;
use super::connect::{GuardedResolver, Limits};
use super::proxies::Proxies;
use super::redirect::Reach;
use super::settings::{OriginSettings, OriginTls};
use super::settings_error::SettingsError;
use super::tls::{Tls, TlsFiles};
use crate::route::Proxy;

/// How long an unused connection is kept: less than the 60 to 75 s after which common servers
/// close it, so that a request seldom meets a connection that is just being closed.
const KEEP_IDLE: Duration = Duration::from_secs(50);

/// How many unused connections are kept for one scheme, host and port.
const KEEP_PER_HOST: usize = 16;

/// Every client there is, and which origin has which.
#[derive(Debug)]
pub(super) struct Clients {
    /// The first is for origins without a setting of their own.
    sets: Vec<ClientSet>,
    /// Indices into the sets.
    of: ByOrigin<usize>,
}

/// What a set of clients is made for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Way {
    tls: OriginTls,
    proxy: Option<Proxy>,
}

/// The clients for one way. Each reach has a pool of its own: a connection made for a configured
/// URL must not carry a request that a redirect asks for.
#[derive(Debug)]
struct ClientSet {
    any: Client,
    local: Client,
    public: Client,
    files: Option<Arc<TlsFiles>>,
    proxied: bool,
}

impl Clients {
    /// Builds the clients; reads every TLS file and blocks while it does.
    ///
    /// # Errors
    /// The first setting that is wrong.
    pub(super) fn new(settings: &OriginSettings) -> Result<Clients, SettingsError> {
        let mut origins: Vec<_> =
            settings.per_origin.keys().chain(settings.proxies.keys()).collect();
        origins.sort_unstable();
        origins.dedup();
        let mut sets = vec![ClientSet::new(settings, "default", &Way::default())?];
        let mut known = HashMap::from([(Way::default(), 0)]);
        let mut of = Vec::new();
        for origin in origins {
            let way = Way {
                tls: settings.per_origin.get(origin).cloned().unwrap_or_default(),
                proxy: settings.proxies.get(origin).cloned(),
            };
            let set = match known.get(&way) {
                Some(set) => *set,
                None => {
                    sets.push(ClientSet::new(settings, origin, &way)?);
                    known.insert(way, sets.len() - 1);
                    sets.len() - 1
                }
            };
            of.push((origin, set));
        }
        Ok(Clients { sets, of: ByOrigin::new(of)? })
    }

    /// Returns the client for a URL.
    pub(super) fn pick(&self, url: &Url, reach: Reach) -> &Client {
        let set = self.set(url);
        match reach {
            Reach::Any => &set.any,
            Reach::Local => &set.local,
            Reach::Public => &set.public,
        }
    }

    /// Says whether a request for a URL may go through a proxy, so that the address it was sent to
    /// is not the origin's.
    pub(super) fn is_proxied(&self, url: &Url) -> bool {
        self.set(url).proxied
    }

    /// Looks whether TLS files have changed; blocks while it does.
    pub(super) fn look(&self) {
        self.sets.iter().filter_map(|set| set.files.as_ref()).for_each(|files| files.look());
    }

    /// Returns why TLS files as they are now cannot be used, a sentence each.
    pub(super) fn problems(&self) -> impl Iterator<Item = String> {
        self.sets.iter().filter_map(|set| set.files.as_ref()).flat_map(|files| files.problems())
    }

    fn set(&self, url: &Url) -> &ClientSet {
        &self.sets[self.of.get(url).copied().unwrap_or(0)]
    }
}

impl ClientSet {
    fn new(settings: &OriginSettings, origin: &str, way: &Way) -> Result<ClientSet, SettingsError> {
        let tls = Tls::new(origin, &way.tls)?;
        let proxies = Proxies::new(way.proxy.as_ref(), &|name| std::env::var(name).ok())?;
        let client = |reach| client(settings, &tls, &proxies, reach);
        Ok(ClientSet {
            any: client(Reach::Any)?,
            local: client(Reach::Local)?,
            public: client(Reach::Public)?,
            proxied: !proxies.rules.is_empty(),
            files: tls.files,
        })
    }
}

fn client(
    settings: &OriginSettings,
    tls: &Tls,
    proxies: &Proxies,
    reach: Reach,
) -> Result<Client, SettingsError> {
    let mut fields = HeaderMap::new();
    // Without the field every coding would be acceptable (RFC 9110, section 12.5.3).
    fields.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let builder = Client::builder()
        .tls_backend_preconfigured(tls.config.clone())
        .user_agent(settings.user_agent.as_str())
        .default_headers(fields)
        .http1_only()
        // The client would look at the environment by itself.
        .no_proxy()
        .referer(false)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .tcp_nodelay(true)
        .pool_idle_timeout(KEEP_IDLE)
        .pool_max_idle_per_host(KEEP_PER_HOST)
        .connector_layer(Limits { otherwise: settings.connect_timeout, files: tls.files.clone() });
    let builder = proxies.rules.iter().cloned().fold(builder, |builder, rule| builder.proxy(rule));
    let builder = match reach {
        Reach::Any => builder,
        Reach::Local | Reach::Public => {
            builder.dns_resolver(GuardedResolver { reach, exempt: Arc::clone(&proxies.hosts) })
        }
    };
    builder
        .build()
        .map_err(|error| SettingsError::Client { reason: error.without_url().to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_settings_share_clients() {
        let tls = |insecure_skip_verify| OriginTls { insecure_skip_verify, ..OriginTls::default() };
        let per_origin = [("a", tls(true)), ("a:444", tls(false)), ("b:443", tls(true))];
        let proxy = "http://127.0.0.1:3128".parse().expect("a proxy");
        let clients = Clients::new(&OriginSettings {
            per_origin: per_origin.map(|(o, t)| (o.to_owned(), t)).into(),
            proxies: [("p".to_owned(), proxy)].into(),
            ..OriginSettings::default()
        });
        let clients = clients.expect("clients");
        let set = |url: &str| {
            let found = clients.set(&Url::parse(url).expect("a URL"));
            clients.sets.iter().position(|set| std::ptr::eq(set, found))
        };
        assert_eq!(clients.sets.len(), 3);
        assert_eq!(set("https://a/"), Some(1));
        assert_eq!(set("https://a:444/"), Some(0));
        assert_eq!(set("https://b/"), Some(1));
        assert_eq!(set("https://c/"), Some(0));
        assert_eq!(set("http://p/"), Some(2));
        assert!(clients.sets[2].proxied && !clients.sets[1].proxied);
    }

    #[test]
    fn wrong_tls_files_are_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let junk = dir.path().join("junk.pem");
        std::fs::write(&junk, "CANARY").expect("written");
        let gone = dir.path().join("gone.pem");
        let say = |tls: OriginTls| {
            let settings = OriginSettings {
                per_origin: [("blob:8443".to_owned(), tls)].into(),
                ..OriginSettings::default()
            };
            Clients::new(&settings).expect_err("refused").to_string()
        };
        let ca = |file: &std::path::Path| OriginTls {
            ca_file: Some(file.to_owned()),
            ..OriginTls::default()
        };
        let text = say(ca(&gone));
        assert!(text.contains("gone.pem") && text.contains("blob:8443"), "{text}");
        let text = say(ca(&junk));
        assert!(text.contains("junk.pem") && text.contains("certificate"), "{text}");
        assert!(!text.contains("CANARY"), "{text}");
        let half = say(OriginTls { cert_file: Some(junk), ..OriginTls::default() });
        assert!(half.contains("key_file"), "{half}");
    }
}
