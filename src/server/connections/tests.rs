use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::StreamBody;
use hyper::body::Frame;
use rcgen::{CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};
use tower::service_fn as tower_service;

use super::*;
use crate::clock::{ManualClock, Timestamp};
use crate::config::{ClientAuth, TlsSettings};
use crate::peer::PeerCertificate;
use crate::server::Server;
use crate::store::Keyspace;
use crate::store::memory::MemoryStore;

/// Serves a port until it is dropped.
struct Served {
    clock: Arc<ManualClock>,
    address: SocketAddr,
    _serving: JoinSet<()>,
}

impl Served {
    async fn by<S>(options: Options, faces: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
        S: Clone + Send + 'static,
        S::Future: Send,
    {
        Self::on(listener().await, options, faces)
    }

    fn on<S>(listener: TcpListener, options: Options, faces: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
        S: Clone + Send + 'static,
        S::Future: Send,
    {
        let clock = ManualClock::new(Timestamp::EPOCH);
        let connections = Connections::by(clock.clone(), options);
        let address = listener.local_addr().expect("an address");
        let mut serving = JoinSet::new();
        serving.spawn(async move { connections.serve_all(listener, move || faces.clone()).await });
        Self { clock, address, _serving: serving }
    }

    /// All faces, on a store in memory.
    async fn whole() -> Self {
        let clock = ManualClock::new(Timestamp::EPOCH);
        let store = MemoryStore::new(Keyspace::generate(1), clock.clone());
        let server = Server::new(store, clock);
        let listener = listener().await;
        let faces = server.faces(&listener).expect("faces");
        Self::on(listener, Options::default(), faces)
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("a connection")
    }

    /// Lets time pass until that has happened.
    async fn passing<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        loop {
            tokio::select! {
                biased;
                output = &mut future => return output,
                () = tokio::task::yield_now() => self.clock.advance(Duration::from_millis(10)),
            }
        }
    }
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a free port")
}

/// Sends a request over HTTP/1.1, and reads the answer up to `last`.
async fn ask(stream: &mut TcpStream, request: &str, last: &str) -> String {
    stream.write_all(request.as_bytes()).await.expect("sent");
    let (mut answer, mut buffer) = (String::new(), [0; 4_096]);
    while !answer.contains(last) {
        let length = stream.read(&mut buffer).await.expect("an answer");
        assert!(length > 0, "the end of the connection after {answer:?}");
        answer.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    answer
}

#[tokio::test]
async fn a_body_that_does_not_arrive_in_time_is_answered_with_408() {
    let served = Served::whole().await;
    let mut stream = served.connect().await;
    let healthy =
        ask(&mut stream, "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n", "ok\n").await;
    assert!(healthy.starts_with("HTTP/1.1 200 "), "{healthy}");
    let begun =
        "POST /v1/operations:start HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n{";
    let late = served.passing(ask(&mut stream, begun, "\"status\"")).await;
    assert!(late.starts_with("HTTP/1.1 408 "), "{late}");
    assert!(late.contains("retry-after: 1"), "{late}");
    assert!(served.clock.elapsed() >= crate::limits::REQUEST_TIME);
}

#[tokio::test]
async fn a_stream_of_events_ends_when_its_connection_is_old() {
    let ages = AgeLimits { age: Duration::from_mins(1), idle: Duration::ZERO };
    let served = Served::by(
        Options { tls: None, ages },
        tower_service(|_| {
            let event = futures_util::stream::once(async {
                Ok::<_, Status>(Frame::data(Bytes::from_static(b"data: first\n\n")))
            });
            let rest = futures_util::stream::pending();
            let body = Body::new(StreamBody::new(futures_util::StreamExt::chain(event, rest)));
            let mut answer = Response::new(body);
            let kind = http::HeaderValue::from_static("text/event-stream");
            answer.headers_mut().insert(CONTENT_TYPE, kind);
            std::future::ready(Ok::<_, Infallible>(answer))
        }),
    )
    .await;
    let mut stream = served.connect().await;
    ask(&mut stream, "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n", "data: first").await;
    let mut rest = String::new();
    served.passing(stream.read_to_string(&mut rest)).await.expect("an orderly end");
    assert!(rest.ends_with("0\r\n\r\n"), "{rest:?}");
    assert!(served.clock.elapsed() < Duration::from_mins(2), "it was not cut off");
}

#[tokio::test]
async fn a_request_says_which_certificate_its_client_has_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = authority();
    let (server, server_key) = signed(&authority, "server");
    let (client, client_key) = signed(&authority, "worker");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    };
    let mut settings = TlsSettings {
        cert: write("server.pem", &server),
        key: write("server.key", &server_key),
        client_ca: write("ca.pem", &authority.pem()),
        client_auth: ClientAuth::Required,
    };
    for (client_auth, shows, certificate) in [
        (ClientAuth::Required, true, Some("CN=worker")),
        (ClientAuth::Required, false, None),
        (ClientAuth::Optional, true, Some("CN=worker")),
        (ClientAuth::Optional, false, Some("none")),
    ] {
        settings.client_auth = client_auth;
        let tls = Tls::load(&settings).expect("certificates");
        let options = Options { tls: Some(tls), ..Options::default() };
        let served = Served::by(
            options,
            tower_service(|request: Request<Body>| {
                let peer = request.extensions().get::<Arc<Peer>>().expect("a peer").clone();
                let said = peer.certificate.as_ref().map_or("none".to_owned(), said);
                std::future::ready(Ok::<_, Infallible>(Response::new(Body::new(said))))
            }),
        )
        .await;
        let identity = shows.then_some((&*client, &*client_key));
        let answer = request(&served, &authority.pem(), identity).await;
        assert_eq!(answer.is_some(), certificate.is_some(), "{client_auth:?} {shows} {answer:?}");
        let answer = answer.unwrap_or_default();
        assert!(answer.contains(certificate.unwrap_or_default()), "{answer}");
        assert!(!answer.contains("CN=worker") || answer.contains("spiffe://example.org/worker"));
    }
}

fn said(certificate: &PeerCertificate) -> String {
    let PeerCertificate { subject, dns_names, uris } = certificate;
    format!("{subject} {dns_names:?} {uris:?}")
}

/// The answer to a request over TLS, if there is one.
async fn request(served: &Served, ca: &str, identity: Option<(&str, &str)>) -> Option<String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).expect("PEM")).expect("an authority");
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let config = match identity {
        None => config.with_no_client_auth(),
        Some((cert, key)) => {
            let cert = CertificateDer::from_pem_slice(cert.as_bytes()).expect("PEM");
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
            config.with_client_auth_cert(vec![cert], key).expect("a certificate")
        }
    };
    let name = ServerName::from(served.address.ip());
    let connector = TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(name, served.connect().await).await.ok()?;
    let request = "GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority")
}

fn signed(authority: &CertifiedIssuer<'static, KeyPair>, name: &str) -> (String, String) {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let uri = format!("spiffe://example.org/{name}").try_into().expect("a URI");
    params.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into()), SanType::URI(uri)];
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, authority).expect("a certificate");
    (certificate.pem(), key.serialize_pem())
}
