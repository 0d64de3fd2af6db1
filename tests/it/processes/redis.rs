//! A private Redis, and faults of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use redis::{Connection, FromRedisValue};

use crate::test_server::TestServer;

/// A Redis server of the test's own.
pub(super) struct Redis {
    server: TestServer,
}

/// The content of its directory at some time.
pub(super) struct Backup {
    folder: tempfile::TempDir,
}

impl Redis {
    /// A Redis without persistence.
    pub(super) fn forgetful() -> Self {
        Self { server: TestServer::start(&[]) }
    }

    /// One that has every acknowledged write on disk.
    pub(super) fn durable() -> Self {
        Self { server: TestServer::start(&DURABLE) }
    }

    /// One with these settings.
    pub(super) fn with(args: &[&str]) -> Self {
        Self { server: TestServer::start(args) }
    }

    pub(super) fn url(&self) -> String {
        self.server.url()
    }

    pub(super) fn url_as(&self, user: &str, password: &str) -> String {
        self.server.url_as(user, password)
    }

    /// Host and port.
    pub(super) fn address(&self) -> String {
        self.url().trim_start_matches("redis://").trim_end_matches('/').to_owned()
    }

    /// Ends it with `kill -9`.
    pub(super) fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts it again, at the same place with the same settings.
    pub(super) fn restart(&mut self) {
        self.server.restart();
    }

    /// Sends one command.
    pub(super) fn command<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query(&mut self.connection()).expect("an answer")
    }

    /// Sets a key to bytes that may be no text.
    pub(super) fn set(&self, key: &str, value: &[u8]) {
        redis::cmd("SET").arg(key).arg(value).exec(&mut self.connection()).expect("set");
    }

    /// Cuts every connection; how many there were.
    pub(super) fn cut_connections(&self) -> u64 {
        self.command(&["CLIENT", "KILL", "SKIPME", "yes"])
    }

    /// The value of a field in a section of INFO.
    pub(super) fn info(&self, section: &str, field: &str) -> String {
        let info: String = self.command(&["INFO", section]);
        let found = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        found.expect("the field").trim().to_owned()
    }

    /// Keeps it from running, as a machine that hangs does, or lets it go on.
    pub(super) fn freezer(&self) -> Freezer {
        Freezer { process: self.info("server", "process_id") }
    }

    /// Copies its append-only files. No writes may happen meanwhile.
    pub(super) fn back_up(&self) -> Backup {
        let folder = tempfile::tempdir().expect("a folder");
        copy(&self.files(), folder.path());
        Backup { folder }
    }

    /// Stops it and starts it again with an earlier content of its directory.
    pub(super) fn restore(&mut self, backup: &Backup) {
        let files = self.files();
        self.kill();
        fs::remove_dir_all(&files).expect("removed");
        fs::create_dir(&files).expect("a folder");
        copy(backup.folder.path(), &files);
        self.restart();
    }

    fn files(&self) -> PathBuf {
        let (_, folder): (String, String) = self.command(&["CONFIG", "GET", "dir"]);
        PathBuf::from(folder).join("appendonlydir")
    }

    fn connection(&self) -> Connection {
        let client = redis::Client::open(self.url()).expect("a URL");
        client.get_connection().expect("a connection")
    }
}

/// Stops one process and lets it go on.
pub(super) struct Freezer {
    process: String,
}

impl Freezer {
    pub(super) fn freeze(&self) {
        self.signal("-STOP");
    }

    pub(super) fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.process]).status().expect("kill");
        assert!(sent.success(), "cannot send {signal} to redis-server");
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
    }
}

/// Every write is on disk before it is acknowledged.
pub(super) const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];
