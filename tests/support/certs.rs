//! Certification authorities of the tests' own, with as many generations as a test wants.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};

/// An authority; all its keys are made anew for each test.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate with its key, both in PEM.
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    /// Makes an authority of this name.
    pub(crate) fn new(name: &str) -> Authority {
        let mut params = params(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate of an authority").pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    /// Returns its certificate in PEM.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// Writes its certificate to a file, replacing that by rename.
    pub(crate) fn write(&self, path: &Path) {
        replace(path, &self.pem);
    }

    /// Issues the certificate of a server with these names and addresses.
    pub(crate) fn server(&self, hosts: &[&str]) -> Pair {
        self.issue(params("server", hosts), ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// Issues the certificate of a client.
    pub(crate) fn client(&self, name: &str) -> Pair {
        self.issue(params(name, &[]), ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(&self, mut params: CertificateParams, usage: ExtendedKeyUsagePurpose) -> Pair {
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Pair { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

impl Pair {
    /// Writes the two to `NAME.pem` and `NAME.key`, replacing those by rename.
    pub(crate) fn write(&self, dir: &Path, name: &str) -> (PathBuf, PathBuf) {
        let (certificate, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
        replace(&certificate, &self.certificate);
        replace(&key, &self.key);
        (certificate, key)
    }
}

/// Writes a file so that nobody sees half of it, as tools do that rotate certificates.
pub(crate) fn replace(path: &Path, text: &str) {
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, text).expect("write a PEM file");
    std::fs::rename(&fresh, path).expect("publish a PEM file");
}

fn params(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).expect("names of a certificate");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
