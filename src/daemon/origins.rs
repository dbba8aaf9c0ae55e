//! What the configuration says of origins, for the HTTP side and for the log.

use crate::config::Config;
use crate::origin::{OriginSettings, OriginTls};

/// Returns the settings of the HTTP side.
pub(super) fn settings(config: &Config) -> OriginSettings {
    let mut settings = OriginSettings::default();
    for (origin, section) in &config.origins {
        let tls = OriginTls {
            ca_file: section.ca_file.clone(),
            ca_only: section.ca_only,
            cert_file: section.cert_file.clone(),
            key_file: section.key_file.clone(),
            insecure_skip_verify: section.insecure_skip_verify,
        };
        settings.per_origin.insert(origin.clone(), tls);
        // The more exact section decides, also by what it does not say.
        let connections = section.connections.unwrap_or(settings.default_connections);
        settings.connections.insert(origin.clone(), connections);
        if let Some(proxy) = &section.proxy {
            settings.proxies.insert(origin.clone(), proxy.clone());
        }
        if let Some(hosts) = &section.allowed_redirect_hosts {
            settings.redirect_hosts.insert(origin.clone(), hosts.clone());
        }
    }
    settings
}

/// Returns a sentence for each origin whose certificate is not checked.
pub(super) fn unchecked(config: &Config) -> impl Iterator<Item = String> {
    let origins = config.origins.iter().filter(|(_, section)| section.insecure_skip_verify);
    origins.map(|(origin, _)| {
        format!(
            "INSECURE: any certificate is accepted for {origin} (insecure_skip_verify), so anybody on the way can read the requests and change the bodies"
        )
    })
}

/// Warns of those origins.
pub(super) fn warn(config: &Config) {
    for sentence in unchecked(config) {
        tracing::warn!("{sentence}");
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Env, OriginSection, Settings};

    fn config(origins: &[(&str, OriginSection)]) -> Config {
        let disk = |_: &Path| Ok(1 << 40);
        let env =
            Env { root: true, cache_home: None, runtime_dir: None, control: None, disk: &disk };
        let origins = origins.iter().map(|(origin, s)| ((*origin).to_owned(), s.clone())).collect();
        Config::resolve(Settings { origins, ..Settings::default() }, &env).expect("a configuration")
    }

    #[test]
    fn every_key_arrives() {
        let section = OriginSection {
            ca_file: Some("/ca".into()),
            ca_only: true,
            cert_file: Some("/cert".into()),
            key_file: Some("/key".into()),
            insecure_skip_verify: false,
            connections: Some(8),
            proxy: Some("http://p:1".parse().expect("a proxy")),
            allowed_redirect_hosts: Some(vec!["b".parse().expect("a host")]),
        };
        let settings = settings(&config(&[("a", section), ("a:444", OriginSection::default())]));
        let tls = OriginTls {
            ca_file: Some("/ca".into()),
            ca_only: true,
            cert_file: Some("/cert".into()),
            key_file: Some("/key".into()),
            insecure_skip_verify: false,
        };
        assert_eq!(settings.per_origin["a"], tls);
        assert_eq!(settings.per_origin["a:444"], OriginTls::default());
        assert_eq!((settings.connections["a"], settings.connections["a:444"]), (8, 4));
        assert_eq!(
            (settings.proxies.len(), settings.proxies["a"].to_string()),
            (1, "http://p:1".to_owned())
        );
        assert_eq!(settings.redirect_hosts["a"].len(), 1);
    }

    #[test]
    fn who_skips_the_check_is_told_so() {
        let insecure = OriginSection { insecure_skip_verify: true, ..OriginSection::default() };
        let config = config(&[("a:8443", insecure), ("b", OriginSection::default())]);
        let told: Vec<_> = unchecked(&config).collect();
        assert_eq!(told.len(), 1);
        assert!(told[0].contains("a:8443") && told[0].contains("insecure_skip_verify"));
    }
}
