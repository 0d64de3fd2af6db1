//! Type sets: kept per parent, checked whole, known to every server within a second, and used wherever payloads are read.

use longhaul::limits::{MAX_TYPE_SETS, TYPES_REREAD};
use longhaul::proto::google::longrunning::ListOperationsRequest;
use longhaul::proto::longhaul::v1::type_sets_client::TypeSetsClient;
use longhaul::store::faulty::Fault;
use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet};
use serde_json::json;
use tonic::Status;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::support::http::ask_with;
use crate::support::*;

scenarios! {
    over every face;
    a_type_set_is_created_read_listed_and_deleted,
    a_set_that_cannot_be_is_refused_by_name_and_leaves_nothing,
    a_repeated_create_is_recognised_and_another_one_refused,
    an_etag_guards_a_deletion_and_a_check_deletes_nothing,
    pages_of_type_sets_go_by_parent_and_id,
    filters_know_the_types_of_their_parent_and_of_those_above_it;
    over grpc;
    a_nearer_set_is_used_where_one_above_does_not_fit,
    a_parent_has_a_bounded_number_of_type_sets,
    of_two_sets_at_once_that_do_not_fit_together_one_is_created,
    a_create_and_a_deletion_of_unknown_outcome_are_told_apart_from_others,
    every_server_knows_a_new_set_at_once_by_a_hint_and_within_a_second_without,
    payloads_over_http_are_of_the_types_of_their_parent,
    reflection_serves_the_sets_of_the_root_as_they_are_now,
}

/// `message NAME { string FIELD = 1; ... }` in a package of its own.
pub(crate) fn set(package: &str, message: &str, fields: &[&str]) -> Vec<u8> {
    let fields = fields.iter().zip(1..).map(|(name, number)| FieldDescriptorProto {
        name: Some((*name).to_owned()),
        number: Some(number),
        label: Some(Label::Optional.into()),
        r#type: Some(Type::String.into()),
        ..FieldDescriptorProto::default()
    });
    let message = DescriptorProto {
        name: Some(message.to_owned()),
        field: fields.collect(),
        ..DescriptorProto::default()
    };
    let file = FileDescriptorProto {
        name: Some(format!("{package}/types.proto")),
        package: Some(package.to_owned()),
        message_type: vec![message],
        syntax: Some("proto3".to_owned()),
        ..FileDescriptorProto::default()
    };
    FileDescriptorSet { file: vec![file] }.encode_to_vec()
}

pub(crate) fn shop() -> Vec<u8> {
    set("shop", "Order", &["title"])
}

/// A set that does not fit with [`shop`].
fn other_shop() -> Vec<u8> {
    set("shop", "Order", &["title", "price"])
}

fn request(parent: &str, id: &str, set: Vec<u8>) -> pb::CreateTypeSetRequest {
    pb::CreateTypeSetRequest {
        parent: parent.to_owned(),
        type_set_id: id.to_owned(),
        type_set: Some(pb::TypeSet { file_descriptor_set: set.into(), ..Default::default() }),
        ..Default::default()
    }
}

async fn send(fixture: &Fixture, request: pb::CreateTypeSetRequest) -> Result<pb::TypeSet, Status> {
    let mut client = TypeSetsClient::new(fixture.line.clone());
    let created = within("the type set", client.create_type_set(request)).await;
    created.map(tonic::Response::into_inner)
}

pub(crate) async fn create(
    fixture: &Fixture,
    parent: &str,
    id: &str,
    set: Vec<u8>,
) -> Result<pb::TypeSet, Status> {
    send(fixture, request(parent, id, set)).await
}

async fn get(fixture: &Fixture, name: &str) -> Result<pb::TypeSet, Status> {
    let request = pb::GetTypeSetRequest { name: name.to_owned(), ..Default::default() };
    let mut client = TypeSetsClient::new(fixture.line.clone());
    within("the type set", client.get_type_set(request)).await.map(tonic::Response::into_inner)
}

async fn page(
    fixture: &Fixture,
    request: pb::ListTypeSetsRequest,
) -> Result<pb::ListTypeSetsResponse, Status> {
    let mut client = TypeSetsClient::new(fixture.line.clone());
    within("type sets", client.list_type_sets(request)).await.map(tonic::Response::into_inner)
}

async fn names(fixture: &Fixture, parent: &str) -> Vec<String> {
    let request = pb::ListTypeSetsRequest { parent: parent.to_owned(), ..Default::default() };
    let page = page(fixture, request).await.granted();
    assert_eq!(page.next_page_token, "");
    page.type_sets.into_iter().map(|set| set.name).collect()
}

pub(crate) async fn delete(
    fixture: &Fixture,
    request: pb::DeleteTypeSetRequest,
) -> Result<(), Status> {
    let mut client = TypeSetsClient::new(fixture.line.clone());
    within("the deletion", client.delete_type_set(request)).await.map(drop)
}

pub(crate) fn deletion(name: &str) -> pb::DeleteTypeSetRequest {
    pb::DeleteTypeSetRequest { name: name.to_owned(), ..Default::default() }
}

async fn filtered(fixture: &Fixture, parent: &str, filter: &str) -> Result<Vec<String>, Status> {
    let request = ListOperationsRequest {
        name: parent.to_owned(),
        filter: filter.to_owned(),
        ..Default::default()
    };
    let page = within("a list", fixture.operations().list_operations(request)).await?;
    Ok(page.into_inner().operations.into_iter().map(|operation| operation.name).collect())
}

/// An order, encoded.
fn order(title: &str) -> Any {
    let value = [&[0x0a, title.len() as u8][..], title.as_bytes()].concat();
    any("shop.Order", &value)
}

async fn a_type_set_is_created_read_listed_and_deleted(fixture: &Fixture) {
    for (parent, name) in [("projects/p", "projects/p/typeSets/shop"), ("", "typeSets/shop")] {
        let created = create(fixture, parent, "shop", shop()).await.granted();
        assert_eq!((&*created.name, created.file_count, created.message_count), (name, 1, 1));
        assert!(created.file_descriptor_set.is_empty() && created.create_time.is_some());
        assert!(!created.uid.is_empty() && !created.etag.is_empty());
        assert_eq!(created.size_bytes, shop().len() as i64);
        let got = get(fixture, name).await.granted();
        assert_eq!(got.file_descriptor_set, shop(), "as it was");
        let basic = pb::TypeSet { file_descriptor_set: Vec::new().into(), ..got.clone() };
        assert_eq!(basic, created);
        for (view, expected) in
            [(pb::TypeSetView::Unspecified, basic), (pb::TypeSetView::Full, got)]
        {
            let (parent, view) = (parent.to_owned(), view.into());
            let request = pb::ListTypeSetsRequest { parent, view, ..Default::default() };
            assert_eq!(page(fixture, request).await.granted().type_sets, [expected]);
        }
    }
    let generated = create(fixture, "projects/p", "", set("a", "A", &[])).await.granted().name;
    assert!(names(fixture, "projects/p").await.contains(&generated), "{generated}");
    for name in ["projects/p/typeSets/shop", &generated] {
        delete(fixture, deletion(name)).await.granted();
        get(fixture, name).await.refused(Code::NotFound, "TYPE_SET_NOT_FOUND");
        delete(fixture, deletion(name)).await.refused(Code::NotFound, "TYPE_SET_NOT_FOUND");
    }
    assert_eq!(names(fixture, "-").await, ["typeSets/shop"]);
}

async fn a_set_that_cannot_be_is_refused_by_name_and_leaves_nothing(fixture: &Fixture) {
    const FIELD: &str = "type_set.file_descriptor_set";
    create(fixture, "projects/p", "shop", shop()).await.granted();
    let deep = "a/b/".repeat(9);
    for (parent, id, set, field) in [
        ("projects/p", "other", other_shop(), FIELD),
        ("projects/p", "x", set("google.rpc", "Status", &[]), FIELD),
        ("projects/p", "x", set("longhaul.mine", "A", &[]), FIELD),
        ("projects/p", "x", b"syntax = \"proto3\";".to_vec(), FIELD),
        ("projects/p", "x", Vec::new(), FIELD),
        ("projects/p", "x", vec![0; 2 << 20], FIELD),
        ("projects/p", "X", set("a", "A", &[]), "type_set_id"),
        ("projects", "x", set("a", "A", &[]), "parent"),
        (deep.trim_end_matches('/'), "x", set("a", "A", &[]), "parent"),
    ] {
        let refused = create(fixture, parent, id, set).await;
        let metadata = refused.refused_field("INVALID_ARGUMENT", field);
        let rival = metadata.get("typeSet").map(String::as_str);
        assert_eq!(rival, (id == "other").then_some("projects/p/typeSets/shop"), "{metadata:?}");
    }
    // Over HTTP the path of all parents can only be listed.
    let pattern = create(fixture, "projects/-", "x", set("a", "A", &[])).await;
    let code = pattern.expect_err("a pattern is no parent").code();
    assert!(matches!(code, Code::InvalidArgument | Code::Unimplemented), "{code:?}");
    let nothing = pb::CreateTypeSetRequest { type_set: None, ..request("", "x", Vec::new()) };
    let mut client = TypeSetsClient::new(fixture.channel.clone());
    client.create_type_set(nothing).await.refused_field("INVALID_ARGUMENT", "type_set");
    let checked = pb::CreateTypeSetRequest {
        validate_only: true,
        ..request("projects/p", "a", set("a", "A", &[]))
    };
    send(fixture, checked).await.granted();
    assert_eq!(names(fixture, "-").await, ["projects/p/typeSets/shop"]);
    // Another parent is free to call its own types so.
    create(fixture, "projects/q", "other", other_shop()).await.granted();
}

async fn a_repeated_create_is_recognised_and_another_one_refused(fixture: &Fixture) {
    let with_id = |id: &str, set| pb::CreateTypeSetRequest {
        request_id: "request-1".to_owned(),
        ..request("projects/p", id, set)
    };
    for id in ["shop", ""] {
        let package = if id.is_empty() { "a" } else { "shop" };
        let first = send(fixture, with_id(id, set(package, "M", &[]))).await.granted();
        assert_eq!(send(fixture, with_id(id, set(package, "M", &[]))).await.granted(), first);
        let other = send(fixture, with_id(id, set("b", "M", &[]))).await;
        other.refused_field("REQUEST_ID_REUSED", "request_id");
    }
    let again = create(fixture, "projects/p", "shop", set("shop", "M", &[])).await;
    again.refused(Code::AlreadyExists, "TYPE_SET_ALREADY_EXISTS");
}

async fn an_etag_guards_a_deletion_and_a_check_deletes_nothing(fixture: &Fixture) {
    let former = create(fixture, "", "shop", shop()).await.granted();
    delete(fixture, deletion(&former.name)).await.granted();
    let set = create(fixture, "", "shop", shop()).await.granted();
    assert_ne!((&former.uid, &former.etag), (&set.uid, &set.etag));
    let with = |etag: &str, validate_only| pb::DeleteTypeSetRequest {
        etag: etag.to_owned(),
        validate_only,
        ..deletion("typeSets/shop")
    };
    for validate_only in [false, true] {
        let refused = delete(fixture, with(&former.etag, validate_only)).await;
        assert_eq!(refused.refused(Code::Aborted, "ETAG_MISMATCH")["etag"], set.etag);
    }
    delete(fixture, with(&set.etag, true)).await.granted();
    assert_eq!(names(fixture, "").await, ["typeSets/shop"]);
    delete(fixture, with(&set.etag, false)).await.granted();
    let missing = pb::DeleteTypeSetRequest { allow_missing: true, ..deletion("typeSets/shop") };
    delete(fixture, missing).await.granted();
    assert!(names(fixture, "-").await.is_empty());
}

async fn pages_of_type_sets_go_by_parent_and_id(fixture: &Fixture) {
    let parents = ["", "projects/p", "projects/p/locations/l", "projects/q"];
    let mut all = Vec::new();
    for parent in parents {
        for id in ["c", "a", "b"] {
            all.push(create(fixture, parent, id, set(id, "M", &[])).await.granted().name);
        }
    }
    let key = |name: &String| {
        let (parent, id) = name.rsplit_once("typeSets/").expect("a name");
        (parent.trim_end_matches('/').to_owned(), id.to_owned())
    };
    all.sort_by_key(key);
    for (pattern, is_listed) in [
        ("-", (|_| true) as fn(&str) -> bool),
        ("projects/-", |name| name.matches('/').count() == 3),
        ("projects/p", |name| name.starts_with("projects/p/typeSets/")),
        ("projects/p/typeSets", |name| name.starts_with("projects/p/typeSets/")),
        ("", |name| name.starts_with("typeSets/")),
        ("typeSets", |name| name.starts_with("typeSets/")),
        ("folders/-", |_| false),
    ] {
        for page_size in [1, 2, 3, 100] {
            let mut request = pb::ListTypeSetsRequest {
                parent: pattern.to_owned(),
                page_size,
                ..Default::default()
            };
            let mut found = Vec::new();
            loop {
                let page = page(fixture, request.clone()).await.granted();
                assert!(page.type_sets.len() <= page_size as usize);
                found.extend(page.type_sets.into_iter().map(|set| set.name));
                if page.next_page_token.is_empty() {
                    break;
                }
                request.page_token = page.next_page_token;
            }
            let expected: Vec<_> = all.iter().filter(|name| is_listed(name)).cloned().collect();
            assert_eq!(found, expected, "{pattern} by {page_size}");
        }
    }
    let first =
        pb::ListTypeSetsRequest { parent: "-".to_owned(), page_size: 1, ..Default::default() };
    let page_token = page(fixture, first).await.granted().next_page_token;
    let foreign = pb::ListTypeSetsRequest { page_token, ..Default::default() };
    page(fixture, foreign).await.refused_field("INVALID_PAGE_TOKEN", "page_token");
}

async fn filters_know_the_types_of_their_parent_and_of_those_above_it(fixture: &Fixture) {
    const FILTER: &str = "request.@type = shop.Order AND request.title = book";
    let mut started = Vec::new();
    for parent in ["projects/p/locations/l", "projects/p", "projects/q"] {
        for title in ["book", "pen"] {
            let start = pb::StartOperationRequest {
                parent: parent.to_owned(),
                request: Some(order(title)),
                ..start("q")
            };
            let start = within("a start", pb_producers(fixture).start_operation(start)).await;
            started.push(start.granted().into_inner().name);
        }
    }
    let refused = filtered(fixture, "projects/p", FILTER).await;
    refused.refused_field("INVALID_FILTER", "filter");
    create(fixture, "projects/p", "shop", shop()).await.granted();
    for (parent, expected) in [
        ("projects/p", Some(&started[2..3])),
        ("projects/p/locations/l", Some(&started[..1])),
        ("projects/p/locations/-", Some(&started[..1])),
        ("projects/p/operations", Some(&started[2..3])),
        ("projects/q", None),
        ("projects/-", None),
        ("-", None),
        ("", None),
    ] {
        match (filtered(fixture, parent, FILTER).await, expected) {
            (Ok(found), Some(expected)) => assert_eq!(found, expected, "{parent}"),
            (refused, None) => {
                refused.refused_field("INVALID_FILTER", "filter");
            }
            (Err(refused), Some(_)) => panic!("{parent}: {refused:?}"),
        }
    }
    let unknown = filtered(fixture, "projects/p", "request.@type = shop.Order request.name = a");
    unknown.await.refused_field("INVALID_FILTER", "filter");
    // At the root it is known everywhere, for all parents at once too.
    create(fixture, "", "shop", shop()).await.granted();
    assert_eq!(filtered(fixture, "-", FILTER).await.granted().len(), 3);
    delete(fixture, deletion("typeSets/shop")).await.granted();
    filtered(fixture, "-", FILTER).await.refused_field("INVALID_FILTER", "filter");
    // The operations are still there.
    assert_eq!(filtered(fixture, "-", "request.@type = shop.Order").await.granted().len(), 6);
}

fn pb_producers(
    fixture: &Fixture,
) -> longhaul::proto::longhaul::v1::producers_client::ProducersClient<tonic::transport::Channel> {
    // Payloads of unknown types have no JSON.
    longhaul::proto::longhaul::v1::producers_client::ProducersClient::new(fixture.channel.clone())
}

async fn a_nearer_set_is_used_where_one_above_does_not_fit(fixture: &Fixture) {
    const PRICE: &str = "request.@type = shop.Order request.price = a";
    create(fixture, "", "shop", shop()).await.granted();
    create(fixture, "projects/p", "mine", other_shop()).await.granted();
    create(fixture, "projects/p/locations/l", "more", set("more", "M", &["a"])).await.granted();
    for parent in ["projects/p", "projects/p/locations/l"] {
        filtered(fixture, parent, PRICE).await.granted();
    }
    for parent in ["projects/q", "", "-"] {
        filtered(fixture, parent, PRICE).await.refused_field("INVALID_FILTER", "filter");
    }
    filtered(fixture, "projects/q", "request.@type = shop.Order request.title = a").await.granted();
    delete(fixture, deletion("projects/p/typeSets/mine")).await.granted();
    let gone = filtered(fixture, "projects/p/locations/l", PRICE).await;
    gone.refused_field("INVALID_FILTER", "filter");
}

async fn a_parent_has_a_bounded_number_of_type_sets(fixture: &Fixture) {
    for number in 0..MAX_TYPE_SETS {
        let package = format!("p{number}");
        create(fixture, "projects/p", &package, set(&package, "M", &[])).await.granted();
    }
    let refused = create(fixture, "projects/p", "more", set("more", "M", &[])).await;
    let metadata = refused.refused(Code::InvalidArgument, "LIMIT_EXCEEDED");
    assert_eq!(metadata["limit"], MAX_TYPE_SETS.to_string());
    create(fixture, "projects/q", "more", set("more", "M", &[])).await.granted();
}

async fn of_two_sets_at_once_that_do_not_fit_together_one_is_created(fixture: &Fixture) {
    let other = fixture.beside().await;
    for number in 0..5 {
        let parent = format!("projects/p{number}");
        let (one, two) = tokio::join!(
            create(fixture, &parent, "one", shop()),
            create(&other, &parent, "two", other_shop()),
        );
        assert_eq!(usize::from(one.is_ok()) + usize::from(two.is_ok()), 1, "{one:?} {two:?}");
        let lost = one.and(two);
        lost.refused_field("INVALID_ARGUMENT", "type_set.file_descriptor_set");
        assert_eq!(names(fixture, &parent).await.len(), 1);
    }
}

async fn a_create_and_a_deletion_of_unknown_outcome_are_told_apart_from_others(fixture: &Fixture) {
    for fault in [Fault::AppliedUnknown, Fault::LostUnknown, Fault::Conflict] {
        fixture.store.inject([fault]);
        let created = create(fixture, "projects/p", "shop", shop()).await.granted();
        assert_eq!(get(fixture, &created.name).await.granted().uid, created.uid, "{fault:?}");
        fixture.store.inject([fault]);
        delete(fixture, deletion(&created.name)).await.granted();
        assert!(names(fixture, "-").await.is_empty(), "{fault:?}");
    }
}

async fn every_server_knows_a_new_set_at_once_by_a_hint_and_within_a_second_without(
    fixture: &Fixture,
) {
    const FILTER: &str = "request.@type = shop.Order request.title = a";
    let other = fixture.beside().await;
    let knows = async |parent: &str, wanted: bool| {
        within("the other server to know", async {
            while filtered(&other, parent, FILTER).await.is_ok() != wanted {}
        })
        .await;
    };
    knows("projects/p", false).await;
    create(fixture, "projects/p", "shop", shop()).await.granted();
    knows("projects/p", true).await;
    delete(fixture, deletion("projects/p/typeSets/shop")).await.granted();
    knows("projects/p", false).await;
    // The clock stands still until here: these were hints.
    fixture.store.set_hints_lost(true);
    for (parent, name) in [("projects/p", "projects/p/typeSets/shop"), ("", "typeSets/shop")] {
        create(fixture, parent, "shop", shop()).await.granted();
        fixture.let_pass(TYPES_REREAD);
        knows("projects/p", true).await;
        delete(fixture, deletion(name)).await.granted();
        fixture.let_pass(TYPES_REREAD);
        knows("projects/p", false).await;
    }
}

async fn payloads_over_http_are_of_the_types_of_their_parent(fixture: &Fixture) {
    let post = async |parent: &str, body: &str| {
        let path = format!("/v1/{parent}/operations:start");
        ask_with(fixture.address, "POST", &path, &[("content-type", "application/json")], body)
            .await
    };
    let show = async |path: &str| ask_with(fixture.address, "GET", path, &[], "").await;
    let body = r#"{"operationId": "o", "metadataType": "shop.Order", "initialMetadata":
        {"@type": "type.googleapis.com/shop.Order", "title": "a book"}}"#;
    post("projects/p", body).await.refused(400, "UNKNOWN_TYPE");
    create(fixture, "projects/p", "shop", shop()).await.granted();
    create(fixture, "projects/q", "shop", set("shop", "Order", &["name"])).await.granted();
    assert_eq!(post("projects/p", body).await.status, 202);
    post("projects/q", body).await.refused(400, "INVALID_ARGUMENT");
    assert_eq!(post("projects/q", &body.replace("title", "name")).await.status, 202);
    let payload = |field: &str| json!({"@type": "type.googleapis.com/shop.Order", field: "a book"});
    let operation = show("/v1/projects/p/operations/o").await.json();
    assert_eq!(operation["metadata"], payload("title"));
    let operation = show("/v1/projects/q/operations/o").await.json();
    assert_eq!(operation["metadata"], payload("name"));
    // Each by the types of its own parent, also for strict clients.
    for strict in [&[][..], &[("x-goog-api-client", "gl-test")]] {
        let path = "/v1/projects/-/operations";
        let list = ask_with(fixture.address, "GET", path, strict, "").await.json();
        let shown = [&list["operations"][0]["metadata"], &list["operations"][1]["metadata"]];
        assert_eq!(shown, [&payload("title"), &payload("name")], "{strict:?}");
    }
    let record = show("/v1/projects/p/operations/o:record").await.json();
    assert_eq!(record["operation"]["metadata"], payload("title"));
    delete(fixture, deletion("projects/p/typeSets/shop")).await.granted();
    let operation = show("/v1/projects/p/operations/o").await.json();
    assert_eq!(operation["metadata"]["@value"], "CgZhIGJvb2s=", "{operation}");
}

async fn reflection_serves_the_sets_of_the_root_as_they_are_now(fixture: &Fixture) {
    let knows = async |wanted: bool| {
        let mut client = ServerReflectionClient::new(fixture.channel.clone());
        within("reflection to know", async {
            loop {
                let symbol = MessageRequest::FileContainingSymbol("shop.Order".to_owned());
                let request =
                    ServerReflectionRequest { host: String::new(), message_request: Some(symbol) };
                let answers = client.server_reflection_info(tokio_stream::once(request)).await;
                let answer = answers.expect("reflection").into_inner().message().await;
                let found = answer.is_ok_and(|answer| {
                    let answer = answer.and_then(|answer| answer.message_response);
                    matches!(answer, Some(MessageResponse::FileDescriptorResponse(_)))
                });
                if found == wanted {
                    return;
                }
            }
        })
        .await;
    };
    knows(false).await;
    create(fixture, "", "shop", shop()).await.granted();
    knows(true).await;
    delete(fixture, deletion("typeSets/shop")).await.granted();
    knows(false).await;
}
