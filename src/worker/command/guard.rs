//! Ends the programs of a worker with the worker, however that ends.
//!
//! Beside the worker runs a process of longhaul, the *guard*. It reads from a pipe which programs run, and kills them when
//! the pipe closes, which it does with the worker. Each program begins as longhaul too, the *gate*: it becomes the program
//! once the guard knows of it, so that there is no moment when nothing would end it.

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

use super::{GUARD, TEMPORARY};

/// The worker's side of its guard.
pub(super) struct Guard {
    longhaul: PathBuf,
    state: Mutex<State>,
}

struct State {
    process: Child,
    groups: BTreeSet<i32>,
}

impl Guard {
    /// Starts a guard, which is a process of that binary.
    pub(super) fn start(longhaul: &Path) -> io::Result<Self> {
        let state = State { process: launch(longhaul)?, groups: BTreeSet::new() };
        Ok(Self { longhaul: longhaul.to_owned(), state: Mutex::new(state) })
    }

    /// From now on the process group ends with the worker.
    pub(super) fn keep(&self, group: Pid) -> io::Result<()> {
        let group = group.as_raw_nonzero().get();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.groups.insert(group);
        if state.tell(&[('+', group)]).is_ok() {
            return Ok(());
        }
        tracing::warn!("the guard of the programs has ended; starting another one");
        state.process.wait()?;
        state.process = launch(&self.longhaul)?;
        let all: Vec<_> = state.groups.iter().map(|group| ('+', *group)).collect();
        state.tell(&all)
    }

    /// The process group has ended.
    pub(super) fn forget(&self, group: Pid) {
        let group = group.as_raw_nonzero().get();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.groups.remove(&group);
        // A guard that has ended knows of no group.
        let _ = state.tell(&[('-', group)]);
    }
}

impl State {
    fn tell(&mut self, changes: &[(char, i32)]) -> io::Result<()> {
        let stdin = self.process.stdin.as_mut();
        let stdin = stdin.ok_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe))?;
        let lines: Vec<_> =
            changes.iter().map(|(sign, group)| format!("{sign}{group}\n")).collect();
        stdin.write_all(lines.concat().as_bytes())
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // It ends with its input.
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
        // What a terminal sends to the worker is not for it.
        .process_group(0)
        .spawn()
}

/// The guard's process, to its end.
///
/// # Errors
/// Where signals cannot be held off.
pub fn guard() -> io::Result<()> {
    // Whoever stops a service signals all its processes; this one is needed until the worker has ended.
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
        // One that has ended needs no signal.
        let _ = kill_process_group(group, Signal::KILL);
    }
    Ok(())
}

/// Becomes the program once a byte has come on standard input, which leaves the rest for the program; returns where that
/// fails, with the exit code to end with.
pub fn gate(command: &[OsString]) -> (u8, String) {
    let stdin = io::stdin().as_fd().try_clone_to_owned().map(std::fs::File::from);
    // Read without a buffer: what follows is the program's.
    if stdin.and_then(|mut stdin| stdin.read_exact(&mut [0])).is_err() {
        return (1, "the worker has ended".to_owned());
    }
    let Some((program, args)) = command.split_first() else {
        return (1, "no program is named".to_owned());
    };
    let error = Command::new(program).args(args).exec();
    (TEMPORARY, format!("cannot run {}: {error}", program.display()))
}
