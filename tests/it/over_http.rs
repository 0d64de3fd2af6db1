//! What only HTTP has: bodies and types, statuses and headers, events for browsers.

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::support::answers::Answer as _;
use crate::support::http::{Answer, Http2, ask, ask_with};
use crate::support::rest::Events;
use crate::support::*;

scenarios! {
    a_poll_rides_out_a_short_outage_of_the_store,
    a_refusal_names_what_is_wrong,
    an_error_is_problem_details_for_those_who_ask,
    both_versions_of_http_and_every_core_answer,
    clients_that_read_strictly_get_no_type_that_they_may_not_know,
    events_go_on_where_they_broke_off_and_end_for_good,
    lists_are_filtered_and_ordered_and_name_their_index,
    payloads_of_unknown_types_pass_as_bytes,
    requests_for_other_hosts_are_refused,
    requests_have_ids,
    the_server_describes_itself_and_its_page_loads_nothing_from_elsewhere,
    the_requests_of_stock_clients_are_taken,
    what_is_no_request_is_refused_with_its_own_status,
}

const TYPE: &str = "content-type";
const JSON: &str = "application/json";

/// Starts an operation by POST; its name.
async fn started(fixture: &Fixture, body: &Value) -> String {
    let answer = post(fixture, "/v1/operations:start", &body.to_string()).await;
    assert!(matches!(answer.status, 200 | 202), "{answer:?}");
    answer.json()["name"].as_str().expect("a name").to_owned()
}

async fn post(fixture: &Fixture, path: &str, body: &str) -> Answer {
    ask_with(fixture.address, "POST", path, &[(TYPE, JSON)], body).await
}

async fn get(fixture: &Fixture, path: &str, headers: &[(&str, &str)]) -> Answer {
    ask_with(fixture.address, "GET", path, headers, "").await
}

async fn lists_are_filtered_and_ordered_and_name_their_index(fixture: &Fixture) {
    for (id, queue) in [("a", "q"), ("b", "other"), ("c", "q")] {
        let body = json!({ "operationId": id, "queue": queue }).to_string();
        let answer = post(fixture, "/v1/projects/p/operations:start", &body).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        fixture.clock.advance(std::time::Duration::from_secs(1));
    }
    let names = |answer: &Answer, field: &str| -> Vec<String> {
        let answer = answer.json();
        let all = answer[field].as_array().expect("a list").iter();
        all.map(|it| it["name"].as_str().expect("a name").replace("projects/p/operations/", ""))
            .collect()
    };
    let filter = "filter=queue()%20%3D%20q";
    let path = format!("/v1/projects/p/operations?{filter}");
    let list = get(fixture, &path, &[]).await;
    assert_eq!(names(&list, "operations"), ["c", "a"], "{list:?}");
    assert_eq!(list.header("longhaul-index"), "list");
    let path = format!("/v1/projects/p/operations:records?{filter}&orderBy=create_time");
    let list = get(fixture, &path, &[]).await;
    assert_eq!(names(&list, "operationRecords"), ["a", "c"], "{list:?}");
    assert_eq!(list.header("longhaul-index"), "list");
    let path = "/v1/projects/p/operations?filter=queue()%20%3D";
    get(fixture, path, &[]).await.refused(400, "INVALID_FILTER");
}

async fn both_versions_of_http_and_every_core_answer(fixture: &Fixture) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let cores = listener.local_addr().expect("an address");
    let (shutdown, told) = oneshot::channel::<()>();
    let serving = fixture.server.serve_on_cores(listener, 2, async move { drop(told.await) });
    let asking = async {
        for (round, address) in [fixture.address, cores, cores, cores].into_iter().enumerate() {
            let body = json!({ "operationId": format!("a{round}"), "queue": "q" }).to_string();
            let path = "/v1/projects/p/operations:start";
            let answer = ask_with(address, "POST", path, &[(TYPE, JSON)], &body).await;
            let name = format!("projects/p/operations/a{round}");
            assert_eq!(answer.json()["name"], name, "{answer:?}");
            let http2 = Http2::to(address).await;
            let answer = http2.ask("GET", &format!("/v1/{name}"), &[]).await;
            assert_eq!((answer.status, answer.header(TYPE)), (200, JSON), "{answer:?}");
            assert_eq!(answer.json()["metadata"]["state"], "PENDING");
            let head = http2.ask("HEAD", &format!("/v1/{name}"), &[]).await;
            assert_eq!((head.status, &*head.body), (200, ""));
            let listed = ask(address, "GET", "/v1/-/operations?pageSize=1").await.json();
            assert!(listed["operations"][0]["name"].is_string(), "{listed}");
            assert_eq!(listed["nextPageToken"].is_string(), round > 0, "{listed}");
        }
        drop(shutdown);
    };
    let (served, ()) = within("the cores", async { tokio::join!(serving, asking) }).await;
    served.expect("an orderly end");
}

async fn what_is_no_request_is_refused_with_its_own_status(fixture: &Fixture) {
    let start = "/v1/operations:start";
    let name = format!("/v1/{}", started(fixture, &json!({})).await);
    let large = format!("{{\"method\": \"{}\"}}", " ".repeat(13 << 20));
    for (method, path, headers, body, status, reason) in [
        ("GET", "/", &[][..], "", 404, "UNIMPLEMENTED"),
        ("GET", "/v2/operations", &[], "", 404, "UNIMPLEMENTED"),
        ("GET", "/v1/operations/", &[], "", 404, "UNIMPLEMENTED"),
        ("POST", &format!("{name}:explode"), &[], "", 404, "UNIMPLEMENTED"),
        ("GET", "/v1/operations/none", &[], "", 404, "OPERATION_NOT_FOUND"),
        ("GET", "/v1/operations/UPPER", &[], "", 400, "INVALID_NAME"),
        ("GET", "/v1/operations/%ff", &[], "", 400, "INVALID_NAME"),
        ("PUT", &name, &[], "{}", 405, "UNIMPLEMENTED"),
        ("GET", start, &[], "", 405, "UNIMPLEMENTED"),
        ("POST", &name, &[("x-http-method-override", "PATCH")], "{}", 405, "UNIMPLEMENTED"),
        ("GET", &name, &[("accept", "text/html")], "", 406, "INVALID_ARGUMENT"),
        ("GET", &format!("{name}:watch"), &[("accept", "image/png")], "", 406, "INVALID_ARGUMENT"),
        ("POST", start, &[(TYPE, "text/plain")], "{}", 415, "INVALID_ARGUMENT"),
        ("POST", start, &[("content-encoding", "gzip")], "{}", 415, "INVALID_ARGUMENT"),
        ("POST", "/longhaul.v1.Workers/ServeQueue", &[], "{}", 415, "UNIMPLEMENTED"),
        ("POST", start, &[], "{\"queue\": ", 400, "INVALID_ARGUMENT"),
        ("POST", start, &[], "[]", 400, "INVALID_ARGUMENT"),
        ("POST", start, &[], "{\"queu\": \"q\"}", 400, "INVALID_ARGUMENT"),
        (
            "POST",
            start,
            &[],
            "{\"request\": {\"@type\": \"x/a.B\", \"c\": 1}}",
            400,
            "UNKNOWN_TYPE",
        ),
        ("POST", "/v1/a/b/operations:start", &[], "{\"parent\": \"c/d\"}", 400, "INVALID_ARGUMENT"),
        ("GET", "/v1/operations?pageSize=x", &[], "", 400, "INVALID_ARGUMENT"),
        ("GET", "/v1/operations?page=1", &[], "", 400, "INVALID_ARGUMENT"),
        ("GET", "/v1/operations?pageSize=-1", &[], "", 400, "INVALID_ARGUMENT"),
        ("GET", &name, &[], "{\"name\": \"x\"}", 400, "INVALID_ARGUMENT"),
    ] {
        for answer in [
            ask_with(fixture.address, method, path, headers, body).await,
            Http2::to(fixture.address).await.ask_with(method, path, headers, body).await,
        ] {
            answer.refused(status, reason);
            assert_eq!(answer.header(TYPE), JSON);
        }
    }
    // The rest of such a body is not read.
    let http2 = Http2::to(fixture.address).await;
    http2.ask_with("POST", start, &[], &large).await.refused(413, "PAYLOAD_TOO_LARGE");
}

async fn a_refusal_names_what_is_wrong(fixture: &Fixture) {
    let start = "/v1/operations:start";
    let name = format!("/v1/{}", started(fixture, &json!({})).await);
    let wrong = ask(fixture.address, "PUT", &name).await;
    assert_eq!(wrong.header("allow"), "DELETE, GET, HEAD");
    let patch = ("x-http-method-override", "PATCH");
    let patch = ask_with(fixture.address, "POST", &name, &[patch], "").await;
    assert!(patch.body.contains("PATCH"), "Java's clients send PATCH so: {patch:?}");
    let unknown = "{\"request\": {\"@type\": \"x/a.B\", \"c\": 1}}";
    let unknown = post(fixture, start, unknown).await.refused(400, "UNKNOWN_TYPE");
    assert_eq!(unknown["details"][0]["metadata"], json!({ "field": "request", "type": "a.B" }));
    let bad = post(fixture, start, "{\n  \"queue\": x}").await.refused(400, "INVALID_ARGUMENT");
    assert!(bad["message"].as_str().expect("a message").contains("line 2 column 12"), "{bad}");
    let bad = post(fixture, start, r#"{"options": {"ttl": "1 h"}}"#).await;
    let bad = bad.refused(400, "INVALID_ARGUMENT");
    assert_eq!(bad["details"][1]["fieldViolations"][0]["field"], "options.ttl", "{bad}");
}

async fn an_error_is_problem_details_for_those_who_ask(fixture: &Fixture) {
    for accept in ["application/problem+json", "application/json, application/problem+json"] {
        let problem = get(fixture, "/v1/operations/none", &[("accept", accept)]).await;
        problem.refused(404, "OPERATION_NOT_FOUND");
        assert_eq!(problem.header(TYPE), "application/problem+json");
        let body = problem.json();
        assert_eq!((&body["status"], &body["title"]), (&json!(404), &json!("Not Found")));
        assert_eq!(body["instance"], "/v1/operations/none");
        assert_eq!(body["type"], "https://longhaul.dev/reasons/OPERATION_NOT_FOUND");
        assert_eq!(body["detail"], body["error"]["message"]);
    }
    let name = fixture.started("q").await;
    let granted =
        get(fixture, &format!("/v1/{name}"), &[("accept", "application/problem+json")]).await;
    assert_eq!((granted.status, granted.header(TYPE)), (200, JSON));
}

async fn the_requests_of_stock_clients_are_taken(fixture: &Fixture) {
    let java =
        [("accept", "text/html, image/gif, image/jpeg, */*; q=0.2"), ("x-goog-api-client", "java")];
    let form = [(TYPE, "application/x-www-form-urlencoded"), ("content-length", "0")];
    for headers in [&[(TYPE, JSON), ("content-length", "0")][..], &form, &[]] {
        let name = fixture.started("q").await;
        let cancelled =
            ask_with(fixture.address, "POST", &format!("/v1/{name}:cancel"), headers, "").await;
        assert_eq!((cancelled.status, cancelled.json()), (200, json!({})), "{headers:?}");
        let done = get(fixture, &format!("/v1/{name}?$alt=json;enum-encoding%3Dint"), &java).await;
        assert_eq!(done.json()["error"]["code"], 1, "{done:?}");
        let deleted = ask(fixture.address, "DELETE", &format!("/v1/{name}?%24alt=json&")).await;
        assert_eq!((deleted.status, deleted.json()), (200, json!({})));
    }
    for query in [
        "filter&pageSize=7&pageToken",
        "filter=&pageSize=0&pageToken=&returnPartialSuccess=false",
        "",
    ] {
        let listed = get(fixture, &format!("/v1/operations?{query}"), &java).await;
        assert_eq!((listed.status, listed.json()), (200, json!({})), "{query}");
    }
}

async fn clients_that_read_strictly_get_no_type_that_they_may_not_know(fixture: &Fixture) {
    let name = started(fixture, &json!({ "queue": "q" })).await;
    let path = format!("/v1/{name}");
    let strict = [("x-goog-api-client", "gax")];
    assert!(get(fixture, &path, &[]).await.json()["metadata"].is_object());
    assert_eq!(get(fixture, &path, &strict).await.json(), json!({ "name": name }));
    let lease = fixture.lease("q").await;
    let detail = any("a.B", &[]);
    let error = RpcStatus { code: 9, message: "no".to_owned(), details: vec![detail] };
    fixture
        .fail(pb::FailOperationRequest { error: Some(error), ..failure(&lease, Code::Ok) })
        .await
        .granted();
    let failed = get(fixture, &path, &strict).await.json();
    assert_eq!(
        failed,
        json!({ "name": name, "done": true, "error": { "code": 9, "message": "no" } })
    );
    let failed = get(fixture, &path, &[]).await.json();
    assert_eq!(failed["error"]["details"][0]["@type"], "type.googleapis.com/a.B");
}

async fn payloads_of_unknown_types_pass_as_bytes(fixture: &Fixture) {
    let unknown = json!({ "@type": "type.googleapis.com/a.B", "@value": "CAE=" });
    let name =
        started(fixture, &json!({ "queue": "q", "request": unknown, "responseType": "a.B" })).await;
    let lease = fixture.lease("q").await;
    assert_eq!(lease.request.as_ref().expect("a request").value[..], [8, 1]);
    let complete = json!({ "leaseToken": lease.lease_token, "response": unknown });
    let completed = post(fixture, &format!("/v1/{name}:complete"), &complete.to_string()).await;
    assert_eq!(completed.status, 200, "{completed:?}");
    assert_eq!(get(fixture, &format!("/v1/{name}"), &[]).await.json()["response"], unknown);
    let strict = get(fixture, &format!("/v1/{name}"), &[("x-goog-api-client", "gax")]).await;
    let error = strict.refused(400, "UNKNOWN_TYPE");
    let message = error["message"].as_str().expect("a message");
    assert!(message.contains("a.B") && message.contains("--descriptor-set"), "{message}");
}

async fn requests_for_other_hosts_are_refused(fixture: &Fixture) {
    let path = "/v1/operations";
    for headers in [
        &[("host", "example.com")][..],
        &[("host", "127.0.0.1.example.com:80")],
        &[("origin", "https://example.com")],
        &[("origin", "null")],
    ] {
        get(fixture, path, headers).await.refused(403, "PERMISSION_DENIED");
    }
    for headers in [&[("host", "127.0.0.1:1")][..], &[("origin", "http://localhost:3000")]] {
        assert_eq!(get(fixture, path, headers).await.status, 200, "{headers:?}");
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let named = fixture.server.clone().under_names(&["longhaul.example".to_owned()]);
    let (shutdown, told) = oneshot::channel::<()>();
    let serving = named.serve(listener, async move { drop(told.await) });
    let asking = async {
        for (host, status) in
            [("longhaul.example:443", 200), ("localhost", 200), ("x.example", 403)]
        {
            let headers = [("host", host), ("origin", &*format!("https://{host}"))];
            let answer = ask_with(address, "GET", path, &headers, "").await;
            assert_eq!(answer.status, status, "{host}: {answer:?}");
        }
        drop(shutdown);
    };
    let (served, ()) = within("the named server", async { tokio::join!(serving, asking) }).await;
    served.expect("an orderly end");
}

async fn the_server_describes_itself_and_its_page_loads_nothing_from_elsewhere(fixture: &Fixture) {
    let pages = [
        ("/openapi.json", JSON),
        ("/docs", "text/html; charset=utf-8"),
        ("/docs/style.css", "text/css; charset=utf-8"),
    ];
    for (path, kind) in pages {
        let page = get(fixture, path, &[]).await;
        assert_eq!((page.status, page.header(TYPE)), (200, kind), "{path}");
        let policy = page.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; style-src 'self';"), "{policy}");
        assert_eq!(page.header("x-content-type-options"), "nosniff");
        let known = get(fixture, path, &[("if-none-match", page.header("etag"))]).await;
        assert_eq!((known.status, &*known.body), (304, ""), "{path}");
        assert_eq!(known.header("etag"), page.header("etag"));
        get(fixture, path, &[("accept", "image/png")]).await.refused(406, "INVALID_ARGUMENT");
        let posted = post(fixture, path, "{}").await;
        posted.refused(405, "UNIMPLEMENTED");
        assert_eq!(posted.header("allow"), "GET, HEAD");
    }
    let document = get(fixture, "/openapi.json", &[]).await.json();
    assert_eq!(document["openapi"], "3.1.1");
    let page = get(fixture, "/docs", &[]).await.body;
    assert!(!page.contains("://") && !page.contains("<script"), "{page}");
    for part in ["startOperation", "href=\"/docs/style.css\"", "longhaul.v1.OperationRecord"] {
        assert!(page.contains(part), "{part}");
    }
}

async fn requests_have_ids(fixture: &Fixture) {
    let own = get(fixture, "/v1/operations", &[("x-request-id", "mine")]).await;
    assert_eq!(own.header("x-request-id"), "mine");
    let refused = get(fixture, "/v1/nothing", &[("x-request-id", "mine")]).await;
    assert_eq!(refused.header("x-request-id"), "mine");
    let [one, other] = [get(fixture, "/", &[]).await, get(fixture, "/", &[]).await];
    assert_ne!(one.header("x-request-id"), other.header("x-request-id"));
    let traced =
        [("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"), (TYPE, JSON)];
    let started = ask_with(fixture.address, "POST", "/v1/operations:start", &traced, "{}").await;
    let name = started.json()["name"].as_str().expect("a name").to_owned();
    assert_eq!(fixture.record(&name).await.trace_parent, traced[0].1);
}

/// Some clients give up at the first 503.
async fn a_poll_rides_out_a_short_outage_of_the_store(fixture: &Fixture) {
    const RIDE: Duration = Duration::from_millis(250);
    let path = format!("/v1/{}", fixture.started("q").await);
    for (is_short, status) in [(true, 200), (false, 503)] {
        fixture.store.set_away(true);
        let mut rides = fixture.clock.count(RIDE);
        let passing = async {
            loop {
                rides += 1;
                fixture.clock.asked_for(RIDE, rides).await;
                fixture.store.set_away(!is_short);
                fixture.clock.advance(RIDE);
            }
        };
        let answer = tokio::select! {
            answer = get(fixture, &path, &[]) => answer,
            _ = passing => unreachable!(),
        };
        fixture.store.set_away(false);
        assert_eq!(answer.status, status, "{answer:?}");
        if !is_short {
            answer.refused(503, "STORE_UNAVAILABLE");
            assert!(!answer.header("retry-after").is_empty(), "{answer:?}");
        }
    }
}

async fn events_go_on_where_they_broke_off_and_end_for_good(fixture: &Fixture) {
    let name = fixture.started("q").await;
    let path = format!("/v1/{name}:watch");
    let http2 = Http2::to(fixture.address).await;
    let accept = ("accept", "text/event-stream");
    let mut events = Events::open(&http2, &path, &[accept]).await;
    assert_eq!(events.head.headers["content-type"], "text/event-stream");
    assert_eq!(events.head.headers["x-accel-buffering"], "no");
    assert_eq!(events.head.headers["incremental"], "?1");
    assert_eq!(events.next().await.expect("advice").retry.as_deref(), Some("1000"));
    let first = events.next().await.expect("an event");
    assert_eq!(first.json()["type"], "SNAPSHOT");
    assert_eq!(first.id, first.json()["resumeToken"].as_str().map(str::to_owned));
    fixture.clock.advance(Duration::from_secs(30));
    assert_eq!(events.next().await.expect("a sign of life").comment.as_deref(), Some("heartbeat"));
    drop(events);
    // Nothing has happened since: a client that comes back hears of the next change only.
    let token = first.id.expect("an id");
    let begin = format!("{path}?resumeToken=now");
    let mut events = Events::open(&http2, &begin, &[accept, ("last-event-id", &token)]).await;
    events.next().await.expect("advice");
    let lease = fixture.lease("q").await;
    assert_eq!(events.next().await.expect("an event").json()["type"], "UPDATE");
    fixture.complete(completion(&lease)).await.granted();
    let last = events.next().await.expect("an event");
    assert_eq!(last.json()["type"], "DONE");
    assert_eq!(last.json()["operation"]["done"], true);
    assert!(events.next().await.is_none());
    let again = [accept, ("last-event-id", last.id.as_deref().expect("an id"))];
    assert_eq!(http2.ask("GET", &path, &again).await.status, 204);
    let array = http2.ask("GET", &path, &[("accept", "*/*")]).await;
    assert_eq!(array.json()[0]["type"], "DONE", "{array:?}");
    let gone = http2.ask("GET", "/v1/operations/none:watch", &[accept]).await;
    gone.refused(404, "OPERATION_NOT_FOUND");
}
