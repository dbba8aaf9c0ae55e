//! TLS settings: which certificates are trusted, which one is shown, and how both follow their
//! files.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::sign::CertifiedKey;

use super::material::Material;
use super::pem;
use super::settings::OriginTls;
use super::settings_error::SettingsError;
use super::verify::{AnyCertificate, CurrentIdentity, CurrentTrust};

/// How often the files are looked at, at most, when connections are made.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The TLS configuration for one setting.
#[derive(Debug)]
pub(super) struct Tls {
    /// For the client. It follows its files by itself.
    pub(super) config: ClientConfig,
    /// Its files, if it has any.
    pub(super) files: Option<Arc<TlsFiles>>,
}

impl Tls {
    /// Builds the configuration. Reads its files, and once in the life of the process the system's
    /// certificates; blocks while it does.
    ///
    /// # Errors
    /// A file that cannot be read or does not hold what it should; the text names it.
    pub(super) fn new(origin: &str, tls: &OriginTls) -> Result<Tls, SettingsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| SettingsError::Client { reason: error.to_string() })?
            .dangerous();
        let files = TlsFiles::new(origin, tls)?;
        let builder = match &files.trust {
            _ if tls.insecure_skip_verify => {
                builder.with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            }
            Some(trust) => {
                builder.with_custom_certificate_verifier(Arc::new(CurrentTrust(Arc::clone(trust))))
            }
            None => {
                let system = pem::verifier(origin, None, false, &provider)?;
                builder.with_custom_certificate_verifier(system)
            }
        };
        let mut config = match &files.identity {
            Some(identity) => {
                builder.with_client_cert_resolver(Arc::new(CurrentIdentity(Arc::clone(identity))))
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let files = files.any().then(|| Arc::new(files));
        if files.is_some() {
            // A resumed session skips the certificates: it would go on with those of before.
            config.resumption = Resumption::disabled();
        }
        Ok(Tls { config, files })
    }
}

/// The files of one TLS setting.
#[derive(Debug)]
pub(super) struct TlsFiles {
    trust: Option<Arc<Material<WebPkiServerVerifier>>>,
    identity: Option<Arc<Material<CertifiedKey>>>,
    looked: Mutex<Instant>,
}

impl TlsFiles {
    fn new(origin: &str, tls: &OriginTls) -> Result<TlsFiles, SettingsError> {
        if tls.ca_only && tls.ca_file.is_none() {
            return Err(SettingsError::OnlyWithoutFile { origin: origin.to_owned() });
        }
        Ok(TlsFiles {
            trust: trust(origin, tls)?.map(Arc::new),
            identity: identity(origin, tls)?.map(Arc::new),
            looked: Mutex::new(Instant::now()),
        })
    }

    fn any(&self) -> bool {
        self.trust.is_some() || self.identity.is_some()
    }

    /// Looks whether the files have changed, unless somebody has done so within the last second.
    /// To be called before a connection is made; the disk is waited for elsewhere.
    ///
    /// Who comes while somebody looks does so as well. An origin that closes all its connections
    /// has many made at once, and each of them must use what the files hold.
    pub(super) async fn look_if_due(self: Arc<Self>) {
        let now = Instant::now();
        if !self.is_due(now) {
            return;
        }
        let files = Arc::clone(&self);
        match tokio::task::spawn_blocking(move || files.look()).await {
            Ok(()) => self.looked(now),
            Err(error) => tracing::error!(%error, "the TLS files were not looked at"),
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        let looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        now.saturating_duration_since(*looked) >= LOOK_EVERY
    }

    /// Notes a look that was begun at a moment and has ended.
    fn looked(&self, begun: Instant) {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        *looked = begun.max(*looked);
    }

    /// Looks whether the files have changed; blocks while it does.
    pub(super) fn look(&self) {
        if let Some(trust) = &self.trust {
            trust.look();
        }
        if let Some(identity) = &self.identity {
            identity.look();
        }
    }

    /// Returns why the files as they are now cannot be used.
    pub(super) fn problems(&self) -> impl Iterator<Item = String> {
        let trust = self.trust.as_ref().and_then(|trust| trust.problem());
        trust.into_iter().chain(self.identity.as_ref().and_then(|identity| identity.problem()))
    }
}

fn trust(
    origin: &str,
    tls: &OriginTls,
) -> Result<Option<Material<WebPkiServerVerifier>>, SettingsError> {
    let Some(file) = tls.ca_file.clone().filter(|_| !tls.insecure_skip_verify) else {
        return Ok(None);
    };
    let (origin, only) = (origin.to_owned(), tls.ca_only);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Material::new(vec![file.clone()], move || pem::verifier(&origin, Some(&file), only, &provider))
        .map(Some)
}

fn identity(
    origin: &str,
    tls: &OriginTls,
) -> Result<Option<Material<CertifiedKey>>, SettingsError> {
    let (cert, key): (PathBuf, PathBuf) = match (&tls.cert_file, &tls.key_file) {
        (None, None) => return Ok(None),
        (Some(cert), Some(key)) => (cert.clone(), key.clone()),
        _ => return Err(SettingsError::HalfPair { origin: origin.to_owned() }),
    };
    let origin = origin.to_owned();
    let provider = rustls::crypto::ring::default_provider();
    Material::new(vec![cert.clone(), key.clone()], move || {
        pem::identity(&origin, &cert, &key, &provider)
    })
    .map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_believed_for_a_second_after_a_look_and_not_during_one() {
        let files = TlsFiles::new("a", &OriginTls::default()).expect("no files");
        let start = Instant::now() + LOOK_EVERY;
        assert!(files.is_due(start));
        assert!(files.is_due(start), "a look that has not ended has found nothing yet");
        files.looked(start);
        assert!(!files.is_due(start + Duration::from_millis(999)));
        assert!(files.is_due(start + LOOK_EVERY));
        files.looked(start + LOOK_EVERY);
        files.looked(start);
        assert!(!files.is_due(start + LOOK_EVERY), "an older look that ends later");
    }

    #[test]
    fn sessions_are_not_resumed_where_trust_may_change() {
        let pem = |name| {
            let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/origin/tests/pem");
            Some(dir.join(name))
        };
        let with_ca = OriginTls { ca_file: pem("ca.pem"), ca_only: true, ..OriginTls::default() };
        let tls = Tls::new("a", &with_ca).expect("a CA");
        let off = format!("{:?}", Resumption::disabled());
        assert!(tls.files.is_some());
        assert_eq!(format!("{:?}", tls.config.resumption), off);
    }

    #[test]
    fn only_the_file_needs_a_file() {
        let tls = OriginTls { ca_only: true, ..OriginTls::default() };
        let error = Tls::new("blob:8443", &tls).expect_err("refused").to_string();
        assert!(error.contains("blob:8443") && error.contains("ca_file"), "{error}");
    }
}
