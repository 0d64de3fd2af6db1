//! Shared by all measurements: threads, connections, and the measured time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::client::{Client, Destination};
use super::cpu::Watched;
use super::options::Options;
use super::report::{CpuTime, Measured, Quantiles};
use crate::clock::Clock;

/// A run of the benchmark.
pub(super) struct BenchRun {
    pub(super) options: Options,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) cpu: Watched,
    id: String,
}

/// State shared by the tasks of one measurement.
pub(super) struct Arena {
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
    counting: AtomicBool,
    /// The measurement may begin after the warm-up.
    ready: AtomicBool,
    count: AtomicU64,
    samples: Mutex<Vec<Duration>>,
    trouble: Mutex<Option<anyhow::Error>>,
    /// Bounds how far producers may be ahead of workers.
    pub(super) room: Semaphore,
    /// The parent and the queue of this measurement.
    pub(super) place: Destination,
}

/// The part of a thread in a measurement: its connections, and which of how many threads it is.
pub(super) struct Part {
    pub(super) clients: Vec<Client>,
    pub(super) number: usize,
    pub(super) parts: usize,
}

impl Part {
    /// This thread's share of `total`.
    pub(super) fn share(&self, total: usize) -> usize {
        total / self.parts + usize::from(self.number < total % self.parts)
    }

    /// The connection of the task with this number.
    pub(super) fn client(&self, task: usize) -> &Client {
        &self.clients[task % self.clients.len()]
    }
}

impl BenchRun {
    pub(super) fn new(options: &Options, clock: Arc<dyn Clock>) -> Self {
        let id = run_id(&clock);
        Self { options: options.clone(), cpu: Watched::new(&options.pids), id, clock }
    }

    pub(super) fn place(&self, scenario: &str) -> Destination {
        Destination {
            parent: format!("benches/{}", self.id),
            queue: format!("{}-{scenario}", self.id),
        }
    }

    pub(super) fn arena(&self, scenario: &str, room: usize) -> Arc<Arena> {
        Arc::new(Arena {
            clock: self.clock.clone(),
            stop: CancellationToken::new(),
            counting: AtomicBool::new(false),
            ready: AtomicBool::new(true),
            count: AtomicU64::new(0),
            samples: Mutex::default(),
            trouble: Mutex::default(),
            room: Semaphore::new(room),
            place: self.place(scenario),
        })
    }

    /// Runs `part` on every thread, and measures what it counts.
    pub(super) fn measure(
        &self,
        name: &'static str,
        arena: &Arc<Arena>,
        part: impl AsyncFn(&Part, &Arena) + Sync,
    ) -> anyhow::Result<Measured> {
        let parts = self.options.threads.clamp(1, self.options.connections.max(1));
        let measured = std::thread::scope(|scope| {
            let part = &part;
            for number in 0..parts {
                let arena = arena.clone();
                scope.spawn(move || arena.note(self.run_part(number, parts, &arena, part)));
            }
            self.watch_the_clock(name, arena)
        });
        // Tasks hand in their results when they end.
        let samples = std::mem::take(&mut *arena.lock_samples());
        match arena.lock_trouble().take() {
            Some(error) => Err(error.context(name)),
            None if samples.is_empty() => Ok(measured),
            None => Ok(Measured { quantiles: vec![Quantiles::of("call", samples)], ..measured }),
        }
    }

    fn run_part(
        &self,
        number: usize,
        parts: usize,
        arena: &Arena,
        part: &impl AsyncFn(&Part, &Arena),
    ) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut own = Part { clients: Vec::new(), number, parts };
            let connections = own.share(self.options.connections).max(1);
            let connecting = (0..connections).map(|_| Client::connect(&self.options.server));
            own.clients = try_join_all(connecting).await?;
            part(&own, arena).await;
            Ok(())
        })
    }

    fn watch_the_clock(&self, name: &'static str, arena: &Arena) -> Measured {
        self.pause(arena, WARM_UP);
        let latest = self.clock.elapsed() + PATIENCE;
        while !arena.is_ready() && self.clock.elapsed() < latest && arena.goes_on() {
            std::thread::sleep(TICK);
        }
        arena.counting.store(true, Ordering::Release);
        let (began, cpu_before) = (self.clock.elapsed(), self.cpu.read());
        self.pause(arena, self.options.duration);
        arena.counting.store(false, Ordering::Release);
        let (elapsed, cpu_after) = (self.clock.elapsed().saturating_sub(began), self.cpu.read());
        arena.stop();
        let count = arena.count.load(Ordering::Acquire);
        Measured {
            name,
            per_second: Some(count as f64 / elapsed.as_secs_f64()),
            count,
            quantiles: Vec::new(),
            memory: Vec::new(),
            cpu: CpuTime::per(count, &cpu_before, &cpu_after),
        }
    }

    /// Continues the measurement unless it has failed.
    fn pause(&self, arena: &Arena, duration: Duration) {
        let end = self.clock.elapsed() + duration;
        while self.clock.elapsed() < end && arena.goes_on() {
            std::thread::sleep(TICK.min(end.saturating_sub(self.clock.elapsed())));
        }
    }
}

impl Arena {
    pub(super) fn goes_on(&self) -> bool {
        !self.stop.is_cancelled()
    }

    pub(super) fn stop(&self) {
        self.stop.cancel();
        self.room.close();
    }

    /// Runs `future` unless the measurement ends first.
    pub(super) async fn until_stopped<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        self.stop.run_until_cancelled(future).await
    }

    /// Counts completed items.
    pub(super) fn count(&self, done: u64) {
        if self.counting.load(Ordering::Relaxed) {
            self.count.fetch_add(done, Ordering::Relaxed);
        }
    }

    /// Says whether the measurement may begin after the warm-up.
    pub(super) fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    pub(super) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// The time, to measure from.
    pub(super) fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }

    /// Keeps how long something took that began then, while the measurement counts.
    pub(super) fn sample(&self, began: Duration) {
        if self.counting.load(Ordering::Relaxed) {
            let took = self.clock.elapsed().saturating_sub(began);
            self.lock_samples().push(took);
        }
    }

    /// Keeps the first error, and ends the measurement.
    pub(super) fn note<E: Into<anyhow::Error>>(&self, result: Result<(), E>) {
        if let Err(error) = result {
            self.lock_trouble().get_or_insert(error.into());
            self.stop();
        }
    }

    /// Repeats an action in this many tasks until the measurement ends.
    pub(super) async fn repeat(
        &self,
        tasks: usize,
        once: impl AsyncFn(usize) -> Result<u64, tonic::Status>,
    ) {
        let task = async |number: usize| {
            let mut samples = Vec::new();
            while self.goes_on() {
                let began = self.clock.elapsed();
                // At the end, drop waits for operations without a worker.
                match self.stop.run_until_cancelled(once(number)).await {
                    Some(Ok(done)) => self.tally(done, began, &mut samples),
                    Some(Err(status)) => self.note(Err(anyhow::Error::from(status))),
                    None => break,
                }
            }
            self.lock_samples().append(&mut samples);
        };
        join_all((0..tasks).map(task)).await;
    }

    fn tally(&self, done: u64, began: Duration, samples: &mut Vec<Duration>) {
        if done > 0 && self.counting.load(Ordering::Relaxed) {
            self.count.fetch_add(done, Ordering::Relaxed);
            samples.push(self.clock.elapsed().saturating_sub(began));
        }
    }

    fn lock_samples(&self) -> std::sync::MutexGuard<'_, Vec<Duration>> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_trouble(&self) -> std::sync::MutexGuard<'_, Option<anyhow::Error>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Warm-up: connections are made, caches are filled, scripts are loaded.
const WARM_UP: Duration = Duration::from_millis(700);
/// How long a measurement waits until it may begin.
const PATIENCE: Duration = Duration::from_secs(20);
const TICK: Duration = Duration::from_millis(20);

/// A unique id of the run.
fn run_id(clock: &Arc<dyn Clock>) -> String {
    format!("bench-{}", clock.now().as_micros())
}
