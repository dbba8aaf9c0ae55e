//! TLS settings: which certificates are trusted, which one is shown.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::settings::{OriginTls, SettingsError};

/// Builds the TLS configuration for one setting. Reads its files, and once in the life of the
/// process the system's certificates; blocks while it does.
///
/// # Errors
/// A file that cannot be read or does not hold what it should; the text names it.
pub(super) fn config(origin: &str, tls: &OriginTls) -> Result<ClientConfig, SettingsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| SettingsError::Client { reason: error.to_string() })?;
    let builder = if tls.insecure_skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
    } else {
        builder.with_root_certificates(roots(origin, tls.ca_file.as_deref())?)
    };
    let mut config = match (&tls.cert_file, &tls.key_file) {
        (None, None) => builder.with_no_client_auth(),
        (Some(cert), Some(key)) => builder
            .with_client_auth_cert(certificates(origin, cert)?, private_key(origin, key)?)
            .map_err(|error| unusable(origin, cert, &error))?,
        _ => {
            return Err(SettingsError::HalfPair { origin: origin.to_owned() });
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Returns the system's certificates, and those of a file beside them.
fn roots(origin: &str, extra: Option<&Path>) -> Result<Arc<RootCertStore>, SettingsError> {
    static SYSTEM: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let system = SYSTEM.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(found.certs);
        if store.is_empty() {
            tracing::warn!(
                "no system certificates found (install ca-certificates): https works only with a ca_file"
            );
        }
        Arc::new(store)
    });
    let Some(file) = extra else {
        return Ok(Arc::clone(system));
    };
    let mut store = RootCertStore::clone(system);
    for certificate in certificates(origin, file)? {
        store.add(certificate).map_err(|error| unusable(origin, file, &error))?;
    }
    Ok(Arc::new(store))
}

fn certificates(origin: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, SettingsError> {
    let pem = read(origin, file)?;
    match CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>() {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(not_pem(origin, file, "certificate")),
    }
}

fn private_key(origin: &str, file: &Path) -> Result<PrivateKeyDer<'static>, SettingsError> {
    let pem = read(origin, file)?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| not_pem(origin, file, "private key"))
}

fn read(origin: &str, file: &Path) -> Result<Vec<u8>, SettingsError> {
    std::fs::read(file).map_err(|error| SettingsError::Read {
        origin: origin.to_owned(),
        file: PathBuf::from(file),
        error,
    })
}

fn not_pem(origin: &str, file: &Path, expected: &'static str) -> SettingsError {
    SettingsError::Pem { origin: origin.to_owned(), file: PathBuf::from(file), expected }
}

fn unusable(origin: &str, file: &Path, error: &Error) -> SettingsError {
    SettingsError::Unusable {
        origin: origin.to_owned(),
        file: PathBuf::from(file),
        reason: error.to_string(),
    }
}

/// Accepts every certificate, yet checks that the server holds its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
