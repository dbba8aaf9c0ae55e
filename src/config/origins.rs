//! `[origins."host:port"]`: what belongs to the operator about an origin.

use std::fmt;
use std::path::PathBuf;

use url::Url;

use super::values::based;
use crate::document::{Item, Reader};
use crate::route::{HostPattern, Proxy, shown_host};

/// The most connections that one body may use.
const MAX_CONNECTIONS: u64 = 64;

/// How one origin is reached, and what is trusted there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OriginSection {
    /// Certificates, in PEM, to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Trusts those of `ca_file` alone.
    pub ca_only: bool,
    /// The client certificate chain, in PEM; comes with `key_file`.
    pub cert_file: Option<PathBuf>,
    /// The key of the client certificate, in PEM.
    pub key_file: Option<PathBuf>,
    /// Accepts any certificate. For experiments.
    pub insecure_skip_verify: bool,
    /// How many connections one body may use, 1 to 64.
    pub connections: Option<usize>,
    /// The proxy; without one requests go straight.
    pub proxy: Option<Proxy>,
    /// The only hosts that redirects may lead to, beside the origin itself.
    pub allowed_redirect_hosts: Option<Vec<HostPattern>>,
}

const KEYS: [&str; 8] = [
    "ca_file",
    "ca_only",
    "cert_file",
    "key_file",
    "insecure_skip_verify",
    "connections",
    "proxy",
    "allowed_redirect_hosts",
];

impl fmt::Display for OriginSection {
    /// Shows in one line what was written; nothing of a proxy's userinfo.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = Vec::new();
        for (key, path) in [
            ("ca_file", &self.ca_file),
            ("cert_file", &self.cert_file),
            ("key_file", &self.key_file),
        ] {
            said.extend(path.as_ref().map(|path| format!("{key} {}", path.display())));
        }
        if self.ca_only {
            said.push("no other CA is trusted".to_owned());
        }
        if self.insecure_skip_verify {
            said.push("any certificate is accepted".to_owned());
        }
        said.extend(self.connections.map(|count| format!("connections {count}")));
        said.extend(self.proxy.as_ref().map(|proxy| format!("proxy {proxy}")));
        if let Some(hosts) = &self.allowed_redirect_hosts {
            let hosts: Vec<_> = hosts.iter().map(HostPattern::to_string).collect();
            let hosts = if hosts.is_empty() { "none".to_owned() } else { hosts.join(" ") };
            said.push(format!("allowed_redirect_hosts {hosts}"));
        }
        f.write_str(&said.join(", "))
    }
}

/// Reads one section; `None` when a problem was recorded.
pub(super) fn read(reader: &mut Reader<'_>, item: &Item) -> Option<(String, OriginSection)> {
    let table = item.table();
    let table = reader.take(item, table)?;
    if let Some(inner) =
        table.0.iter().find(|i| i.table().is_ok() && !KEYS.contains(&i.key.as_str()))
    {
        let host = format!("{}.{}", item.key, inner.key).escape_debug().to_string();
        reader.at(
            inner.line,
            format!("the origin `{host}...` has dots; quote all of it: [origins.\"{host}...\"]"),
        );
        return None;
    }
    let host = match host(&item.key) {
        Ok(host) => host,
        Err(e) => {
            reader.at(item.line, e);
            return None;
        }
    };
    let mut section = OriginSection::default();
    for key in &table.0 {
        let path = |reader: &mut Reader<'_>| {
            let path = reader.take(key, key.path())?;
            Some(based(reader.file(), path))
        };
        match key.key.as_str() {
            "ca_file" => section.ca_file = path(reader),
            "cert_file" => section.cert_file = path(reader),
            "key_file" => section.key_file = path(reader),
            "insecure_skip_verify" => {
                section.insecure_skip_verify = reader.take(key, key.bool()).unwrap_or_default();
            }
            "ca_only" => section.ca_only = reader.take(key, key.bool()).unwrap_or_default(),
            "connections" => section.connections = reader.take(key, connections(key)),
            "proxy" => {
                let proxy = key.text().and_then(str::parse);
                section.proxy = reader.take(key, proxy);
            }
            "allowed_redirect_hosts" => {
                section.allowed_redirect_hosts = reader.take(key, hosts(key));
            }
            _ => reader.unknown(key, &format!("[origins.\"{host}\"]"), &KEYS),
        }
    }
    if section.cert_file.is_some() != section.key_file.is_some() {
        reader.at(
            item.line,
            format!("[origins.\"{host}\"] needs both `cert_file` and `key_file`, or neither"),
        );
    }
    // A key with a mistake was reported as such, and is not missing.
    let written = |name: &str| table.0.iter().any(|key| key.key == name);
    if section.ca_only && !written("ca_file") {
        reader.at(
            item.line,
            format!("[origins.\"{host}\"] has `ca_only` and no `ca_file` to trust; give one"),
        );
    }
    if section.ca_only && section.insecure_skip_verify {
        reader.at(
            item.line,
            format!(
                "[origins.\"{host}\"] has `ca_only` and `insecure_skip_verify`, which trusts everybody; remove one"
            ),
        );
    }
    Some((host, section))
}

fn connections(item: &Item) -> Result<usize, String> {
    let wrong = || format!("must be a whole number from 1 to {MAX_CONNECTIONS}");
    match item.count() {
        Ok(count @ 1..=MAX_CONNECTIONS) => usize::try_from(count).map_err(|_| wrong()),
        _ => Err(wrong()),
    }
}

fn hosts(item: &Item) -> Result<Vec<HostPattern>, String> {
    let parse = |text: &str| text.parse().map_err(|e: String| format!("is wrong: {e}"));
    item.texts()?.into_iter().map(parse).collect()
}

/// Checks `host` or `host:port` and returns it in lower case.
fn host(text: &str) -> Result<String, String> {
    let wrong = || {
        format!(
            "the origin `{}` is not a host; write [origins.\"host\"] or [origins.\"host:port\"]",
            shown_host(text)
        )
    };
    if text.contains(['/', '?', '#', '@', '\\']) || text.contains(char::is_whitespace) {
        return Err(wrong());
    }
    let url = Url::parse(&format!("http://{text}/")).map_err(|_| wrong())?;
    let host = url.host_str().ok_or_else(wrong)?;
    let port = text.rsplit_once(':').map(|(_, port)| port);
    Ok(match port.and_then(|port| port.parse::<u16>().ok()) {
        Some(port) if !text.ends_with(']') => format!("{host}:{port}"),
        _ => host.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for (text, shown) in [
            ("blobstore.internal", "blobstore.internal"),
            ("Blobstore.Internal:8443", "blobstore.internal:8443"),
            ("10.0.0.1:80", "10.0.0.1:80"),
            ("[::1]", "[::1]"),
            ("[::1]:8443", "[::1]:8443"),
        ] {
            assert_eq!(host(text).as_deref(), Ok(shown));
        }
        for bad in ["", "https://h", "h/p", "u@h", "h:x", "h:99999", ":80", "a b"] {
            assert!(host(bad).is_err(), "{bad}");
        }
        let error = host("https://u:CANARY@h/?CANARY").unwrap_err();
        assert!(!error.contains("CANARY"), "{error}");
    }
    #[test]
    fn a_section_is_shown_in_one_line_without_secrets() {
        let section = OriginSection {
            ca_file: Some("/ca.pem".into()),
            ca_only: true,
            connections: Some(8),
            proxy: Some("http://u:CANARY@p:1".parse().unwrap()),
            allowed_redirect_hosts: Some(vec!["*.b".parse().unwrap()]),
            ..OriginSection::default()
        };
        assert_eq!(
            section.to_string(),
            "ca_file /ca.pem, no other CA is trusted, connections 8, proxy http://p:1, allowed_redirect_hosts *.b"
        );
        assert!(!format!("{section:?}").contains("CANARY"));
    }
}
