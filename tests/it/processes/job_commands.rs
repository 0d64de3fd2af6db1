//! `longhaul job` on the command line.

use super::typed::Typist;

const JOB: &str = "longhaul.v1.Job";
const RECORD: &str = "longhaul.v1.OperationRecord";
const EXECUTIONS: &str = "longhaul.v1.ListExecutionsResponse";

#[tokio::test]
async fn a_job_is_created_run_changed_and_deleted() {
    let typist = Typist::with_a_server().await;
    let options = "--priority 7 --ttl 3h --attempt-timeout 5m --queue-timeout 2h --cancel-grace 9s --max-attempts 4 \
        --concurrency-key db --concurrency-limit 2 --concurrency-policy preempt --labels team=a \
        --callback https://example.com/hook --callback-events failed,cancelled";
    let create = format!("job create jobs/nightly --queue reports --method build {options}");
    let job = typist.gets_json(&create, JOB).await;
    assert_eq!(job["name"], "jobs/nightly");
    let name = typist.gets("job run jobs/nightly").await;
    let record = typist.gets_json(&format!("record {}", name.trim()), RECORD).await;
    let options = &record["options"];
    for (field, expected) in [
        ("priority", "7"),
        ("attemptTimeout", r#""300s""#),
        ("queueTimeout", r#""7200s""#),
        ("cancelGrace", r#""9s""#),
        ("retryPolicy", r#"{"maxAttempts":4}"#),
        ("concurrency", r#"{"key":"db","limit":2,"policy":"PREEMPT"}"#),
        ("labels", r#"{"team":"a"}"#),
    ] {
        assert_eq!(options[field].to_string(), expected, "{field} of a run: {options}");
    }
    let callback = &options["callbacks"][0];
    assert_eq!(callback["uri"], "https://example.com/hook");
    assert_eq!(callback["events"], serde_json::json!(["FAILED", "CANCELLED"]));

    // What is not given stays.
    let job = typist.gets_json("job update jobs/nightly --priority -3 --every 90m", JOB).await;
    let template = &job["template"];
    assert_eq!(
        (&template["queue"], &template["options"]["priority"]),
        (&"queues/reports".into(), &(-3).into())
    );
    assert_eq!(template["options"]["ttl"], "10800s");
    let text = typist.gets("job history jobs/nightly").await;
    assert!(text.contains(name.trim()), "{text}");
    let history = typist.gets_json("job history jobs/nightly", EXECUTIONS).await;
    assert_eq!(history["executions"][0]["trigger"], "MANUAL", "{history}");

    let running = typist.types("job delete jobs/nightly").await;
    assert_eq!(running.code, 1, "{running:?}");
    assert!(running.stderr.contains("force"), "it says how: {running:?}");
    typist.gets("job delete jobs/nightly --force").await;
    let gone = typist.types("job get jobs/nightly").await;
    assert_eq!((gone.code, gone.stdout.as_str()), (5, ""), "{gone:?}");
}

#[tokio::test]
async fn what_a_job_cannot_be_is_refused_by_name() {
    let typist = Typist::with_a_server().await;
    for (line, code, complaint) in [
        ("job create nightly --queue q", 2, "\"nightly\" is not the name of a job"),
        ("job create jobs/a --queue q --cron 61", 1, "job.schedule.cron is wrong at byte 2"),
        ("job create jobs/a --queue q --cron 61 --every 5m", 2, "cannot be used with"),
        ("job create jobs/a --queue q --every 1h --time-zone Mars/Base", 1, "Mars/Base"),
        ("job create jobs/a --queue q --priority 101", 1, "priority"),
        (
            "job create jobs/a --queue q --concurrency-key k --concurrency-policy reject",
            1,
            "REJECT",
        ),
        ("job create jobs/a --queue q --concurrency-limit 2", 2, "--concurrency-key"),
        ("job create jobs/a --queue q --callback http://10.0.0.1/hook", 1, "10.0.0.1"),
        ("job update jobs/none --priority 1", 5, "jobs/none"),
    ] {
        let ended = typist.types(line).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (code, ""), "{line}: {ended:?}");
        assert!(ended.stderr.contains(complaint), "{line}: {ended:?}");
    }
}
