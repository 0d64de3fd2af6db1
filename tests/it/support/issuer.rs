//! An issuer of JWTs on this machine, which serves its keys over HTTPS.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use longhaul::engine::{Algorithm, Issuer, IssuerKeys, KeySource};
use longhaul::post::HttpsFetcher;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

/// An issuer, its server, and the authority that vouches for that.
pub(crate) struct TestIssuer {
    pub(crate) url: String,
    authority: CertifiedIssuer<'static, KeyPair>,
    shared: Arc<Shared>,
    _serving: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    manner: Mutex<Manner>,
    keys: Mutex<Vec<Value>>,
    requests: AtomicUsize,
}

/// How the server answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Manner {
    #[default]
    Well,
    /// With an error.
    Down,
    /// Not at all.
    Silent,
    /// With more bytes than a set of keys has.
    Endless,
    /// With a redirect.
    Elsewhere,
}

/// A key of an issuer.
pub(crate) struct SigningPair {
    id: String,
    pair: Ed25519KeyPair,
}

impl SigningPair {
    pub(crate) fn new(id: &str) -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).expect("a key");
        Self { id: id.to_owned(), pair }
    }

    /// The public key, as sets have it.
    pub(crate) fn public(&self) -> Value {
        let x = base64(self.pair.public_key());
        json!({ "kty": "OKP", "crv": "Ed25519", "kid": self.id, "use": "sig", "x": x })
    }

    /// A token with that header and these claims.
    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", base64(header.to_string()), base64(claims.to_string()));
        format!("{signed}.{}", base64(self.pair.sign(signed.as_bytes())))
    }

    /// A token for `subject` of that issuer.
    pub(crate) fn token(&self, issuer: &str, subject: &str) -> String {
        self.sign(&json!({ "alg": "EdDSA", "kid": self.id }), &claims(issuer, subject))
    }
}

/// Claims of a token for `subject`.
pub(crate) fn claims(issuer: &str, subject: &str) -> Value {
    json!({ "iss": issuer, "aud": "longhaul", "sub": subject, "exp": 4_000_000_000_u64 })
}

impl TestIssuer {
    /// An issuer with that key.
    pub(crate) async fn new(key: &SigningPair) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key"));
        let authority = authority.expect("an authority");
        let acceptor = acceptor(&authority);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("https://{}", listener.local_addr().expect("an address"));
        let shared = Arc::new(Shared::default());
        let (at, serves) = (url.clone(), Arc::clone(&shared));
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(answer(stream, acceptor.clone(), at.clone(), serves.clone()));
            }
        });
        let issuer = Self { url, authority, shared, _serving: serving };
        issuer.serves(&[key]);
        issuer
    }

    /// Its keys are these from now on.
    pub(crate) fn serves(&self, keys: &[&SigningPair]) {
        let keys = keys.iter().map(|key| key.public()).collect();
        *self.shared.keys.lock().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// How it answers from now on.
    pub(crate) fn behaves(&self, manner: Manner) {
        *self.shared.manner.lock().unwrap_or_else(PoisonError::into_inner) = manner;
    }

    /// How many requests it got.
    pub(crate) fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// The settings of a server that finds its keys by its configuration.
    pub(crate) fn discovered(&self) -> Issuer {
        self.with(KeySource::Discovery(self.fetcher()))
    }

    /// The settings of a server that reads its keys from their URL.
    pub(crate) fn at_url(&self) -> Issuer {
        self.with(KeySource::Url(format!("{}{KEYS}", self.url), self.fetcher()))
    }

    fn with(&self, source: KeySource) -> Issuer {
        Issuer {
            name: "corp".to_owned(),
            issuer: self.url.clone(),
            audience: "longhaul".to_owned(),
            algorithms: vec![Algorithm::EdDsa, Algorithm::Rs256],
            keys: IssuerKeys::default(),
            source,
        }
    }

    fn fetcher(&self) -> Arc<HttpsFetcher> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).expect("an authority");
        let tls = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(HttpsFetcher::new(Arc::new(tls)))
    }
}

fn acceptor(authority: &CertifiedIssuer<'static, KeyPair>) -> TlsAcceptor {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())];
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, authority).expect("a certificate");
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .expect("a certificate");
    TlsAcceptor::from(Arc::new(config))
}

/// Answers one request. A connection that breaks off is no matter of a test.
async fn answer(stream: TcpStream, acceptor: TlsAcceptor, at: String, shared: Arc<Shared>) {
    let Ok(mut stream) = acceptor.accept(stream).await else { return };
    let (mut request, mut buffer) = (Vec::new(), [0; 1024]);
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut buffer).await {
            Ok(length) if length > 0 => request.extend_from_slice(&buffer[..length]),
            _ => return,
        }
    }
    shared.requests.fetch_add(1, Ordering::SeqCst);
    let manner = *shared.manner.lock().unwrap_or_else(PoisonError::into_inner);
    let text = String::from_utf8_lossy(&request);
    let path = text.split(' ').nth(1).unwrap_or_default();
    let keys = shared.keys.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let (status, body) = match (manner, path) {
        (Manner::Silent, _) => return std::future::pending().await,
        (Manner::Down, _) => ("503 Service Unavailable", String::new()),
        (Manner::Elsewhere, _) => ("302 Found", String::new()),
        (Manner::Endless, _) => ("200 OK", " ".repeat(1 << 20)),
        (Manner::Well, KEYS) => ("200 OK", json!({ "keys": keys }).to_string()),
        (Manner::Well, CONFIGURATION) => {
            ("200 OK", json!({ "issuer": at, "jwks_uri": format!("{at}{KEYS}") }).to_string())
        }
        (Manner::Well, _) => ("404 Not Found", String::new()),
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nlocation: {at}{KEYS}\r\nconnection: close\r\n\r\n"
    );
    drop(stream.write_all(format!("{head}{body}").as_bytes()).await);
    drop(stream.shutdown().await);
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

const KEYS: &str = "/keys";
const CONFIGURATION: &str = "/.well-known/openid-configuration";
