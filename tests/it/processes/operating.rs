//! `longhaul queue`, `longhaul worker`, and concurrency keys on the command line.

use serde_json::Value;

use super::binary::Longhaul;
use super::bounds::eventually;
use super::typed::Typist;

const QUEUE: &str = "longhaul.v1.Queue";
const QUEUES: &str = "longhaul.v1.ListQueuesResponse";
const WORKERS: &str = "longhaul.v1.ListWorkersResponse";
const RECORD: &str = "longhaul.v1.OperationRecord";

#[tokio::test]
async fn queues_are_listed_limited_paused_and_resumed() {
    let typist = Typist::with_a_server().await;
    let nothing = typist.types("queue list").await;
    assert_eq!((&*nothing.stdout, &*nothing.stderr), ("", "no queues\n"));
    typist.gets("start --queue mail --operation-id one").await;
    let list = typist.gets("queue list").await;
    let lines: Vec<Vec<&str>> =
        list.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["QUEUE", "PENDING", "RUNNING", "OLDEST", "WORKERS", "LEASES/S"]);
    assert_eq!(lines[1][..3], ["mail", "1", "0"]);
    assert!(list.trim_end().ends_with("NO WORKER"), "{list}");

    let limits = "--max-running 2 --max-leases-per-second 0.5 --aging-interval 10s";
    let queue = typist.gets_json(&format!("queue update mail {limits}"), QUEUE).await;
    assert_eq!((&queue["maxRunning"], &queue["maxLeasesPerSecond"]), (&2.into(), &0.5.into()));
    assert_eq!(queue["agingInterval"], "10s");
    // What is not given stays.
    typist.gets("queue update queues/mail --max-running 0").await;
    let text = typist.gets("queue get mail").await;
    for line in ["max running         no limit", "max leases/s        0.5", "pending             1"]
    {
        assert!(text.contains(line), "{line}: {text}");
    }
    let paused = typist.gets_json("queue pause mail", QUEUE).await;
    assert_eq!(paused["state"], "PAUSED");
    let remark = typist.gets("queue list").await;
    assert!(remark.contains("PAUSED, NO WORKER, at most 0.5 leases/s"), "{remark}");
    let etag = paused["etag"].as_str().expect("an etag");
    let stale = typist.runs(&["queue", "resume", "mail", "--etag", "\"1\""], "").await;
    assert_eq!(stale.code, 1);
    assert!(stale.stderr.contains("the settings of queues/mail have changed"), "{stale:?}");
    let resumed = typist.runs(&["queue", "resume", "mail", "--etag", etag], "").await;
    assert_eq!((resumed.code, resumed.stderr.as_str()), (0, ""));
    let queues = typist.gets_json("queue list", QUEUES).await;
    assert_eq!(queues["queues"][0]["state"], "ACTIVE");
    // Several at once.
    typist.gets("queue pause a b").await;
    assert_eq!(typist.gets("queue list").await.matches("PAUSED").count(), 2);
}

#[tokio::test]
async fn what_cannot_be_set_is_refused_by_name() {
    let typist = Typist::with_a_server().await;
    for (line, code, complaint) in [
        (
            "queue update q",
            2,
            "error: the following required arguments were not provided:\n  <--max-running <NUMBER>|--max-leases-per-second <NUMBER>|--aging-interval <DURATION>>",
        ),
        ("queue update q --max-running -1", 1, "longhaul: queue.max_running is -1"),
        ("queue update q --max-running 1.5", 2, "error: invalid value '1.5'"),
        ("queue update q --max-running 99999999999", 2, "error: invalid value '99999999999'"),
        (
            "queue update q --max-leases-per-second -2",
            1,
            "longhaul: queue.max_leases_per_second is -2",
        ),
        (
            "queue update q --max-leases-per-second NaN",
            1,
            "longhaul: queue.max_leases_per_second is NaN",
        ),
        ("queue update q --aging-interval soon", 2, "error: invalid value 'soon'"),
        ("queue get a/b", 1, "longhaul: \"a/b\" is not a queue"),
        ("queue pause", 2, "error: the following required arguments were not provided"),
        ("worker drain nobody --queue q", 5, "longhaul: no worker \"nobody\" of queues/q is known"),
        ("worker list a/b", 1, "longhaul: \"a/b\" is not a queue"),
        (
            "start --concurrency-limit 2",
            2,
            "error: the following required arguments were not provided",
        ),
        (
            "start --concurrency-key k --concurrency-limit -1",
            1,
            "longhaul: options.concurrency.limit is -1",
        ),
        (
            "start --concurrency-key k --concurrency-policy wait",
            2,
            "error: invalid value 'wait' for '--concurrency-policy <POLICY>'",
        ),
    ] {
        let ended = typist.types(line).await;
        assert_eq!(ended.code, code, "{line}: {ended:?}");
        assert!(ended.stderr.starts_with(complaint), "{line}: {ended:?}");
        assert_eq!(ended.stdout, "", "{line}");
    }
    assert_eq!(typist.types("queue list").await.stderr, "no queues\n", "nothing was set");
}

#[tokio::test]
async fn concurrency_keys_of_starts_queue_reject_and_preempt() {
    let typist = Typist::with_a_server().await;
    let key = "start --queue q --concurrency-key db";
    typist.gets(&format!("{key} --operation-id first")).await;
    typist.gets(&format!("{key} --operation-id second")).await;
    let record = typist.gets_json("record operations/second", RECORD).await;
    assert_eq!(record["options"]["concurrency"]["key"], "db");
    let refused = typist.types(&format!("{key} --concurrency-policy reject")).await;
    assert_eq!((refused.code, refused.stdout.as_str()), (1, ""), "{refused:?}");
    let complaint = "the limit of 1 running operations of concurrency key \"db\" is reached";
    assert!(refused.stderr.contains(complaint), "{refused:?}");
    typist.gets(&format!("{key} --operation-id third --concurrency-policy preempt")).await;
    let waited = typist.types("wait operations/first").await;
    assert_eq!(waited.code, 3, "{waited:?}");
    assert!(waited.stderr.contains("was preempted by operations/third"), "{waited:?}");
}

#[tokio::test]
async fn a_start_with_another_limit_for_a_key_decides_and_the_log_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Longhaul::serve(&format!("embedded:{}", folder.path().display())).await;
    let typist = Typist::at(&server.address().to_string());
    typist.gets("start --operation-id one --concurrency-key k --concurrency-limit 1").await;
    typist.gets("start --operation-id two --concurrency-key k --concurrency-limit 2").await;
    server.says("the newest limit of running operations replaces the former one").await;
    assert!(server.output().contains("former=1 limit=2"), "{}", server.output());
    let full = "start --concurrency-key k --concurrency-limit 2 --concurrency-policy reject";
    assert_eq!(typist.types(full).await.code, 1, "two run");
}

#[tokio::test]
async fn workers_are_listed_drained_and_resumed() {
    let typist = Typist::with_a_server().await;
    assert_eq!(typist.types("worker list").await.stderr, "no workers\n");
    let folder = tempfile::tempdir().expect("a folder");
    let go_on = folder.path().join("go-on");
    let _worker =
        typist.works("q", &[], &format!("until [ -e {} ]; do sleep 0.05; done", go_on.display()));
    typist.gets("start --queue q --operation-id one").await;
    let typist = &typist;
    let worker = eventually("a worker that holds an operation", || async move {
        let workers = typist.gets_json("worker list q", WORKERS).await;
        let worker = workers["workers"][0].clone();
        (worker["heldOperations"][0]["operation"] == "operations/one").then_some(worker)
    })
    .await;
    let name = worker["worker"].as_str().expect("a name").to_owned();
    let text = typist.gets("worker list").await;
    assert!(text.lines().nth(1).is_some_and(|line| line.starts_with(&name)), "{text}");
    assert!(text.contains("\n  operations/one  attempt 1  "), "{text}");

    let drained = typist.gets(&format!("worker drain {name} --queue q")).await;
    assert!(drained.contains("DRAINED"), "{drained}");
    typist.gets("start --queue q --operation-id two").await;
    std::fs::write(&go_on, "").expect("written");
    assert_eq!(typist.types("wait operations/one").await.code, 0, "it finishes what it holds");
    let state = async |id: &str| -> Value {
        typist.gets_json(&format!("record operations/{id}"), RECORD).await["state"].clone()
    };
    assert_eq!(state("two").await, "PENDING");
    let resumed = typist.types(&format!("worker resume {name} --queue q")).await;
    // It may be about to open its stream again.
    let left = format!("no worker {name} is there now; the next one gets operations\n");
    assert!(resumed.code == 0 && ["", &left].contains(&&*resumed.stderr), "{resumed:?}");
    assert_eq!(typist.types("wait operations/two").await.code, 0);
}
