//! `longhaul serve`.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::logs;
use super::place::{PlaceArgs, environment};
use crate::clock::{Clock, SystemClock};
use crate::config::{
    Config, EmbeddedOverrides, IdentityOverrides, Listen, Overrides, RedisOverrides, Runtime,
    TlsOverrides,
};
use crate::engine::callback_key;
use crate::engine::tasks::Tasks;
use crate::grpc::health::Health;
use crate::server::Server;
use crate::server::connections::{self, Connections};
use crate::server::opening;
use crate::server::tls::Tls;
use crate::server::waiting;
use crate::store::Store;

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(super) struct ServeArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Settings file (TOML); see default.toml for every setting
    #[arg(long, value_name = "FILE")]
    config: Option<String>,
    /// Serve beyond loopback without TLS, or without certificates of clients
    #[arg(long)]
    insecure: bool,
    /// Ask callers and workers for tokens (longhaul token create)
    #[arg(long)]
    tokens: bool,
    /// The server's certificate and those of its issuers (PEM): serve TLS
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The private key of the certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Authorities that sign certificates of clients (PEM): refuse clients without one
    #[arg(long, value_name = "FILE")]
    tls_client_ca: Option<PathBuf>,
    /// If the store is unreachable at start, wait and report NOT_SERVING
    #[arg(long)]
    wait_for_store: bool,
    /// Serve only this keyspace; its id is logged at start
    #[arg(long, value_name = "ID")]
    keyspace: Option<String>,
    /// Open an embedded store although acknowledged writes are missing from it
    #[arg(long)]
    accept_loss: bool,
    /// Let scripts of web pages with this origin call the server: SCHEME://HOST[:PORT], or * for every page
    #[arg(long = "allow-origin", value_name = "ORIGIN")]
    allowed_origins: Vec<String>,
    /// The durability that Redis must provide: memory or fsync
    #[arg(long, value_name = "LEVEL")]
    durability: Option<String>,
}

impl ServeArgs {
    fn config(&self) -> anyhow::Result<Config> {
        let overrides = Overrides {
            insecure: self.insecure.then_some(true),
            wait_for_store: self.wait_for_store.then_some(true),
            keyspace: self.keyspace.clone(),
            allowed_origins: self.allowed_origins.clone(),
            identity: self.tokens.then_some(IdentityOverrides { tokens: true }),
            tls: TlsOverrides {
                cert: self.tls_cert.clone(),
                key: self.tls_key.clone(),
                client_ca: self.tls_client_ca.clone(),
            },
            embedded: self.accept_loss.then_some(EmbeddedOverrides { accept_loss: true }),
            redis: self.durability.clone().map(|durability| RedisOverrides { durability }),
            ..self.place.overrides()
        };
        Ok(Config::load(self.config.as_deref(), &environment(), &overrides)?)
    }
}

pub(super) fn run(args: &ServeArgs) -> anyhow::Result<()> {
    let config = args.config()?;
    run_server(&config, async {
        let shutdown = shutdown_signals()?;
        serve(&config, shutdown, |_| async { Ok(()) }).await
    })
}

/// Runs a server to its end.
pub(super) fn run_server(
    config: &Config,
    server: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    connections::raise_open_files();
    let runtime = server_runtime(config)?;
    let result = runtime.block_on(server);
    // A store that hangs, for example on a broken disk, must not block the end of the process.
    runtime.shutdown_background();
    result
}

pub(super) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

/// If each core has its own runtime, one thread is enough for the rest.
fn server_runtime(config: &Config) -> std::io::Result<tokio::runtime::Runtime> {
    match config.runtime {
        Runtime::PerCore => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        Runtime::WorkStealing => tokio::runtime::Builder::new_multi_thread().enable_all().build(),
    }
}

/// Binds, opens the store, serves until `shutdown`; `beside` runs once the server answers.
pub(super) async fn serve<F: Future<Output = anyhow::Result<()>>>(
    config: &Config,
    shutdown: CancellationToken,
    beside: impl FnOnce(std::net::SocketAddr) -> F,
) -> anyhow::Result<()> {
    let clock: Arc<dyn Clock> = SystemClock::new();
    let settings = config.engine(&clock)?;
    begin_audit(config)?;
    let tls = config.tls.is_on().then(|| Tls::load(&config.tls)).transpose()?;
    let listener = listen(&config.listen)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let store = if config.wait_for_store {
        tokio::select! {
            store = wait_and_say_so(config, &clock, listener.try_clone()?, tls.clone()) => store?,
            () = shutdown.cancelled() => return Ok(()),
        }
    } else {
        opening::open(config, &clock).await.map_err(|error| explain(error.into(), config))?
    };
    tracing::info!(
        listen = %address,
        tls = tls.is_some(),
        store = %config.store,
        durability = store.durability().as_str(),
        keyspace = %store.keyspace().id(),
        callback_key = callback_key(store.keyspace()).public_text(),
        version = env!("CARGO_PKG_VERSION"),
        "serving"
    );
    if !settings.identity.is_any() {
        warn_of_everyone(config);
    }
    let mut server = Server::with(store, clock, settings)
        .under_names(&config.allowed_hosts)
        .for_pages_of(config.allowed_origins.clone())
        .with_connection_times(config.connections.max_age, config.connections.max_idle);
    if let Some(tls) = tls {
        server = server.over_tls(tls);
    }
    let serving = async {
        let (listener, until) =
            (tokio::net::TcpListener::from_std(listener)?, shutdown.clone().cancelled_owned());
        let result = match config.runtime {
            Runtime::PerCore => server.serve_on_cores(listener, cores(), until).await,
            Runtime::WorkStealing => server.serve(listener, until).await,
        };
        // The server has ended: stop the task beside it.
        shutdown.cancel();
        result
    };
    let beside = async {
        let result = beside(address).await;
        if result.is_err() {
            shutdown.cancel();
        }
        result
    };
    let (served, beside) = tokio::join!(serving, beside);
    tracing::info!("stopped");
    served.and(beside)
}

/// The audit log goes to its file, if it has one, and to another one of that name after each SIGHUP.
fn begin_audit(config: &Config) -> anyhow::Result<()> {
    let Some(path) = &config.identity.audit_log else { return Ok(()) };
    logs::audit_to(path)?;
    let hangup = signal(SignalKind::hangup())?;
    Tasks::default().spawn("audit log", logs::follow_audit(hangup));
    Ok(())
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn warn_of_everyone(config: &Config) {
    tracing::info!(
        loopback = config.listen.is_loopback(),
        "callers are not asked for credentials: everyone who reaches this port can do everything"
    );
}

fn listen(place: &Listen) -> anyhow::Result<TcpListener> {
    TcpListener::bind(place.addresses()).map_err(|error| {
        let todo = match error.kind() {
            ErrorKind::AddrInUse => {
                "another program listens there: stop it, or name another port with --listen"
            }
            ErrorKind::AddrNotAvailable => {
                "this machine has no such address: name one of its own, or 0.0.0.0, with --listen"
            }
            ErrorKind::PermissionDenied => {
                "ports below 1024 are for privileged users: name another port with --listen"
            }
            _ => "name another place with --listen",
        };
        anyhow::anyhow!("cannot listen on {place}: {error}; {todo}")
    })
}

/// Opens the store as soon as it is reachable; until then answers NOT_SERVING.
async fn wait_and_say_so(
    config: &Config,
    clock: &Arc<dyn Clock>,
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
) -> anyhow::Result<Arc<dyn Store>> {
    let options = connections::Options { tls, ..connections::Options::default() };
    let (connections, health) = (Connections::new(options), Health::default());
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let answers = connections.serve_all(listener, || waiting::face(&health));
    let opening = async {
        let store = opening::wait_for(config, clock).await;
        health.end();
        connections.drain();
        store
    };
    let ending = async {
        let store = opening.await;
        clock.sleep(GRACE).await;
        connections.end();
        store
    };
    let ((), store) = tokio::join!(answers, ending);
    store.map_err(|error| explain(error.into(), config))
}

fn explain(error: anyhow::Error, config: &Config) -> anyhow::Error {
    let passes = error
        .downcast_ref::<crate::store::OpenError>()
        .is_some_and(crate::store::OpenError::passes);
    if passes && !config.wait_for_store {
        return anyhow::anyhow!(
            "{error}; start it, point --store elsewhere, or wait for it with --wait-for-store"
        );
    }
    error
}

/// Cancelled by the first SIGTERM or SIGINT; the second ends the process at once.
pub(super) fn shutdown_signals() -> std::io::Result<CancellationToken> {
    let shutdown = CancellationToken::new();
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let first = shutdown.clone();
    Tasks::default().spawn("signals", async move {
        let mut next =
            async || tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} };
        next().await;
        tracing::info!("draining; a second signal stops at once");
        first.cancel();
        next().await;
        std::process::exit(ABORTED);
    });
    Ok(shutdown)
}

/// The usual exit code of a process that a signal ended.
const ABORTED: i32 = 130;
/// How long calls may take to finish once the store is open.
const GRACE: Duration = Duration::from_secs(1);
