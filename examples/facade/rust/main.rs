//! An API that serves `google.longrunning.Operations` itself: longhaul is a library in its process, with its store in a
//! directory and the worker beside it. `examples/facade/README.md` says how to run it.
#![expect(
    clippy::disallowed_methods,
    reason = "this is not a part of longhaul, and its time is the machine's"
)]

mod api;
mod worker;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use longhaul::proto::longhaul::v1::producers_client::ProducersClient;
use longhaul::{EmbeddedOptions, EmbeddedStore, Server, SystemClock};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use self::pb::library_server::LibraryServer;

/// The generated code of `library.proto`: see `example` in `build.rs`.
#[expect(clippy::allow_attributes, clippy::pedantic, unreachable_pub, reason = "generated code")]
mod pb {
    tonic::include_proto!("example.library.v1");
}

#[derive(Parser)]
struct Arguments {
    /// Address of the API.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Directory of the operations; created if missing.
    #[arg(long)]
    store: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_writer(std::io::stderr)
        .init();

    let clock = SystemClock::new();
    let options = EmbeddedOptions {
        clock: clock.clone(),
        ..EmbeddedOptions::new(arguments.store, longhaul::record::layout())
    };
    let longhaul = Server::new(EmbeddedStore::open(options)?, clock);
    // Generated clients call longhaul in this process: no socket, no connection that could break.
    let inside = longhaul.routes()?;

    let stop = CancellationToken::new();
    let stopping = async {
        stopped().await;
        stop.cancel();
        // Ends waits, which would delay the end of the server.
        longhaul.drain();
    };
    let serving = async {
        let served = tonic::transport::Server::builder()
            .add_service(LibraryServer::new(api::Api::new(ProducersClient::new(inside.clone()))))
            // Not `add_routes(longhaul.routes()?)`: every caller of this API could then also lease its work. If
            // workers run elsewhere too, `longhaul.serve` opens a port for them that callers do not reach.
            .add_service(longhaul.operations())
            .serve_with_shutdown(arguments.listen, stopping)
            .await;
        stop.cancel();
        served
    };
    let working = worker::work(inside.clone(), &stop);
    let (served, worked) = tokio::join!(serving, working);
    longhaul.stop().await;
    served?;
    Ok(worked?)
}

/// Resolves once the process is told to end.
async fn stopped() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
