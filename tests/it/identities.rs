//! Credentials: tokens of the API from their creation to their end, what belongs to a caller, and links.

use longhaul::limits::CREDENTIAL_REREAD;
use longhaul::record::tokens::Role;
use serde_json::json;
use tonic::{Request, Status};

use crate::support::http::{Answer as HttpAnswer, ask, ask_with};
use crate::support::identity::{by_tokens, grant, with};
use crate::support::*;

scenarios! {
    a_token_is_accepted_until_it_is_revoked,
    a_token_that_is_revoked_on_this_server_is_refused_at_once_on_the_connection_that_used_it,
    calls_of_one_connection_count_for_the_token_that_each_sends,
    a_token_ends_at_its_time_and_its_former_secrets_after_their_grace,
    tokens_are_listed_without_their_secrets,
    what_cannot_be_a_token_is_refused,
    a_request_id_belongs_to_its_caller,
    a_page_token_is_good_for_its_caller_alone,
    a_denied_caller_cannot_tell_from_json_which_types_are_known,
    a_server_that_cannot_read_tokens_refuses_nobody,
    a_link_is_for_its_verbs_on_its_operation_until_it_ends,
    a_link_in_an_address_opens_the_routes_of_its_operation,
    a_link_permits_no_more_than_its_maker_is_permitted,
    a_start_returns_a_link_that_was_asked_for,
    a_watch_ends_soon_after_the_token_of_its_caller,
    a_worker_s_stream_ends_soon_after_its_token,
    a_store_that_is_away_ends_no_watch_of_a_caller_that_it_knew,
}

const PARENT: &str = "projects/p";

async fn get(fixture: &Fixture, token: &str, name: &str) -> Result<Operation, Status> {
    let request =
        longhaul::proto::google::longrunning::GetOperationRequest { name: name.to_owned() };
    let answer = fixture.operations().get_operation(with(token, request)).await;
    answer.map(tonic::Response::into_inner)
}

fn unauthenticated<T: std::fmt::Debug>(answer: Result<T, Status>) {
    answer.refused(Code::Unauthenticated, "UNAUTHENTICATED");
}

fn below(parent: &str) -> pb::StartOperationRequest {
    pb::StartOperationRequest { parent: parent.to_owned(), ..start("q") }
}

async fn a_token_is_accepted_until_it_is_revoked(fixture: &Fixture) {
    let guarded = fixture.asking_for(by_tokens()).await;
    let token = fixture.token("reader", vec![grant(Role::Viewer, PARENT, &[])]).await;
    let name = fixture.start(below(PARENT)).await.granted().name;
    get(&guarded, &token, &name).await.granted();
    unauthenticated(get(&guarded, "", &name).await);
    unauthenticated(get(&guarded, &format!("{token}x"), &name).await);
    let elsewhere = fixture.start(below("projects/x")).await.granted().name;
    get(&guarded, &token, &elsewhere).await.refused(Code::PermissionDenied, "PERMISSION_DENIED");

    let delete = pb::DeleteTokenRequest { name: "tokens/reader".to_owned() };
    fixture.tokens().delete_token(delete.clone()).await.granted();
    // The other server is told of it by a hint, and asks again after a while in any case.
    fixture.let_pass(CREDENTIAL_REREAD);
    unauthenticated(get(&guarded, &token, &name).await);
    let again = fixture.tokens().delete_token(delete).await;
    again.refused(Code::NotFound, "TOKEN_NOT_FOUND");
    // A token of the same id is another one.
    fixture.token("reader", vec![grant(Role::Viewer, PARENT, &[])]).await;
    unauthenticated(get(&guarded, &token, &name).await);
}

async fn a_token_that_is_revoked_on_this_server_is_refused_at_once_on_the_connection_that_used_it(
    fixture: &Fixture,
) {
    let guarded = fixture.asking_for(by_tokens()).await;
    let root = fixture.token("root", vec![grant(Role::Admin, "", &["*"])]).await;
    let token = fixture.token("reader", vec![grant(Role::Viewer, PARENT, &[])]).await;
    let name = fixture.start(below(PARENT)).await.granted().name;
    let authorization = format!("Bearer {root}");
    let headers = [("authorization", authorization.as_str())];
    for _ in 0..2 {
        get(&guarded, &token, &name).await.granted();
    }
    let revoked = ask_with(guarded.address, "DELETE", "/v1/tokens/reader", &headers, "").await;
    assert_eq!(revoked.status, 200, "{revoked:?}");
    unauthenticated(get(&guarded, &token, &name).await);
    get(&guarded, &root, &name).await.granted();
    unauthenticated(get(&guarded, &token, &name).await);
}

async fn calls_of_one_connection_count_for_the_token_that_each_sends(fixture: &Fixture) {
    let guarded = fixture.asking_for(by_tokens()).await;
    let own = fixture.token("own", vec![grant(Role::Viewer, PARENT, &[])]).await;
    let foreign = fixture.token("foreign", vec![grant(Role::Viewer, "projects/x", &[])]).await;
    let name = fixture.start(below(PARENT)).await.granted().name;
    for _ in 0..3 {
        get(&guarded, &own, &name).await.granted();
        let denied = get(&guarded, &foreign, &name).await;
        denied.refused(Code::PermissionDenied, "PERMISSION_DENIED");
        unauthenticated(get(&guarded, "", &name).await);
        get(&guarded, &own, &name).await.granted();
        unauthenticated(get(&guarded, &own.replace("lht_own", "lht_foe"), &name).await);
    }
}

async fn a_token_ends_at_its_time_and_its_former_secrets_after_their_grace(fixture: &Fixture) {
    let guarded = fixture.asking_for(by_tokens()).await;
    let name = fixture.start(below(PARENT)).await.granted().name;
    let token = pb::Token {
        grants: vec![grant(Role::Viewer, "", &[])],
        expire_time: Some(fixture.at(Duration::from_mins(10))),
        ..pb::Token::default()
    };
    let request = pb::CreateTokenRequest { token_id: "t".to_owned(), token: Some(token) };
    let first = fixture.tokens().create_token(request).await.granted().into_inner().secret;
    let rotate = |grace: u64| pb::RotateTokenRequest {
        name: "tokens/t".to_owned(),
        grace_duration: seconds(grace),
    };
    let second = fixture.tokens().rotate_token(rotate(60)).await.granted().into_inner().secret;
    for secret in [&first, &second] {
        get(&guarded, secret, &name).await.granted();
    }
    fixture.let_pass(Duration::from_secs(61));
    unauthenticated(get(&guarded, &first, &name).await);
    get(&guarded, &second, &name).await.granted();
    let third = fixture.tokens().rotate_token(rotate(0)).await.granted().into_inner().secret;
    fixture.let_pass(CREDENTIAL_REREAD);
    unauthenticated(get(&guarded, &second, &name).await);
    get(&guarded, &third, &name).await.granted();
    fixture.let_pass(Duration::from_mins(9));
    unauthenticated(get(&guarded, &third, &name).await);
}

async fn tokens_are_listed_without_their_secrets(fixture: &Fixture) {
    let mut secrets = Vec::new();
    for id in ["a", "b-2", "c"] {
        secrets.push(fixture.token(id, vec![grant(Role::Worker, "", &["q", "p-*"])]).await);
    }
    let mut request = pb::ListTokensRequest { page_size: 2, ..pb::ListTokensRequest::default() };
    let first = fixture.tokens().list_tokens(request.clone()).await.granted().into_inner();
    request.page_token.clone_from(&first.next_page_token);
    let rest = fixture.tokens().list_tokens(request).await.granted().into_inner();
    let names: Vec<&str> =
        first.tokens.iter().chain(&rest.tokens).map(|token| token.name.as_str()).collect();
    assert_eq!(names, ["tokens/a", "tokens/b-2", "tokens/c"]);
    assert!(rest.next_page_token.is_empty());
    let one = pb::GetTokenRequest { name: "tokens/a".to_owned() };
    let one = fixture.tokens().get_token(one).await.granted().into_inner();
    assert_eq!(one.grants, [grant(Role::Worker, "", &["q", "p-*"])]);
    let shown = format!("{first:?}{rest:?}{one:?}");
    assert!(secrets.iter().all(|secret| !shown.contains(&secret[8..])), "{shown}");
    let taken = pb::Token { grants: one.grants, ..pb::Token::default() };
    let taken = pb::CreateTokenRequest { token_id: "a".to_owned(), token: Some(taken) };
    let taken = fixture.tokens().create_token(taken).await;
    taken.refused(Code::AlreadyExists, "TOKEN_ALREADY_EXISTS");
}

async fn what_cannot_be_a_token_is_refused(fixture: &Fixture) {
    let create = async |id: &str, token: Option<pb::Token>| {
        let request = pb::CreateTokenRequest { token_id: id.to_owned(), token };
        fixture.tokens().create_token(request).await.map(drop)
    };
    let token = |grants| Some(pb::Token { grants, ..pb::Token::default() });
    let viewer = || vec![grant(Role::Viewer, "", &[])];
    let unknown = pb::Grant { role: 9, ..pb::Grant::default() };
    let past = pb::Token {
        grants: viewer(),
        expire_time: Some(prost_types::Timestamp::default()),
        ..pb::Token::default()
    };
    for (id, token, field) in [
        ("a", None, "token"),
        ("a", token(Vec::new()), "token.grants"),
        ("a", token(vec![unknown]), "token.grants.role"),
        ("a", token(vec![grant(Role::Caller, PARENT, &[])]), "token.grants.queues"),
        ("a", token(vec![grant(Role::Caller, "", &["a b"])]), "token.grants.queues"),
        ("a", Some(past), "token.expire_time"),
    ] {
        create(id, token).await.refused_field("INVALID_ARGUMENT", field);
    }
    create("A", token(viewer())).await.refused_field("INVALID_ARGUMENT", "token_id");
    let bad = pb::GetTokenRequest { name: "token/x".to_owned() };
    fixture.tokens().get_token(bad).await.refused(Code::InvalidArgument, "INVALID_NAME");
}

async fn a_request_id_belongs_to_its_caller(fixture: &Fixture) {
    let guarded = fixture.asking_for(by_tokens()).await;
    let role = || vec![grant(Role::Caller, PARENT, &["q"])];
    let (one, two) = (fixture.token("one", role()).await, fixture.token("two", role()).await);
    let start = async |token: &str, operation_id: &str| {
        let request = pb::StartOperationRequest {
            request_id: "r".to_owned(),
            operation_id: operation_id.to_owned(),
            ..below(PARENT)
        };
        guarded.producers().start_operation(with(token, request)).await
    };
    let first = start(&one, "").await.granted().into_inner().name;
    assert_eq!(start(&one, "").await.granted().into_inner().name, first);
    assert_ne!(start(&two, "").await.granted().into_inner().name, first);
    // With an id of the caller's choice, too.
    let named = start(&one, "named").await.granted().into_inner().name;
    let replayed = start(&one, "named").await.granted();
    assert_eq!(replayed.metadata().get("longhaul-replayed").expect("a header"), "true");
    assert_eq!(replayed.into_inner().name, named);
    let taken = start(&two, "named").await;
    taken.refused(Code::AlreadyExists, "OPERATION_ALREADY_EXISTS");
}

async fn a_page_token_is_good_for_its_caller_alone(fixture: &Fixture) {
    let guarded = fixture.asking_for(by_tokens()).await;
    let role = || vec![grant(Role::Viewer, PARENT, &[])];
    let (one, two) = (fixture.token("one", role()).await, fixture.token("two", role()).await);
    for _ in 0..3 {
        fixture.start(below(PARENT)).await.granted();
    }
    let list = async |token: &str, page_token: &str| {
        let request = longhaul::proto::google::longrunning::ListOperationsRequest {
            name: PARENT.to_owned(),
            page_size: 2,
            page_token: page_token.to_owned(),
            ..Default::default()
        };
        guarded.operations().list_operations(with(token, request)).await
    };
    let page = list(&one, "").await.granted().into_inner().next_page_token;
    list(&two, &page).await.refused(Code::InvalidArgument, "INVALID_PAGE_TOKEN");
    assert_eq!(list(&one, &page).await.granted().into_inner().operations.len(), 1);
}

async fn a_denied_caller_cannot_tell_from_json_which_types_are_known(fixture: &Fixture) {
    let guarded = fixture.asking_for(by_tokens()).await;
    let token = fixture.token("reader", vec![grant(Role::Viewer, PARENT, &[])]).await;
    let authorization = format!("Bearer {token}");
    let mut said = Vec::new();
    for of in ["google.protobuf.Duration", "no.such.Type"] {
        let body = json!({
            "queue": "q",
            "request": { "@type": format!("type.googleapis.com/{of}"), "value": "1s" },
        });
        for headers in [
            &[("content-type", "application/json"), ("authorization", authorization.as_str())][..],
            &[("content-type", "application/json")],
        ] {
            let path = format!("/v1/{PARENT}/operations:start");
            let denied = ask_with(guarded.address, "POST", &path, headers, &body.to_string()).await;
            said.push((denied.status, denied.body));
        }
    }
    assert_eq!((said[0].0, said[1].0), (403, 401), "{said:?}");
    assert_eq!(said[..2], said[2..]);
}

async fn a_server_that_cannot_read_tokens_refuses_nobody(fixture: &Fixture) {
    let guarded = fixture.asking_for(by_tokens()).await;
    let token = fixture.token("reader", vec![grant(Role::Viewer, "", &[])]).await;
    let name = fixture.start(below(PARENT)).await.granted().name;
    fixture.store.set_away(true);
    get(&guarded, &token, &name).await.refused(Code::Unavailable, "STORE_UNAVAILABLE");
    fixture.store.set_away(false);
    get(&guarded, &token, &name).await.granted();
}

async fn link(
    fixture: &Fixture,
    token: &str,
    name: &str,
    verbs: &[&str],
) -> Result<pb::Link, Status> {
    let verbs = verbs.iter().map(|verb| (*verb).to_owned()).collect();
    let request = pb::CreateLinkRequest { name: name.to_owned(), verbs, ttl: seconds(600) };
    let made = fixture.callers().create_link(with(token, request)).await;
    made.map(tonic::Response::into_inner)
}

async fn a_link_is_for_its_verbs_on_its_operation_until_it_ends(fixture: &Fixture) {
    let guarded = fixture.asking_for(by_tokens()).await;
    let name = fixture.start(below(PARENT)).await.granted().name;
    let other = fixture.start(below(PARENT)).await.granted().name;
    let made = link(fixture, "", &name, &["get"]).await.granted();
    assert_eq!(made.operation, name);
    get(&guarded, &made.token, &name).await.granted();
    let denied = get(&guarded, &made.token, &other).await;
    denied.refused(Code::PermissionDenied, "PERMISSION_DENIED");
    let cancel =
        longhaul::proto::google::longrunning::CancelOperationRequest { name: name.clone() };
    let cancel = guarded.operations().cancel_operation(with(&made.token, cancel)).await;
    cancel.refused(Code::PermissionDenied, "PERMISSION_DENIED");
    // Whoever has a link cannot make a longer one of it.
    let more = link(&guarded, &made.token, &name, &["get"]).await;
    more.refused(Code::PermissionDenied, "PERMISSION_DENIED");
    unauthenticated(get(&guarded, &format!("{}A", made.token), &name).await);

    fixture.let_pass(Duration::from_secs(601));
    unauthenticated(get(&guarded, &made.token, &name).await);

    // It ends with its operation, even if another one gets the name later.
    let made = link(fixture, "", &other, &[]).await.granted();
    get(&guarded, &made.token, &other).await.granted();
    fixture.delete(&other).await.granted();
    let gone = get(&guarded, &made.token, &other).await;
    gone.refused(Code::NotFound, "OPERATION_DELETED");
}

async fn a_link_in_an_address_opens_the_routes_of_its_operation(fixture: &Fixture) {
    let guarded = fixture.asking_for(by_tokens()).await;
    let name = fixture.start(below(PARENT)).await.granted().name;
    let made = link(fixture, "", &name, &["get", "watch", "cancel"]).await.granted();
    let query = format!("access_token={}", made.token);
    assert_eq!(made.path, format!("/v1/{name}?{query}"));
    let ask = async |method: &str, suffix: &str| -> HttpAnswer {
        ask(guarded.address, method, &format!("/v1/{name}{suffix}?{query}")).await
    };
    assert_eq!(ask("GET", "").await.status, 200);
    assert_eq!(ask("GET", "/result").await.status, 202);
    assert_eq!(ask("GET", "/monitor").await.status, 200);
    assert_eq!(ask("POST", ":cancel").await.status, 200);
    let monitored = ask("GET", "/monitor").await;
    assert_eq!(monitored.status, 201);
    // Whoever follows the answer needs the link there, too.
    assert_eq!(monitored.header("location"), format!("/v1/{name}/result?{query}"));
    assert_eq!(monitored.header("referrer-policy"), "no-referrer");
    assert_eq!(ask("GET", ":watch").await.status, 200);
    ask("DELETE", "").await.refused(403, "PERMISSION_DENIED");
    // No other token is read from an address.
    let token = fixture.token("reader", vec![grant(Role::Viewer, "", &[])]).await;
    let path = format!("/v1/{name}?access_token={token}");
    let refused = crate::support::http::ask(guarded.address, "GET", &path).await;
    refused.refused(401, "UNAUTHENTICATED");
    assert_eq!(refused.header("www-authenticate"), "Bearer");
}

async fn a_link_permits_no_more_than_its_maker_is_permitted(fixture: &Fixture) {
    let guarded = fixture.asking_for(by_tokens()).await;
    let viewer = fixture.token("viewer", vec![grant(Role::Viewer, PARENT, &[])]).await;
    let name = fixture.start(below(PARENT)).await.granted().name;
    link(&guarded, &viewer, &name, &["get", "watch"]).await.granted();
    let more = link(&guarded, &viewer, &name, &["get", "cancel"]).await;
    more.refused(Code::PermissionDenied, "PERMISSION_DENIED");
    let unknown = link(fixture, "", &name, &["complete"]).await;
    unknown.refused_field("INVALID_ARGUMENT", "verbs");
    let missing = link(fixture, "", "operations/none", &["get"]).await;
    missing.refused(Code::NotFound, "OPERATION_NOT_FOUND");
}

async fn a_start_returns_a_link_that_was_asked_for(fixture: &Fixture) {
    let guarded = fixture.asking_for(by_tokens()).await;
    let token = fixture.token("caller", vec![grant(Role::Caller, PARENT, &["q"])]).await;
    let mut request: Request<_> = with(&token, below(PARENT));
    request
        .metadata_mut()
        .insert("longhaul-link", "get, cancel; ttl=600".parse().expect("a header"));
    let started = guarded.producers().start_operation(request).await.granted();
    let link = started
        .metadata()
        .get("longhaul-link")
        .expect("a header")
        .to_str()
        .expect("a text")
        .to_owned();
    let name = started.into_inner().name;
    get(&guarded, &link, &name).await.granted();

    let authorization = format!("Bearer {token}");
    let headers = [
        ("content-type", "application/json"),
        ("authorization", authorization.as_str()),
        ("longhaul-link", "get"),
    ];
    let path = format!("/v1/{PARENT}/operations:start");
    let body = json!({ "queue": "q" }).to_string();
    let started = ask_with(guarded.address, "POST", &path, &headers, &body).await;
    assert_eq!(started.status, 202);
    let link = started.header("longhaul-link").to_owned();
    let path = format!("{}?access_token={link}", started.header("location"));
    assert_eq!(ask(guarded.address, "GET", &path).await.status, 200);

    // A bad header starts nothing.
    let before = fixture.list(PARENT, 10, "").await.granted().operations.len();
    let mut request = with(&token, below(PARENT));
    request.metadata_mut().insert("longhaul-link", "complete".parse().expect("a header"));
    let refused = guarded.producers().start_operation(request).await;
    refused.refused_field("INVALID_ARGUMENT", "longhaul-link");
    assert_eq!(fixture.list(PARENT, 10, "").await.granted().operations.len(), before);
}

async fn watching(
    guarded: &Fixture,
    token: &str,
    name: &str,
) -> tonic::Streaming<pb::WatchOperationResponse> {
    let request = pb::WatchOperationRequest { name: name.to_owned(), ..Default::default() };
    let watch = guarded.callers().watch_operation(with(token, request)).await.granted();
    let mut events = watch.into_inner();
    let first = within("a snapshot", events.message()).await.granted().expect("an event");
    assert_eq!(first.r#type(), EventType::Snapshot);
    events
}

async fn revoke(fixture: &Fixture, id: &str) {
    let delete = pb::DeleteTokenRequest { name: format!("tokens/{id}") };
    fixture.tokens().delete_token(delete).await.granted();
}

async fn a_watch_ends_soon_after_the_token_of_its_caller(fixture: &Fixture) {
    let guarded = fixture.asking_for(by_tokens()).await;
    let ended = fixture.token("ended", vec![grant(Role::Viewer, PARENT, &[])]).await;
    let stays = fixture.token("stays", vec![grant(Role::Viewer, PARENT, &[])]).await;
    let name = fixture.start(below(PARENT)).await.granted().name;
    let mut watch = watching(&guarded, &ended, &name).await;
    let mut other = watching(&guarded, &stays, &name).await;
    let authorization = format!("Bearer {ended}");
    let (address, path) = (guarded.address, format!("/v1/{name}:watch"));
    let events = Call::begin("events over HTTP", async move {
        let headers = [("authorization", authorization.as_str()), ("accept", "text/event-stream")];
        ask_with(address, "GET", &path, &headers, "").await
    });
    revoke(fixture, "ended").await;
    let end = guarded.passing("the end of the watch", watch.message()).await;
    unauthenticated(end);
    let cut = guarded.passing("the end of the events", events.end()).await;
    assert!(cut.status == 200 || cut.status == 401, "{cut:?}");
    fixture.cancel(&name).await.granted();
    let last = within("an event", other.message()).await.granted().expect("an event");
    assert!(last.operation.is_some(), "{last:?}");
}

async fn a_worker_s_stream_ends_soon_after_its_token(fixture: &Fixture) {
    let guarded = fixture.asking_for(by_tokens()).await;
    let token = fixture.token("worker", vec![grant(Role::Worker, PARENT, &["q"])]).await;
    let mut stream = WorkerStream::open_as(&token, &guarded).await;
    stream.greet(crate::support::stream::hello("q"), 1).await;
    revoke(fixture, "worker").await;
    let end = guarded.passing("the end of the stream", stream.ended()).await;
    unauthenticated(end);
}

async fn a_store_that_is_away_ends_no_watch_of_a_caller_that_it_knew(fixture: &Fixture) {
    let guarded = fixture.asking_for(by_tokens()).await;
    let token = fixture.token("reader", vec![grant(Role::Viewer, PARENT, &[])]).await;
    let name = fixture.start(below(PARENT)).await.granted().name;
    let mut watch = watching(&guarded, &token, &name).await;
    let looked = guarded.clock.count(CREDENTIAL_REREAD);
    fixture.store.set_away(true);
    guarded.let_pass(CREDENTIAL_REREAD);
    guarded.clock.asked_for(CREDENTIAL_REREAD, looked + 1).await;
    fixture.store.set_away(false);
    fixture.cancel(&name).await.granted();
    let event = within("an event", watch.message()).await.granted();
    assert!(event.is_some());
}
