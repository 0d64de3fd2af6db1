//! Rates: calls and cycles per second.

use std::sync::Mutex;
use std::sync::PoisonError;

use futures_util::future::{join, join_all};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::client::Client;
use super::report::Measured;
use super::run::{Arena, BenchRun, Part};
use crate::proto::longhaul::v1::Lease;

/// GetOperation, of some hundred operations that wait for a worker.
pub(super) fn gets(session: &BenchRun) -> anyhow::Result<Measured> {
    let arena = session.arena("gets", 0);
    let in_flight = session.options.in_flight;
    session.measure("gets", &arena, async |part, arena| {
        let share = part.share(in_flight);
        let names = Mutex::new(vec![String::new(); share]);
        let name = |task: usize| lock(&names)[task].clone();
        arena
            .repeat(share, async |task| {
                if name(task).is_empty() {
                    let started = part.client(task).start(&arena.place).await?;
                    lock(&names)[task] = started;
                }
                part.client(task).get(&name(task)).await.map(|_| 1)
            })
            .await;
    })
}

/// StartOperation, for a queue without workers.
pub(super) fn starts(session: &BenchRun) -> anyhow::Result<Measured> {
    let arena = session.arena("starts", 0);
    let in_flight = session.options.in_flight;
    session.measure("starts", &arena, async |part, arena| {
        let start = async |task| part.client(task).start(&arena.place).await.map(|_| 1);
        arena.repeat(part.share(in_flight), start).await;
    })
}

/// StartOperation of more callers than a server can answer in time: it measures the calls that were accepted.
pub(super) fn overload(session: &BenchRun) -> anyhow::Result<Measured> {
    let arena = session.arena("overload", 0);
    let in_flight = session.options.in_flight;
    session.measure("overload", &arena, async |part, arena| {
        let start = async |task| match part.client(task).start(&arena.place).await {
            Ok(_) => Ok(1),
            Err(refusal) => {
                let asked = refusal.get_details_retry_info().and_then(|info| info.retry_delay);
                let Some(pause) = asked else { return Err(refusal) };
                // Spread, as clients do.
                let share = task as u32 % 100;
                session.clock.sleep(pause + pause * share / 100).await;
                Ok(0)
            }
        };
        arena.repeat(part.share(in_flight), start).await;
    })
}

/// Start, lease, one report, complete, read the result: producers on one side, workers on the other.
///
/// With `keys`, each operation has one of so many concurrency keys.
pub(super) fn cycles(
    session: &BenchRun,
    name: &'static str,
    keys: usize,
) -> anyhow::Result<Measured> {
    let arena = session.arena(name, BACKLOG);
    let (in_flight, workers) = (session.options.in_flight, session.options.workers);
    session.measure(name, &arena, async |part, arena| {
        let produce = async |task: usize| {
            let Ok(room) = arena.room.acquire().await else { return Ok(0) };
            room.forget();
            let client = part.client(task);
            if keys == 0 {
                return client.start(&arena.place).await.map(|_| 0);
            }
            let key = (task * part.parts + part.number) % keys;
            client.start_keyed(&arena.place, &key.to_string()).await.map(|()| 0)
        };
        let work = async |client: &Client, lease: &Lease| {
            client.report(lease, 1).await?;
            client.complete(lease).await?;
            let operation = client.get(&lease.operation).await?;
            arena.room.add_permits(1);
            if operation.done { Ok(1) } else { Err(Status::data_loss("a result is missing")) }
        };
        let produced = arena.repeat(part.share(in_flight), produce);
        join(produced, serve(part, arena, workers, work)).await;
    })
}

/// Start, wait for the result, next.
pub(super) fn round_trips(session: &BenchRun) -> anyhow::Result<Measured> {
    let arena = session.arena("round-trips", 0);
    let (in_flight, workers) = (session.options.in_flight, session.options.workers);
    session.measure("round-trips", &arena, async |part, arena| {
        let round = async |task| {
            let client = part.client(task);
            let name = client.start(&arena.place).await?;
            let done = client.wait(&name).await?.done;
            Ok(u64::from(done))
        };
        let work = async |client: &Client, lease: &Lease| client.complete(lease).await.map(|()| 0);
        let waited = arena.repeat(part.share(in_flight), round);
        join(waited, serve(part, arena, workers, work)).await;
    })
}

/// Workers of one thread: each leases some operations at a time and works on all of them at once.
async fn serve(
    part: &Part,
    arena: &Arena,
    workers: usize,
    work: impl AsyncFn(&Client, &Lease) -> Result<u64, Status>,
) {
    let slots = part.share(workers).max(1);
    let each = slots.min(LEASES_AT_ONCE);
    arena
        .repeat(slots.div_ceil(each), async |task| {
            let client = part.client(task);
            let leases = match client.lease(&arena.place, each).await {
                Err(status) if status.code() == Code::Unavailable => return Ok(0),
                leases => leases?,
            };
            let done = join_all(leases.iter().map(|lease| work(client, lease))).await;
            done.into_iter().sum()
        })
        .await;
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Largest number of operations that wait for a worker.
const BACKLOG: usize = 512;
const LEASES_AT_ONCE: usize = 16;
