//! Connections to receivers. The only place that looks up the names of their hosts.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tower::Service;

use super::guard::{Refused, UrlGuard};

/// Looks up the addresses of a host. Tests have their own.
pub trait Resolve: fmt::Debug + Send + Sync + 'static {
    /// All addresses of that name.
    fn resolve(&self, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// The resolver of this machine.
#[derive(Debug)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        async move {
            let found = tokio::net::lookup_host((host, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        }
        .boxed()
    }
}

/// Makes connections, each to an address that the guard has checked.
#[derive(Clone)]
pub(super) struct Connector {
    pub(super) guard: Arc<UrlGuard>,
    pub(super) resolver: Arc<dyn Resolve>,
    pub(super) tls: Arc<ClientConfig>,
}

/// A connection to a receiver.
pub(super) enum ReceiverLine {
    Plain(TokioIo<TcpStream>),
    Tls(Box<TokioIo<TlsStream<TcpStream>>>),
}

impl Connector {
    async fn connect(self, uri: Uri) -> io::Result<ReceiverLine> {
        let refuse = |refused: Refused| io::Error::new(io::ErrorKind::PermissionDenied, refused);
        // The URL was parsed before, but everything that is connected to is checked here.
        let url = self.guard.url(&uri.to_string()).map_err(refuse)?;
        let port = url.port_or_known_default().unwrap_or_default();
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let found = match host.parse() {
            Ok(address) => vec![address],
            Err(_) => self.resolver.resolve(host.clone()).await?,
        };
        let vetted = self.guard.addresses(&host, found).map_err(refuse)?;
        let stream = first_of(&vetted, port).await?;
        stream.set_nodelay(true)?;
        if url.scheme() != "https" {
            return Ok(ReceiverLine::Plain(TokioIo::new(stream)));
        }
        let name = ServerName::try_from(host).map_err(io::Error::other)?;
        let stream = TlsConnector::from(self.tls).connect(name, stream).await?;
        Ok(ReceiverLine::Tls(Box::new(TokioIo::new(stream))))
    }
}

/// Connects to the first address that accepts.
async fn first_of(addresses: &[IpAddr], port: u16) -> io::Result<TcpStream> {
    let mut last = io::ErrorKind::AddrNotAvailable.into();
    for address in addresses {
        match TcpStream::connect(SocketAddr::new(*address, port)).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

impl Service<Uri> for Connector {
    type Response = ReceiverLine;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<ReceiverLine>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        self.clone().connect(uri).boxed()
    }
}

impl Connection for ReceiverLine {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for ReceiverLine {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(line) => Pin::new(line).poll_read(context, buffer),
            Self::Tls(line) => Pin::new(&mut **line).poll_read(context, buffer),
        }
    }
}

impl Write for ReceiverLine {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(line) => Pin::new(line).poll_write(context, bytes),
            Self::Tls(line) => Pin::new(&mut **line).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(line) => Pin::new(line).poll_flush(context),
            Self::Tls(line) => Pin::new(&mut **line).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(line) => Pin::new(line).poll_shutdown(context),
            Self::Tls(line) => Pin::new(&mut **line).poll_shutdown(context),
        }
    }
}
