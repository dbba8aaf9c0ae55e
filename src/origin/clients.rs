//! The HTTP clients: one for each TLS setting and each reach.

use std::collections::HashMap;
use std::time::Duration;

use reqwest::Client;
use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue};
use rustls::ClientConfig;
use url::{Host, Url};

use super::connect::{GuardedResolver, Limits};
use super::redirect::Reach;
use super::settings::{OriginSettings, OriginTls, SettingsError};
use super::tls;

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
    /// By host as a URL shows it; empty in most installations.
    by_host: HashMap<String, Vec<PortRule>>,
}

/// The setting for one host, on one port or on all.
#[derive(Clone, Copy, Debug)]
struct PortRule {
    port: Option<u16>,
    set: usize,
}

/// The clients for one TLS setting. Each reach has a pool of its own: a connection made for a
/// configured URL must not carry a request that a redirect asks for.
#[derive(Debug)]
struct ClientSet {
    any: Client,
    local: Client,
    public: Client,
}

impl Clients {
    /// Builds the clients; reads every TLS file and blocks while it does.
    ///
    /// # Errors
    /// The first setting that is wrong.
    pub(super) fn new(settings: &OriginSettings) -> Result<Clients, SettingsError> {
        let plain = OriginTls::default();
        let mut sets = vec![ClientSet::new(settings, &tls::config("default", &plain)?)?];
        let mut known: HashMap<&OriginTls, usize> = HashMap::from([(&plain, 0)]);
        let mut by_host: HashMap<String, Vec<PortRule>> = HashMap::new();
        let mut origins: Vec<_> = settings.per_origin.iter().collect();
        origins.sort_unstable_by_key(|(origin, _)| *origin);
        for (origin, tls) in origins {
            let (host, port) = parse_origin(origin)?;
            let set = match known.get(tls) {
                Some(set) => *set,
                None => {
                    sets.push(ClientSet::new(settings, &tls::config(origin, tls)?)?);
                    known.insert(tls, sets.len() - 1);
                    sets.len() - 1
                }
            };
            by_host.entry(host).or_default().push(PortRule { port, set });
        }
        // The exact port before the rule for all of them.
        for rules in by_host.values_mut() {
            rules.sort_unstable_by_key(|rule| rule.port.is_none());
        }
        Ok(Clients { sets, by_host })
    }

    /// Returns the client for a URL.
    pub(super) fn pick(&self, url: &Url, reach: Reach) -> &Client {
        let set = &self.sets[self.set(url)];
        match reach {
            Reach::Any => &set.any,
            Reach::Local => &set.local,
            Reach::Public => &set.public,
        }
    }

    fn set(&self, url: &Url) -> usize {
        if self.by_host.is_empty() {
            return 0;
        }
        let rules = url.host_str().and_then(|host| self.by_host.get(host));
        let port = url.port_or_known_default();
        rules
            .and_then(|rules| rules.iter().find(|rule| rule.port.is_none() || rule.port == port))
            .map_or(0, |rule| rule.set)
    }
}

/// Parses `host` or `host:port` as they stand in a URL.
fn parse_origin(text: &str) -> Result<(String, Option<u16>), SettingsError> {
    let wrong = || SettingsError::NotAnOrigin { origin: text.to_owned() };
    let bracket = text.rfind(']').unwrap_or(0);
    let (host, port) = match text[bracket..].rfind(':') {
        Some(colon) => {
            let (host, port) = text.split_at(bracket + colon);
            (host, Some(port[1..].parse().map_err(|_| wrong())?))
        }
        None => (text, None),
    };
    let host = Host::parse(host).map_err(|_| wrong())?;
    Ok((host.to_string(), port))
}

impl ClientSet {
    fn new(settings: &OriginSettings, tls: &ClientConfig) -> Result<ClientSet, SettingsError> {
        Ok(ClientSet {
            any: client(settings, tls, Reach::Any)?,
            local: client(settings, tls, Reach::Local)?,
            public: client(settings, tls, Reach::Public)?,
        })
    }
}

fn client(
    settings: &OriginSettings,
    tls: &ClientConfig,
    reach: Reach,
) -> Result<Client, SettingsError> {
    let mut fields = HeaderMap::new();
    // Without the field every coding would be acceptable (RFC 9110, section 12.5.3).
    fields.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let builder = Client::builder()
        .tls_backend_preconfigured(tls.clone())
        .user_agent(settings.user_agent.as_str())
        .default_headers(fields)
        .http1_only()
        .no_proxy()
        .referer(false)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .tcp_nodelay(true)
        .pool_idle_timeout(KEEP_IDLE)
        .pool_max_idle_per_host(KEEP_PER_HOST)
        .connector_layer(Limits { otherwise: settings.connect_timeout });
    let builder = match reach {
        Reach::Any => builder,
        Reach::Local | Reach::Public => builder.dns_resolver(GuardedResolver(reach)),
    };
    builder
        .build()
        .map_err(|error| SettingsError::Client { reason: error.without_url().to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_hosts_with_or_without_a_port() {
        let good = |text: &str| parse_origin(text).expect(text);
        assert_eq!(good("a.b"), ("a.b".to_owned(), None));
        assert_eq!(good("A.b:8443"), ("a.b".to_owned(), Some(8443)));
        assert_eq!(good("127.1:1"), ("127.0.0.1".to_owned(), Some(1)));
        assert_eq!(good("[::1]:9"), ("[::1]".to_owned(), Some(9)));
        assert_eq!(good("[0::1]"), ("[::1]".to_owned(), None));
        for bad in ["", ":80", "a:", "a:x", "a:70000", "a/b", "https://a", "a b", "::1"] {
            let error = parse_origin(bad).expect_err(bad).to_string();
            assert!(error.starts_with(&format!("`{bad}`")), "{error}");
        }
    }

    #[test]
    fn the_exact_port_wins_and_equal_settings_share_clients() {
        let tls = |insecure_skip_verify| OriginTls { insecure_skip_verify, ..OriginTls::default() };
        let per_origin = [("a", tls(true)), ("a:444", tls(false)), ("b:443", tls(true))];
        let clients = Clients::new(&OriginSettings {
            per_origin: per_origin.map(|(o, t)| (o.to_owned(), t)).into(),
            ..OriginSettings::default()
        });
        let clients = clients.expect("clients");
        let set = |url: &str| clients.set(&Url::parse(url).expect("a URL"));
        assert_eq!(clients.sets.len(), 2);
        assert_eq!(set("https://a/"), 1);
        assert_eq!(set("https://A:8443/"), 1);
        assert_eq!(set("https://a:444/"), 0);
        assert_eq!(set("https://b/"), 1);
        assert_eq!(set("https://b:444/"), 0);
        assert_eq!(set("https://c/"), 0);
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
