//! Watches of sets: how soon each of many streams has a change, and what a stream costs the server.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::{join, join_all, try_join_all};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::client::{Client, Destination};
use super::report::{CpuTime, Measured, MemoryUse, Quantiles};
use super::run::BenchRun;
use crate::proto::longhaul::v1::watch_operations_response::Type;

/// So many streams, spread over so many parents, while operations are started below each in turn.
pub(super) fn watch_sets(
    session: &BenchRun,
    name: &'static str,
    streams: usize,
    parents: usize,
) -> anyhow::Result<Measured> {
    let threads = session.options.threads;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    runtime.block_on(watched(session, name, streams, parents))
}

/// What the tasks of a measurement share.
struct SetArena {
    /// When the start of each operation was sent, by its number.
    sent: Mutex<Vec<Duration>>,
    samples: Mutex<Vec<Duration>>,
    received: AtomicU64,
    /// Streams whose snapshot is complete.
    ready: Semaphore,
    ended: CancellationToken,
}

async fn watched(
    session: &BenchRun,
    name: &'static str,
    streams: usize,
    parents: usize,
) -> anyhow::Result<Measured> {
    let server = &session.options.server;
    let connecting = (0..session.options.connections).map(|_| Client::connect(server));
    let clients = try_join_all(connecting).await?;
    let base = session.place(name);
    let places: Vec<Destination> = (0..parents)
        .map(|number| Destination {
            parent: format!("{}/sets/{name}-{number}", base.parent),
            queue: base.queue.clone(),
        })
        .collect();
    let arena = SetArena {
        sent: Mutex::default(),
        samples: Mutex::default(),
        received: AtomicU64::new(0),
        ready: Semaphore::new(0),
        ended: CancellationToken::new(),
    };
    let memory_before = session.cpu.resident();
    let following = (0..streams).map(|number| {
        let (client, place) = (&clients[number % clients.len()], &places[number % parents]);
        follow(session, client, place, &arena)
    });
    let starting = async {
        let _ended = arena.ended.clone().drop_guard();
        let all = u32::try_from(streams).unwrap_or(u32::MAX);
        drop(arena.ready.acquire_many(all).await);
        let memory = MemoryUse::per(streams, &memory_before, &session.cpu.resident());
        let cpu_before = session.cpu.read();
        let began = session.clock.elapsed();
        let started = start_evenly(session, &clients, &places, &arena).await?;
        // The last changes arrive meanwhile.
        session.clock.sleep(SETTLE).await;
        let cpu_after = session.cpu.read();
        let memory_after = MemoryUse::per(streams, &memory_before, &session.cpu.resident());
        let elapsed = session.clock.elapsed().saturating_sub(began + SETTLE);
        let cpu = CpuTime::per(started, &cpu_before, &cpu_after);
        Ok::<_, Status>((started as f64 / elapsed.as_secs_f64(), cpu, memory, memory_after))
    };
    let (followed, started) = join(join_all(following), starting).await;
    followed.into_iter().collect::<Result<(), Status>>()?;
    let (rate, cpu, mut memory, memory_after) = started?;
    memory.extend(memory_after.into_iter().map(MemoryUse::at_the_end));
    let samples = std::mem::take(&mut *lock(&arena.samples));
    let count = arena.received.load(Ordering::Acquire);
    let quantiles = vec![Quantiles::of("delivery", samples)];
    Ok(Measured { name, per_second: Some(rate), count, quantiles, cpu, memory })
}

async fn follow(
    session: &BenchRun,
    client: &Client,
    place: &Destination,
    arena: &SetArena,
) -> Result<(), Status> {
    let mut stream = client.watch_set(&place.parent).await?;
    let mut samples = Vec::new();
    loop {
        let event = tokio::select! {
            biased;
            () = arena.ended.cancelled() => break,
            event = stream.message() => event?,
        };
        let Some(event) = event else { break };
        match event.r#type() {
            Type::SnapshotComplete => arena.ready.add_permits(1),
            Type::Update => {
                let number = event.name.rsplit('-').next().and_then(|number| number.parse().ok());
                let sent = number.and_then(|number: usize| lock(&arena.sent).get(number).copied());
                let Some(sent) = sent else { continue };
                arena.received.fetch_add(1, Ordering::Relaxed);
                samples.push(session.clock.elapsed().saturating_sub(sent));
            }
            _ => {}
        }
    }
    lock(&arena.samples).append(&mut samples);
    Ok(())
}

/// Starts operations at an even rate; returns how many.
async fn start_evenly(
    session: &BenchRun,
    clients: &[Client],
    places: &[Destination],
    arena: &SetArena,
) -> Result<u64, Status> {
    let (mut number, mut round) = (0, 0_u32);
    let began = session.clock.elapsed();
    while session.clock.elapsed().saturating_sub(began) < session.options.duration {
        let batch = (number..number + CHANGES_PER_TICK).map(|number| {
            let (client, place) =
                (&clients[number % clients.len()], &places[number % places.len()]);
            lock(&arena.sent).push(session.clock.elapsed());
            client.start_as(place, format!("o-{number}"))
        });
        try_join_all(batch).await?;
        number += CHANGES_PER_TICK;
        round += 1;
        let due = began + TICK * round;
        session.clock.sleep(due.saturating_sub(session.clock.elapsed())).await;
    }
    Ok(number as u64)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// 1,000 changes a second.
const TICK: Duration = Duration::from_millis(10);
const CHANGES_PER_TICK: usize = 10;
const SETTLE: Duration = Duration::from_secs(1);
