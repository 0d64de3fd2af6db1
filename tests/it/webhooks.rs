//! Webhook endpoints: kept per parent, changed by mask and etag, their secrets shown once and rotated with an overlap.

use longhaul::engine::Caller;
use longhaul::limits::{MAX_ENDPOINT_SECRETS, MAX_ENDPOINTS, MAX_SECRET_OVERLAP};
use longhaul::operation::name::EndpointName;
use longhaul::proto::longhaul::v1::webhooks_client::WebhooksClient;
use longhaul::store::faulty::Fault;
use pb::callback::{Event, Format};
use pb::webhook_endpoint::State as EndpointState;
use prost_types::FieldMask;
use tonic::Status;

use crate::support::rest::Line;
use crate::support::*;

scenarios! {
    over every face;
    an_endpoint_is_created_read_listed_changed_and_deleted,
    an_endpoint_that_cannot_be_is_refused_by_name_and_leaves_nothing,
    a_repeated_create_finds_the_endpoint_with_its_secret_and_another_one_is_refused,
    a_mask_says_what_changes_and_an_etag_whether,
    a_rotation_shows_the_new_secret_once_and_keeps_the_former_for_the_overlap,
    values_of_headers_are_kept_and_never_shown,
    pages_of_endpoints_go_by_parent_and_id;
    over grpc;
    a_parent_has_a_bounded_number_of_endpoints,
    calls_of_unknown_outcome_are_told_apart_from_others,
}

fn client(fixture: &Fixture) -> WebhooksClient<Line> {
    WebhooksClient::new(fixture.line.clone())
}

fn endpoint(uri: &str) -> pb::WebhookEndpoint {
    pb::WebhookEndpoint { uri: uri.to_owned(), ..Default::default() }
}

pub(crate) fn request(parent: &str, id: &str) -> pb::CreateWebhookEndpointRequest {
    pb::CreateWebhookEndpointRequest {
        parent: parent.to_owned(),
        webhook_endpoint_id: id.to_owned(),
        webhook_endpoint: Some(endpoint("https://example.com/hook")),
        ..Default::default()
    }
}

pub(crate) async fn create(
    fixture: &Fixture,
    request: pb::CreateWebhookEndpointRequest,
) -> Result<pb::WebhookEndpoint, Status> {
    let created = within("a create", client(fixture).create_webhook_endpoint(request)).await;
    created.map(tonic::Response::into_inner)
}

pub(crate) async fn get(fixture: &Fixture, name: &str) -> Result<pb::WebhookEndpoint, Status> {
    let request = pb::GetWebhookEndpointRequest { name: name.to_owned() };
    let got = within("a get", client(fixture).get_webhook_endpoint(request)).await;
    got.map(tonic::Response::into_inner)
}

async fn page(
    fixture: &Fixture,
    request: pb::ListWebhookEndpointsRequest,
) -> Result<pb::ListWebhookEndpointsResponse, Status> {
    let page = within("a list", client(fixture).list_webhook_endpoints(request)).await;
    page.map(tonic::Response::into_inner)
}

async fn names(fixture: &Fixture, parent: &str) -> Vec<String> {
    let request =
        pb::ListWebhookEndpointsRequest { parent: parent.to_owned(), ..Default::default() };
    let page = page(fixture, request).await.granted();
    page.webhook_endpoints.into_iter().map(|endpoint| endpoint.name).collect()
}

pub(crate) async fn update(
    fixture: &Fixture,
    endpoint: pb::WebhookEndpoint,
    paths: &[&str],
) -> Result<pb::WebhookEndpoint, Status> {
    let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
    let request = pb::UpdateWebhookEndpointRequest {
        webhook_endpoint: Some(endpoint),
        update_mask: (!paths.is_empty()).then_some(FieldMask { paths }),
        validate_only: false,
    };
    let updated = within("an update", client(fixture).update_webhook_endpoint(request)).await;
    updated.map(tonic::Response::into_inner)
}

async fn delete(
    fixture: &Fixture,
    request: pb::DeleteWebhookEndpointRequest,
) -> Result<(), Status> {
    within("a deletion", client(fixture).delete_webhook_endpoint(request)).await.map(drop)
}

fn deletion(name: &str) -> pb::DeleteWebhookEndpointRequest {
    pb::DeleteWebhookEndpointRequest { name: name.to_owned(), ..Default::default() }
}

pub(crate) async fn rotate(
    fixture: &Fixture,
    request: pb::RotateWebhookEndpointRequest,
) -> Result<pb::WebhookEndpoint, Status> {
    let rotated = within("a rotation", client(fixture).rotate_webhook_endpoint(request)).await;
    rotated.map(tonic::Response::into_inner)
}

pub(crate) fn rotation(name: &str, overlap: Option<i64>) -> pb::RotateWebhookEndpointRequest {
    let overlap = overlap.map(|seconds| prost_types::Duration { seconds, nanos: 0 });
    pb::RotateWebhookEndpointRequest { name: name.to_owned(), overlap, ..Default::default() }
}

/// The secrets that an answer shows.
fn shown(endpoint: &pb::WebhookEndpoint) -> Vec<&str> {
    let secrets = endpoint.secrets.iter().map(|secret| secret.secret.as_str());
    secrets.filter(|secret| !secret.is_empty()).collect()
}

async fn an_endpoint_is_created_read_listed_changed_and_deleted(fixture: &Fixture) {
    for (parent, name) in
        [("projects/p", "projects/p/webhookEndpoints/e"), ("", "webhookEndpoints/e")]
    {
        let created = create(fixture, request(parent, "e")).await.granted();
        assert_eq!((&*created.name, created.state()), (name, EndpointState::Active));
        assert_eq!(created.events().collect::<Vec<_>>(), [Event::Done]);
        assert_eq!(created.format(), Format::StandardWebhook);
        assert!(!created.uid.is_empty() && !created.etag.is_empty());
        assert!(created.create_time.is_some() && created.create_time == created.update_time);
        let [secret] = shown(&created)[..] else { panic!("one secret: {created:?}") };
        // 32 bytes in base64.
        assert!(secret.starts_with("whsec_") && secret.len() == 6 + 44, "{secret}");
        let got = get(fixture, name).await.granted();
        assert!(shown(&got).is_empty() && got.secrets.len() == 1, "{got:?}");
        let hidden = |mut endpoint: pb::WebhookEndpoint| {
            endpoint.secrets.iter_mut().for_each(|secret| secret.secret.clear());
            endpoint
        };
        assert_eq!(got, hidden(created));
        let list =
            pb::ListWebhookEndpointsRequest { parent: parent.to_owned(), ..Default::default() };
        assert_eq!(
            page(fixture, list).await.granted().webhook_endpoints,
            std::slice::from_ref(&got)
        );
        let resume = pb::ResumeWebhookEndpointRequest { name: name.into(), ..Default::default() };
        let resumed = client(fixture).resume_webhook_endpoint(resume).await.granted().into_inner();
        assert_eq!(resumed, got, "it was active");
    }
    let generated = create(fixture, request("projects/p", "")).await.granted().name;
    assert!(names(fixture, "projects/p").await.contains(&generated), "{generated}");
    for name in ["projects/p/webhookEndpoints/e", &generated] {
        delete(fixture, deletion(name)).await.granted();
        get(fixture, name).await.refused(Code::NotFound, "WEBHOOK_ENDPOINT_NOT_FOUND");
        let again = delete(fixture, deletion(name)).await;
        again.refused(Code::NotFound, "WEBHOOK_ENDPOINT_NOT_FOUND");
        let missing = pb::DeleteWebhookEndpointRequest { allow_missing: true, ..deletion(name) };
        delete(fixture, missing).await.granted();
    }
    assert_eq!(names(fixture, "-").await, ["webhookEndpoints/e"]);
}

async fn an_endpoint_that_cannot_be_is_refused_by_name_and_leaves_nothing(fixture: &Fixture) {
    let with = |change: fn(&mut pb::WebhookEndpoint)| {
        let mut request = request("projects/p", "e");
        change(request.webhook_endpoint.as_mut().expect("an endpoint"));
        request
    };
    for (request, reason, field) in [
        (request("projects/p", "E"), "INVALID_ARGUMENT", "webhook_endpoint_id"),
        (request("projects", "e"), "INVALID_ARGUMENT", "parent"),
        (with(|it| it.uri.clear()), "CALLBACK_URI_REJECTED", "webhook_endpoint.uri"),
        (with(|it| it.uri = "ftp://e.com".into()), "CALLBACK_URI_REJECTED", "webhook_endpoint.uri"),
        (
            with(|it| it.uri = "https://u:p@e.com".into()),
            "CALLBACK_URI_REJECTED",
            "webhook_endpoint.uri",
        ),
        (with(|it| it.events = vec![99]), "INVALID_ARGUMENT", "webhook_endpoint.events"),
        (with(|it| it.format = 99), "INVALID_ARGUMENT", "webhook_endpoint.format"),
        (with(|it| it.filter = "nothing = 1".into()), "INVALID_FILTER", "filter"),
        (
            with(|it| drop(it.headers.insert("Host".into(), "x".into()))),
            "INVALID_ARGUMENT",
            "webhook_endpoint.headers",
        ),
        (
            with(|it| drop(it.headers.insert("X-A".into(), String::new()))),
            "INVALID_ARGUMENT",
            "webhook_endpoint.headers",
        ),
    ] {
        create(fixture, request).await.refused_field(reason, field);
    }
    let check =
        pb::CreateWebhookEndpointRequest { validate_only: true, ..request("projects/p", "e") };
    let checked = create(fixture, check).await.granted();
    assert!(shown(&checked).is_empty() && checked.name.ends_with("/e"), "{checked:?}");
    assert!(names(fixture, "-").await.is_empty());
}

async fn a_repeated_create_finds_the_endpoint_with_its_secret_and_another_one_is_refused(
    fixture: &Fixture,
) {
    for id in ["e", ""] {
        let with = |uri: &str| pb::CreateWebhookEndpointRequest {
            request_id: "request-1".to_owned(),
            webhook_endpoint: Some(endpoint(uri)),
            ..request("projects/p", id)
        };
        let first = create(fixture, with("https://example.com/")).await.granted();
        assert_eq!(create(fixture, with("https://example.com/")).await.granted(), first);
        let other = create(fixture, with("https://example.com/other")).await;
        other.refused_field("REQUEST_ID_REUSED", "request_id");
    }
    let again = create(fixture, request("projects/p", "e")).await;
    again.refused(Code::AlreadyExists, "WEBHOOK_ENDPOINT_ALREADY_EXISTS");
}

async fn a_mask_says_what_changes_and_an_etag_whether(fixture: &Fixture) {
    let first = create(fixture, request("", "e")).await.granted();
    let wish = pb::WebhookEndpoint {
        uri: "https://example.com/new".to_owned(),
        events: vec![Event::Failed.into(), Event::Progress.into()],
        filter: "state() = FAILED".to_owned(),
        format: Format::CloudeventsStructured.into(),
        include_result: true,
        handshake: true,
        state: EndpointState::Disabled.into(),
        ..endpoint("")
    };
    let named = |endpoint: &pb::WebhookEndpoint| pb::WebhookEndpoint {
        name: "webhookEndpoints/e".to_owned(),
        ..endpoint.clone()
    };
    let one = update(fixture, named(&wish), &["filter", "state"]).await.granted();
    assert_eq!((&one.filter, &one.uri), (&wish.filter, &first.uri));
    assert_eq!(one.state(), EndpointState::Active, "only the server sets it");
    assert_ne!(one.etag, first.etag);
    let set = update(fixture, named(&endpoint("https://example.com/b")), &[]).await.granted();
    assert_eq!((&*set.uri, &set.filter), ("https://example.com/b", &wish.filter));
    let all = update(fixture, named(&wish), &["*"]).await.granted();
    assert_eq!((&all.uri, &all.events, all.handshake), (&wish.uri, &wish.events, true));
    let same = update(fixture, named(&wish), &["*"]).await.granted();
    assert_eq!(same, all, "nothing changed");
    let reset = update(fixture, named(&endpoint("")), &["events", "handshake"]).await.granted();
    assert_eq!((reset.events().next(), reset.handshake), (Some(Event::Done), false));

    for (paths, field) in [
        (&["nothing"][..], "update_mask"),
        (&["headers.x"], "update_mask"),
        (&["uri"], "webhook_endpoint.uri"),
    ] {
        let refused = update(fixture, named(&endpoint("")), paths).await;
        let metadata = refused.refused(
            Code::InvalidArgument,
            match field {
                "update_mask" => "INVALID_ARGUMENT",
                _ => "CALLBACK_URI_REJECTED",
            },
        );
        assert_eq!(metadata["field"], field);
    }
    let former = pb::WebhookEndpoint { etag: first.etag, ..named(&wish) };
    let refused = update(fixture, former, &["*"]).await;
    assert_eq!(refused.refused(Code::Aborted, "ETAG_MISMATCH")["etag"], reset.etag);
    let current = pb::WebhookEndpoint { etag: reset.etag, ..named(&wish) };
    update(fixture, current, &["*"]).await.granted();
    let missing = pb::WebhookEndpoint { name: "webhookEndpoints/none".to_owned(), ..wish };
    update(fixture, missing, &[]).await.refused(Code::NotFound, "WEBHOOK_ENDPOINT_NOT_FOUND");
}

async fn a_rotation_shows_the_new_secret_once_and_keeps_the_former_for_the_overlap(
    fixture: &Fixture,
) {
    let created = create(fixture, request("", "e")).await.granted();
    let by_request = pb::RotateWebhookEndpointRequest {
        request_id: "request-1".to_owned(),
        ..rotation(&created.name, Some(60))
    };
    let rotated = rotate(fixture, by_request.clone()).await.granted();
    assert_eq!(shown(&rotated).len(), 1, "the new one alone: {rotated:?}");
    assert_ne!(shown(&rotated), shown(&created));
    assert_eq!(rotated.secrets.len(), 2);
    assert_at(rotated.secrets[1].expire_time, fixture.at(Duration::from_mins(1)));
    assert_eq!(rotate(fixture, by_request).await.granted(), rotated, "a repeat");
    assert!(shown(&get(fixture, &created.name).await.granted()).is_empty());

    fixture.let_pass(Duration::from_secs(61));
    let rotated = rotate(fixture, rotation(&created.name, None)).await.granted();
    assert_eq!(rotated.secrets.len(), 2, "the first is over: {rotated:?}");
    for _ in 2..MAX_ENDPOINT_SECRETS {
        rotate(fixture, rotation(&created.name, Some(600))).await.granted();
    }
    let refused = rotate(fixture, rotation(&created.name, Some(600))).await;
    assert_eq!(refused.refused(Code::InvalidArgument, "LIMIT_EXCEEDED")["limit"], "5");
    let alone = rotate(fixture, rotation(&created.name, Some(0))).await.granted();
    assert_eq!((alone.secrets.len(), shown(&alone).len()), (1, 1));
    let long = MAX_SECRET_OVERLAP.as_secs() as i64 + 1;
    for (rotation, field) in [
        (rotation(&created.name, Some(long)), "overlap"),
        (rotation(&created.name, Some(-1)), "overlap"),
    ] {
        rotate(fixture, rotation).await.refused_field("INVALID_ARGUMENT", field);
    }
    let former = pb::RotateWebhookEndpointRequest {
        etag: created.etag,
        ..rotation("webhookEndpoints/e", None)
    };
    rotate(fixture, former).await.refused(Code::Aborted, "ETAG_MISMATCH");
}

async fn values_of_headers_are_kept_and_never_shown(fixture: &Fixture) {
    let mut request = request("", "e");
    let headers = [("Authorization", "Bearer secret"), ("X-A", "1")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
    request.webhook_endpoint.as_mut().expect("an endpoint").headers = headers.into();
    let created = create(fixture, request).await.granted();
    assert!(!format!("{created:?}").contains("Bearer secret"), "{created:?}");
    let names: Vec<&String> = created.headers.keys().collect();
    assert_eq!(names, ["Authorization", "X-A"]);
    // What was read can be sent back, with a change.
    let mut read = get(fixture, &created.name).await.granted();
    read.headers.remove("X-A");
    read.headers.insert("X-B".to_owned(), "2".to_owned());
    let changed = update(fixture, read, &[]).await.granted();
    assert_eq!(changed.headers.keys().collect::<Vec<_>>(), ["Authorization", "X-B"]);
    let name = EndpointName::parse(&created.name).expect("a name");
    let stored = fixture.server.engine().get_endpoint(&Caller::default(), &name).await;
    let stored = stored.expect("an endpoint").settings.headers;
    assert_eq!(stored["Authorization"], "Bearer secret");
    let unknown = [("X-C".to_owned(), String::new())].into();
    let without = pb::WebhookEndpoint { name: created.name, headers: unknown, ..endpoint("") };
    let refused = update(fixture, without, &["headers"]).await;
    refused.refused_field("INVALID_ARGUMENT", "webhook_endpoint.headers");
}

async fn pages_of_endpoints_go_by_parent_and_id(fixture: &Fixture) {
    let parents = ["", "projects/p", "projects/p/locations/l", "projects/q"];
    let mut all = Vec::new();
    for parent in parents {
        for id in ["b", "a"] {
            all.push(create(fixture, request(parent, id)).await.granted().name);
        }
    }
    let key = |name: &String| {
        let (parent, id) = name.rsplit_once("webhookEndpoints/").expect("a name");
        (parent.trim_end_matches('/').to_owned(), id.to_owned())
    };
    all.sort_by_key(key);
    for (pattern, is_listed) in [
        ("-", (|_| true) as fn(&str) -> bool),
        ("projects/-", |name| name.matches('/').count() == 3),
        ("projects/p", |name| name.starts_with("projects/p/webhookEndpoints/")),
        ("projects/p/webhookEndpoints", |name| name.starts_with("projects/p/webhookEndpoints/")),
        ("", |name| name.starts_with("webhookEndpoints/")),
        ("webhookEndpoints", |name| name.starts_with("webhookEndpoints/")),
        ("folders/-", |_| false),
    ] {
        for page_size in [1, 3, 100] {
            let mut request = pb::ListWebhookEndpointsRequest {
                parent: pattern.to_owned(),
                page_size,
                ..Default::default()
            };
            let mut found = Vec::new();
            loop {
                let page = page(fixture, request.clone()).await.granted();
                assert!(page.webhook_endpoints.len() <= page_size as usize);
                found.extend(page.webhook_endpoints.into_iter().map(|endpoint| endpoint.name));
                if page.next_page_token.is_empty() {
                    break;
                }
                request.page_token = page.next_page_token;
            }
            let expected: Vec<_> = all.iter().filter(|name| is_listed(name)).cloned().collect();
            assert_eq!(found, expected, "{pattern} by {page_size}");
        }
    }
    let first = pb::ListWebhookEndpointsRequest {
        parent: "-".to_owned(),
        page_size: 1,
        ..Default::default()
    };
    let page_token = page(fixture, first).await.granted().next_page_token;
    let foreign = pb::ListWebhookEndpointsRequest { page_token, ..Default::default() };
    page(fixture, foreign).await.refused_field("INVALID_PAGE_TOKEN", "page_token");
}

async fn a_parent_has_a_bounded_number_of_endpoints(fixture: &Fixture) {
    for number in 0..MAX_ENDPOINTS {
        create(fixture, request("projects/p", &format!("e{number}"))).await.granted();
    }
    let refused = create(fixture, request("projects/p", "more")).await;
    refused.refused(Code::InvalidArgument, "LIMIT_EXCEEDED");
    create(fixture, request("projects/p/locations/l", "e")).await.granted();
}

async fn calls_of_unknown_outcome_are_told_apart_from_others(fixture: &Fixture) {
    for fault in [Fault::AppliedUnknown, Fault::LostUnknown, Fault::Conflict] {
        fixture.store.inject([fault]);
        let created = create(fixture, request("", "e")).await.granted();
        assert_eq!(shown(&created).len(), 1);
        fixture.store.inject([fault]);
        let rotated = rotate(fixture, rotation(&created.name, None)).await.granted();
        assert_eq!(rotated.secrets.len(), 2, "it was made once: {rotated:?}");
        fixture.store.inject([fault]);
        delete(fixture, deletion(&created.name)).await.granted();
    }
}
