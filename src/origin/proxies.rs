//! Which requests go through a proxy.

use std::sync::Arc;

use reqwest::NoProxy;
use url::Url;

use super::settings_error::SettingsError;
use crate::route::Proxy;

/// The proxies of one client.
#[derive(Debug)]
pub(super) struct Proxies {
    /// For the client; the first that fits a URL is used.
    pub(super) rules: Vec<reqwest::Proxy>,
    /// The names of the proxies, which the guard of redirects must let through: it is the proxy
    /// that is connected to.
    pub(super) hosts: Arc<[String]>,
}

impl Proxies {
    /// Returns the proxies for one setting. Without one there is none, whatever the environment
    /// says. `variable` returns the value of an environment variable.
    ///
    /// # Errors
    /// An environment variable that is not a proxy; the text names it and not its value.
    pub(super) fn new(
        proxy: Option<&Proxy>,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Proxies, SettingsError> {
        let mut urls = Vec::new();
        let mut rules = Vec::new();
        match proxy {
            None => {}
            Some(Proxy::Http(url)) => {
                rules.push(reqwest::Proxy::all(url.clone()).map_err(client)?);
                urls.push(url.clone());
            }
            Some(Proxy::Environment) => {
                let except = first(variable, &["no_proxy", "NO_PROXY"]);
                let except = except.and_then(|(_, list)| NoProxy::from_string(&list));
                let https = from(variable, &["https_proxy", "HTTPS_PROXY"])?;
                if let Some(url) = https {
                    let rule = reqwest::Proxy::https(url.clone()).map_err(client)?;
                    rules.push(rule.no_proxy(except.clone()));
                    urls.push(url);
                }
                if let Some(url) = from(variable, &["http_proxy", "HTTP_PROXY"])? {
                    let rule = reqwest::Proxy::http(url.clone()).map_err(client)?;
                    rules.push(rule.no_proxy(except));
                    urls.push(url);
                }
            }
        }
        let hosts = urls.iter().filter_map(|url| url.host_str().map(str::to_owned)).collect();
        Ok(Proxies { rules, hosts })
    }
}

/// Returns the proxy that the first set of some variables names; a missing scheme means http.
fn from(
    variable: &dyn Fn(&str) -> Option<String>,
    names: &[&'static str],
) -> Result<Option<Url>, SettingsError> {
    let Some((name, text)) = first(variable, names) else {
        return Ok(None);
    };
    let text = if text.contains("://") { text } else { format!("http://{text}") };
    match text.parse() {
        Ok(Proxy::Http(url)) => Ok(Some(url)),
        _ => Err(SettingsError::ProxyVariable { name }),
    }
}

fn first(
    variable: &dyn Fn(&str) -> Option<String>,
    names: &[&'static str],
) -> Option<(&'static str, String)> {
    let set = |name| variable(name).filter(|text| !text.is_empty()).map(|text| (name, text));
    names.iter().copied().find_map(set)
}

fn client(error: reqwest::Error) -> SettingsError {
    SettingsError::Client { reason: error.without_url().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_counts_only_where_it_is_asked_for() {
        let set = |name: &str| match name {
            "HTTP_PROXY" => Some("upper:1".to_owned()),
            "http_proxy" => Some("http://u:CANARY@lower:1".to_owned()),
            "HTTPS_PROXY" => Some("http://secure:1".to_owned()),
            "https_proxy" => Some(String::new()),
            _ => None,
        };
        let of = |proxy: Option<&str>| {
            let proxy = proxy.map(|text| text.parse().expect("a proxy"));
            let proxies = Proxies::new(proxy.as_ref(), &set).expect("proxies");
            (proxies.rules.len(), proxies.hosts.to_vec())
        };
        assert_eq!(of(None), (0, vec![]));
        assert_eq!(of(Some("http://p:3128")), (1, vec!["p".to_owned()]));
        let both = vec!["secure".to_owned(), "lower".to_owned()];
        assert_eq!(of(Some("environment")), (2, both));
    }

    #[test]
    fn a_wrong_variable_is_named_and_not_shown() {
        for bad in ["socks5://CANARY@p", "http://p/CANARY", "https://CANARY"] {
            let set = |name: &str| (name == "HTTPS_PROXY").then(|| bad.to_owned());
            let error = Proxies::new(Some(&Proxy::Environment), &set).expect_err(bad).to_string();
            assert!(error.contains("HTTPS_PROXY") && !error.contains("CANARY"), "{error}");
        }
    }
}
