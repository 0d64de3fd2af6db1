//! A program that runs for an operation, with all processes that it starts.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::signal::unix::{SignalKind, signal};

use super::guard::{GATE, ProgramGuard};
use super::options::Options;
use crate::worker::context::Context;

/// A running program, the leader of its own process group. Dropping it kills the group.
pub(super) struct Program {
    child: Child,
    pub(super) group: ProcessGroup,
    guard: Arc<ProgramGuard>,
    ended: bool,
    children: tokio::signal::unix::Signal,
}

/// The process group: the program and its children, unless they leave the group.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProcessGroup(Pid);

/// Standard input, output and error of a program.
pub(super) type Streams = (Option<ChildStdin>, Option<ChildStdout>, Option<ChildStderr>);

impl Program {
    /// Starts the gate of the program; the first byte of its input starts the program.
    pub(super) fn start(
        options: &Options,
        guard: &Arc<ProgramGuard>,
        context: &Context,
    ) -> io::Result<Self> {
        let children = signal(SignalKind::child())?;
        let child = Command::new(&options.longhaul)
            .arg0("longhaul")
            .args([GATE, "--"])
            .args(&options.command)
            .env("LONGHAUL_OPERATION", context.operation())
            .env("LONGHAUL_FENCING_NUMBER", context.fencing_number().to_string())
            .env("LONGHAUL_ATTEMPT", context.attempt().to_string())
            .env("LONGHAUL_METHOD", context.method())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // So that signals reach its children too.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let id = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let group =
            ProcessGroup(id.ok_or_else(|| io::Error::other("the program has no process id"))?);
        let program = Self { child, group, guard: guard.clone(), ended: false, children };
        guard.keep(group.0)?;
        Ok(program)
    }

    pub(super) fn streams(&mut self) -> Streams {
        (self.child.stdin.take(), self.child.stdout.take(), self.child.stderr.take())
    }

    /// Resolves once the program itself has ended. Its process id, which is also the group's, stays reserved until
    /// [`finish`](Self::finish).
    pub(super) async fn ended(&mut self) {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        // An error means that the process is gone.
        while matches!(waitid(WaitId::Pid(self.group.0), look), Ok(None)) {
            if self.children.recv().await.is_none() {
                return;
            }
        }
    }

    /// Kills the rest of the group, and returns the program's exit status.
    pub(super) async fn finish(mut self) -> io::Result<ExitStatus> {
        self.group.signal(Signal::KILL);
        let status = self.child.wait().await;
        self.ended = true;
        status
    }
}

impl ProcessGroup {
    pub(super) fn signal(self, signal: Signal) {
        // A group that has ended needs no signal.
        let _ = kill_process_group(self.0, signal);
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if !self.ended {
            self.group.signal(Signal::KILL);
        }
        self.guard.forget(self.group.0);
    }
}
