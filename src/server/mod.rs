//! Composition: an engine behind its faces on one port, from start to drain.

pub(crate) mod connections;
pub(crate) mod cores;
mod faces;
mod identity;
mod keys;
pub mod lane;
pub(crate) mod opening;
mod probes;
mod recheck;
mod sent;
pub mod tls;
pub(crate) mod waiting;

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::service::Routes;
use tower::{Layer, Service};

use self::faces::Faces;
use self::identity::Identified;
use crate::clock::Clock;
use crate::engine::tasks::Tasks;
use crate::engine::{Engine, Settings};
use crate::grpc;
use crate::grpc::health::Health;
use crate::http::{Hosts, Origins};
use crate::limits::{CLOSING, DRAIN};
use crate::proto::google::longrunning::operations_server::{Operations, OperationsServer};
use crate::store::Store;
use crate::throttle::Throttle;

use self::connections::Connections;
use self::cores::Cores;
use self::probes::{Probed, Probes};
use self::tls::Tls;

/// A whole server. As a library: mount [`Server::routes`] or [`Server::operations`] in a tonic router of your own, or
/// [`Server::serve`] a listener.
#[derive(Clone)]
pub struct Server {
    engine: Engine,
    health: Health,
    tasks: Tasks,
    allowed_hosts: Arc<[String]>,
    origins: Origins,
    connections: connections::Options,
}

impl Server {
    /// A server on `store`, its background agents running.
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        Self::with(store, clock, Settings::default())
    }

    /// The same with settings of one's own.
    pub fn with(store: Arc<dyn Store>, clock: Arc<dyn Clock>, settings: Settings) -> Self {
        Self::on(Engine::start(store, clock, settings))
    }

    /// A server on an engine that was made before.
    pub fn on(engine: Engine) -> Self {
        let (health, tasks) = (Health::default(), Tasks::default());
        let (allowed_hosts, origins) = (Arc::new([]), Origins::default());
        let connections = connections::Options::default();
        let server = Self { engine, health, tasks, allowed_hosts, origins, connections };
        server.clone().watch_store();
        for issuer in server.engine.issuers() {
            let clock = Arc::clone(server.engine.clock());
            server.tasks.spawn("keys", keys::follow(issuer.clone(), clock));
        }
        server
    }

    /// The same, which also serves HTTP under these names of hosts; `*` stands for all.
    #[must_use]
    pub fn under_names(self, allowed_hosts: &[String]) -> Self {
        Self { allowed_hosts: allowed_hosts.into(), ..self }
    }

    /// The same, for scripts of pages of these origins too. Those of this machine may call a server that listens on loopback.
    #[must_use]
    pub fn for_pages_of(self, origins: Origins) -> Self {
        Self { origins, ..self }
    }

    /// The same with TLS on every connection. The files of the certificates are read again when they change, and at SIGHUP.
    #[must_use]
    pub fn over_tls(self, tls: Arc<Tls>) -> Self {
        self.tasks.spawn("tls", Arc::clone(&tls).follow(Arc::clone(self.engine.clock())));
        let connections = connections::Options { tls: Some(tls), ..self.connections };
        Self { connections, ..self }
    }

    /// The same, whose connections last this long, and this long without a call; zero is without end.
    #[must_use]
    pub fn with_connection_times(self, age: Duration, idle: Duration) -> Self {
        let ages = connections::AgeLimits { age, idle };
        Self { connections: connections::Options { ages, ..self.connections }, ..self }
    }

    /// The engine, for calls in this process.
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// `google.longrunning.Operations` alone, for an API that serves it to its own callers. Mounted beside the API's services,
    /// it leaves health and reflection to the API, and producers and workers out of its callers' reach.
    pub fn operations(&self) -> OperationsServer<impl Operations + use<>> {
        grpc::operations(&self.engine)
    }

    /// All gRPC services: to mount them, or as the channel of a generated client in this very process.
    ///
    /// # Errors
    /// Where the built-in definitions cannot be served by reflection, which a test rules out.
    pub fn routes(&self) -> anyhow::Result<Routes> {
        Ok(grpc::routes(&self.engine, self.health.clone())?)
    }

    /// What is served on the port of that listener.
    fn faces(&self, listener: &TcpListener) -> anyhow::Result<Identified<impl RequestService>> {
        let routes = grpc::explain::Explain.layer(self.routes()?.prepare());
        let address = listener.local_addr();
        let is_on_loopback = address.is_ok_and(|address| address.ip().is_loopback());
        let hosts = Hosts::of(is_on_loopback, &self.allowed_hosts, self.origins.clone());
        let http = faces::http(&self.engine, routes.clone(), hosts.clone())?;
        let http = Probes::of(self.clone()).around(http, Body::new);
        let faces =
            Faces { others: faces::for_browsers(routes.clone(), http, hosts), grpc: routes };
        Ok(Identified::around(faces, &self.engine))
    }

    /// Serves `listener` until `shutdown` resolves, then drains: no more leases, waits and watches end politely, calls that run
    /// are finished, at most for a while, and everything acknowledged is flushed.
    ///
    /// # Errors
    /// Where the listener fails.
    pub async fn serve(
        &self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        let connections = Connections::new(self.connections.clone());
        let faces = self.faces(&listener)?;
        let serving = async {
            connections.serve_all(listener, move || faces.of_connection()).await;
            Ok(())
        };
        self.until_drained(serving, &connections, shutdown).await
    }

    /// As [`Self::serve`], on this many threads with a runtime each. The calling thread accepts connections and runs background
    /// tasks.
    ///
    /// # Errors
    /// Where the listener fails, or no thread can be started.
    pub async fn serve_on_cores(
        &self,
        listener: TcpListener,
        cores: usize,
        shutdown: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        let connections = Connections::new(self.connections.clone());
        let (faces, served_by) = (self.faces(&listener)?, connections.clone());
        let mut cores = Cores::start(cores, move |accepted| {
            let (faces, served_by) = (faces.of_connection(), served_by.clone());
            async move { served_by.serve(accepted, faces).await }
        })?;
        let serving = cores.accept(listener, &connections);
        let result = self.until_drained(serving, &connections, shutdown).await;
        // Tasks of the engine ran on these threads too.
        cores.end().await;
        result
    }

    /// Runs `serving` until `shutdown` resolves, then lets it finish and closes the store, each at most for a while.
    async fn until_drained(
        &self,
        serving: impl Future<Output = anyhow::Result<()>>,
        connections: &Connections,
        shutdown: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        tokio::pin!(serving, shutdown);
        let early = tokio::select! {
            result = &mut serving => Some(result),
            () = &mut shutdown => None,
        };
        self.drain();
        connections.drain();
        let clock = self.engine.clock();
        let result = if let Some(result) = early {
            result
        } else {
            tokio::select! {
                result = &mut serving => result,
                () = clock.sleep(DRAIN) => Ok(()),
            }
        };
        connections.end();
        tokio::select! {
            () = self.stop() => {}
            () = clock.sleep(CLOSING) => {
                tracing::warn!("the store did not close in time; acknowledged changes are safe");
            }
        }
        result
    }

    /// Stops leasing, says NOT_SERVING, and ends waits and watches.
    pub fn drain(&self) {
        self.health.end();
        self.engine.drain();
    }

    /// Ends the background work and closes the store.
    pub async fn stop(&self) {
        self.drain();
        self.tasks.stop().await;
        self.engine.stop().await;
    }

    /// Health follows the store.
    fn watch_store(self) {
        let (engine, health) = (self.engine.clone(), self.health.clone());
        self.tasks.spawn("health", async move {
            let throttle = Throttle::new(Arc::clone(engine.clock()));
            let mut said = false;
            loop {
                let answer = engine.store().ping().await;
                match &answer {
                    Err(error) => {
                        if let Some(left_out) = throttle.admit("health") {
                            tracing::warn!(%error, left_out, "not serving");
                            said = true;
                        }
                    }
                    Ok(()) if std::mem::take(&mut said) => tracing::info!("serving again"),
                    Ok(()) => {}
                }
                health.follow(answer.map_err(|error| error.to_string()));
                engine.clock().sleep(LOOK).await;
            }
        });
    }
}

impl Probed for Server {
    fn unready(&self) -> Option<String> {
        self.health.unready()
    }

    fn remark(&self) -> Option<String> {
        self.engine.store().remark()
    }

    fn metrics(&self) -> Option<String> {
        Some(self.engine.metrics())
    }
}

/// What answers the requests of connections.
trait RequestService:
    Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + 'static
{
}

impl<S> RequestService for S where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static
{
}

/// How often health looks at the store.
const LOOK: Duration = Duration::from_secs(1);
