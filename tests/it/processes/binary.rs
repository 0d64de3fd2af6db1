//! The `longhaul` binary, as its own process.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::bounds::eventually;
use super::clients::Client;

/// A process that ends with the value, and with the test process however that ends.
pub(super) struct Longhaul {
    child: Child,
    /// Its closing ends the process; a line on it ends the guard alone.
    guard: Option<ChildStdin>,
    output: Arc<Mutex<String>>,
}

/// How a process ended that was not to start.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) code: Option<i32>,
    pub(super) output: String,
}

impl Longhaul {
    /// Runs the binary with these arguments.
    pub(super) fn launch(args: &[&str]) -> Self {
        Self::launch_with(args, &[])
    }

    /// The same, with something in its environment.
    pub(super) fn launch_with(args: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::spawn(&[&[BINARY], args].concat(), environment, None)
    }

    /// Runs a command line with the binary in its path.
    pub(super) fn type_in(line: &str) -> Self {
        let folder = Path::new(BINARY).parent().expect("a folder").display();
        let path = format!("{folder}:{}", std::env::var("PATH").unwrap_or_default());
        Self::spawn(&["sh", "-c", &format!("exec {line}")], &[("PATH", &path)], None)
    }

    /// Runs another program, to be ended as surely.
    pub(super) fn launch_beside(program: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::spawn(program, environment, None)
    }

    /// The same, but the reader of its output goes away after a line with `last`.
    pub(super) fn launch_heard_until(last: &'static str, args: &[&str]) -> Self {
        Self::spawn(&[&[BINARY], args].concat(), &[], Some(last))
    }

    fn spawn(args: &[&str], environment: &[(&str, &str)], last: Option<&'static str>) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", GUARD, "guard"]).args(args);
        let inherited = std::env::vars_os().map(|(name, _)| name);
        for name in inherited.filter(|name| name.to_string_lossy().starts_with("LONGHAUL_")) {
            command.env_remove(name);
        }
        command.envs(environment.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("a shell to guard longhaul");
        let output = Arc::<Mutex<String>>::default();
        collect(&output, child.stdout.take().expect("piped"), last);
        collect(&output, child.stderr.take().expect("piped"), last);
        Self { guard: child.stdin.take(), child, output }
    }

    /// A server on that store, at a port of its own, once it serves.
    pub(super) async fn serve(store: &str) -> Self {
        Self::serve_with(store, &[]).await
    }

    /// The same, with more arguments.
    pub(super) async fn serve_with(store: &str, more: &[&str]) -> Self {
        Self::serve_in(store, more, &[]).await
    }

    /// The same, with something in its environment.
    pub(super) async fn serve_in(store: &str, more: &[&str], environment: &[(&str, &str)]) -> Self {
        let args = [&["serve", "--listen", "127.0.0.1:0", "--store", store], more].concat();
        let server = Self::launch_with(&args, environment);
        server.says(" serving ").await;
        server
    }

    /// Runs the binary, which must fail, and returns its error.
    pub(super) async fn refusal(args: &[&str]) -> Refusal {
        Self::refusal_with(args, &[]).await
    }

    /// The same, with something in its environment.
    pub(super) async fn refusal_with(args: &[&str], environment: &[(&str, &str)]) -> Refusal {
        let mut process = Self::launch_with(args, environment);
        let code = process.ended().await.code();
        let output = process.output().clone();
        Refusal { code, output }
    }

    /// Waits until it has printed that.
    pub(super) async fn says(&self, text: &str) {
        let what = format!("longhaul to say {text:?}");
        let said = eventually(&what, || async {
            let output = self.output();
            (output.contains("longhaul: ") || output.contains(text)).then(|| output.contains(text))
        });
        assert!(said.await, "instead of {text:?} it said:\n{}", self.output());
    }

    /// Its output so far.
    pub(super) fn output(&self) -> MutexGuard<'_, String> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value of `field` in the log line that begins to serve.
    pub(super) fn logged(&self, field: &str) -> String {
        let output = self.output();
        let (_, rest) = output.split_once(&format!(" {field}=")).expect("the field is logged");
        rest.split_whitespace().next().expect("a value").trim_matches('"').to_owned()
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.logged("listen").parse().expect("an address")
    }

    /// A new client of this server, with a connection of its own.
    pub(super) fn client(&self) -> Client {
        Client::new(self.address())
    }

    /// Its process id.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub(super) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args([name, &id]).status().expect("kill");
        assert!(sent.success(), "cannot send {name}");
    }

    /// The most memory that it has ever taken.
    pub(super) fn peak_memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("a process");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        let kib = peak.trim().trim_end_matches(" kB").parse::<usize>().expect("a number");
        kib << 10
    }

    /// Stops it for this long, like a machine that hangs.
    pub(super) fn stop_for(&self, pause: Duration) {
        self.signal("-STOP");
        let id = self.child.id();
        // In a process of its own, so that it outlives the test process.
        let script = format!("sleep {}; kill -CONT {id}", pause.as_secs_f64());
        let mut command = Command::new("sh");
        command.args(["-c", &script]).stdin(Stdio::null()).stdout(Stdio::null());
        thread::spawn(move || command.stderr(Stdio::null()).status());
    }

    /// Ends it as a crash does.
    pub(super) fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(mut guard) = self.guard.take() {
            let _ = guard.write_all(b"ended\n");
        }
    }

    /// Waits for its end, and for all that it printed.
    pub(super) async fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        let ended = || std::future::ready(child.try_wait().expect("a child"));
        let status = eventually("the end of longhaul", ended).await;
        self.kill();
        let output = &self.output;
        // The reading threads hold it until the pipes are closed.
        eventually("the rest of its output", || async {
            (Arc::strong_count(output) == 1).then_some(())
        })
        .await;
        status
    }
}

impl Drop for Longhaul {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let mut report = String::new();
            let _ = write!(report, "longhaul {} said:\n{}", self.child.id(), self.output());
            let _ = writeln!(std::io::stderr(), "{report}");
        }
    }
}

fn collect(
    output: &Arc<Mutex<String>>,
    from: impl Read + Send + 'static,
    last: Option<&'static str>,
) {
    let output = Arc::clone(output);
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
            output.push_str(&line);
            output.push('\n');
            if last.is_some_and(|last| line.contains(last)) {
                return;
            }
        }
    });
}

pub(super) const BINARY: &str = env!("CARGO_BIN_EXE_longhaul");
/// Replaces this process, so that its id and exit status are the program's own. A second process waits for the end of the
/// input, which comes with the end of the test process even if no destructor runs.
const GUARD: &str = r#"exec 3<&0; (trap '' TERM INT HUP; read _ <&3 || kill -9 $$) >/dev/null 2>&1 & exec 3<&- </dev/null; exec "$@""#;
