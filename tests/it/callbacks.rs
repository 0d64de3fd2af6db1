//! Callbacks at the start: in the options and by header, their URIs evaluated then and stored as what they are.

use longhaul::limits::MAX_CALLBACKS;
use pb::callback::{Event, Format};
use serde_json::json;
use tonic::{Request, Status};

use crate::support::http::ask_with;
use crate::support::*;

scenarios! {
    over every face;
    callbacks_are_stored_as_their_expressions_say,
    callbacks_that_cannot_be_are_refused_by_name_and_position,
    headers_ask_for_callbacks_and_no_header_for_none,
    a_callback_to_nowhere_is_left_out;
    over grpc;
    each_start_has_its_callbacks_however_it_is_sent,
    expressions_over_http_see_the_request_of_http,
    a_replay_keeps_the_callbacks_of_the_first_start,
}

fn callback(uri: &str) -> pb::Callback {
    pb::Callback { uri: uri.to_owned(), ..Default::default() }
}

fn with(callbacks: Vec<pb::Callback>) -> pb::StartOperationRequest {
    let request = longhaul::worker::Json(json!({"id": 7, "url": "https://a.example/x"}));
    let options = pb::OperationOptions { callbacks, ..Default::default() };
    let request = Some(longhaul::worker::Pack::pack(&request));
    pb::StartOperationRequest {
        parent: "projects/p".to_owned(),
        request,
        ..start_with("q", options)
    }
}

/// Starts with headers, or metadata.
async fn start_saying(
    fixture: &Fixture,
    start: pb::StartOperationRequest,
    headers: &[(&'static str, &str)],
) -> Result<String, Status> {
    let mut request = Request::new(start);
    for (name, value) in headers {
        request.metadata_mut().append(*name, value.parse().expect("a value"));
    }
    let started = within("a start", fixture.producers().start_operation(request)).await?;
    Ok(started.into_inner().name)
}

async fn callbacks_of(fixture: &Fixture, name: &str) -> Vec<pb::Callback> {
    fixture.record(name).await.options.expect("options").callbacks
}

async fn uris(fixture: &Fixture, name: &str) -> Vec<String> {
    callbacks_of(fixture, name).await.into_iter().map(|callback| callback.uri).collect()
}

async fn callbacks_are_stored_as_their_expressions_say(fixture: &Fixture) {
    let whole = pb::Callback {
        events: vec![Event::Progress.into(), Event::Failed.into()],
        format: Format::CloudeventsStructured.into(),
        include_result: true,
        headers: [("Authorization".to_owned(), "Bearer secret".to_owned())].into(),
        ..callback("https://example.com/{$request.body#/request/id}?o={$response.body#/name}")
    };
    let endpoint =
        pb::Callback { endpoint: "projects/p/webhookEndpoints/e".to_owned(), ..Default::default() };
    let start = with(vec![whole, endpoint, callback("{$request.body#/request/url}")]);
    let name = fixture.start(start).await.granted().name;
    let stored = callbacks_of(fixture, &name).await;
    assert_eq!(stored[0].uri, format!("https://example.com/7?o={name}"));
    assert_eq!(stored[0].events().collect::<Vec<_>>(), [Event::Progress, Event::Failed]);
    assert_eq!(stored[0].format(), Format::CloudeventsStructured);
    assert!(stored[0].include_result);
    let headers = &stored[0].headers;
    assert_eq!(headers.get("Authorization").map(String::as_str), Some(""), "values are secret");
    assert_eq!(stored[1].endpoint, "projects/p/webhookEndpoints/e");
    assert_eq!(stored[1].events().collect::<Vec<_>>(), [Event::Done]);
    assert_eq!(
        (&*stored[2].uri, stored[2].format()),
        ("https://a.example/x", Format::StandardWebhook)
    );
}

async fn callbacks_that_cannot_be_are_refused_by_name_and_position(fixture: &Fixture) {
    const URI: &str = "options.callbacks[0].uri";
    for (uri, reason, position) in [
        ("https://x/{$request.nothing}", "INVALID_ARGUMENT", Some("20")),
        ("https://x/{$request.body#/none}", "INVALID_ARGUMENT", Some("11")),
        ("https://x/{$request.header.authorization}", "INVALID_ARGUMENT", Some("11")),
        ("https://x/{", "INVALID_ARGUMENT", Some("10")),
        ("", "CALLBACK_URI_REJECTED", None),
        ("ftp://x/", "CALLBACK_URI_REJECTED", None),
        ("https://u:p@x/", "CALLBACK_URI_REJECTED", None),
        ("{$response.body#/name}", "CALLBACK_URI_REJECTED", None),
        ("/done", "CALLBACK_URI_REJECTED", None),
    ] {
        let metadata = fixture.start(with(vec![callback(uri)])).await.refused_field(reason, URI);
        assert_eq!(metadata.get("position").map(String::as_str), position, "{uri}");
    }
    let good = || callback("https://x/");
    let endpoint = |name: &str| pb::Callback { endpoint: name.to_owned(), ..Default::default() };
    for (bad, field) in [
        (pb::Callback { events: vec![99], ..good() }, "events"),
        (pb::Callback { format: 99, ..good() }, "format"),
        (
            pb::Callback {
                format: Format::ResponseBody.into(),
                events: vec![Event::StateChanged.into()],
                ..good()
            },
            "format",
        ),
        (pb::Callback { headers: [("Host".into(), "x".into())].into(), ..good() }, "headers"),
        (pb::Callback { endpoint: "webhookEndpoints/e".into(), ..good() }, "endpoint"),
        (endpoint("projects/other/webhookEndpoints/e"), "endpoint"),
        (endpoint("projects/p/locations/l/webhookEndpoints/e"), "endpoint"),
    ] {
        let refused = fixture.start(with(vec![good(), bad])).await;
        refused.refused_field("INVALID_ARGUMENT", &format!("options.callbacks[1].{field}"));
    }
    let malformed = fixture.start(with(vec![endpoint("e")])).await;
    malformed.refused_field("INVALID_NAME", "options.callbacks[0].endpoint");
    let many = with(vec![good(); MAX_CALLBACKS + 1]);
    fixture.start(many).await.refused_field("INVALID_ARGUMENT", "options.callbacks");
    assert!(fixture.list("-", 10, "").await.granted().operations.is_empty());
    fixture.start(with(vec![endpoint("webhookEndpoints/e"); MAX_CALLBACKS])).await.granted();
}

async fn headers_ask_for_callbacks_and_no_header_for_none(fixture: &Fixture) {
    let headers = [("progressurl", "https://x/progress"), ("callback-url", "https://x/done")];
    let name = start_saying(fixture, with(Vec::new()), &headers).await.granted();
    let stored = callbacks_of(fixture, &name).await;
    let found: Vec<_> =
        stored.iter().map(|it| (&*it.uri, it.events().collect::<Vec<_>>())).collect();
    let progress = ("https://x/progress", vec![Event::StateChanged]);
    assert_eq!(found, [progress, ("https://x/done", vec![Event::Done])]);
    let name = start_saying(fixture, with(Vec::new()), &[]).await.granted();
    assert!(callbacks_of(fixture, &name).await.is_empty());

    // A callback that reads the header is the only one that it asks for.
    let read = with(vec![callback("{$request.header.progressUrl}")]);
    let name = start_saying(fixture, read, &headers[..1]).await.granted();
    let stored = callbacks_of(fixture, &name).await;
    assert_eq!(stored.len(), 1, "{stored:?}");
    assert_eq!(stored[0].events().collect::<Vec<_>>(), [Event::Done]);
    for (header, value) in [("progressurl", "nothing"), ("callback-url", "{$url}")] {
        let refused = start_saying(fixture, with(Vec::new()), &[(header, value)]).await;
        let metadata = refused.refused(Code::InvalidArgument, "CALLBACK_URI_REJECTED");
        assert_eq!(metadata["field"].to_ascii_lowercase(), header);
    }
}

async fn a_callback_to_nowhere_is_left_out(fixture: &Fixture) {
    let start = with(vec![
        callback("{$request.header.progressUrl}"),
        callback("https://x/"),
        callback("{$request.body#/request/none}"),
    ]);
    let name = fixture.start(start).await.granted().name;
    assert_eq!(uris(fixture, &name).await, ["https://x/"]);
}

async fn each_start_has_its_callbacks_however_it_is_sent(fixture: &Fixture) {
    let own = || with(vec![callback("https://x/{$request.body#/request/id}")]);
    let mut batch = Request::new(pb::BatchStartOperationsRequest {
        parent: String::new(),
        requests: vec![own(), with(Vec::new())],
    });
    batch.metadata_mut().insert("callback-url", "https://x/header".parse().expect("a value"));
    let started = fixture.producers().batch_start_operations(batch).await.granted().into_inner();
    let mut found = Vec::new();
    for result in started.results {
        let Some(pb::batch_start_operations_response::result::Outcome::Operation(operation)) =
            result.outcome
        else {
            panic!("an operation: {result:?}");
        };
        found.push(uris(fixture, &operation.name).await);
    }
    assert_eq!(found, [vec!["https://x/7", "https://x/header"], vec!["https://x/header"]]);
    let leased = pb::StartLeasedOperationRequest { start: Some(own()), ..Default::default() };
    let leased = fixture.workers().start_leased_operation(leased).await.granted().into_inner();
    let name = leased.operation.expect("an operation").name;
    assert_eq!(uris(fixture, &name).await, ["https://x/7"]);
    let url = with(vec![callback("https://x/?u={$url}&m={$method}&s={$statusCode}")]);
    let name = fixture.start(url).await.granted().name;
    let expected = "https://x/?u=/longhaul.v1.Producers/StartOperation&m=POST&s=200";
    assert_eq!(uris(fixture, &name).await, [expected]);
}

async fn expressions_over_http_see_the_request_of_http(fixture: &Fixture) {
    let body = json!({
        "queue": "q",
        "request": {"jobs": ["a", "b~/c"], "b~/c": true},
        "options": {"callbacks": [
            {"uri": "https://x/{$request.body#/request/jobs/0}/{$request.body#/request/b~0~1c}"},
            {"uri": "https://x/?s={$statusCode}&m={$method}&q={$request.query.operationId}&p={$request.path.parent}"},
            {"uri": "https://x/?u={$url}"},
            {"uri": "$request.query.hook"},
        ]},
    });
    let path = "/v1/projects/p/operations:start?operationId=o&$hook=1";
    let headers = [("content-type", "application/json")];
    let started = ask_with(fixture.address, "POST", path, &headers, &body.to_string()).await;
    assert_eq!(started.status, 202, "{started:?}");
    let found = uris(fixture, "projects/p/operations/o").await;
    let [first, second, third] = &found[..] else { panic!("{found:?}") };
    assert_eq!(first, "https://x/a/true");
    assert_eq!(second, "https://x/?s=202&m=POST&q=o&p=projects/p");
    let url = third.strip_prefix("https://x/?u=http%3A//").expect("a URL");
    assert!(
        url.ends_with("/v1/projects/p/operations%3Astart%3FoperationId%3Do%26%24hook%3D1"),
        "{url}"
    );
}

async fn a_replay_keeps_the_callbacks_of_the_first_start(fixture: &Fixture) {
    let by_id = |uri: &str| pb::StartOperationRequest {
        request_id: "r".to_owned(),
        ..with(vec![callback(uri)])
    };
    let first = fixture.start(by_id("https://x/first")).await.granted().name;
    let again = fixture.start(by_id("https://x/second")).await.granted().name;
    assert_eq!(first, again, "callbacks are no part of what a replay must repeat");
    assert_eq!(uris(fixture, &first).await, ["https://x/first"]);
}
