//! What a server answers that still waits for its store: health, and UNAVAILABLE to everything else.

use std::future::Future;
use std::net::TcpListener;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::{Either, Ready, ready};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::transport::server::TcpIncoming;
use tower::{Layer, Service};

use super::health::Health;
use crate::clock::Clock;
use crate::engine::{Error, Reason};
use crate::probes::{Probed, Probes};
use crate::proto::grpc::health::v1::health_server::HealthServer;
use crate::wire::status::to_status;

/// Answers on `listener` until `until` resolves. Connections on which nothing is said by then may go on for as long as they
/// like: nobody waits for them.
///
/// # Errors
/// Where the listener fails.
pub async fn serve(
    listener: TcpListener,
    clock: &dyn Clock,
    until: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let incoming =
        TcpIncoming::from(tokio::net::TcpListener::from_std(listener)?).with_nodelay(Some(true));
    let health = Health::default();
    let stop = CancellationToken::new();
    let serving = tonic::transport::Server::builder()
        .accept_http1(true)
        .layer(Probes::of(Waiting))
        .layer(OnlyHealth)
        .add_service(HealthServer::new(health.clone()))
        .serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
    let ended = async {
        until.await;
        health.end();
        stop.cancel();
        clock.sleep(GRACE).await;
    };
    tokio::select! {
        served = serving => Ok(served?),
        () = ended => Ok(()),
    }
}

struct Waiting;

impl Probed for Waiting {
    fn unready(&self) -> Option<String> {
        Some("waiting for the store".to_owned())
    }

    fn metrics(&self) -> Option<String> {
        None
    }
}

#[derive(Clone, Copy)]
struct OnlyHealth;

#[derive(Clone)]
struct Gate<S> {
    inner: S,
}

impl<S> Layer<S> for OnlyHealth {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Gate<S> {
        Gate { inner }
    }
}

impl<S> Service<http::Request<Body>> for Gate<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Self::Response, S::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path().starts_with("/grpc.health.v1.Health/") {
            return Either::Left(self.inner.call(request));
        }
        let mut error =
            Error::new(Reason::StoreUnavailable, "this server waits for its store; ask again");
        error.retry_delay = Some(std::time::Duration::from_secs(1));
        Either::Right(ready(Ok(to_status(error).into_http())))
    }
}

/// How long calls may take to finish once the store is there.
const GRACE: Duration = Duration::from_secs(1);
