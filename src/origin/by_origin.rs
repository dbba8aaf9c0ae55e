//! What operators set for some origins: looked up by the URL of a request.

use std::collections::HashMap;

use url::{Host, Url};

use super::settings_error::SettingsError;

/// Values by `host` (every port) or `host:port`; empty in most installations.
#[derive(Debug)]
pub(super) struct ByOrigin<T> {
    by_host: HashMap<String, Vec<(Option<u16>, T)>>,
}

impl<T> ByOrigin<T> {
    /// Collects values and the origins that they are for.
    ///
    /// # Errors
    /// A key that is not an origin.
    pub(super) fn new<'a>(
        values: impl IntoIterator<Item = (&'a String, T)>,
    ) -> Result<ByOrigin<T>, SettingsError> {
        let mut by_host: HashMap<String, Vec<(Option<u16>, T)>> = HashMap::new();
        for (origin, value) in values {
            let (host, port) = parse_origin(origin)?;
            by_host.entry(host).or_default().push((port, value));
        }
        // The exact port before the rule for all of them.
        for rules in by_host.values_mut() {
            rules.sort_by_key(|(port, _)| port.is_none());
        }
        Ok(ByOrigin { by_host })
    }

    /// Returns the value for a URL; the more exact key wins.
    pub(super) fn get(&self, url: &Url) -> Option<&T> {
        if self.by_host.is_empty() {
            return None;
        }
        let rules = self.by_host.get(host(url)?)?;
        let its_port = url.port_or_known_default();
        let rule = rules.iter().find(|(port, _)| port.is_none() || *port == its_port)?;
        Some(&rule.1)
    }
}

/// Parses `host` or `host:port` as they stand in a URL.
///
/// # Errors
/// Anything else; the text says what is expected.
pub(super) fn parse_origin(text: &str) -> Result<(String, Option<u16>), SettingsError> {
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
    Ok((rooted(&host.to_string()).to_owned(), port))
}

/// Returns the host of a URL as [`parse_origin`] writes it.
pub(super) fn host(url: &Url) -> Option<&str> {
    url.host_str().map(rooted)
}

/// Returns a host without the dot that may end it: `a.b.` is the same host as `a.b`.
fn rooted(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_hosts_with_or_without_a_port() {
        let good = |text: &str| parse_origin(text).expect(text);
        assert_eq!(good("a.b"), ("a.b".to_owned(), None));
        assert_eq!(good("a.b.:1"), ("a.b".to_owned(), Some(1)));
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
    fn the_exact_port_wins() {
        let keys = ["a".to_owned(), "a:444".to_owned(), "b:443".to_owned()];
        let values = ByOrigin::new(keys.iter().zip([1, 2, 3])).expect("origins");
        let get = |url: &str| values.get(&Url::parse(url).expect("a URL")).copied();
        assert_eq!(get("https://a/"), Some(1));
        assert_eq!(get("https://A:8443/"), Some(1));
        assert_eq!(get("https://a:444/"), Some(2));
        assert_eq!(get("https://a.:444/"), Some(2), "the same host");
        assert_eq!(get("https://b/"), Some(3));
        assert_eq!(get("https://b:444/"), None);
        assert_eq!(get("https://c/"), None);
    }
}
