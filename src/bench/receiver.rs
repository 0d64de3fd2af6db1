//! Receivers of callbacks on this machine.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What the receivers of a measurement have in common.
#[derive(Clone, Debug)]
pub(super) struct ReceiverKind {
    pub(super) manners: Manners,
    pub(super) tls: Option<ReceiverTls>,
    /// Counts the requests that were answered.
    pub(super) received: Arc<AtomicU64>,
}

/// What a receiver does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manners {
    Answers,
    Hangs,
}

/// TLS of receivers.
#[derive(Clone, Debug)]
pub struct ReceiverTls(Arc<ServerConfig>);

impl ReceiverTls {
    /// From a certificate and its key (PEM).
    ///
    /// # Errors
    /// If they cannot be used.
    pub fn new(certificate: &[u8], key: &[u8]) -> anyhow::Result<Self> {
        let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>();
        let chain = chain.context("the receiver's certificate is not PEM")?;
        let key = PrivateKeyDer::from_pem_slice(key).context("the receiver's key is not PEM")?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .context("the receiver's certificate cannot be used")?;
        Ok(Self(Arc::new(config)))
    }
}

impl ReceiverKind {
    pub(super) fn new(manners: Manners, tls: Option<ReceiverTls>) -> Self {
        Self { manners, tls, received: Arc::default() }
    }

    /// Listens until the process ends, and returns the URL to call.
    pub(super) fn open(&self) -> io::Result<String> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}/hook", listener.local_addr()?);
        let kind = self.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kind = kind.clone();
                std::thread::spawn(move || drop(kind.serve(stream)));
            }
        });
        Ok(url)
    }

    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        match &self.tls {
            None => self.answer(stream),
            Some(ReceiverTls(config)) => {
                let connection = ServerConnection::new(Arc::clone(config));
                let connection = connection.map_err(io::Error::other)?;
                self.answer(StreamOwned::new(connection, stream))
            }
        }
    }

    /// Answers the requests of one connection, one after the other.
    fn answer(&self, mut stream: impl Read + Write) -> io::Result<()> {
        let (mut buffer, mut held) = ([0; 16 << 10], Vec::new());
        loop {
            let length = stream.read(&mut buffer)?;
            if length == 0 {
                return Ok(());
            }
            held.extend_from_slice(&buffer[..length]);
            while let Some(end) = end_of_request(&held) {
                held.drain(..end);
                if self.manners == Manners::Answers {
                    self.received.fetch_add(1, Ordering::Relaxed);
                    stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
                    stream.flush()?;
                }
            }
        }
    }
}

fn end_of_request(held: &[u8]) -> Option<usize> {
    let head = held.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&held[..head]).ok()?;
    let mut lengths = text.lines().filter_map(|line| line.strip_prefix("content-length: "));
    let end = head + lengths.next().and_then(|length| length.parse().ok()).unwrap_or(0);
    (held.len() >= end).then_some(end)
}
