//! How requests to an origin travel: its proxy, and the hosts that its redirects may lead to.

use std::fmt;
use std::str::FromStr;

use url::{Host, Url};

use crate::source::{shown_text, shown_url};

/// A proxy, as an operator writes it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Proxy {
    /// An HTTP proxy; its userinfo is a secret.
    Http(Url),
    /// What HTTP_PROXY, HTTPS_PROXY and NO_PROXY say.
    Environment,
}

impl FromStr for Proxy {
    type Err = String;

    /// Parses `http://[user:password@]host[:port]`, or `environment`. The error shows nothing of
    /// the text, which may hold a password.
    fn from_str(text: &str) -> Result<Proxy, String> {
        if text == "environment" {
            return Ok(Proxy::Environment);
        }
        let wrong = || {
            "is not a proxy; write `http://host:port`, or `environment` for HTTP_PROXY, HTTPS_PROXY and NO_PROXY"
                .to_owned()
        };
        let url = Url::parse(text).map_err(|_| wrong())?;
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        match url.scheme() {
            "http" if bare => Ok(Proxy::Http(url)),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Proxy {
    /// Shows the proxy as it was written, but for its userinfo.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Proxy::Http(url) => f.write_str(shown_url(url).trim_end_matches('/')),
            Proxy::Environment => f.write_str("environment"),
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A host, or all hosts below one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern {
    host: Host,
    below: bool,
}

impl HostPattern {
    /// Says whether a URL's host is meant, on whatever port.
    pub fn matches(&self, url: &Url) -> bool {
        match (&self.host, url.host()) {
            (Host::Domain(ours), Some(Host::Domain(theirs))) => {
                // With a dot at the end a name is the same name, said to be complete.
                let theirs = theirs.strip_suffix('.').unwrap_or(theirs);
                match theirs.strip_suffix(ours.as_str()) {
                    Some(before) if self.below => before.len() > 1 && before.ends_with('.'),
                    Some(before) => before.is_empty(),
                    None => false,
                }
            }
            (Host::Ipv4(ours), Some(Host::Ipv4(theirs))) => *ours == theirs,
            (Host::Ipv6(ours), Some(Host::Ipv6(theirs))) => *ours == theirs,
            _ => false,
        }
    }
}

impl FromStr for HostPattern {
    type Err = String;

    /// Parses `host`, or `*.host` for all names below that one but not itself.
    fn from_str(text: &str) -> Result<HostPattern, String> {
        let wrong = || {
            format!(
                "`{}` is not a host; write `cdn.internal`, or `*.storage.example` for all names below it, without scheme and port",
                shown_host(text)
            )
        };
        let (below, host) = match text.strip_prefix("*.") {
            Some(host) => (true, host),
            None => (false, text),
        };
        if host.contains('*') {
            return Err(wrong());
        }
        let host = Host::parse(host.strip_suffix('.').unwrap_or(host)).map_err(|_| wrong())?;
        if below && !matches!(host, Host::Domain(_)) {
            return Err(wrong());
        }
        Ok(HostPattern { host, below })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.below { "*." } else { "" }, self.host)
    }
}

/// Returns what may be printed of a text that was meant to be a host, with or without a port. A
/// whole URL may be there instead, and then this is what [`shown_text`] shows.
pub fn shown_host(text: &str) -> String {
    match text.contains(['@', '?', '#']) {
        true => shown_text(text),
        false => text.escape_debug().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_read_and_shown_without_their_userinfo() {
        for (text, shown) in [
            ("http://proxy:3128", "http://proxy:3128"),
            ("http://u:CANARY@proxy:3128/", "http://proxy:3128"),
            ("environment", "environment"),
        ] {
            let proxy: Proxy = text.parse().expect(text);
            assert_eq!(proxy.to_string(), shown);
            assert!(!format!("{proxy:?}").contains("CANARY"));
        }
        for bad in [
            "",
            "proxy:3128",
            "https://CANARY@proxy",
            "socks5://CANARY@proxy",
            "http://CANARY:x@",
            "http://proxy/CANARY",
            "http://proxy/?CANARY",
            "http://CANARY:CANARY",
        ] {
            let error = bad.parse::<Proxy>().expect_err(bad);
            assert!(error.contains("http://host:port") && !error.contains("CANARY"), "{error}");
        }
    }

    #[test]
    fn patterns_match_hosts() {
        #[rustfmt::skip]
        let table: &[(&str, &str, bool)] = &[
            ("cdn.internal", "https://cdn.internal/x", true),
            ("CDN.internal.", "https://cdn.internal:8443/x", true),
            ("cdn.internal", "https://CDN.internal./x", true),
            ("cdn.internal", "https://a.cdn.internal/x", false),
            ("cdn.internal", "https://evilcdn.internal/x", false),
            ("cdn.internal", "https://cdn.internal.evil/x", false),
            ("cdn.internal", "https://cdn.internal@evil/x", false),
            ("*.storage.example", "https://a.storage.example/x", true),
            ("*.storage.example", "https://a.b.storage.example./x", true),
            ("*.storage.example", "https://storage.example/x", false),
            ("*.storage.example", "https://evilstorage.example/x", false),
            ("*.storage.example", "https://.storage.example/x", false),
            ("10.0.0.1", "https://10.0.0.1/x", true),
            ("10.0.0.1", "https://167772161/x", true),
            ("10.0.0.1", "https://10.0.0.2/x", false),
            ("[fd00::1]", "https://[fd00:0::1]/x", true),
        ];
        for (pattern, url, want) in table {
            let host: HostPattern = pattern.parse().expect(pattern);
            let url = Url::parse(url).expect(url);
            assert_eq!(host.matches(&url), *want, "{pattern} {url}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for bad in
            ["", "*", "*.", "a.*", "**.a", "*.*.a", "a:80", "http://a", "a/b", "*.10.0.0.1", "a b"]
        {
            let error = bad.parse::<HostPattern>().expect_err(bad);
            assert!(error.starts_with(&format!("`{bad}`")), "{error}");
        }
        for bad in ["http://u:CANARY@a/x", "u:CANARY@a", "a/x?CANARY", "http://a/#CANARY"] {
            let error = bad.parse::<HostPattern>().expect_err(bad);
            assert!(!error.contains("CANARY"), "{error}");
        }
    }
}
