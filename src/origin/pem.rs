//! The files of certificates and keys.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, RootCertStore};

use super::settings_error::SettingsError;

/// Returns the check of server certificates against the system's certificates, unless `only` the
/// file's count, and those of a file. Reads the file, and once in the life of the process the
/// system's certificates; blocks while it does.
///
/// # Errors
/// A file that cannot be read or does not hold what it should; the text names it.
pub(super) fn verifier(
    origin: &str,
    file: Option<&Path>,
    only: bool,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, SettingsError> {
    let mut roots = if only { RootCertStore::empty() } else { RootCertStore::clone(&system()) };
    if let Some(file) = file {
        for certificate in certificates(origin, file)? {
            roots.add(certificate).map_err(|error| unusable(origin, file, &error))?;
        }
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| SettingsError::Client { reason: error.to_string() })
}

/// Returns a client certificate chain with its key; blocks while it reads the files.
///
/// # Errors
/// As for [`verifier`], and a key that does not belong to the certificate.
pub(super) fn identity(
    origin: &str,
    cert: &Path,
    key: &Path,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, SettingsError> {
    let (chain, key) = (certificates(origin, cert)?, private_key(origin, key)?);
    CertifiedKey::from_der(chain, key, provider)
        .map(Arc::new)
        .map_err(|error| unusable(origin, cert, &error))
}

/// Returns the system's certificates.
fn system() -> Arc<RootCertStore> {
    static SYSTEM: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    Arc::clone(SYSTEM.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(found.certs);
        if store.is_empty() {
            tracing::warn!(
                "no system certificates found (install ca-certificates): https works only with a ca_file"
            );
        }
        Arc::new(store)
    }))
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
        file: file.to_owned(),
        error,
    })
}

fn not_pem(origin: &str, file: &Path, expected: &'static str) -> SettingsError {
    SettingsError::Pem { origin: origin.to_owned(), file: file.to_owned(), expected }
}

fn unusable(origin: &str, file: &Path, error: &Error) -> SettingsError {
    SettingsError::Unusable {
        origin: origin.to_owned(),
        file: file.to_owned(),
        reason: error.to_string(),
    }
}
