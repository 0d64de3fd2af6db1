//! The results as text and as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::options::Options;

/// All results of a run, with the conditions that they hold under.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The options.
    pub server: String,
    /// Seconds that each measurement of a rate counted.
    pub seconds: f64,
    /// Connections of callers and producers.
    pub connections: usize,
    /// Calls under way at once.
    pub in_flight: usize,
    /// Leases that workers held at once.
    pub workers: usize,
    /// Watchers of one operation.
    pub watchers: usize,
    /// In the order in which they ran.
    pub results: Vec<Measured>,
}

/// One result.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// What was measured.
    pub name: &'static str,
    /// Rate per second; none for latencies.
    pub per_second: Option<f64>,
    /// Total number.
    pub count: u64,
    /// Latencies.
    pub quantiles: Vec<Quantiles>,
    /// CPU times.
    pub cpu: Vec<CpuTime>,
    /// Memory.
    pub memory: Vec<MemoryUse>,
}

/// How long something took, in microseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Quantiles {
    /// Name.
    pub of: &'static str,
    /// Median.
    pub p50_us: u64,
    /// 99th percentile.
    pub p99_us: u64,
    /// Maximum.
    pub max_us: u64,
}

/// CPU time of a process.
#[derive(Clone, Debug, Serialize)]
pub struct CpuTime {
    /// Its name; `client` is this one.
    pub process: String,
    /// Microseconds for each operation that was counted.
    pub us_per_operation: f64,
}

/// How much the resident memory of a process grew.
#[derive(Clone, Debug, Serialize)]
pub struct MemoryUse {
    /// Its name; `client` is this one.
    pub process: String,
    /// When.
    pub when: &'static str,
    /// KiB for each item.
    pub kib_each: f64,
}

impl Quantiles {
    pub(super) fn of(of: &'static str, mut samples: Vec<Duration>) -> Self {
        samples.sort_unstable();
        let at = |share: f64| {
            let position = (samples.len() as f64 * share) as usize;
            let sample = samples.get(position.min(samples.len().saturating_sub(1)));
            sample.map_or(0, |sample| sample.as_micros() as u64)
        };
        Self { of, p50_us: at(0.5), p99_us: at(0.99), max_us: at(1.0) }
    }
}

impl CpuTime {
    pub(super) fn per(
        count: u64,
        before: &[(String, Duration)],
        after: &[(String, Duration)],
    ) -> Vec<Self> {
        let each = before.iter().zip(after).map(|((process, before), (_, after))| {
            let micros = after.saturating_sub(*before).as_secs_f64() * 1e6;
            Self { process: process.clone(), us_per_operation: micros / count.max(1) as f64 }
        });
        each.collect()
    }
}

impl MemoryUse {
    pub(super) fn per(
        count: usize,
        before: &[(String, u64)],
        after: &[(String, u64)],
    ) -> Vec<Self> {
        let each = before.iter().zip(after).map(|((process, before), (_, after))| {
            let kib = after.saturating_sub(*before) as f64;
            let kib_each = kib / count.max(1) as f64;
            Self { process: process.clone(), when: "idle", kib_each }
        });
        each.collect()
    }

    pub(super) fn at_the_end(self) -> Self {
        Self { when: "at the end", ..self }
    }
}

impl Report {
    pub(super) fn new(options: &Options, results: Vec<Measured>) -> Self {
        Self {
            server: options.server.clone(),
            seconds: options.duration.as_secs_f64(),
            connections: options.connections,
            in_flight: options.in_flight,
            workers: options.workers,
            watchers: options.watchers,
            results,
        }
    }

    /// As JSON.
    ///
    /// # Errors
    /// Cannot fail: all values are numbers and text.
    pub fn json(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string_pretty(self)?)
    }

    /// As text.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{}: {} connections, {} calls in flight, {} leases at once, {} watchers\n",
            self.server, self.connections, self.in_flight, self.workers, self.watchers
        );
        for result in &self.results {
            let rate = result.per_second.map_or_else(String::new, |rate| format!("{rate:.0}/s"));
            // Writing to a String cannot fail.
            let _ = write!(text, "\n{:<20} {rate:>9}", result.name);
            for cpu in &result.cpu {
                let _ = write!(text, "   {} {:.1} us", cpu.process, cpu.us_per_operation);
            }
            for MemoryUse { process, when, kib_each } in &result.memory {
                let _ = write!(text, "   {process} grew by {kib_each:.1} KiB each, {when}");
            }
            for Quantiles { of, p50_us, p99_us, max_us } in &result.quantiles {
                let _ = write!(
                    text,
                    "\n    {of:<16} p50 {p50_us} us, p99 {p99_us} us, max {max_us} us"
                );
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_few_samples_and_of_none_are_samples_or_zero() {
        let micros = |numbers: &[u64]| numbers.iter().copied().map(Duration::from_micros).collect();
        let quantiles = Quantiles::of("x", micros(&[3, 1, 2]));
        assert_eq!((quantiles.p50_us, quantiles.p99_us, quantiles.max_us), (2, 3, 3));
        assert_eq!(Quantiles::of("x", micros(&[])).max_us, 0);
    }

    #[test]
    fn cpu_time_is_what_was_used_between_two_looks() {
        let look = |micros| [("server".to_owned(), Duration::from_micros(micros))];
        let cpu = CpuTime::per(4, &look(100), &look(300));
        assert!((cpu[0].us_per_operation - 50.0).abs() < 1e-9, "{cpu:?}");
    }
}
