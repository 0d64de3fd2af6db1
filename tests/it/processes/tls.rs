//! TLS on the port of the server, for each kind of client; certificates of clients; Redis behind TLS.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;

use longhaul::client::{BearerToken, Client, ServerTarget};
use longhaul::proto::longhaul::v1::StartOperationRequest;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls;

use super::authorities::{Authority, Certified};
use super::binary::Longhaul;
use super::bounds::{eventually, soon};
use super::redis::Redis;

#[tokio::test]
async fn every_client_reaches_a_server_with_tls_and_none_without() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().expect("a folder"));
    let certified = authority.server();
    for runtime in ["per-core", "work-stealing"] {
        let store = format!("embedded:{}", folder.path().join(runtime).display());
        let environment = [("LONGHAUL_RUNTIME", runtime)];
        let server = Longhaul::serve_in(&store, &certified.of_server(), &environment).await;
        assert_eq!(server.logged("tls"), "true");
        let (address, ca) = (server.address().to_string(), authority.ca());
        let started = Longhaul::refusal(&["start", "--server", &address, "--tls-ca", &ca]).await;
        assert_eq!(started.code, Some(0), "{}", started.output);
        let environment = [("LONGHAUL_SERVER", &*address), ("LONGHAUL_TLS_CA", &*ca)];
        let listed = Longhaul::refusal_with(&["list"], &environment).await;
        assert!(listed.code == Some(0) && listed.output.contains("operations/"), "{listed:?}");

        let plain = Longhaul::refusal(&["list", "--server", &address]).await;
        assert_eq!(plain.code, Some(6), "{}", plain.output);
        let stranger = format!("https://{address}");
        let untrusted = Longhaul::refusal(&["list", "--server", &stranger]).await;
        assert_eq!(untrusted.code, Some(6), "{}", untrusted.output);
    }
}

#[tokio::test]
async fn http_is_served_with_tls_and_its_locations_say_so() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().expect("a folder"));
    let store = format!("embedded:{}", folder.path().display());
    let server = Longhaul::serve_with(&store, &authority.server().of_server()).await;
    let address = server.address();
    let mut stream = encrypted(&server, &authority, None).await;
    let request = format!(
        "POST /v1/operations:start HTTP/1.1\r\nhost: {address}\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}"
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    soon("an answer", stream.read_to_string(&mut answer)).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    let location = format!("operation-location: https://{address}/v1/operations/");
    assert!(answer.contains(&location), "{answer}");
}

#[tokio::test]
async fn a_server_that_asks_for_certificates_refuses_clients_without_one() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().expect("a folder"));
    let (certified, worker) = (authority.server(), authority.client("worker"));
    let (ca, foreign) = (authority.ca(), Authority::new());
    let stranger = foreign.client("worker");
    let store = format!("embedded:{}", folder.path().display());
    let flags = [&certified.of_server()[..], &["--tls-client-ca", &ca]].concat();
    let server = Longhaul::serve_with(&store, &flags).await;
    let address = server.address().to_string();
    let start = ["start", "--server", &address, "--tls-ca", &ca];
    let with = |shown: &super::authorities::Certified| {
        let (cert, key) = (shown.cert.clone(), shown.key.clone());
        async move {
            let shown = ["--tls-cert", &cert, "--tls-key", &key];
            Longhaul::refusal(&[&start[..], &shown].concat()).await
        }
    };
    let shown = with(&worker).await;
    assert_eq!(shown.code, Some(0), "{}", shown.output);
    let refused = with(&stranger).await;
    assert_eq!(refused.code, Some(6), "{}", refused.output);
    let silent = Longhaul::refusal(&start).await;
    assert_eq!(silent.code, Some(6), "{}", silent.output);
}

#[tokio::test]
async fn a_certificate_is_an_identity_with_the_roles_that_are_bound_to_its_subject() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().expect("a folder"));
    let (certified, ca) = (authority.server(), authority.ca());
    let settings = folder.path().join("longhaul.toml");
    let bound = "[identity]\ncertificates = true\n\
                 [[identity.bindings]]\nmember = \"certificate:CN=mailer\"\nroles = [\"caller\"]\n";
    fs::write(&settings, bound).expect("written");
    let store = format!("embedded:{}", folder.path().join("data").display());
    let file = settings.display().to_string();
    let flags = [&certified.of_server()[..], &["--tls-client-ca", &ca, "--config", &file]].concat();
    let server = Longhaul::serve_with(&store, &flags).await;
    let address = server.address().to_string();
    for (name, code, part) in [
        ("mailer", Some(0), "operations/"),
        ("stranger", Some(1), "start is not permitted on parent"),
    ] {
        let shown = authority.client(name);
        let args = ["start", "--server", &address, "--tls-ca", &ca];
        let shown = ["--tls-cert", &shown.cert, "--tls-key", &shown.key];
        let ended = Longhaul::refusal(&[&args[..], &shown].concat()).await;
        assert!(ended.code == code && ended.output.contains(part), "{name}: {ended:?}");
    }
}

#[tokio::test]
async fn a_certificate_that_was_replaced_is_used_without_a_restart() {
    let (old, new) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().expect("a folder");
    let store = format!("embedded:{}", folder.path().display());
    let (certified, next) = (old.server(), new.server());
    let server = Longhaul::serve_with(&store, &certified.of_server()).await;
    let target = |authority: &Authority| {
        ServerTarget::new(&server.address().to_string()).expect("a target").trust(authority.pem())
    };
    let (to_old, to_new) = (target(&old), target(&new));
    let early = soon("a connection", Client::connect_to(&to_old)).await.expect("a connection");
    let started = early.start_operation(StartOperationRequest::default()).await.expect("a start");
    assert!(Client::connect_to(&to_new).await.is_err());

    // The certificate without its key, as in the middle of a replacement, changes nothing.
    fs::copy(&next.cert, &certified.cert).expect("copied");
    server.signal("-HUP");
    server.says("the certificates in use stay").await;
    Client::connect_to(&to_old).await.expect("the old certificate");

    certified.replace_by(&next);
    server.signal("-HUP");
    let late =
        eventually("the new certificate", || async { Client::connect_to(&to_new).await.ok() });
    let late = late.await;
    assert!(Client::connect_to(&to_old).await.is_err());
    for client in [early, late] {
        client.get(&started.name).await.expect("both connections go on");
    }
}

#[tokio::test]
async fn a_token_is_sent_over_tls_and_shown_nowhere() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().expect("a folder"));
    let store = format!("embedded:{}", folder.path().display());
    let certified = authority.server();
    let environment = [("LONGHAUL_LOG", "trace")];
    let server = Longhaul::serve_in(&store, &certified.of_server(), &environment).await;
    let token = BearerToken::new("s3cret").expect("a token");
    let address = server.address().to_string();
    let target =
        ServerTarget::new(&address).expect("a target").trust(authority.pem()).authorize(token);
    let client = Client::connect_to(&target).await.expect("a connection");
    client.start_operation(StartOperationRequest::default()).await.expect("a start");
    assert!(!format!("{client:?} {target:?}").contains("s3cret"));
    assert!(!server.output().contains("s3cret"), "{}", server.output());
}

#[tokio::test]
async fn redis_is_reached_over_tls_as_a_user_of_its_own() {
    let (authority, certified) = (Authority::new(), Authority::new());
    let (shown, of_redis) = (authority.client("longhaul"), authority.server());
    let port = free_port().to_string();
    let ca = authority.ca();
    let redis = Redis::with(&[
        "--tls-port",
        &port,
        "--tls-cert-file",
        &of_redis.cert,
        "--tls-key-file",
        &of_redis.key,
        "--tls-ca-cert-file",
        &ca,
        "--tls-auth-clients",
        "yes",
        "--user",
        "longhaul",
        "on",
        ">s3cret",
        "~*",
        "&*",
        "+@all",
    ]);
    let store = format!("rediss://longhaul:s3cret@127.0.0.1:{port}/");
    let environment = [
        ("LONGHAUL_REDIS__TLS_CA", &*ca),
        ("LONGHAUL_REDIS__TLS_CERT", &*shown.cert),
        ("LONGHAUL_REDIS__TLS_KEY", &*shown.key),
    ];
    let server = Longhaul::serve_in(&store, &[], &environment).await;
    assert!(server.logged("store").starts_with("rediss://***@127.0.0.1:"));
    let client = server.client();
    client.start("x", "queue").await.expect("a start");
    client.get("x").await.expect("an answer");

    let foreign = certified.ca();
    for (environment, part) in [
        (&[("LONGHAUL_REDIS__TLS_CA", &*foreign)][..], "invalid peer certificate"),
        (&[("LONGHAUL_REDIS__TLS_CERT", &*shown.cert)][..], "redis.tls_key"),
    ] {
        let args = ["serve", "--listen", "127.0.0.1:0", "--store", &store];
        let refusal = Longhaul::refusal_with(&args, environment).await;
        assert_eq!(refusal.code, Some(1), "{}", refusal.output);
        assert!(refusal.output.contains(part), "{}", refusal.output);
        assert!(!refusal.output.contains("s3cret"), "{}", refusal.output);
    }
    drop(redis);
}

/// A connection with TLS that chooses HTTP/1.1, and shows a certificate if there is one.
pub(super) async fn encrypted(
    server: &Longhaul,
    authority: &Authority,
    shown: Option<&Certified>,
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_slice(authority.pem().as_bytes());
    roots.add(certificate.expect("a certificate")).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let mut config = match shown {
        None => config.with_no_client_auth(),
        Some(shown) => {
            let chain = vec![CertificateDer::from_pem_file(&shown.cert).expect("a certificate")];
            let key = PrivateKeyDer::from_pem_file(&shown.key).expect("a key");
            config.with_client_auth_cert(chain, key).expect("a certificate")
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let address = server.address();
    let name = ServerName::from(address.ip());
    let stream = TcpStream::connect(address).await.expect("a connection");
    let connector = TlsConnector::from(Arc::new(config));
    soon("a handshake", connector.connect(name, stream)).await.expect("a handshake")
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("an address").port()
}
