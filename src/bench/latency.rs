//! Latencies: pickup, notification, fan-out.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use futures_util::future::{join, join_all, join3};
use tonic::Status;

use super::client::{Client, Destination};
use super::report::{CpuTime, Measured, Quantiles};
use super::run::BenchRun;
use super::streams::Worker;
use crate::proto::longhaul::v1::watch_operation_response::Type;
use crate::proto::longhaul::v1::{Lease, ServeQueueResponse};

/// A worker with one operation at a time, with calls or on a stream.
enum Taker {
    Calls(Box<Client>, Destination),
    Stream(Box<Worker>),
}

/// The measured times.
enum Taken {
    Lease(Box<Lease>),
    Pushed(Box<ServeQueueResponse>),
}

impl Taker {
    async fn open(client: Client, place: &Destination, stream: bool) -> Result<Self, Status> {
        Ok(if stream {
            Self::Stream(Box::new(Worker::open(&client, place, 1).await?))
        } else {
            Self::Calls(Box::new(client), place.clone())
        })
    }

    async fn take(&mut self) -> Result<Taken, Status> {
        Ok(match self {
            Self::Calls(client, place) => Taken::Lease(Box::new(lease_one(client, place).await?)),
            Self::Stream(worker) => Taken::Pushed(Box::new(worker.lease_one().await?)),
        })
    }

    async fn complete(&mut self, taken: &Taken) -> Result<(), Status> {
        match (self, taken) {
            (Self::Calls(client, _), Taken::Lease(lease)) => client.complete(lease).await,
            (Self::Stream(worker), Taken::Pushed(news)) => worker.complete_one(news).await,
            _ => Ok(()),
        }
    }
}

impl Taken {
    fn name(&self) -> &str {
        match self {
            Self::Lease(lease) => &lease.operation,
            Self::Pushed(news) => news.leases.first().map_or("", |lease| &lease.operation),
        }
    }
}

/// One operation at a time without other load: a worker waits for it, then a waiter for its result.
pub(super) fn one_at_a_time(session: &BenchRun, stream: bool) -> anyhow::Result<Measured> {
    let name = if stream { "stream-latency" } else { "latency" };
    let place = session.place(name);
    let clock = &session.clock;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let server = &session.options.server;
        let producer = Client::connect(server).await?;
        let mut worker = Taker::open(Client::connect(server).await?, &place, stream).await?;
        let waiter = Client::connect(server).await?;
        let (mut pickups, mut starts, mut ends, mut wholes) = (vec![], vec![], vec![], vec![]);
        let cpu_before = session.cpu.read();
        for round in 0..ROUNDS + WARM_UP_ROUNDS {
            let leasing = async {
                let taken = worker.take().await?;
                Ok::<_, Status>((taken, clock.elapsed()))
            };
            let starting = async {
                // The worker is waiting by then.
                clock.sleep(SETTLE).await;
                let began = clock.elapsed();
                producer.start(&place).await?;
                Ok::<_, Status>((began, clock.elapsed()))
            };
            let (leased, started) = join(leasing, starting).await;
            let ((taken, leased), (began, started)) = (leased?, started?);
            let waiting = async {
                waiter.wait(taken.name()).await?;
                Ok::<_, Status>(clock.elapsed())
            };
            let completing = async {
                clock.sleep(SETTLE).await;
                let completed = clock.elapsed();
                worker.complete(&taken).await?;
                Ok::<_, Status>(completed)
            };
            let (known, completed) = join(waiting, completing).await;
            let (known, completed) = (known?, completed?);
            if round >= WARM_UP_ROUNDS {
                pickups.push(leased.saturating_sub(started));
                starts.push(leased.saturating_sub(began));
                ends.push(known.saturating_sub(completed));
                wholes.push(leased.saturating_sub(began) + known.saturating_sub(completed));
            }
        }
        let cpu = CpuTime::per(ROUNDS as u64, &cpu_before, &session.cpu.read());
        let quantiles = vec![
            Quantiles::of("pickup", pickups),
            Quantiles::of("start to lease", starts),
            Quantiles::of("notification", ends),
            Quantiles::of("start to result", wholes),
        ];
        let count = ROUNDS as u64;
        Ok(Measured { name, per_second: None, count, quantiles, cpu, memory: vec![] })
    })
}

/// One operation with many watchers: how long after its report was sent each of them has the update.
pub(super) fn fan_out(session: &BenchRun) -> anyhow::Result<Measured> {
    let place = session.place("fan-out");
    let clock = &session.clock;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let server = &session.options.server;
        let connecting = (0..session.options.connections).map(|_| Client::connect(server));
        let clients = futures_util::future::try_join_all(connecting).await?;
        let name = clients[0].start(&place).await?;
        let lease = lease_one(&clients[0], &place).await?;
        let sent = Mutex::new(vec![Duration::ZERO; REPORTS + 1]);
        let samples = Mutex::new(Vec::new());
        let ready = tokio::sync::Semaphore::new(0);

        let watch = async |number: usize| {
            let mut stream = clients[number % clients.len()].watch(&name).await?;
            while let Some(event) = stream.message().await? {
                let now = clock.elapsed();
                if event.r#type() == Type::Snapshot {
                    ready.add_permits(1);
                }
                let progress =
                    event.server_metadata.as_ref().and_then(|metadata| metadata.progress.as_ref());
                let report = progress.map_or(0, |progress| progress.completed_units as usize);
                if event.r#type() == Type::Update && report > 0 {
                    let began = lock(&sent)[report];
                    lock(&samples).push(now.saturating_sub(began));
                }
            }
            Ok::<_, Status>(())
        };
        let watchers = session.options.watchers;
        let watching = join_all((0..watchers).map(watch));
        let reporting = async {
            drop(ready.acquire_many(u32::try_from(watchers).unwrap_or(u32::MAX)).await);
            let cpu_before = session.cpu.read();
            for report in 1..=REPORTS {
                clock.sleep(BETWEEN_REPORTS).await;
                lock(&sent)[report] = clock.elapsed();
                clients[0].report(&lease, report as i64).await?;
            }
            clock.sleep(BETWEEN_REPORTS).await;
            let cpu_after = session.cpu.read();
            clients[0].complete(&lease).await?;
            Ok::<_, Status>((cpu_before, cpu_after))
        };
        let (watched, reported, ()) = join3(watching, reporting, async {}).await;
        watched.into_iter().collect::<Result<(), Status>>()?;
        let (cpu_before, cpu_after) = reported?;
        let samples = std::mem::take(&mut *lock(&samples));
        let count = samples.len() as u64;
        let cpu = CpuTime::per(count, &cpu_before, &cpu_after);
        let quantiles = vec![Quantiles::of("delivery", samples)];
        let name = "fan-out";
        Ok(Measured { name, per_second: None, count, quantiles, cpu, memory: vec![] })
    })
}

async fn lease_one(worker: &Client, place: &Destination) -> Result<Lease, Status> {
    loop {
        if let Some(lease) = worker.lease(place, 1).await?.pop() {
            return Ok(lease);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const ROUNDS: usize = 400;
const WARM_UP_ROUNDS: usize = 20;
/// A waiting call has reached the server after this long.
const SETTLE: Duration = Duration::from_millis(3);
const REPORTS: usize = 20;
/// Longer than the server's progress interval.
const BETWEEN_REPORTS: Duration = Duration::from_millis(250);
