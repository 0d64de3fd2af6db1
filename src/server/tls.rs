//! TLS: the certificate of the server, read again when its files change, and the certificates of clients.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::net::TcpStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, ServerConnection};
use tokio_rustls::server::TlsStream;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::clock::Clock;
use crate::config::{ClientAuth, TlsSettings};
use crate::limits::CERTIFICATE_REREAD;
use crate::peer::{Peer, PeerCertificate};

/// What the server shows its clients, and which certificates of theirs it accepts.
pub struct Tls {
    settings: TlsSettings,
    current: RwLock<TlsState>,
}

/// Why certificates cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TlsError(String);

struct TlsState {
    files: TlsFiles,
    /// The outcome of the last attempt to read the files, unless it is in use.
    refused: Option<TlsFiles>,
    acceptor: TlsAcceptor,
}

/// The contents of the files.
#[derive(Clone, PartialEq, Eq)]
struct TlsFiles {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Tls {
    /// Reads the files that the settings name.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn load(settings: &TlsSettings) -> Result<Arc<Self>, TlsError> {
        let files = TlsFiles::read(settings)?;
        let acceptor = files.acceptor(settings)?;
        let current = RwLock::new(TlsState { files, refused: None, acceptor });
        Ok(Arc::new(Self { settings: settings.clone(), current }))
    }

    /// Reads the files again, and uses them for new connections if they have changed. Files that cannot be used leave
    /// everything as it is.
    ///
    /// # Errors
    /// As [`Self::load`], once for the same contents.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let files = TlsFiles::read(&self.settings)?;
        {
            let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
            if files == current.files || current.refused.as_ref() == Some(&files) {
                return Ok(false);
            }
        }
        let made = files.acceptor(&self.settings);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        match made {
            Ok(acceptor) => {
                *current = TlsState { files, refused: None, acceptor };
                Ok(true)
            }
            Err(error) => {
                current.refused = Some(files);
                Err(error)
            }
        }
    }

    /// Reads the files again from time to time, and at once after SIGHUP.
    pub(super) async fn follow(self: Arc<Self>, clock: Arc<dyn Clock>) {
        let mut hangup = signal(SignalKind::hangup()).ok();
        let mut said = None;
        loop {
            tokio::select! {
                () = clock.sleep(CERTIFICATE_REREAD) => {}
                () = told(&mut hangup) => said = None,
            }
            let tls = Arc::clone(&self);
            let reloaded = tokio::task::spawn_blocking(move || tls.reload()).await;
            match reloaded {
                Ok(Ok(true)) => {
                    said = None;
                    tracing::info!(
                        file = %self.settings.cert.display(),
                        "new connections use the certificate that was read again"
                    );
                }
                Ok(Err(error)) if said.as_ref() != Some(&error) => {
                    tracing::error!(%error, "the certificates in use stay");
                    said = Some(error);
                }
                _ => {}
            }
        }
    }

    /// Speaks TLS on a connection; who is at its other end.
    pub(super) async fn accept(
        &self,
        stream: TcpStream,
    ) -> io::Result<(TlsStream<TcpStream>, Arc<Peer>)> {
        let acceptor = self.current.read().unwrap_or_else(PoisonError::into_inner).acceptor.clone();
        let stream = acceptor.accept(stream).await?;
        let peer = Arc::new(Peer { certificate: certificate(stream.get_ref().1)? });
        Ok((stream, peer))
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Tls").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl TlsFiles {
    fn read(settings: &TlsSettings) -> Result<Self, TlsError> {
        let has_ca = !settings.client_ca.as_os_str().is_empty();
        Ok(Self {
            cert: contents(&settings.cert)?,
            key: contents(&settings.key)?,
            client_ca: has_ca.then(|| contents(&settings.client_ca)).transpose()?,
        })
    }

    fn acceptor(&self, settings: &TlsSettings) -> Result<TlsAcceptor, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let refuse = |path: &PathBuf, error: &dyn std::fmt::Display| {
            TlsError(format!("{} cannot be used: {error}", path.display()))
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| refuse(&settings.cert, &error))?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates(&settings.client_ca, pem)? {
                    roots.add(authority).map_err(|error| refuse(&settings.client_ca, &error))?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = match settings.client_auth {
                    ClientAuth::Required => verifier,
                    ClientAuth::Optional => verifier.allow_unauthenticated(),
                };
                let verifier =
                    verifier.build().map_err(|error| refuse(&settings.client_ca, &error))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let chain = certificates(&settings.cert, &self.cert)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| {
            TlsError(format!("{} has no private key (PEM)", settings.key.display()))
        })?;
        let mut config =
            builder.with_single_cert(chain, key).map_err(|error| refuse(&settings.cert, &error))?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        // Clients that return resume their session, which costs a fraction of a handshake.
        config.ticketer = ring::Ticketer::new().map_err(|error| refuse(&settings.cert, &error))?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// Resolves at a signal.
async fn told(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

fn contents(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path)
        .map_err(|error| TlsError(format!("cannot read {}: {error}", path.display())))
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(TlsError(format!("{} has no certificate (PEM)", path.display()))),
    }
}

/// What the client's certificate says, which was verified already.
fn certificate(connection: &ServerConnection) -> io::Result<Option<PeerCertificate>> {
    let Some(certificate) = connection.peer_certificates().and_then(<[_]>::first) else {
        return Ok(None);
    };
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    let certificate = Certificate::from_der(certificate).map_err(invalid)?;
    let certificate = certificate.tbs_certificate;
    let alternative = certificate.get::<SubjectAltName>().map_err(invalid)?;
    let (mut dns_names, mut uris) = (Vec::new(), Vec::new());
    for name in alternative.into_iter().flat_map(|(_, names)| names.0) {
        match name {
            GeneralName::DnsName(name) => dns_names.push(name.to_string()),
            GeneralName::UniformResourceIdentifier(uri) => uris.push(uri.to_string()),
            _ => {}
        }
    }
    Ok(Some(PeerCertificate { subject: certificate.subject.to_string(), dns_names, uris }))
}

const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];
