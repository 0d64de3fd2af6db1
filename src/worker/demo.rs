//! The sample worker of `longhaul dev`: takes some seconds, reports progress, and stops when cancelled.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::builder::Worker;
use super::context::Context;
use super::stop::Stop;
use crate::client::{Client, ConnectError};
use crate::clock::{Clock, SystemClock};
use crate::proto::google::protobuf::Any;
use crate::proto::longhaul::v1::Progress;

/// A connection to the server at `address`.
///
/// # Errors
/// If no server answers.
pub async fn connect(mut address: SocketAddr) -> Result<Client, ConnectError> {
    if address.ip().is_unspecified() {
        // A server that listens on every address is reached through loopback.
        address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    Client::connect(&address.to_string()).await
}

/// Works on queue `demo` until `stop` resolves. Unfinished operations return to the queue.
///
/// # Errors
/// If the server refuses the worker.
pub async fn work(client: &Client, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    let clock: Arc<dyn Clock> = SystemClock::new();
    let (stopped, patience) = (CancellationToken::new(), clock.clone());
    let worker = Worker::builder(client)
        .queue("demo")
        .name("dev")
        .concurrency(CONCURRENCY)
        .drain_timeout(Duration::ZERO)
        .fallback(move |context, request| count(context, request, clock.clone()));
    let told = async {
        stop.await;
        stopped.cancel();
    };
    let late = async {
        stopped.cancelled().await;
        // Its server stops at the same time, and may be gone already.
        patience.sleep(PATIENCE).await;
    };
    tokio::select! {
        ended = worker.run_until(told) => Ok(ended?),
        () = late => Ok(()),
    }
}

async fn count(
    context: Context,
    request: Option<Any>,
    clock: Arc<dyn Clock>,
) -> Result<Option<Any>, Stop> {
    for step in 0..STEPS {
        context.progress(
            Progress::units(step, STEPS, "steps").saying(format!("step {} of {STEPS}", step + 1)),
        );
        tokio::select! {
            () = clock.sleep(STEP) => {}
            _ = context.cancelled() => return Err(Stop::cancelled()),
        }
    }
    context.progress(Progress::units(STEPS, STEPS, "steps").saying("finished"));
    // The response is the request, unless a response type was declared.
    Ok(request.filter(|_| context.response_type().is_empty()))
}

/// High, since each operation only sleeps.
const CONCURRENCY: usize = 100;
const STEPS: i64 = 10;
const STEP: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(2);
