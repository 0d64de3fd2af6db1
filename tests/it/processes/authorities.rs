//! Authorities and the certificates that they sign, as files.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType,
    string::Ia5String,
};
use tempfile::TempDir;

/// An authority, and the folder for its files.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

/// A certificate and its private key.
pub(super) struct Certified {
    pub(super) cert: String,
    pub(super) key: String,
}

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority of a test");
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let authority = Self { issuer, folder: tempfile::tempdir().expect("a folder") };
        fs::write(authority.file("ca.pem"), authority.issuer.pem()).expect("written");
        authority
    }

    /// The file with its own certificate.
    pub(super) fn ca(&self) -> String {
        path(&self.file("ca.pem"))
    }

    /// Its own certificate.
    pub(super) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for the servers of this machine.
    pub(super) fn server(&self) -> Certified {
        self.sign("server", vec![SanType::IpAddress([127, 0, 0, 1].into())])
    }

    /// A certificate of a client with this common name.
    pub(super) fn client(&self, name: &str) -> Certified {
        let uri = Ia5String::try_from(format!("spiffe://example.org/{name}")).expect("a URI");
        self.sign(name, vec![SanType::URI(uri)])
    }

    fn sign(&self, name: &str, alternative: Vec<SanType>) -> Certified {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = alternative;
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let (cert, private) =
            (self.file(&format!("{name}.pem")), self.file(&format!("{name}.key")));
        fs::write(&cert, certificate.pem()).expect("written");
        fs::write(&private, key.serialize_pem()).expect("written");
        Certified { cert: path(&cert), key: path(&private) }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Certified {
    /// Replaces its files by those of another one.
    pub(super) fn replace_by(&self, other: &Self) {
        fs::copy(&other.cert, &self.cert).expect("copied");
        fs::copy(&other.key, &self.key).expect("copied");
    }

    /// The flags of a server with this certificate.
    pub(super) fn of_server(&self) -> [&str; 4] {
        ["--tls-cert", &self.cert, "--tls-key", &self.key]
    }
}

fn path(path: &Path) -> String {
    path.to_str().expect("a path").to_owned()
}
