//! The client commands against a server: their output and exit codes.

use std::process::Stdio;

use longhaul::proto::longhaul::v1::operation_record::State;

use super::bounds::{LONG, soon};
use super::typed::{Typist, message};

const OPERATION: &str = "google.longrunning.Operation";
const LIST: &str = "google.longrunning.ListOperationsResponse";
const RECORD: &str = "longhaul.v1.OperationRecord";

#[tokio::test]
async fn start_prints_the_name_alone_and_takes_a_request_from_wherever_it_is() {
    let typist = Typist::with_a_server().await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("request.json");
    std::fs::write(&file, "{\"n\": 7}\n").expect("written");
    let from_file = format!("@{}", file.display());
    let duration = r#"{"@type": "google.protobuf.Duration", "value": "90s"}"#;
    let structs = "type.googleapis.com/google.protobuf.Struct";
    for (id, request, input, read) in [
        ("json", r#"{"n": 7}"#, "", (structs, r#"{"n":7}"#)),
        ("file", &from_file, "", (structs, r#"{"n":7}"#)),
        ("input", "-", "{\"n\": 7.5}", (structs, r#"{"n":7.5}"#)),
        ("list", "[1, null]", "", ("type.googleapis.com/google.protobuf.Value", "[1,null]")),
        ("typed", duration, "", ("type.googleapis.com/google.protobuf.Duration", r#""90s""#)),
    ] {
        let ended =
            typist.runs(&["start", "--operation-id", id, "--request", request], input).await;
        let expected = format!("operations/{id}\n");
        assert_eq!((ended.code, &ended.stdout, ended.stderr.as_str()), (0, &expected, ""));
        let record = typist.gets_json(&format!("record operations/{id}"), RECORD).await;
        assert_eq!(record["request"]["@type"], read.0, "{record}");
        assert_eq!(record["request"]["value"].to_string(), read.1, "{record}");
    }
}

#[tokio::test]
async fn start_says_everything_that_a_producer_can_say() {
    let typist = Typist::with_a_server().await;
    let line = "start --queue q --parent projects/p --operation-id x --method print \
        --metadata-type google.protobuf.Struct --response-type google.protobuf.Struct --labels a=b \
        --labels c=d --ttl 12h --priority -3 --schedule-time 2100-01-31T12:00:00Z --target shelves/7 \
        --max-attempts 2 --request-id once";
    assert_eq!(typist.gets(line).await, "projects/p/operations/x\n");
    // The same request id does not start a second operation.
    assert_eq!(typist.gets(line).await, "projects/p/operations/x\n");
    let record = typist.gets_json("record projects/p/operations/x", RECORD).await;
    assert_eq!(record["queue"], "queues/q");
    assert_eq!(record["method"], "print");
    let options = &record["options"];
    assert_eq!(options["labels"], serde_json::json!({"a": "b", "c": "d"}));
    assert_eq!((&options["priority"], &options["target"]), (&(-3).into(), &"shelves/7".into()));
    assert_eq!(options["scheduleTime"], "2100-01-31T12:00:00Z");
    assert_eq!(options["retryPolicy"]["maxAttempts"], 2);
    // Shorter than the shortest is as long as that.
    typist.gets("start --operation-id short --ttl 1m").await;
    typist.gets("cancel operations/short").await;
    let short = typist.gets_json("record operations/short", RECORD).await;
    let kept = &short["serverMetadata"];
    assert_eq!(kept["endTime"].as_str().map(minute_of), kept["expireTime"].as_str().map(minute_of));
    assert_ne!(kept["endTime"].as_str(), kept["expireTime"].as_str());
    assert_eq!(typist.gets("start --operation-id y --validate-only").await, "operations/y\n");
    assert_eq!(typist.types("get operations/y").await.code, 5);
}

/// An instant such as 2030-01-31T12:34:56Z; an hour later it is the same.
fn minute_of(instant: &str) -> String {
    instant.split(':').skip(1).collect()
}

#[tokio::test]
async fn get_list_and_record_are_for_people_and_as_json_for_programs() {
    let typist = Typist::with_a_server().await;
    let nothing = typist.types("list").await;
    assert_eq!((nothing.stdout.as_str(), nothing.stderr.as_str()), ("", "no operations\n"));
    assert_eq!(typist.gets_json("list", LIST).await["operations"], serde_json::json!([]));
    for id in ["one", "two", "three"] {
        typist.gets(&format!("start --queue q --operation-id {id} --labels of={id}")).await;
    }
    let text = typist.gets("get operations/one").await;
    assert!(text.starts_with("operations/one\n  state       PENDING\n"), "{text}");
    let operation = typist.gets_json("get operations/one", OPERATION).await;
    assert_eq!(operation["metadata"]["state"], "PENDING");
    assert!(operation.get("done").is_none());
    let text = typist.gets("record operations/one").await;
    assert!(text.contains("\n  labels      of=one"), "{text}");

    // A list shows all parents, and as much of an operation as its declared types allow.
    let own = "start --queue own --parent projects/p --operation-id four --metadata-type google.protobuf.Struct";
    typist.gets(own).await;
    let lines = typist.gets("list").await;
    let last = lines.lines().last().expect("a line");
    let words: Vec<&str> = last.split_whitespace().collect();
    assert_eq!(words[0], "projects/p/operations/four");
    assert_eq!(words[words.len() - 2..], ["own", "PENDING"], "{lines}");
    assert_eq!(typist.gets("list --parent projects/p").await.lines().count(), 1);
    assert_eq!(
        typist.gets_json("list", LIST).await["operations"][3]["name"],
        "projects/p/operations/four"
    );

    let lines = typist.gets("list --parent operations").await;
    let names: Vec<&str> = lines.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names, ["operations/three", "operations/two", "operations/one"]);
    let page = typist.types("list --parent operations --page-size 2").await;
    assert_eq!(page.stdout.lines().count(), 2, "{page:?}");
    let rest = page.stderr.trim().strip_prefix("there are more: ").expect("a token");
    let rest = format!("list --parent operations {rest}");
    assert_eq!(typist.gets(&rest).await.lines().count(), 1);
    let page = typist.gets_json("list --page-size 2", LIST).await;
    assert_eq!(page["operations"][0]["name"], "operations/three");
    assert!(page["nextPageToken"].is_string());

    let names = |lines: String| {
        lines
            .lines()
            .map(|line| line.split(' ').next().expect("a name").to_owned())
            .collect::<Vec<_>>()
    };
    let own = ["list", "--filter", "queue() = own"];
    assert_eq!(names(typist.runs(&own, "").await.stdout), ["projects/p/operations/four"]);
    let oldest = typist.gets("list --parent operations --order-by create_time").await;
    assert_eq!(names(oldest), ["operations/one", "operations/two", "operations/three"]);
    let line = "list --parent operations --order-by create_time --filter done=false";
    let page = typist.gets_json(line, LIST).await;
    assert_eq!(page["operations"][0]["name"], "operations/one");
    let wrong = typist.types("list --filter done=maybe").await;
    assert!(wrong.code == 1 && wrong.stderr.contains("at byte 5"), "{wrong:?}");
}

#[tokio::test]
async fn each_kind_of_end_has_an_exit_code_of_its_own() {
    let typist = Typist::with_a_server().await;
    let _worker = typist.works("good", &[], "cat");
    let _failing = typist.works("bad", &[], "echo disk full >&2; exit 1");
    for (line, code, complaint) in [
        ("start --queue good --operation-id well --wait", 0, ""),
        ("watch operations/well", 0, ""),
        (
            "start --queue bad --operation-id ill --wait",
            3,
            "longhaul: operations/ill failed after ",
        ),
        ("watch operations/ill", 3, "longhaul: operations/ill failed after "),
        ("start --queue none --operation-id open", 0, ""),
        (
            "wait operations/open --timeout 50ms",
            6,
            "longhaul: operations/open is not done after 50 ms",
        ),
        ("cancel operations/open", 0, ""),
        ("wait operations/open", 4, "longhaul: operations/open was cancelled after "),
        ("delete operations/open", 0, ""),
        ("get operations/open", 5, "longhaul: operations/open was deleted"),
        ("record operations/none", 5, "longhaul: there is no operation operations/none"),
        ("wait operations/none", 5, "longhaul: there is no operation operations/none"),
        ("watch operations/none", 5, "longhaul: there is no operation operations/none"),
        ("cancel operations/none", 5, "longhaul: there is no operation operations/none"),
        ("delete operations/none", 5, "longhaul: there is no operation operations/none"),
        ("pause operations/none", 5, "longhaul: there is no operation operations/none"),
        ("resume operations/none", 5, "longhaul: there is no operation operations/none"),
        ("start --operation-id well", 1, "longhaul: operations/well"),
        ("get well", 1, "longhaul: \"well\" is not the name of an operation"),
        ("start --ttl 100000000000y", 1, "longhaul: options.ttl is "),
        ("start --priority 101", 1, "longhaul: options.priority is 101"),
        ("list --page-size -1", 2, ""),
        ("work --concurrency 0 -- cat", 2, "error: invalid value '0'"),
        ("work --concurrency 10001 -- cat", 2, "error: invalid value '10001'"),
        ("get", 2, "error: the following required arguments were not provided"),
        ("wait operations/well --timeout soon", 2, "error: invalid value 'soon'"),
        ("start --request {", 2, "longhaul: --request: not valid JSON"),
        ("start --request @/none", 2, "longhaul: cannot read /none"),
        (
            r#"start --request {"@type":"my.Type"}"#,
            2,
            "longhaul: --request: the type my.Type is not known here",
        ),
        ("list --server 127.0.0.1:1", 6, "longhaul: no server answers at 127.0.0.1:1: "),
    ] {
        let ended = typist.types(line).await;
        assert_eq!(ended.code, code, "{line}: {ended:?}");
        assert!(ended.stderr.starts_with(complaint), "{line}: {ended:?}");
    }
    let failed = typist.types("wait operations/ill").await;
    assert!(failed.stderr.ends_with(": disk full (UNKNOWN)\n"), "{failed:?}");
    assert_eq!(Typist::at("127.0.0.1:1").types("list").await.code, 6);
}

#[tokio::test]
async fn a_watch_that_is_piped_is_a_line_for_each_step_and_then_the_response() {
    let typist = Typist::with_a_server().await;
    let folder = tempfile::tempdir().expect("a folder");
    let go_on = folder.path().join("go-on");
    typist.gets(r#"start --queue q --operation-id one --request {"n":1}"#).await;
    let mut text = typist.beside(&["watch", "operations/one"]);
    let mut json = typist.beside(&["watch", "operations/one", "--output", "json"]);
    text.says("PENDING").await;
    json.says("PENDING").await;
    let script = format!(
        "echo progress 0.5 half way; until [ -e {} ]; do sleep 0.05; done; cat",
        go_on.display()
    );
    let _worker = typist.works("q", &[], &script);
    text.says("RUNNING      50%  half way\n").await;
    json.says("half way").await;
    std::fs::write(&go_on, "").expect("written");

    assert!(text.ended().await.success() && json.ended().await.success());
    let (text, json) = (text.output().clone(), json.output().clone());
    assert!(text.starts_with("PENDING\n"), "{text}");
    assert!(text.ends_with("\nSUCCEEDED   100%\n{\"n\":1}\n"), "{text}");
    let steps: Vec<_> = json.lines().map(|line| message(line, OPERATION)).collect();
    let last = steps.last().expect("a step");
    assert_eq!((&last["done"], &last["response"]["value"]["n"]), (&true.into(), &1.into()));
}

#[tokio::test]
async fn several_are_followed_at_once_and_the_first_that_did_not_end_well_decides() {
    let typist = Typist::with_a_server().await;
    let _good = typist.works("good", &[], "cat");
    let _bad = typist.works("bad", &[], "exit 1");
    for (queue, id) in [("good", "a"), ("bad", "b"), ("none", "longer")] {
        let request = format!(r#"{{"id":"{id}"}}"#);
        typist
            .gets(&format!("start --queue {queue} --operation-id {id} --request {request}"))
            .await;
    }
    typist.gets("cancel operations/longer").await;
    let names = "operations/a operations/longer operations/b operations/none";
    let waited = typist.types(&format!("wait {names}")).await;
    assert_eq!(
        (waited.code, waited.stdout.as_str()),
        (4, "operations/a: {\"id\":\"a\"}\n"),
        "{waited:?}"
    );
    for part in
        ["operations/longer was cancelled", "operations/b failed", "no operation operations/none"]
    {
        assert!(waited.stderr.contains(part), "{waited:?}");
    }
    assert_eq!(waited.stderr.lines().count(), 3, "{waited:?}");
    let watched = typist.types("watch operations/a operations/longer").await;
    let mut lines: Vec<&str> = watched.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines[0], "operations/a       SUCCEEDED   100%", "{watched:?}");
    assert_eq!(lines[2], "operations/longer  CANCELLED", "{watched:?}");
}

#[tokio::test]
async fn a_paused_operation_is_resumed_with_input_for_the_worker() {
    let typist = Typist::with_a_server().await;
    typist.gets("start --queue q --operation-id one").await;
    let paused = typist.gets("pause operations/one --reason lunch").await;
    assert_eq!(paused, "operations/one is suspended: lunch\n");
    let stale = typist.types("resume operations/one --etag \"stale\"").await;
    assert_eq!(stale.code, 1, "{stale:?}");
    let args = ["resume", "operations/one", "--input", r#"{"approved": true}"#, "--output", "json"];
    let resumed = typist.runs(&args, "").await;
    assert_eq!(message(&resumed.stdout, RECORD)["state"], "PENDING");
    let leases = typist.client().lease("q", 1, LONG, LONG).await.expect("an answer");
    let input = leases[0].resume_input.as_ref().expect("an input");
    assert!(input.type_url.ends_with("google.protobuf.Struct"), "{input:?}");

    let cancelled = typist.gets("cancel operations/one").await;
    assert_eq!(cancelled, "operations/one was asked to stop\n");
    assert_eq!(typist.client().state("one").await.expect("a state"), State::Cancelling);
}

#[tokio::test]
async fn what_changes_operations_takes_several_says_what_happened_and_ends_with_the_worst() {
    let typist = Typist::with_a_server().await;
    let client = typist.client();
    for id in ["done", "running", "waiting", "left"] {
        let queue = if id == "left" { "other" } else { id };
        typist.gets(&format!("start --queue {queue} --operation-id {id}")).await;
    }
    let done = client.lease("done", 1, LONG, LONG).await.expect("an answer");
    client.complete(&done[0]).await.expect("completed");
    client.lease("running", 1, LONG, LONG).await.expect("an answer");

    let all = "operations/done operations/none operations/running operations/waiting";
    let paused = typist.types(&format!("pause {all} --reason lunch")).await;
    assert_eq!(paused.code, 5, "{paused:?}");
    assert_eq!(
        paused.stdout,
        "operations/running was asked to pause, and runs until its worker releases it: lunch\n\
         operations/waiting is suspended: lunch\n"
    );
    assert!(paused.stderr.contains("there is no operation operations/none"), "{paused:?}");
    assert_eq!(paused.stderr.lines().count(), 2, "{paused:?}");
    let resumed = typist.gets("resume operations/running operations/waiting").await;
    assert_eq!(
        resumed,
        "operations/running was not suspended; if it was asked to pause, that no longer counts\n\
         operations/waiting continues, and waits for a worker\n"
    );
    let vague = typist.types(&format!("pause {all} --etag x")).await;
    assert_eq!(vague.code, 2, "{vague:?}");

    let cancelled = typist.types(&format!("cancel {all}")).await;
    assert_eq!(cancelled.code, 5, "{cancelled:?}");
    assert_eq!(
        cancelled.stdout,
        "operations/done had already succeeded\n\
         operations/running was asked to stop\n\
         operations/waiting is cancelled\n"
    );
    let again = typist.gets("cancel operations/waiting operations/running").await;
    assert_eq!(
        again,
        "operations/waiting had already been cancelled\n\
         operations/running had already been asked to stop, and has not yet\n"
    );

    let deleted = typist.gets("delete operations/done operations/running operations/left").await;
    let lines: Vec<&str> = deleted.lines().collect();
    assert_eq!(lines[0], "operations/done is deleted");
    assert!(lines[1].starts_with("operations/running is deleted, but runs on"), "{deleted}");
    assert!(lines[2].contains("a worker will still run it"), "{deleted}");
    // Programs read the exit code.
    assert_eq!(typist.gets("cancel operations/waiting --output json").await, "");
}

#[tokio::test]
async fn foreign_text_is_shown_on_one_line_and_moves_no_cursor() {
    let typist = Typist::with_a_server().await;
    let hostile = "\u{1b}[2J\u{1b}[31m\r\n\u{202e}evil\u{9b}";
    let shown = "\\u001b[2J\\u001b[31m\\r\\n\\u202eevil\\u009b";
    let request = serde_json::json!({ "text": hostile }).to_string();
    let label = format!("l={hostile}");
    let start = ["start", "--queue", "q", "--operation-id", "x", "--request", &request];
    let ended = typist.runs(&[&start[..], &["--labels", &label]].concat(), "").await;
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    let lease = typist.client().lease("q", 1, LONG, LONG).await.expect("an answer").remove(0);
    typist.client().report_saying(&lease, hostile).await.expect("reported");
    for command in ["get operations/x", "record operations/x", "list"] {
        let text = typist.gets(command).await;
        assert!(text.contains(shown), "{command}: {text:?}");
        assert!(
            !text.contains(|letter: char| letter != '\n' && letter.is_control()),
            "{command}: {text:?}"
        );
    }
    // JSON is exact.
    let json = typist.gets_json("record operations/x", RECORD).await;
    assert_eq!(json["request"]["value"]["text"], hostile);
    assert_eq!(json["serverMetadata"]["progress"]["message"], hostile);

    let failed = typist.client().fail(&lease, hostile).await;
    failed.expect("failed");
    let waited = typist.types("wait operations/x").await;
    assert_eq!((waited.code, waited.stderr.lines().count()), (3, 1), "{waited:?}");
    assert!(waited.stderr.contains(shown), "{waited:?}");
    let refused = typist.runs(&["get", hostile], "").await;
    assert_eq!((refused.code, refused.stderr.lines().count()), (1, 1), "{refused:?}");
    assert!(!refused.stderr.contains(['\u{1b}', '\u{202e}']), "{refused:?}");
}

#[tokio::test]
async fn what_is_scheduled_for_later_says_so_wherever_it_is_shown() {
    let typist = Typist::with_a_server().await;
    let later = "2100-01-31T12:00:00Z";
    typist
        .gets(&format!(
            "start --queue q --operation-id x --schedule-time {later} --deadline-time \
             2100-02-28T12:00:00Z --priority 7 --target shelves/7 --max-attempts 2"
        ))
        .await;
    let wanted = format!("PENDING  scheduled for {later} (in ");
    for command in ["get operations/x", "record operations/x", "list"] {
        let text = typist.gets(command).await;
        assert!(text.contains(&wanted), "{command}: {text}");
    }
    let text = typist.gets("record operations/x").await;
    for line in [
        "\n  schedule    2100-01-31T12:00:00Z (in ",
        "\n  deadline    2100-02-28T12:00:00Z (in ",
        "\n  priority    7\n",
        "\n  target      shelves/7\n",
        "\n  attempts    0 of 2\n",
    ] {
        assert!(text.contains(line), "no {line:?} in {text}");
    }
    let watched = typist.types("watch operations/x --timeout 2s").await;
    assert!(watched.stdout.starts_with("PENDING  "), "{watched:?}");
    assert!(watched.stdout.contains(&format!("scheduled for {later}")), "{watched:?}");
}

#[tokio::test]
async fn a_closed_output_ends_the_command_quietly() {
    let typist = Typist::with_a_server().await;
    typist.gets("start --operation-id one").await;
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = typist.command(&["list"]);
    let child = command.stdout(writer).stderr(Stdio::piped()).spawn().expect("a process");
    let ended = soon("the end", child.wait_with_output()).await.expect("an end");
    assert_eq!((ended.status.code(), ended.stderr.as_slice()), (Some(1), &b""[..]));
}
