//! Unusual programs under `longhaul work`: odd bytes, endless lines, processes left in
//! the background, and a worker that is killed under them.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use longhaul::proto::longhaul::v1::operation_record::State;
use tempfile::TempDir;

use super::binary::Longhaul;
use super::bounds::{eventually, soon};
use super::typed::Typist;
use super::working::{begun, cancelled, record};

#[tokio::test]
async fn bytes_that_are_no_text_cost_a_program_nothing() {
    let typist = Typist::with_a_server().await;
    // It would die of SIGPIPE if it were no longer read.
    let script = r"
        printf 'a\377b\000c\r\n\n'; printf '\376 oops\n\000' >&2
        seq 100000; seq 1000 >&2; printf 'progress 0.5 \377\r\n'
        printf '{\r\n  \042a\042: \042\377\042\r\n}\r\n'";
    let _worker = typist.works("q", &[], script);
    let printed = typist.gets("start --queue q --operation-id one --wait").await;
    assert_eq!(printed, "operations/one\n{\"a\":\"\u{fffd}\"}\n");
    let progress = record(&typist, "one").await.server_metadata.and_then(|data| data.progress);
    let progress = progress.expect("progress");
    assert_eq!((progress.fraction, progress.message.as_str()), (Some(0.5), "\u{fffd}"));
}

#[tokio::test]
async fn what_a_program_leaves_in_the_background_does_not_hold_its_operation() {
    let typist = Typist::with_a_server().await;
    let notes = Notes::new();
    let daemon = format!("setsid sh -c '{}; exec sleep 1000' &", notes.writes("daemon", "$$"));
    let child = format!("sleep 1000 & {}", notes.writes("child", "$!"));
    let written = notes.waits_for("daemon");
    // Both hold both streams; the last line has no end.
    let _worker = typist.works("q", &[], &format!("{daemon} {child}; {written}; printf 7"));
    let printed = typist.gets("start --queue q --operation-id first --wait").await;
    assert_eq!(printed, "operations/first\n7\n");
    // Processes in its group end, others live on.
    gone(notes.pid("child")).await;
    assert!(is_there(notes.pid("daemon")));
    end(notes.pid("daemon"));

    let notes = Notes::new();
    let daemon = format!("setsid sh -c '{}; exec sleep 1000' &", notes.writes("daemon", "$$"));
    let written = notes.waits_for("daemon");
    let script = format!("trap '' TERM; {daemon} {written}; echo progress 0.1 begun; sleep 1000");
    let _worker = typist.works("stubborn", &["--kill-after", "100ms"], &script);
    cancelled(&typist, "stubborn").await;
    end(notes.pid("daemon"));
}

#[tokio::test]
async fn programs_end_with_a_worker_that_is_killed() {
    let typist = Typist::with_a_server().await;
    let notes = Notes::new();
    let mut worker = typist.works("q", &[], &notes.family());
    begun(&typist, "q").await;
    worker.kill();
    gone(notes.pid("parent")).await;
    gone(notes.pid("child")).await;
}

#[tokio::test]
async fn programs_end_with_a_worker_that_is_told_twice_to_stop() {
    let typist = Typist::with_a_server().await;
    let notes = Notes::new();
    let mut worker = typist.works("q", &[], &notes.family());
    begun(&typist, "q").await;
    worker.signal("-TERM");
    worker.says("draining").await;
    assert!(is_there(notes.pid("parent")), "the first one lets it finish");
    worker.signal("-TERM");
    assert_eq!(soon("the end of the worker", worker.ended()).await.code(), Some(130));
    gone(notes.pid("parent")).await;
    gone(notes.pid("child")).await;
}

#[tokio::test]
async fn a_guard_that_is_killed_is_replaced() {
    let typist = Typist::with_a_server().await;
    let notes = Notes::new();
    let mut worker = typist.works("q", &["--concurrency", "2"], &notes.family());
    begun(&typist, "q").await;
    let first = [notes.pid("parent"), notes.pid("child")];
    notes.forget();
    end(guard_of(worker.id()));
    typist.gets("start --queue q --operation-id two").await;
    eventually("the second program to begin", || async {
        record(&typist, "two").await.server_metadata?.progress.map(drop)
    })
    .await;
    worker.kill();
    for pid in [first[0], first[1], notes.pid("parent"), notes.pid("child")] {
        gone(pid).await;
    }
}

#[tokio::test]
async fn a_line_without_end_takes_no_memory_and_too_large_a_response_is_an_error() {
    let typist = Typist::with_a_server().await;
    let script = "head -c 64000000 /dev/zero; head -c 64000000 /dev/zero >&2; echo; echo 7";
    let worker = typist.works("q", &[], script);
    worker.says("serving").await;
    let before = memory_kib(worker.id(), "VmRSS");
    assert_eq!(typist.gets("start --queue q --operation-id a --wait").await, "operations/a\n7\n");
    let most = memory_kib(worker.id(), "VmHWM");
    assert!(most < before + (24 << 10), "{before} KiB grew to {most} KiB");

    let text = |bytes| format!("head -c {bytes} /dev/zero | tr '\\0' x | sed 's/.*/\"&\"/'");
    for (queue, bytes, part) in [
        ("text", 3_000_000, "larger than 2097152 bytes"),
        ("encoded", 1_500_000, "at most 1048576"),
    ] {
        let _worker = typist.works(queue, &[], &text(bytes));
        let failed = typist.types(&format!("start --queue {queue} --wait")).await;
        assert_eq!(failed.code, 3, "{failed:?}");
        assert!(failed.stderr.contains(part), "{failed:?}");
    }
}

#[tokio::test]
async fn a_worker_waits_for_its_server_and_behind_its_proxy_and_says_so_once() {
    let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
    let address = address.expect("a free port");
    let server = address.to_string();
    let mut worker = Longhaul::launch(&[
        "work", "--server", &server, "--queue", "q", "--", "sh", "-c", "echo 7",
    ]);
    worker.says(&format!("waiting for {server}")).await;
    soon("answers of the proxy", answers_of_a_proxy(address, &[404, 403, 503])).await;

    let folder = tempfile::tempdir().expect("a folder");
    let store = format!("embedded:{}", folder.path().display());
    let longhaul = Longhaul::launch(&["serve", "--listen", &server, "--store", &store]);
    longhaul.says(" serving ").await;
    worker.says(" serving ").await;
    assert_eq!(worker.output().matches("waiting for").count(), 1, "{}", worker.output());
    let client = longhaul.client();
    client.start("one", "q").await.expect("a start");
    eventually("the end", || async {
        (client.state("one").await.ok()? == State::Succeeded).then_some(())
    })
    .await;
    worker.signal("-TERM");
    assert!(soon("the end of the worker", worker.ended()).await.success());
}

#[tokio::test]
async fn a_worker_that_waits_for_its_server_can_be_stopped() {
    let mut worker = Longhaul::launch(&["work", "--server", "127.0.0.1:1", "--", "true"]);
    worker.says("waiting for 127.0.0.1:1").await;
    worker.signal("-TERM");
    assert!(soon("the end of the worker", worker.ended()).await.success());
}

#[tokio::test]
async fn a_program_that_cannot_be_run_is_refused_at_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let plain = folder.path().join("plain");
    std::fs::write(&plain, "#!/bin/sh\n").expect("written");
    let plain = plain.to_str().expect("a path");
    for (program, part) in [
        ("/no/such/program", "/no/such/program does not exist"),
        ("no-such-program", "no folder of PATH has a program no-such-program"),
        (plain, "is not executable"),
        ("/", "/ is not a file that can be run"),
    ] {
        let refused = Longhaul::refusal(&["work", "--queue", "q", "--", program]).await;
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(refused.output.contains(part), "{refused:?}");
    }
}

#[tokio::test]
async fn a_program_that_vanishes_costs_no_operation_an_attempt() {
    let typist = Typist::with_a_server().await;
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("program");
    let away = folder.path().join("away");
    // Left open for writing it could not be run.
    let made = std::process::Command::new("cp").arg("/bin/true").arg(&program).status();
    assert!(made.expect("cp").success());
    let path = program.to_str().expect("a path");
    let worker = typist.beside(&["work", "--queue", "q", "--", path]);
    worker.says("serving").await;
    std::fs::rename(&program, &away).expect("moved");
    typist.gets("start --queue q --operation-id one").await;
    worker.says("the operation is released to the queue").await;
    std::fs::rename(&away, &program).expect("moved");
    typist.gets("wait operations/one").await;
    let attempts = record(&typist, "one").await.server_metadata.map(|data| data.attempt_count);
    assert_eq!(attempts, Some(1));
}

#[tokio::test]
async fn the_log_has_a_line_for_each_start_and_end_and_names_the_operation_everywhere() {
    let typist = Typist::with_a_server().await;
    let worker = typist.works("q", &[], "echo oops >&2; exit $(cat)");
    for (id, exit) in [("good", 0), ("bad", 3)] {
        typist.types(&format!("start --queue q --operation-id {id} --request {exit} --wait")).await;
    }
    worker.says("operations/bad").await;
    let output = eventually("both ends", || async {
        let output = worker.output().clone();
        (output.matches(" ended ").count() == 2).then_some(output)
    })
    .await;
    for (name, level, outcome, exit) in
        [("operations/good", "INFO", "succeeded", 0), ("operations/bad", "WARN", "failed", 3)]
    {
        let of = format!("operation=\"{name}\" ");
        let lines: Vec<&str> = output.lines().filter(|line| line.contains(&of)).collect();
        let [started, stderr, ended] = lines[..] else { panic!("{lines:?}") };
        assert!(started.contains(" started ") && started.contains(" attempt=1 "), "{started}");
        assert!(stderr.contains(r#"line="oops""#), "{stderr}");
        for part in [
            format!(" {level} "),
            format!("outcome=\"{outcome}\""),
            format!("exit=\"exit status: {exit}\""),
            "duration=".to_owned(),
        ] {
            assert!(ended.contains(&part), "no {part} in {ended}");
        }
    }
}

/// Answers as a proxy does that has no server behind it: HTTP, and no gRPC.
async fn answers_of_a_proxy(address: SocketAddr, statuses: &[u16]) {
    let listener = tokio::net::TcpListener::bind(address).await.expect("the port");
    let mut statuses = statuses.iter();
    let mut status = statuses.next();
    while let Some(wanted) = status {
        let (stream, _) = listener.accept().await.expect("a connection");
        let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
        let Some(Ok((request, mut respond))) = connection.accept().await else { continue };
        let answer = http::Response::builder().status(*wanted).body(()).expect("an answer");
        respond.send_response(answer, true).expect("sent");
        // The remaining calls of the worker must not be sent.
        drop((request, respond));
        connection.graceful_shutdown();
        // Until the worker has read it and hangs up.
        while let Some(Ok(_)) = connection.accept().await {}
        status = statuses.next();
    }
}

/// Files in which programs write process ids.
struct Notes {
    folder: TempDir,
}

impl Notes {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    /// A program with a child, both of which do not end.
    fn family(&self) -> String {
        format!(
            "{}; sleep 1000 & {}; echo progress 0.1 begun; wait",
            self.writes("parent", "$$"),
            self.writes("child", "$!")
        )
    }

    fn writes(&self, name: &str, pid: &str) -> String {
        format!("echo {pid} > {0}.new; mv {0}.new {0}", self.path(name).display())
    }

    fn waits_for(&self, name: &str) -> String {
        format!("until [ -e {} ]; do sleep 0.02; done", self.path(name).display())
    }

    fn forget(&self) {
        for name in ["parent", "child"] {
            std::fs::remove_file(self.path(name)).expect("a note");
        }
    }

    fn pid(&self, name: &str) -> u32 {
        let note = std::fs::read_to_string(self.path(name)).expect("a note");
        note.trim().parse().expect("a process id")
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::join(self.folder.path(), name)
    }
}

async fn gone(pid: u32) {
    eventually("the end of a process", || async { (!is_there(pid)).then_some(()) }).await;
}

/// An ended process may wait long until its parent reaps it.
fn is_there(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
    status.is_ok_and(|status| !status.contains("State:\tZ"))
}

fn end(pid: u32) {
    let sent = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status();
    assert!(sent.expect("kill").success(), "cannot end {pid}");
}

fn guard_of(worker: u32) -> u32 {
    let children = format!("/proc/{worker}/task");
    let tasks = std::fs::read_dir(children).expect("tasks");
    let children =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok());
    let children: Vec<String> = children.collect();
    let mut pids = children.iter().flat_map(|line| line.split_whitespace());
    let is_guard = |pid: &&str| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains("work-guard")
    };
    let guard = pids.find(is_guard).expect("a guard");
    guard.parse().expect("a process id")
}

fn memory_kib(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next()).expect("a number");
    number.parse().expect("a number")
}
