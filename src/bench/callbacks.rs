//! Callbacks: how many receivers on this machine get, and what one that never answers costs the starts beside it.

use std::sync::atomic::Ordering;

use futures_util::future::{join, join_all};
use tonic::Code;

use super::receiver::{Manners, ReceiverKind, ReceiverTls};
use super::report::Measured;
use super::run::{BenchRun, Part};

/// Start, lease, complete, and callbacks about the end. Counts callbacks.
pub(super) fn delivered(
    session: &BenchRun,
    name: &'static str,
    tls: Option<ReceiverTls>,
) -> anyhow::Result<Measured> {
    let kind = ReceiverKind::new(Manners::Answers, tls);
    let urls = (0..session.options.callbacks.max(1)).map(|_| kind.open());
    let measured = measured(session, name, &urls.collect::<Result<Vec<_>, _>>()?, Some(&kind))?;
    anyhow::ensure!(
        measured.count > 0,
        "{name}: no callback arrived; the server must call receivers on this machine, as `longhaul dev` does, or with LONGHAUL_WEBHOOKS__ALLOW_HTTP=true LONGHAUL_WEBHOOKS__NETWORKS=127.0.0.0/8, and for TLS trust their certificate (SSL_CERT_FILE)"
    );
    Ok(measured)
}

/// The same cycles with a callback to a receiver that never answers. Counts cycles.
pub(super) fn hung(session: &BenchRun) -> anyhow::Result<Measured> {
    let urls = [ReceiverKind::new(Manners::Hangs, None).open()?];
    measured(session, "callbacks-hung", &urls, None)
}

/// The same cycles without callbacks, to compare with. Counts cycles.
pub(super) fn none(session: &BenchRun) -> anyhow::Result<Measured> {
    measured(session, "callbacks-none", &[], None)
}

/// The quantiles are those of starts.
fn measured(
    session: &BenchRun,
    name: &'static str,
    urls: &[String],
    counted: Option<&ReceiverKind>,
) -> anyhow::Result<Measured> {
    let arena = session.arena(name, BACKLOG);
    let (in_flight, workers) = (session.options.in_flight, session.options.workers);
    session.measure(name, &arena, async |part, arena| {
        let produce = async |task| {
            let Ok(room) = arena.room.acquire().await else { return Ok(0) };
            room.forget();
            // Without the time that it waited for workers.
            let began = arena.elapsed();
            part.client(task).start_with_callbacks(&arena.place, urls).await?;
            arena.sample(began);
            arena.count(u64::from(counted.is_none()));
            Ok(0)
        };
        let work = async |task| {
            let client = part.client(task);
            let leases = match client.lease(&arena.place, LEASES_AT_ONCE).await {
                Err(status) if status.code() == Code::Unavailable => return Ok(0),
                leases => leases?,
            };
            let done = join_all(leases.iter().map(|lease| client.complete(lease))).await;
            done.into_iter().collect::<Result<(), _>>()?;
            arena.room.add_permits(leases.len());
            if let Some(kind) = counted.filter(|_| is_first(part, task)) {
                arena.count(kind.received.swap(0, Ordering::Relaxed));
            }
            Ok(0)
        };
        let produced = arena.repeat(part.share(in_flight), produce);
        let slots = part.share(workers).max(1);
        join(produced, arena.repeat(slots.div_ceil(LEASES_AT_ONCE), work)).await;
    })
}

fn is_first(part: &Part, task: usize) -> bool {
    part.number == 0 && task == 0
}

/// Largest number of operations that wait for a worker.
const BACKLOG: usize = 512;
const LEASES_AT_ONCE: usize = 16;
