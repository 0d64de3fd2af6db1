//! `longhaul work`: a program without any knowledge of longhaul does the work of a queue.

use std::path::Path;

use longhaul::proto::longhaul::v1::OperationRecord;
use longhaul::proto::longhaul::v1::operation_record::State;
use tempfile::TempDir;

use super::bounds::{eventually, soon};
use super::typed::Typist;

const OPERATION: &str = "google.longrunning.Operation";
const RECORD: &str = "longhaul.v1.OperationRecord";

#[tokio::test]
async fn a_program_gets_the_request_and_the_json_that_ends_its_output_is_the_response() {
    let typist = Typist::with_a_server().await;
    let script = r#"
        read request
        echo '{"not": "the last"}'
        echo progress 0.25 a quarter
        echo "progress is slow, this line says nothing"
        printf '{"request": %s, "operation": "%s", "attempt": %s, "fencing": %s, "method": "%s"}\n' \
            "$request" "$LONGHAUL_OPERATION" "$LONGHAUL_ATTEMPT" "$LONGHAUL_FENCING_NUMBER" "$LONGHAUL_METHOD"
        echo and this is no JSON"#;
    let _worker = typist.works("q", &["--worker", "mine"], script);
    let line =
        r#"start --queue q --operation-id one --method print --request {"n":[1,"two",2.5]} --wait"#;
    let done = typist.gets_json(line, OPERATION).await;
    let said = &done["response"]["value"];
    assert_eq!(said["request"], serde_json::json!({"n": [1, "two", 2.5]}));
    assert_eq!(said["operation"], "operations/one");
    assert_eq!((&said["attempt"], &said["method"]), (&1.into(), &"print".into()));
    assert_eq!(done["metadata"]["progress"]["fraction"], 0.25);
    let record = typist.gets_json("record operations/one", RECORD).await;
    assert_eq!(record["attempts"][0]["worker"], "mine");
    assert_eq!(
        said["fencing"].to_string(),
        record["attempts"][0]["fencingNumber"].as_str().expect("a text")
    );

    // Empty standard output is an empty response, and a program need not read its input.
    let _silent = typist.works("silent", &[], "true");
    let silent = typist.gets("start --queue silent --request [1] --wait --output json").await;
    assert!(silent.contains("type.googleapis.com/google.protobuf.Empty"), "{silent}");
    // As a pretty-printer writes it, on several lines.
    let _pretty =
        typist.works("pretty", &[], r#"printf '{\n  "a": [\n    1\n  ]\n}\n'; echo done"#);
    let line = "start --queue pretty --request {} --wait";
    let pretty = typist.gets_json(line, OPERATION).await["response"]["value"].clone();
    assert_eq!(pretty, serde_json::json!({"a": [1]}));
    // The JSON is read as the declared type.
    let _typed = typist.works("typed", &[], r#"echo '"90s"'"#);
    let line = "start --queue typed --response-type google.protobuf.Duration --wait";
    assert_eq!(typist.gets_json(line, OPERATION).await["response"]["value"], "90s");
    let line = "start --queue typed --response-type google.protobuf.Timestamp --wait";
    let refused = typist.types(line).await;
    assert_eq!(refused.code, 3, "{refused:?}");
    assert!(refused.stderr.contains("google.protobuf.Timestamp"), "{refused:?}");
}

#[tokio::test]
async fn progress_is_reported_while_the_program_runs() {
    let typist = Typist::with_a_server().await;
    let gate = Gate::new();
    let _worker = typist.works(
        "q",
        &[],
        &format!("echo progress 0.4 early; {}; echo progress 1", gate.wait()),
    );
    typist.gets("start --queue q --operation-id one").await;
    let progress =
        eventually("progress", || async { record(&typist, "one").await.server_metadata?.progress })
            .await;
    assert_eq!((progress.fraction, progress.message.as_str()), (Some(0.4), "early"));
    gate.open();
    typist.gets("wait operations/one").await;
}

#[tokio::test]
async fn a_program_that_fails_fails_the_operation_with_its_last_complaints() {
    let typist = Typist::with_a_server().await;
    let script = "for line in $(seq 30); do echo complaint $line >&2; done; exit 3";
    let _worker = typist.works("q", &[], script);
    let failed = typist.types("start --queue q --operation-id one --wait").await;
    assert_eq!(failed.code, 3, "{failed:?}");
    let error = typist.gets_json("get operations/one", OPERATION).await["error"].clone();
    assert_eq!(error["code"], 2);
    let message = error["message"].as_str().expect("a text");
    assert!(message.contains("complaint 30") && !message.contains("complaint 1\n"), "{message}");

    // One without a word, and one that a signal ends.
    let _mute = typist.works("mute", &[], "exit 3");
    let failed = typist.types("start --queue mute --wait").await;
    assert!(failed.stderr.contains("exit status: 3"), "{failed:?}");
    let _shot = typist.works("shot", &[], "echo last words >&2; kill -9 $$");
    let failed = typist.types("start --queue shot --wait").await;
    assert_eq!(failed.code, 3, "{failed:?}");
    assert!(failed.stderr.contains("last words"), "{failed:?}");
    assert!(failed.stderr.contains("signal: 9"), "{failed:?}");
}

#[tokio::test]
async fn exit_code_75_is_a_temporary_failure_and_tried_again() {
    let typist = Typist::with_a_server().await;
    let script =
        r#"[ $LONGHAUL_ATTEMPT -gt 1 ] || { echo busy >&2; exit 75; }; echo "$LONGHAUL_ATTEMPT""#;
    let _worker = typist.works("q", &[], script);
    assert_eq!(
        typist.gets("start --queue q --operation-id one --wait").await,
        "operations/one\n2\n"
    );
    let attempts = record(&typist, "one").await.attempts;
    let error = attempts[0].error.as_ref().expect("an error");
    assert_eq!((attempts.len(), error.code, error.message.as_str()), (2, 14, "busy"));

    let once = "start --queue q --operation-id two --max-attempts 1 --wait";
    let failed = typist.types(once).await;
    assert_eq!(failed.code, 3, "{failed:?}");
    assert!(failed.stderr.ends_with(": busy (UNAVAILABLE)\n"), "{failed:?}");
}

#[tokio::test]
async fn a_cancel_ends_the_program_and_its_children_with_sigterm() {
    let typist = Typist::with_a_server().await;
    let gate = Gate::new();
    let script =
        format!("trap '{}; exit 1' TERM; echo progress 0.1 begun; sleep 1000 & wait", gate.mark());
    let _worker = typist.works("q", &[], &script);
    cancelled(&typist, "q").await;
    assert!(gate.is_open(), "no SIGTERM came");
}

#[tokio::test]
async fn a_program_that_ignores_sigterm_is_killed() {
    let typist = Typist::with_a_server().await;
    let args = ["--kill-after", "100ms"];
    let script = "trap '' TERM; echo progress 0.1 begun; while true; do sleep 1000; done";
    let _worker = typist.works("q", &args, script);
    cancelled(&typist, "q").await;
}

#[tokio::test]
async fn one_that_ends_well_with_a_response_although_it_was_told_to_stop_has_succeeded() {
    let typist = Typist::with_a_server().await;
    let script = r#"trap 'echo "{}"; exit 0' TERM; echo progress 0.1 begun; sleep 1000 & wait"#;
    let _worker = typist.works("q", &[], script);
    begun(&typist, "q").await;
    typist.gets("cancel operations/one").await;
    assert_eq!(typist.gets("wait operations/one").await, "{}\n");
}

#[tokio::test]
async fn one_that_is_told_to_stop_and_ends_well_without_a_response_is_cancelled() {
    let typist = Typist::with_a_server().await;
    let script = "trap 'echo progress 0.2 stopping; exit 0' TERM; echo progress 0.1 begun; sleep 1000 & wait";
    let _worker = typist.works("q", &[], script);
    cancelled(&typist, "q").await;
}

#[tokio::test]
async fn leases_are_renewed_for_as_long_as_the_program_runs() {
    let typist = Typist::with_a_server().await;
    let _worker =
        typist.works("q", &["--lease-duration", "1s"], r#"sleep 4; echo "$LONGHAUL_ATTEMPT""#);
    assert_eq!(
        typist.gets("start --queue q --operation-id one --wait").await,
        "operations/one\n1\n"
    );
}

#[tokio::test]
async fn as_many_programs_run_at_once_as_is_asked_for() {
    let typist = Typist::with_a_server().await;
    let gate = Gate::new();
    for id in ["a", "b", "c"] {
        typist.gets(&format!("start --queue q --operation-id {id}")).await;
    }
    let _worker = typist.works("q", &["--concurrency", "2"], &gate.wait());
    let states = || async {
        let mut states = Vec::new();
        for id in ["a", "b", "c"] {
            states.push(typist.client().state(id).await.expect("a state"));
        }
        states
    };
    eventually("two at work", || async {
        let running = states().await.iter().filter(|state| **state == State::Running).count();
        assert!(running <= 2, "{running} at once");
        (running == 2).then_some(())
    })
    .await;
    gate.open();
    typist.gets("wait operations/a operations/b operations/c").await;
}

#[tokio::test]
async fn sigterm_lets_the_worker_finish_its_jobs_and_take_no_new_ones() {
    let typist = Typist::with_a_server().await;
    let gate = Gate::new();
    let mut worker =
        typist.works("q", &[], &format!("echo progress 0.1 begun; {}; echo 7", gate.wait()));
    begun(&typist, "q").await;
    worker.signal("-TERM");
    worker.says("draining").await;
    typist.gets("start --queue q --operation-id late").await;
    gate.open();
    assert!(soon("the end of the worker", worker.ended()).await.success());
    assert_eq!(typist.gets("wait operations/one").await, "7\n");
    assert_eq!(typist.client().state("late").await.expect("a state"), State::Pending);
}

/// A file that a program waits for, or makes.
struct Gate {
    folder: TempDir,
}

impl Gate {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    /// Waits until the gate is open, in a shell.
    fn wait(&self) -> String {
        format!("until [ -e {} ]; do sleep 0.05; done", self.path().display())
    }

    /// Opens the gate, in a shell.
    fn mark(&self) -> String {
        format!("touch {}", self.path().display())
    }

    fn open(&self) {
        std::fs::write(self.path(), "").expect("written");
    }

    fn is_open(&self) -> bool {
        self.path().exists()
    }

    fn path(&self) -> std::path::PathBuf {
        Path::join(self.folder.path(), "open")
    }
}

/// Starts `operations/one`, and waits until its program has begun.
pub(super) async fn begun(typist: &Typist, queue: &str) {
    typist.gets(&format!("start --queue {queue} --operation-id one")).await;
    eventually("the program to begin", || async {
        record(typist, "one").await.server_metadata?.progress.map(drop)
    })
    .await;
}

/// Cancels it once it has begun: it ends cancelled, well before any timeout.
pub(super) async fn cancelled(typist: &Typist, queue: &str) {
    begun(typist, queue).await;
    typist.gets("cancel operations/one").await;
    let ended = typist.types("wait operations/one").await;
    assert_eq!(ended.code, 4, "{ended:?}");
    assert_eq!(record(typist, "one").await.attempts.len(), 1);
}

pub(super) async fn record(typist: &Typist, id: &str) -> OperationRecord {
    typist.client().record(id).await.expect("a record")
}
