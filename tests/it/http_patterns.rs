//! The published patterns of asynchronous HTTP, each walked through as its authors describe it. `docs/http.md` shows the same
//! exchanges with curl.

use serde_json::{Value, json};

use crate::support::answers::Answer as _;
use crate::support::http::{Answer, ask_with};
use crate::support::*;

scenarios! {
    a_client_that_waits_gets_the_outcome_at_once_or_what_it_did_not_know,
    a_created_job_of_json_api_becomes_the_resource_that_it_makes,
    a_monitor_leads_to_the_result_in_two_steps,
    a_poll_says_when_to_ask_again_and_nothing_twice,
    a_start_is_safe_to_repeat_by_every_custom,
    a_start_is_the_same_whatever_the_order_of_keys_in_its_request,
    a_status_document_says_all_in_one_place,
    an_idempotency_key_is_read_with_or_without_quotes,
    an_operation_that_fails_or_is_cancelled_says_so_at_its_result,
    azures_monitor_has_azures_words,
    what_changed_meanwhile_is_neither_cancelled_nor_deleted,
}

const START: &str = "/v1/projects/p/operations:start";

async fn get(fixture: &Fixture, path: &str, headers: &[(&str, &str)]) -> Answer {
    ask_with(fixture.address, "GET", path, headers, "").await
}

async fn post(fixture: &Fixture, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    ask_with(fixture.address, "POST", path, headers, &body.to_string()).await
}

/// Starts an operation in the queue `q`; the answer, and its path.
async fn start_with(fixture: &Fixture, headers: &[(&str, &str)], body: Value) -> (Answer, String) {
    let mut body = body;
    body["queue"] = "q".into();
    let started = post(fixture, START, headers, &body).await;
    let path = started.header("content-location").to_owned();
    assert!(path.starts_with("/v1/projects/p/operations/"), "{started:?}");
    (started, path)
}

/// Completes what is leased, with a Struct.
async fn complete(fixture: &Fixture, lease: &pb::Lease) {
    let body = json!({ "leaseToken": lease.lease_token, "response": { "rows": 7 } });
    let completed = post(fixture, &format!("/v1/{}:complete", lease.operation), &[], &body).await;
    assert_eq!(completed.status, 200, "{completed:?}");
}

async fn report(fixture: &Fixture, lease: &pb::Lease, fraction: f64, related: Value) {
    let body = json!({
        "leaseToken": lease.lease_token,
        "progress": { "fraction": fraction, "message": "half" },
        "relatedResources": related,
    });
    let path = format!("/v1/{}:reportProgress", lease.operation);
    let reported = post(fixture, &path, &[], &body).await;
    assert_eq!(reported.status, 200, "{reported:?}");
}

/// 1: two-oh-two.
async fn a_monitor_leads_to_the_result_in_two_steps(fixture: &Fixture) {
    let (started, path) = start_with(fixture, &[("prefer", "location=monitor")], json!({})).await;
    let monitor = started.header("location").to_owned();
    assert_eq!((started.status, &monitor), (202, &format!("{path}/monitor")));
    assert_eq!(started.header("preference-applied"), "location=monitor");
    let running = get(fixture, &monitor, &[]).await;
    assert_eq!((running.status, &running.json()["status"]), (200, &json!("pending")));
    assert!(!running.header("retry-after").is_empty() && running.header("location").is_empty());
    let lease = fixture.lease("q").await;
    assert_eq!(get(fixture, &monitor, &[]).await.json()["status"], "running");
    complete(fixture, &lease).await;
    let done = get(fixture, &monitor, &[]).await;
    let result = done.header("location").to_owned();
    assert_eq!((done.status, &result), (201, &format!("{path}/result")));
    assert_eq!(done.header("retry-after"), "");
    let result = get(fixture, &result, &[]).await;
    assert_eq!((result.status, result.json()), (200, json!({ "rows": 7 })));
    let redirected = get(fixture, &monitor, &[("prefer", "redirect")]).await;
    assert_eq!(
        (redirected.status, redirected.header("location")),
        (303, &*format!("{path}/result"))
    );
}

/// 2: 202, Location and Retry-After on every poll.
async fn a_poll_says_when_to_ask_again_and_nothing_twice(fixture: &Fixture) {
    let (started, path) = start_with(fixture, &[], json!({ "method": "m" })).await;
    assert_eq!((started.status, started.header("location")), (202, &*path));
    assert_eq!(started.header("operation-location"), format!("http://localhost{path}"));
    let links = started.header("link");
    for link in [
        format!("<{path}:watch>; rel=\"monitor\""),
        "</v1/projects/p/operations>; rel=\"monitor-group\"".to_owned(),
        "</openapi.json>; rel=\"describedby\"".to_owned(),
        format!("<{path}:cancel>; rel=\"https://longhaul.dev/rels/cancel\""),
    ] {
        assert!(links.contains(&link), "{links}");
    }
    let polled = get(fixture, &path, &[]).await;
    assert_eq!((polled.status, polled.header("etag")), (200, started.header("etag")));
    assert_eq!((polled.header("retry-after"), polled.header("cache-control")), ("1", "no-cache"));
    let known = [("if-none-match", polled.header("etag"))];
    let same = get(fixture, &path, &known).await;
    assert_eq!((same.status, &*same.body, same.header("etag")), (304, "", polled.header("etag")));
    assert_eq!(same.header("cache-control"), "no-cache");
    assert!(same.header("vary").contains("accept, prefer") && !same.header("date").is_empty());
    let result = format!("{path}/result");
    let early = get(fixture, &result, &[]).await;
    assert_eq!((early.status, early.header("location")), (202, &*result));
    assert_eq!(early.header("content-location"), path);
    // Half of it took 20 s, so the other half takes as long.
    let lease = fixture.lease("q").await;
    fixture.let_pass(Duration::from_secs(20));
    report(fixture, &lease, 0.5, json!([])).await;
    let seconds: u64 =
        get(fixture, &path, &known).await.header("retry-after").parse().expect("a number");
    assert!((20..=24).contains(&seconds), "{seconds}");
    complete(fixture, &lease).await;
    let done = get(fixture, &path, &known).await;
    assert_eq!((done.status, done.header("retry-after")), (200, ""));
    assert_eq!(done.header("cache-control"), "private, max-age=60");
    let bare = get(fixture, &result, &[]).await;
    assert_eq!((bare.status, bare.json()), (200, json!({ "rows": 7 })));
    let again = get(fixture, &result, &[("if-none-match", bare.header("etag"))]).await;
    assert_eq!(again.status, 304);
    // The next one of its method is likely to take as long.
    let (next, _) = start_with(fixture, &[], json!({ "method": "m" })).await;
    let seconds: u64 = next.header("retry-after").parse().expect("a number");
    assert!((20..=24).contains(&seconds), "{seconds}");
}

/// 3: one document.
async fn a_status_document_says_all_in_one_place(fixture: &Fixture) {
    let accept = [("accept", "application/vnd.longhaul.status+json")];
    let (_, path) = start_with(fixture, &accept, json!({})).await;
    let document = get(fixture, &path, &accept).await;
    assert_eq!(document.header("content-type"), accept[0].1);
    let pending = document.json();
    assert_eq!((&pending["status"], &pending["progress"]), (&json!("pending"), &json!(0)));
    assert!(pending["result"].is_null() && pending["createTime"].is_string(), "{pending}");
    let lease = fixture.lease("q").await;
    let log = json!([{ "name": "logs/l", "uri": "https://x.example/l", "relation": "log" }]);
    report(fixture, &lease, 0.5, log).await;
    let running = get(fixture, &path, &accept).await;
    assert!(running.header("link").contains("<https://x.example/l>; rel=\"related\""));
    let running = running.json();
    assert_eq!((&running["status"], &running["progress"]), (&json!("running"), &json!(50)));
    assert_eq!(running["related"][0]["uri"], "https://x.example/l");
    complete(fixture, &lease).await;
    let done = get(fixture, &path, &accept).await.json();
    assert_eq!((&done["status"], &done["progress"]), (&json!("completed"), &json!(100)));
    assert_eq!(done["result"], json!({ "rows": 7 }));
    let (_, paused) = start_with(fixture, &[], json!({})).await;
    post(fixture, &format!("{paused}:pause"), &[], &json!({})).await;
    assert_eq!(get(fixture, &paused, &accept).await.json()["status"], "suspended");
}

/// 4: Azure.
async fn azures_monitor_has_azures_words(fixture: &Fixture) {
    let azure = [("accept", "application/vnd.longhaul.azure+json"), ("operation-id", "o1")];
    let (started, path) = start_with(fixture, &azure, json!({})).await;
    assert_eq!((started.status, started.header("operation-id")), (202, "o1"));
    assert_eq!(started.header("operation-location"), format!("http://localhost{path}"));
    assert_eq!(started.json()["status"], "NotStarted");
    let lease = fixture.lease("q").await;
    let running = get(fixture, &path, &azure).await;
    assert_eq!((running.status, &running.json()["status"]), (200, &json!("Running")));
    complete(fixture, &lease).await;
    let done = get(fixture, &path, &azure).await.json();
    assert_eq!((&done["status"], &done["result"]), (&json!("Succeeded"), &json!({ "rows": 7 })));
    assert_eq!(done["resourceLocation"], format!("{path}/result"));
    let versioned = format!("{path}?api-version=2024-01-01");
    assert_eq!(get(fixture, &versioned, &azure).await.status, 200);
    // The id makes a start safe to repeat.
    let (again, same) = start_with(fixture, &azure, json!({})).await;
    assert_eq!((again.status, again.header("longhaul-replayed"), &same), (202, "true", &path));
    let other = post(fixture, START, &azure, &json!({ "queue": "q", "method": "n" })).await;
    other.refused(409, "REQUEST_ID_REUSED");
    let taken = [("operation-id", "o1"), ("idempotency-key", "k")];
    let taken = post(fixture, START, &taken, &json!({ "queue": "q" })).await;
    taken.refused(409, "OPERATION_ALREADY_EXISTS");
    let (_, path) = start_with(fixture, &[], json!({})).await;
    let cancelled = post(fixture, &format!("{path}:cancel"), &azure, &json!({})).await;
    assert_eq!((cancelled.status, &cancelled.json()["status"]), (200, &json!("Canceled")));
    assert!(cancelled.json()["error"].is_null());
}

/// 5: JSON:API's asynchronous processing.
async fn a_created_job_of_json_api_becomes_the_resource_that_it_makes(fixture: &Fixture) {
    const KIND: &str = "application/vnd.api+json";
    let headers = [("accept", KIND), ("content-type", KIND)];
    let body = json!({ "data": { "type": "operations", "attributes": { "queue": "q" } } });
    let started = post(fixture, START, &headers, &body).await;
    let path = started.header("content-location").to_owned();
    assert_eq!((started.status, started.header("content-type")), (202, KIND), "{started:?}");
    assert_eq!(started.json()["data"]["links"]["self"], path);
    let lease = fixture.lease("q").await;
    let made =
        json!([{ "name": "photos/1", "uri": "/photos/1", "type": "photos", "relation": "result" }]);
    report(fixture, &lease, 0.25, made).await;
    let running = get(fixture, &path, &headers[..1]).await;
    let data = &running.json()["data"];
    assert_eq!((running.status, &data["type"]), (200, &json!("operations")));
    assert_eq!(data["attributes"]["status"], "running");
    assert_eq!(data["attributes"]["progress"], 25);
    assert_eq!(
        data["relationships"]["result"]["data"],
        json!([{ "type": "photos", "id": "photos/1" }])
    );
    complete(fixture, &lease).await;
    assert_eq!(get(fixture, &path, &headers[..1]).await.status, 200);
    let made = get(fixture, &path, &[headers[0], ("prefer", "redirect")]).await;
    assert_eq!((made.status, made.header("location")), (303, "/photos/1"));
    let none = get(fixture, "/v1/operations/none", &headers[..1]).await;
    assert_eq!((none.status, none.header("content-type")), (404, KIND));
    let errors = none.json();
    assert_eq!(errors["errors"][0]["code"], "OPERATION_NOT_FOUND");
    assert_eq!(errors["errors"][0]["status"], "404");
    assert_eq!(errors["meta"]["error"]["status"], "NOT_FOUND");
    let bad = post(fixture, START, &headers, &json!({ "queue": "q" })).await;
    assert_eq!(bad.status, 400, "{bad:?}");
}

/// 6: preferences (RFC 7240).
async fn a_client_that_waits_gets_the_outcome_at_once_or_what_it_did_not_know(fixture: &Fixture) {
    let (later, _) = start_with(fixture, &[("prefer", "respond-async")], json!({})).await;
    assert_eq!((later.status, later.header("preference-applied")), (202, "respond-async"));
    complete(fixture, &fixture.lease("q").await).await;
    // A wait on the start: the worker is quick enough.
    let (address, body) = (fixture.address, json!({ "queue": "q" }).to_string());
    let wait = [("prefer", "wait=20")];
    let call = async move { ask_with(address, "POST", START, &wait, &body).await };
    let call = Call::begin("a start that waits", call);
    let lease =
        fixture.leasing(pb::LeaseOperationsRequest { wait_duration: seconds(50), ..leasing("q") });
    let lease = lease.end().await.granted().remove(0);
    complete(fixture, &lease).await;
    let done = call.end().await;
    assert_eq!((done.status, &done.json()["done"]), (200, &json!(true)), "{done:?}");
    assert_eq!(done.header("preference-applied"), "wait=20");
    // A wait on a poll, for anything that is new.
    let (_, path) = start_with(fixture, &[], json!({})).await;
    let etag = get(fixture, &path, &[]).await.header("etag").to_owned();
    let polled = path.clone();
    let call = async move {
        let headers = [("prefer", "wait=21"), ("if-none-match", &*etag)];
        ask_with(address, "GET", &polled, &headers, "").await
    };
    let call = Call::begin("a poll that waits", call);
    fixture.clock.asked_for(Duration::from_secs(21), 1).await;
    let lease = fixture.lease("q").await;
    let news = call.end().await;
    assert_eq!(
        (news.status, &news.json()["metadata"]["state"]),
        (200, &json!("RUNNING")),
        "{news:?}"
    );
    // Without a tag it waits for the end, and answers with the state when its time is up.
    let polled = path.clone();
    let call = async move { ask_with(address, "GET", &polled, &[("prefer", "wait=22")], "").await };
    let call = Call::begin("a poll that waits for the end", call);
    fixture.clock.asked_for(Duration::from_secs(22), 1).await;
    fixture.clock.advance(Duration::from_secs(22));
    let still = call.end().await;
    assert_eq!((still.status, &still.json()["done"]), (200, &Value::Null));
    // At most a minute is granted.
    let polled = path.clone();
    let call =
        async move { ask_with(address, "GET", &polled, &[("prefer", "wait=600")], "").await };
    let call = Call::begin("a poll that would wait for long", call);
    complete(fixture, &lease).await;
    let done = call.end().await;
    assert_eq!((done.status, done.header("preference-applied")), (200, "wait=60"));
    let nonsense =
        get(fixture, &path, &[("prefer", "wait=soon, tea=\"green\", location=mars")]).await;
    assert_eq!((nonsense.status, nonsense.header("preference-applied")), (200, ""));
}

async fn a_start_is_safe_to_repeat_by_every_custom(fixture: &Fixture) {
    let sent = ("repeatability-first-sent", "Sun, 06 Nov 1994 08:49:37 GMT");
    for (number, headers) in
        [&[("idempotency-key", "\"k1\"")][..], &[("repeatability-request-id", "k2"), sent]]
            .into_iter()
            .enumerate()
    {
        let (first, path) = start_with(fixture, headers, json!({ "method": "m" })).await;
        let (second, same) = start_with(fixture, headers, json!({ "method": "m" })).await;
        assert_eq!((first.status, second.status, &path), (202, 202, &same));
        assert_eq!(
            (first.header("longhaul-replayed"), second.header("longhaul-replayed")),
            ("", "true")
        );
        let other = post(fixture, START, headers, &json!({ "queue": "q", "method": "n" })).await;
        other.refused(422, "REQUEST_ID_REUSED");
        let accepted = second.header("repeatability-result") == "accepted";
        assert_eq!(accepted, number == 1, "{second:?}");
    }
    let key = [("idempotency-key", "k1")];
    for _ in 0..2 {
        complete(fixture, &fixture.lease("q").await).await;
    }
    let (done, _) = start_with(fixture, &key, json!({ "method": "m" })).await;
    let expected = (202, "", &json!(true));
    assert_eq!((done.status, done.header("retry-after"), &done.json()["done"]), expected);
    let (_, bare) = start_with(fixture, &key, json!({ "method": "m" })).await;
    let (_, field) = start_with(fixture, &[], json!({ "method": "m", "requestId": "k1" })).await;
    assert_eq!(bare, field);
    let two = post(fixture, START, &key, &json!({ "requestId": "k3" })).await;
    two.refused(400, "INVALID_ARGUMENT");
    let checked = post(fixture, START, &[], &json!({ "validateOnly": true })).await;
    assert_eq!((checked.status, checked.header("location")), (200, ""));
}

async fn an_idempotency_key_is_read_with_or_without_quotes(fixture: &Fixture) {
    let (_, quoted) =
        start_with(fixture, &[("idempotency-key", "\"k\\\"5\";a=1")], json!({})).await;
    let (_, bare) = start_with(fixture, &[("idempotency-key", "k\"5")], json!({})).await;
    assert_eq!(quoted, bare);
    for headers in [
        &[("idempotency-key", "\"\"")][..],
        &[("idempotency-key", "\"open")],
        &[("idempotency-key", "\"k\"k")],
        &[("idempotency-key", "k"), ("idempotency-key", "k")],
        &[("repeatability-request-id", "k4")],
    ] {
        post(fixture, START, headers, &json!({})).await.refused(400, "INVALID_ARGUMENT");
    }
}

async fn a_start_is_the_same_whatever_the_order_of_keys_in_its_request(fixture: &Fixture) {
    let mut keys: Vec<String> = (0..40).map(|key| format!("\"k{key}\":\"v\"")).collect();
    let mut paths = Vec::new();
    for _ in 0..3 {
        keys.reverse();
        let kind = "type.googleapis.com/google.rpc.ErrorInfo";
        let entries = keys.join(",");
        let body = format!(
            r#"{{"requestId":"k6","request":{{"@type":"{kind}","metadata":{{{entries}}}}}}}"#
        );
        let started = ask_with(fixture.address, "POST", START, &[], &body).await;
        assert_eq!(started.status, 202, "{started:?}");
        paths.push(started.header("content-location").to_owned());
    }
    assert!(paths.iter().all(|path| *path == paths[0]), "{paths:?}");
}

async fn an_operation_that_fails_or_is_cancelled_says_so_at_its_result(fixture: &Fixture) {
    let (_, path) = start_with(fixture, &[], json!({})).await;
    let lease = fixture.lease("q").await;
    let error = json!({ "code": 9, "message": "no room" });
    let body = json!({ "leaseToken": lease.lease_token, "error": error });
    assert_eq!(post(fixture, &format!("{path}:fail"), &[], &body).await.status, 200);
    let result = get(fixture, &format!("{path}/result"), &[]).await;
    let error = &result.json()["error"];
    assert_eq!((result.status, &error["code"]), (422, &json!(422)));
    assert_eq!(
        (&error["message"], &error["status"]),
        (&json!("no room"), &json!("FAILED_PRECONDITION"))
    );
    let monitor = get(fixture, &format!("{path}/monitor"), &[]).await;
    assert_eq!((monitor.status, &monitor.json()["error"]["message"]), (201, &json!("no room")));
    assert_eq!(get(fixture, &path, &[]).await.status, 200);
    let (_, path) = start_with(fixture, &[], json!({})).await;
    assert_eq!(post(fixture, &format!("{path}:cancel"), &[], &json!({})).await.json(), json!({}));
    assert_eq!(get(fixture, &format!("{path}/result"), &[]).await.status, 410);
    let azure = get(fixture, &path, &[("accept", "application/vnd.longhaul.azure+json")]).await;
    assert_eq!(azure.json()["status"], "Canceled");
}

async fn what_changed_meanwhile_is_neither_cancelled_nor_deleted(fixture: &Fixture) {
    let (started, path) = start_with(fixture, &[], json!({})).await;
    let old = started.header("etag").to_owned();
    let _lease = fixture.lease("q").await;
    let stale = [("if-match", &*old)];
    let cancel = format!("{path}:cancel");
    let refused = post(fixture, &cancel, &stale, &json!({})).await;
    assert_eq!(refused.refused(412, "ETAG_MISMATCH")["status"], "ABORTED");
    let refused = ask_with(fixture.address, "DELETE", &path, &stale, "").await;
    refused.refused(412, "ETAG_MISMATCH");
    let pause = format!("{path}:pause");
    post(fixture, &pause, &stale, &json!({})).await.refused(412, "ETAG_MISMATCH");
    let both = [("if-match", "\"0\", \"1\"")];
    post(fixture, &pause, &both, &json!({})).await.refused(400, "INVALID_ARGUMENT");
    let weak = format!("W/{}", get(fixture, &path, &[]).await.header("etag"));
    let refused = post(fixture, &cancel, &[("if-match", &weak)], &json!({})).await;
    refused.refused(412, "ETAG_MISMATCH");
    let accept = ("accept", "application/vnd.longhaul.status+json");
    let newest = get(fixture, &path, &[accept]).await.header("etag").to_owned();
    let stale = format!("{old}, W/{newest}, \"0\"");
    let refused = post(fixture, &cancel, &[("if-match", &stale)], &json!({})).await;
    refused.refused(412, "ETAG_MISMATCH");
    let either = format!("{old}, {newest}, \"0\"");
    let cancelled = post(fixture, &cancel, &[("if-match", &either)], &json!({})).await;
    assert_eq!(cancelled.status, 200, "{cancelled:?}");
    let any = [("if-match", "*")];
    assert_eq!(ask_with(fixture.address, "DELETE", &path, &any, "").await.status, 200);
    get(fixture, &path, &[]).await.refused(404, "OPERATION_DELETED");
}
