//! Jobs with schedules: what those cost that are not due, and how late they fire.

use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use futures_util::stream::{StreamExt, TryStreamExt, iter};
use prost::Message;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::client::{Client, Destination};
use super::report::{CpuTime, Measured, MemoryUse, Quantiles};
use super::run::BenchRun;
use crate::clock::Timestamp;
use crate::proto::longhaul::v1 as pb;

/// So many jobs, of which 1,000 fire each second once all are there. Workers complete the runs.
pub(super) fn measure(session: &BenchRun) -> anyhow::Result<Vec<Measured>> {
    let threads = session.options.threads;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    runtime.block_on(async {
        let server = &session.options.server;
        let connecting = (0..session.options.connections).map(|_| Client::connect(server));
        let clients = try_join_all(connecting).await?;
        let run = JobsRun { session, clients, place: session.place("jobs") };
        run.measure().await
    })
}

struct JobsRun<'a> {
    session: &'a BenchRun,
    clients: Vec<Client>,
    place: Destination,
}

impl JobsRun<'_> {
    async fn measure(&self) -> anyhow::Result<Vec<Measured>> {
        let duration = self.session.options.duration;
        let jobs = self.session.options.jobs;
        let slowest = Duration::from_secs_f64(jobs as f64 / SLOWEST_CREATION);
        let begin = self.session.clock.now() + slowest + duration + SETTLE * 2;
        let creations = self.creations(begin).await?;
        let left = begin.since(self.session.clock.now()).saturating_sub(duration + SETTLE);
        anyhow::ensure!(!left.is_zero(), "the server creates jobs too slowly to be measured");
        self.session.clock.sleep(SETTLE).await;
        let idle = self.idle().await;
        let left = begin.since(self.session.clock.now());
        self.session.clock.sleep(left.saturating_sub(Duration::from_millis(100))).await;
        let firings = self.firings().await;
        self.for_each_job(async |client, number| {
            client.delete_job(name(&self.place, number)).await
        })
        .await?;
        Ok(vec![creations, idle, firings?])
    }

    /// Creates the jobs, and measures how quickly that goes and how much memory they take.
    async fn creations(&self, begin: Timestamp) -> Result<Measured, Status> {
        let (duration, jobs) = (self.session.options.duration, self.session.options.jobs);
        let (cpu, memory) = (self.session.cpu.read(), self.session.cpu.resident());
        let began = self.session.clock.elapsed();
        self.for_each_job(async |client, number| {
            client.create_job(creation(&self.place, begin, number, duration)).await
        })
        .await?;
        let took = self.session.clock.elapsed().saturating_sub(began);
        Ok(Measured {
            name: "job-creations",
            per_second: Some(jobs as f64 / took.as_secs_f64()),
            count: jobs as u64,
            quantiles: Vec::new(),
            cpu: CpuTime::per(jobs as u64, &cpu, &self.session.cpu.read()),
            memory: MemoryUse::per(jobs, &memory, &self.session.cpu.resident()),
        })
    }

    async fn idle(&self) -> Measured {
        let duration = self.session.options.duration;
        let before = self.session.cpu.read();
        self.session.clock.sleep(duration).await;
        let after = self.session.cpu.read();
        Measured {
            name: "idle-jobs, 1 s",
            per_second: None,
            count: self.session.options.jobs as u64,
            quantiles: Vec::new(),
            cpu: CpuTime::per(duration.as_secs(), &before, &after),
            memory: Vec::new(),
        }
    }

    async fn firings(&self) -> anyhow::Result<Measured> {
        let duration = self.session.options.duration;
        let end = CancellationToken::new();
        let before = self.session.cpu.read();
        let timing = async {
            self.session.clock.sleep(duration + SETTLE).await;
            end.cancel();
        };
        let workers = (0..WORKERS).map(|number| self.work(number, &end));
        let (worked, ()) = futures_util::future::join(join_all(workers), timing).await;
        worked.into_iter().collect::<Result<(), Status>>()?;
        let after = self.session.cpu.read();
        let (mut lags, mut page_token) = (Vec::new(), String::new());
        loop {
            let page = self.clients[0].records(&self.place.parent, &page_token).await?;
            lags.extend(page.operation_records.iter().filter_map(lag));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        let count = lags.len() as u64;
        let wanted = (duration.as_secs_f64() * RATE) as u64;
        let most = wanted.min(self.session.options.jobs as u64);
        anyhow::ensure!(count == most, "{count} runs were started for {most} ticks");
        Ok(Measured {
            name: "firings",
            per_second: Some(count as f64 / duration.as_secs_f64()),
            count,
            quantiles: vec![Quantiles::of("lag", lags)],
            cpu: CpuTime::per(count, &before, &after),
            memory: Vec::new(),
        })
    }

    /// Completes runs until the end.
    async fn work(&self, number: usize, end: &CancellationToken) -> Result<(), Status> {
        let client = &self.clients[number % self.clients.len()];
        while !end.is_cancelled() {
            let leases = client.lease(&self.place, LEASES).await?;
            try_join_all(leases.iter().map(|lease| client.complete(lease))).await?;
        }
        Ok(())
    }

    async fn for_each_job(
        &self,
        call: impl AsyncFn(&Client, usize) -> Result<(), Status>,
    ) -> Result<(), Status> {
        let clients = &self.clients;
        let calls = iter(0..self.session.options.jobs).map(|number| {
            let client = &clients[number % clients.len()];
            call(client, number)
        });
        calls.buffer_unordered(self.session.options.in_flight).try_collect().await
    }
}

fn name(place: &Destination, number: usize) -> String {
    format!("{}/jobs/j-{number}", place.parent)
}

/// A job that fires once in the measurement, each a moment after the one before it, or not before the next day.
fn creation(
    place: &Destination,
    begin: Timestamp,
    number: usize,
    duration: Duration,
) -> pb::CreateJobRequest {
    let after = Duration::from_secs_f64(number as f64 / RATE);
    let start_time = if after < duration { begin + after } else { begin + DAY };
    let schedule = pb::Schedule {
        timing: Some(pb::schedule::Timing::Interval(LONG)),
        start_time: Some(start_time.into()),
        ..Default::default()
    };
    let template = pb::JobTemplate {
        queue: place.queue.clone(),
        method: "bench".to_owned(),
        request: Some(super::client::payload()),
        ..Default::default()
    };
    let job = pb::Job { template: Some(template), schedule: Some(schedule), ..Default::default() };
    pb::CreateJobRequest {
        parent: place.parent.clone(),
        job_id: format!("j-{number}"),
        job: Some(job),
        ..Default::default()
    }
}

/// How long after its tick the operation of a run was started.
fn lag(record: &pb::OperationRecord) -> Option<Duration> {
    let metadata = record.operation.as_ref()?.metadata.as_ref()?;
    let run = pb::RunJobMetadata::decode(&metadata.value[..]).ok()?;
    let started = Timestamp::from(&run.operation?.create_time?);
    Some(started.since(Timestamp::from(&run.tick_time?)))
}

/// Firings in a second.
const RATE: f64 = 1_000.0;
/// Jobs that a server must at least create in a second.
const SLOWEST_CREATION: f64 = 1_500.0;
const DAY: Duration = Duration::from_hours(24);
/// Longer than a measurement.
const LONG: prost_types::Duration = prost_types::Duration { seconds: 86_400, nanos: 0 };
const SETTLE: Duration = Duration::from_secs(3);
const WORKERS: usize = 4;
const LEASES: usize = 100;
