//! A private `redis-server` for tests. Uses nothing of this crate, so that other test binaries can include the file.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

/// A server on a free port, in a folder of its own. It ends with the value, or with the process, however that ends.
#[derive(Debug)]
pub(crate) struct TestServer {
    folder: tempfile::TempDir,
    port: u16,
    args: Vec<String>,
    guard: Option<Child>,
}

impl TestServer {
    /// Starts a server that saves nothing unless `args` enable it. `redis-server` uses the last of repeated settings.
    pub(crate) fn start(args: &[&str]) -> Self {
        let installed =
            Command::new("redis-server").arg("--version").stdout(Stdio::null()).status();
        assert!(
            installed.is_ok(),
            "redis-server is not installed: these tests need the Debian package redis-server"
        );
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        for _ in 0..ATTEMPTS {
            let folder = tempfile::tempdir().expect("a folder for redis-server");
            let mut server = Self { folder, port: free_port(), args: args.clone(), guard: None };
            if server.launch() {
                return server;
            }
        }
        panic!("redis-server did not start with {args:?}");
    }

    /// Where it is, as a redis URL.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// The same, with credentials.
    #[allow(
        dead_code,
        clippy::allow_attributes,
        reason = "not every test binary that includes this file needs it"
    )]
    pub(crate) fn url_as(&self, user: &str, password: &str) -> String {
        format!("redis://{user}:{password}@127.0.0.1:{}/", self.port)
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            drop(guard.stdin.take());
            let _ = guard.wait();
        }
    }

    /// Starts it again, with the same port, folder and settings.
    #[allow(
        dead_code,
        clippy::allow_attributes,
        reason = "not every test binary that includes this file needs it"
    )]
    pub(crate) fn restart(&mut self) {
        self.kill();
        assert!(self.launch(), "redis-server did not start again");
    }

    fn launch(&mut self) -> bool {
        let mut command = Command::new("sh");
        command.args([
            "-c",
            GUARD,
            "guard",
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--port",
            &self.port.to_string(),
        ]);
        command.args(&self.args).current_dir(self.folder.path());
        let guard =
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.guard = Some(guard.expect("a shell to guard redis-server"));
        for _ in 0..POLLS {
            if self.answers() {
                return true;
            }
            thread::sleep(POLL_INTERVAL);
        }
        self.kill();
        false
    }

    /// Whether this very server answers, rather than another on the same port.
    fn answers(&self) -> bool {
        let folder = self.folder.path().display().to_string();
        ask(self.port, "PING").is_some_and(|reply| reply.starts_with("+PONG"))
            && ask(self.port, "CONFIG GET dir").is_some_and(|reply| reply.contains(&folder))
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn ask(port: u16, command: &str) -> Option<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    stream.write_all(format!("{command}\r\n").as_bytes()).ok()?;
    let mut reply = [0; 1_024];
    let length = stream.read(&mut reply).ok()?;
    Some(String::from_utf8_lossy(&reply[..length]).into_owned())
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// Waits for the end of its input, which comes with the end of the test process even if no destructor runs.
const GUARD: &str =
    r#"redis-server "$@" >log 2>&1 & server=$!; trap 'kill -9 $server; wait $server' EXIT; read _"#;
const ATTEMPTS: usize = 3;
const POLLS: usize = 400;
const POLL_INTERVAL: Duration = Duration::from_millis(25);
