//! Commands as somebody types them: run to their end, with what they printed where.

use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::binary::BINARY;
use super::bounds::soon;

/// Somebody at a terminal, though what is printed is piped, with a server to speak to.
#[derive(Clone, Debug)]
pub(super) struct Typist {
    server: String,
}

/// How a command ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) code: i32,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Typist {
    pub(super) fn at_address(server: impl Into<String>) -> Self {
        Self { server: server.into() }
    }

    /// Runs the binary with these arguments, and `input` on its standard input.
    pub(super) async fn runs(&self, args: &[&str], input: &str) -> Ended {
        let mut command = Command::new(BINARY);
        command.args(args).env("LONGHAUL_SERVER", &self.server).env_remove("LONGHAUL_LOG");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().expect("a process");
        let mut stdin = child.stdin.take().expect("piped");
        let output = async {
            // One that reads nothing may be gone already.
            let _ = stdin.write_all(input.as_bytes()).await;
            drop(stdin);
            child.wait_with_output().await.expect("an end")
        };
        let output = soon(&format!("the end of longhaul {args:?}"), output).await;
        Ended {
            code: output.status.code().expect("an end without a signal"),
            stdout: String::from_utf8(output.stdout).expect("a text"),
            stderr: String::from_utf8(output.stderr).expect("a text"),
        }
    }
}
