//! Callbacks: how many receivers on this machine get, and what one that never answers costs the starts beside it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::{join, join_all};
use tonic::Code;

use super::receiver::{Manners, ReceiverKind, ReceiverTls};
use super::report::Measured;
use super::run::{Arena, BenchRun};

/// Start, lease, complete, and callbacks about the end. Counts callbacks. Starts wait until the callbacks of earlier operations
/// have arrived, so that the rate is one that lasts.
pub(super) fn delivered(
    session: &BenchRun,
    name: &'static str,
    tls: Option<ReceiverTls>,
) -> anyhow::Result<Measured> {
    let arena = session.arena(name, BACKLOG);
    let each = session.options.callbacks.max(1);
    let (received, counting) = (AtomicU64::new(0), Arc::clone(&arena));
    // It begins with the first callback.
    arena.set_ready(false);
    let note = move || {
        counting.set_ready(true);
        counting.count(1);
        if (received.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(each as u64) {
            counting.room.add_permits(1);
        }
    };
    let kind = ReceiverKind::new(Manners::Answers(Arc::new(note)), tls);
    let urls = (0..each).map(|_| kind.open()).collect::<Result<Vec<_>, _>>()?;
    let measured = measured(session, name, &arena, &urls, Counted::Callbacks)?;
    anyhow::ensure!(
        arena.is_ready(),
        "{name}: no callback arrived; the server must call receivers on this machine, as `longhaul dev` does, or with LONGHAUL_WEBHOOKS__ALLOW_HTTP=true LONGHAUL_WEBHOOKS__NETWORKS=127.0.0.0/8, and for TLS trust their certificate (SSL_CERT_FILE)"
    );
    Ok(measured)
}

/// The same cycles with a callback to a receiver that never answers. Counts cycles.
pub(super) fn hung(session: &BenchRun) -> anyhow::Result<Measured> {
    let urls = [ReceiverKind::new(Manners::Hangs, None).open()?];
    let arena = session.arena("callbacks-hung", BACKLOG);
    measured(session, "callbacks-hung", &arena, &urls, Counted::Starts)
}

/// The same cycles without callbacks, to compare with. Counts cycles.
pub(super) fn none(session: &BenchRun) -> anyhow::Result<Measured> {
    let arena = session.arena("callbacks-none", BACKLOG);
    measured(session, "callbacks-none", &arena, &[], Counted::Starts)
}

/// What the rate is of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Counted {
    Callbacks,
    Starts,
}

/// The quantiles are those of starts.
fn measured(
    session: &BenchRun,
    name: &'static str,
    arena: &Arc<Arena>,
    urls: &[String],
    counted: Counted,
) -> anyhow::Result<Measured> {
    let (in_flight, workers) = (session.options.in_flight, session.options.workers);
    session.measure(name, arena, async |part, arena| {
        let produce = async |task| {
            let Ok(room) = arena.room.acquire().await else { return Ok(0) };
            room.forget();
            // Without the time that it waited for others.
            let began = arena.elapsed();
            part.client(task).start_with_callbacks(&arena.place, urls).await?;
            arena.sample(began);
            arena.count(u64::from(counted == Counted::Starts));
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
            if counted == Counted::Starts {
                arena.room.add_permits(leases.len());
            }
            Ok(0)
        };
        let produced = arena.repeat(part.share(in_flight), produce);
        let slots = part.share(workers).max(1);
        join(produced, arena.repeat(slots.div_ceil(LEASES_AT_ONCE), work)).await;
    })
}

/// Largest number of operations that wait for a worker, or for their callbacks.
const BACKLOG: usize = 512;
const LEASES_AT_ONCE: usize = 16;
