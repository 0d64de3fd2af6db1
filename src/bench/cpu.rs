//! CPU time and memory of processes, read from `/proc`.

use std::fs;
use std::path::Path;
use std::time::Duration;

/// The measured processes: the named ones and this one.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    processes: Vec<(String, u32)>,
}

impl Watched {
    pub(super) fn new(pids: &[u32]) -> Self {
        let name = |pid: u32| {
            fs::read_to_string(format!("/proc/{pid}/comm"))
                .map_or_else(|_| "gone".to_owned(), |name| name.trim().to_owned())
        };
        let mut processes: Vec<(String, u32)> = pids.iter().map(|pid| (name(*pid), *pid)).collect();
        processes.push(("client".to_owned(), std::process::id()));
        Self { processes }
    }

    /// The CPU time of each so far.
    pub(super) fn read(&self) -> Vec<(String, Duration)> {
        self.processes.iter().map(|(name, pid)| (name.clone(), used(*pid))).collect()
    }

    /// The resident memory of each now, in KiB.
    pub(super) fn resident(&self) -> Vec<(String, u64)> {
        let resident = |pid: u32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
            line.split_whitespace().next()?.parse().ok()
        };
        let each = self.processes.iter();
        each.map(|(name, pid)| (name.clone(), resident(*pid).unwrap_or_default())).collect()
    }
}

/// The sum over the live threads, in nanoseconds; `stat` only has ticks.
fn used(pid: u32) -> Duration {
    let threads = fs::read_dir(Path::new("/proc").join(pid.to_string()).join("task"));
    let of_thread = |path: &Path| {
        let text = fs::read_to_string(path.join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    let nanos: u64 = threads
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|thread| of_thread(&thread.path()))
        .sum();
    Duration::from_nanos(nanos)
}
