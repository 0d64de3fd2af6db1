//! Runs typed commands to their end, with their output.

use std::process::Stdio;

use longhaul::proto::DESCRIPTORS;
use prost_reflect::{DescriptorPool, DynamicMessage};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::binary::{BINARY, Longhaul};
use super::bounds::soon;
use super::clients::Client;

/// A shell with a server to call; its output is piped.
pub(super) struct Typist {
    address: String,
    server: Option<(Longhaul, TempDir)>,
}

/// How a command ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) code: i32,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Typist {
    /// With a server of its own.
    pub(super) async fn with_a_server() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let server = Longhaul::serve(&format!("embedded:{}", folder.path().display())).await;
        Self { address: server.address().to_string(), server: Some((server, folder)) }
    }

    /// With that as the address of the server.
    pub(super) fn at(address: &str) -> Self {
        Self { address: address.to_owned(), server: None }
    }

    /// Where the server is.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Another client of the server.
    pub(super) fn client(&self) -> Client {
        self.server.as_ref().expect("a server").0.client()
    }

    /// Types `line`, whose words are split at blanks.
    pub(super) async fn types(&self, line: &str) -> Ended {
        self.runs(&line.split_whitespace().collect::<Vec<_>>(), "").await
    }

    /// The same for a command that must succeed without warnings; returns its output.
    pub(super) async fn gets(&self, line: &str) -> String {
        let ended = self.types(line).await;
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{line}: {ended:?}");
        ended.stdout
    }

    /// The same with `--output json`, which prints one message of that type.
    pub(super) async fn gets_json(&self, line: &str, kind: &str) -> serde_json::Value {
        message(&self.gets(&format!("{line} --output json")).await, kind)
    }

    /// Runs the binary with these arguments, and `input` on its standard input.
    pub(super) async fn runs(&self, args: &[&str], input: &str) -> Ended {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("a process");
        let mut stdin = child.stdin.take().expect("piped");
        let output = async {
            // A command that does not read its input may have ended already.
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

    /// The command, to be run in another way.
    pub(super) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(args).env("LONGHAUL_SERVER", &self.address).env_remove("LONGHAUL_LOG");
        command.kill_on_drop(true);
        command
    }

    /// Runs it beside the test.
    pub(super) fn beside(&self, args: &[&str]) -> Longhaul {
        Longhaul::launch_with(args, &[("LONGHAUL_SERVER", &self.address)])
    }

    /// Runs `longhaul work` beside the test, with a shell script for each operation.
    pub(super) fn works(&self, queue: &str, more: &[&str], script: &str) -> Longhaul {
        let args = [&["work", "--queue", queue], more, &["--", "sh", "-c", script]].concat();
        self.beside(&args)
    }
}

/// Reads proto3 JSON as a strict parser of that message does.
pub(super) fn message(json: &str, kind: &str) -> serde_json::Value {
    let pool = DescriptorPool::decode(DESCRIPTORS).expect("definitions");
    let kind = pool.get_message_by_name(kind).expect("a known message");
    let value: serde_json::Value = serde_json::from_str(json).expect(json);
    DynamicMessage::deserialize(kind, &value).unwrap_or_else(|error| panic!("{error} in {json}"));
    value
}
