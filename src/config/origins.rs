//! `[origins."host:port"]`: what belongs to the operator about an origin.

use std::path::PathBuf;

use url::Url;

use super::read::based;
use crate::document::{Item, Reader};

/// TLS material and trust for one origin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OriginSection {
    /// Certificates, in PEM, to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// The client certificate chain, in PEM; comes with `key_file`.
    pub cert_file: Option<PathBuf>,
    /// The key of the client certificate, in PEM.
    pub key_file: Option<PathBuf>,
    /// Accepts any certificate. For experiments.
    pub insecure_skip_verify: bool,
}

const KEYS: [&str; 4] = ["ca_file", "cert_file", "key_file", "insecure_skip_verify"];

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
            "connections" | "proxy" => reader.not_yet(key, &format!("`{}`", key.key)),
            _ => reader.unknown(key, &format!("[origins.\"{host}\"]"), &KEYS),
        }
    }
    if section.cert_file.is_some() != section.key_file.is_some() {
        reader.at(
            item.line,
            format!("[origins.\"{host}\"] needs both `cert_file` and `key_file`, or neither"),
        );
    }
    Some((host, section))
}

/// Checks `host` or `host:port` and returns it in lower case.
fn host(text: &str) -> Result<String, String> {
    let wrong = || {
        format!(
            "the origin `{}` is not a host; write [origins.\"host\"] or [origins.\"host:port\"]",
            text.escape_debug()
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
    }
}
