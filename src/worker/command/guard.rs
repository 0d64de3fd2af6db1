//! Ends the programs of a worker when the worker ends, even by SIGKILL.
//!
//! The worker starts a second longhaul process, the *guard*. It reads from a pipe which programs run, and kills them when
//! the pipe closes, which happens when the worker ends. Each program starts as a longhaul process too, the *gate*, which
//! executes the program once the guard knows its process group. So no program ever runs unguarded.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, BufRead, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::signal::unix::{SignalKind, signal};

/// The worker's side of its guard.
pub(super) struct ProgramGuard {
    longhaul: PathBuf,
    inner: Mutex<GuardInner>,
}

struct GuardInner {
    process: Child,
    groups: BTreeSet<i32>,
}

impl ProgramGuard {
    /// Starts a guard process of this binary.
    pub(super) fn start(longhaul: &Path) -> io::Result<Self> {
        let state = GuardInner { process: launch(longhaul)?, groups: BTreeSet::new() };
        Ok(Self { longhaul: longhaul.to_owned(), inner: Mutex::new(state) })
    }

    /// Adds a process group, which then ends with the worker.
    pub(super) fn keep(&self, group: Pid) -> io::Result<()> {
        let group = group.as_raw_nonzero().get();
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.groups.insert(group);
        if inner.tell(&[('+', group)]).is_ok() {
            return Ok(());
        }
        tracing::warn!("the guard of the programs has ended; starting another one");
        inner.process.wait()?;
        inner.process = launch(&self.longhaul)?;
        let all: Vec<_> = inner.groups.iter().map(|group| ('+', *group)).collect();
        inner.tell(&all)
    }

    /// Removes a process group that has ended.
    pub(super) fn forget(&self, group: Pid) {
        let group = group.as_raw_nonzero().get();
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.groups.remove(&group);
        // If the guard has ended, there is nothing to remove.
        let _ = inner.tell(&[('-', group)]);
    }
}

impl GuardInner {
    fn tell(&mut self, changes: &[(char, i32)]) -> io::Result<()> {
        let stdin = self.process.stdin.as_mut();
        let stdin = stdin.ok_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe))?;
        let lines: Vec<_> =
            changes.iter().map(|(sign, group)| format!("{sign}{group}\n")).collect();
        stdin.write_all(lines.concat().as_bytes())
    }
}

impl Drop for GuardInner {
    fn drop(&mut self) {
        // The guard ends at the end of its input.
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

fn launch(longhaul: &Path) -> io::Result<Child> {
    Command::new(longhaul)
        .arg0("longhaul")
        .arg(GUARD)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Ctrl-C on a terminal must not reach it.
        .process_group(0)
        .spawn()
}

/// Runs the guard process.
///
/// # Errors
/// If signals cannot be caught.
pub fn guard() -> io::Result<()> {
    // A service manager signals all processes; the guard must outlive the worker.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _entered = runtime.enter();
    let held_off = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
    let _signals = held_off.map(signal);
    let mut groups = BTreeSet::new();
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        let Some((sign, group)) = line.split_at_checked(1) else { continue };
        let Some(group) = group.parse().ok().filter(|group| *group > 1) else { continue };
        match sign {
            "+" => groups.insert(group),
            _ => groups.remove(&group),
        };
    }
    for group in groups.into_iter().filter_map(Pid::from_raw) {
        // A group that has ended needs no signal.
        let _ = kill_process_group(group, Signal::KILL);
    }
    Ok(())
}

/// Executes the program after reading one byte from standard input, and leaves the rest for the program. Returns an exit
/// code and a message if that fails.
pub fn gate(command: &[OsString]) -> (u8, String) {
    let stdin = io::stdin().as_fd().try_clone_to_owned().map(std::fs::File::from);
    // Read without a buffer: the rest is for the program.
    if stdin.and_then(|mut stdin| stdin.read_exact(&mut [0])).is_err() {
        return (1, "the worker has ended".to_owned());
    }
    let Some((program, args)) = command.split_first() else {
        return (1, "no program is named".to_owned());
    };
    let error = Command::new(program).args(args).exec();
    (TEMPORARY, format!("cannot run {}: {error}", program.display()))
}

/// The subcommand of longhaul that runs as a program's gate.
pub const GATE: &str = "work-gate";
/// The subcommand of longhaul that runs as a worker's guard.
pub const GUARD: &str = "work-guard";
/// EX_TEMPFAIL of sysexits(3).
pub(super) const TEMPORARY: u8 = 75;
