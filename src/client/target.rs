//! A server to connect to, and how both sides prove who they are.

use std::fmt;
use std::time::Duration;

use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use super::channel::BearerToken;
use crate::address::read_server;

/// A server to connect to, and how both sides prove who they are.
#[derive(Clone)]
#[must_use]
pub struct ServerTarget {
    server: String,
    tls: Option<ClientTlsConfig>,
    has_authorities: bool,
    token: Option<BearerToken>,
}

/// No server answers.
#[derive(Debug, thiserror::Error)]
#[error("no server answers at {server}: {cause}")]
pub struct ConnectError {
    /// The address.
    pub server: String,
    /// The cause.
    pub cause: String,
}

impl ServerTarget {
    /// A server at `HOST:PORT` with plain text, or at `https://HOST:PORT` with TLS; the default port is 50051. See
    /// [`read_server`].
    ///
    /// # Errors
    /// If the address is invalid.
    pub fn new(server: &str) -> Result<Self, ConnectError> {
        let address = read_server(server)
            .map_err(|cause| ConnectError { server: server.to_owned(), cause })?;
        let tls = address.starts_with(HTTPS).then(ClientTlsConfig::new);
        Ok(Self { server: address, tls, has_authorities: false, token: None })
    }

    /// With TLS, and a server whose certificate is signed by one of these authorities (PEM). By default those of the system.
    pub fn trust(self, authorities: impl AsRef<[u8]>) -> Self {
        let tls = self.tls.unwrap_or_default().ca_certificate(Certificate::from_pem(authorities));
        Self { tls: Some(tls), has_authorities: true, ..self }
    }

    /// With TLS, and this certificate of the client with its private key (PEM).
    pub fn identify(self, certificate: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        let tls = self.tls.unwrap_or_default().identity(Identity::from_pem(certificate, key));
        Self { tls: Some(tls), ..self }
    }

    /// Sends this token with each call. Over plain text everyone on the way can read it.
    pub fn authorize(self, token: BearerToken) -> Self {
        Self { token: Some(token), ..self }
    }

    /// The address, with `https://` if it was given so.
    pub fn server(&self) -> &str {
        &self.server
    }

    pub(crate) const fn token(&self) -> Option<&BearerToken> {
        self.token.as_ref()
    }

    pub(crate) const fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// The endpoint, with the settings of all clients.
    pub(crate) fn endpoint(&self) -> Result<Endpoint, ConnectError> {
        let fault = |cause: String| ConnectError { server: self.server.clone(), cause };
        let address = self.server.strip_prefix(HTTPS).unwrap_or(&self.server);
        let scheme = if self.tls.is_some() { HTTPS } else { "http://" };
        let endpoint = Endpoint::try_from(format!("{scheme}{address}"));
        let mut endpoint = endpoint.map_err(|error| fault(error.to_string()))?;
        if let Some(tls) = self.tls.clone() {
            let tls = if self.has_authorities { tls } else { tls.with_native_roots() };
            endpoint = endpoint.tls_config(tls).map_err(|error| fault(root_cause(&error)))?;
        }
        Ok(endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT))
    }

    /// Why the server could not be reached.
    pub(crate) fn failure(&self, error: &dyn std::error::Error) -> ConnectError {
        let mut cause = root_cause(error);
        if cause.contains(UNTRUSTED) {
            cause.push_str("; name the authority that signed it with --tls-ca");
        }
        ConnectError { server: self.server.clone(), cause }
    }
}

/// The certificates hold a private key.
impl fmt::Debug for ServerTarget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ServerTarget").field("server", &self.server).finish_non_exhaustive()
    }
}

/// The innermost cause; the outer ones only say that there is no connection.
pub(crate) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

const HTTPS: &str = "https://";
/// How rustls says that no authority vouches for a certificate.
const UNTRUSTED: &str = "UnknownIssuer";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const KEEPALIVE: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Large enough for the largest message.
const WINDOW_BYTES: u32 = 4 << 20;
