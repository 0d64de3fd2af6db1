//! Reads small documents of servers that the operator has named, over HTTPS.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::header::ACCEPT;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use tokio_rustls::rustls::ClientConfig;

use super::carrier::explain;
use super::connector::{Connector, SystemResolver};
use super::guard::UrlGuard;

/// Gets documents. The operator chose where from, so any network may be reached.
pub struct HttpsFetcher {
    client: Client<Connector, Empty<Bytes>>,
}

impl HttpsFetcher {
    /// A fetcher that trusts servers as `tls` says.
    pub fn new(tls: Arc<ClientConfig>) -> Self {
        let networks = vec![IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())];
        let guard = Arc::new(UrlGuard { networks, ..UrlGuard::default() });
        let connector = Connector { guard, resolver: Arc::new(SystemResolver), tls };
        // The next request is minutes away.
        let client =
            Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Self { client }
    }

    /// The document at that URL, of at most so many bytes. Redirects are not followed. The caller bounds the time.
    ///
    /// # Errors
    /// Says what is in the way.
    pub async fn get(&self, url: &str, most: usize) -> Result<Vec<u8>, String> {
        let failed = |why: &dyn fmt::Display| format!("cannot read {url}: {why}");
        let request = Request::get(url)
            .header(ACCEPT, "application/json")
            .body(Empty::new())
            .map_err(|error| failed(&error))?;
        let answer = self.client.request(request).await;
        let answer = answer.map_err(|error| failed(&explain(&error)))?;
        if answer.status() != StatusCode::OK {
            return Err(failed(&format!("the server answered {}", answer.status())));
        }
        let body = Limited::new(answer.into_body(), most).collect().await;
        body.map(|body| body.to_bytes().into()).map_err(|error| failed(&error))
    }
}

impl fmt::Debug for HttpsFetcher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("HttpsFetcher").finish_non_exhaustive()
    }
}
