//! Pages of operations.

use std::collections::HashSet;

use crate::support::*;

scenarios! {
    over every face;
    pages_come_newest_first_and_may_change_their_size_midway,
    a_page_token_is_good_for_its_own_query_only_and_for_three_days,
    parents_are_taken_in_every_customary_form,
    the_wildcard_goes_by_parent_then_newest_first,
    the_wildcard_alone_lists_every_parent_by_parent_then_newest_first,
    a_list_of_records_says_what_the_list_of_operations_and_each_record_say,
    pages_stop_at_their_bytes,
    concurrent_starts_and_deletes_neither_skip_nor_repeat,
    lists_refuse_what_they_cannot_do,
}

async fn pages_come_newest_first_and_may_change_their_size_midway(fixture: &Fixture) {
    let mut names = Vec::new();
    for _ in 0..12 {
        names.push(fixture.started("q").await);
        fixture.let_pass(Duration::from_millis(1));
    }
    names.reverse();
    let first = fixture.list("", 5, "").await.granted();
    assert_eq!(first.operations.len(), 5);
    let second = fixture.list("", 3, &first.next_page_token).await.granted();
    assert_eq!(second.operations.len(), 3);
    let third = fixture.list("", 4, &second.next_page_token).await.granted();
    assert_eq!((third.operations.len(), &third.next_page_token[..]), (4, ""));
    let listed: Vec<String> = [first.operations, second.operations, third.operations]
        .into_iter()
        .flatten()
        .map(|operation| operation.name)
        .collect();
    assert_eq!(listed, names);
    // A page has the same operations as Get.
    assert_eq!(
        fixture.get(&names[0]).await.granted(),
        fixture.list("", 1, "").await.granted().operations[0]
    );
    // 0 is the default, and much is coerced.
    assert_eq!(fixture.list("", 0, "").await.granted().operations.len(), 12);
    assert_eq!(fixture.list("", i32::MAX, "").await.granted().operations.len(), 12);
    for _ in 0..40 {
        fixture.started("q").await;
    }
    let page = fixture.list("", 0, "").await.granted();
    assert_eq!(page.operations.len(), 50, "the default");
    assert!(!page.next_page_token.is_empty());
}

async fn a_page_token_is_good_for_its_own_query_only_and_for_three_days(fixture: &Fixture) {
    for _ in 0..3 {
        let request = pb::StartOperationRequest { parent: "projects/p".to_owned(), ..start("q") };
        fixture.start(request).await.granted();
        fixture.started("q").await;
    }
    let token = fixture.list("projects/p", 1, "").await.granted().next_page_token;
    assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
    fixture.list("projects/p", 1, &token).await.granted();
    let bad = |answer: Result<_, tonic::Status>| {
        let answer: Result<longhaul::proto::google::longrunning::ListOperationsResponse, _> =
            answer;
        answer.refused_field("INVALID_PAGE_TOKEN", "page_token");
    };
    bad(fixture.list("", 1, &token).await);
    bad(fixture.list("projects/-", 1, &token).await);
    bad(fixture.list("projects/q", 1, &token).await);
    bad(fixture.list("projects/p", 1, "nonsense").await);
    let mut altered = token.clone().into_bytes();
    altered[10] = if altered[10] == b'A' { b'B' } else { b'A' };
    bad(fixture.list("projects/p", 1, &String::from_utf8(altered).expect("ascii")).await);
    let elsewhere = Fixture::embedded().await;
    bad(elsewhere.list("projects/p", 1, &token).await);
    elsewhere.stop().await;

    fixture.let_pass(Duration::from_mins(4319));
    fixture.list("projects/p", 1, &token).await.granted();
    fixture.let_pass(Duration::from_mins(2));
    let refusal = fixture.list("projects/p", 1, &token).await;
    refusal.refused_field("PAGE_TOKEN_EXPIRED", "page_token");
}

async fn parents_are_taken_in_every_customary_form(fixture: &Fixture) {
    let mut names = Vec::new();
    for parent in ["", "projects/p", "projects/p/locations/l", "projects/pp"] {
        let request = pb::StartOperationRequest { parent: parent.to_owned(), ..start("q") };
        names.push(fixture.start(request).await.granted().name);
    }
    let forms = [
        ("", 0),
        ("operations", 0),
        ("projects/p", 1),
        ("projects/p/operations", 1),
        ("projects/p/locations/l", 2),
        ("projects/p/locations/l/operations", 2),
        ("projects/pp", 3),
    ];
    for (form, position) in forms {
        let operations = fixture.list(form, 10, "").await.granted().operations;
        let listed: Vec<_> = operations.iter().map(|operation| &operation.name).collect();
        assert_eq!(listed, [&names[position]], "{form:?}: direct children only");
    }
    assert!(fixture.list("projects/none", 10, "").await.granted().operations.is_empty());
}

async fn the_wildcard_goes_by_parent_then_newest_first(fixture: &Fixture) {
    let mut wanted = Vec::new();
    for parent in ["projects/a", "projects/b", "projects/c"] {
        let mut of_parent = Vec::new();
        for _ in 0..3 {
            fixture.let_pass(Duration::from_millis(1));
            let request = pb::StartOperationRequest { parent: parent.to_owned(), ..start("q") };
            of_parent.push(fixture.start(request).await.granted().name);
        }
        of_parent.reverse();
        wanted.extend(of_parent);
    }
    for parent in ["", "projects/a/locations/x", "folders/a", "projects/b/locations/y"] {
        let request = pb::StartOperationRequest { parent: parent.to_owned(), ..start("q") };
        fixture.start(request).await.granted();
    }
    for page_size in [1, 2, 4, 9, 50] {
        assert_eq!(names(&pages(fixture, "projects/-", page_size).await), wanted, "{page_size}");
    }
    let deeper = names(&pages(fixture, "projects/-/locations/-", 1).await);
    assert_eq!(deeper.len(), 2);
    assert!(deeper[0].starts_with("projects/a/locations/x/operations/"), "canonical names");
    let one = names(&pages(fixture, "projects/b/locations/-", 1).await);
    assert!(one.len() == 1 && one[0].starts_with("projects/b/locations/y/"));
}

async fn the_wildcard_alone_lists_every_parent_by_parent_then_newest_first(fixture: &Fixture) {
    let mut wanted = Vec::new();
    for parent in ["", "a/b", "a/b/c/d/e/f", "projects/p", "projects/p/locations/l", "z/z"] {
        let mut of_parent = Vec::new();
        for _ in 0..3 {
            fixture.let_pass(Duration::from_millis(1));
            let request = pb::StartOperationRequest { parent: parent.to_owned(), ..start("q") };
            of_parent.push(fixture.start(request).await.granted().name);
        }
        of_parent.reverse();
        wanted.extend(of_parent);
    }
    for page_size in [1, 2, 5, 50] {
        assert_eq!(names(&pages(fixture, "-", page_size).await), wanted, "{page_size}");
    }
    assert_eq!(names(&pages(fixture, "-/operations", 50).await), wanted);
    let token = fixture.list("-", 1, "").await.granted().next_page_token;
    fixture.list("", 1, &token).await.refused_field("INVALID_PAGE_TOKEN", "page_token");
}

async fn a_list_of_records_says_what_the_list_of_operations_and_each_record_say(fixture: &Fixture) {
    let list = async |request: pb::ListOperationRecordsRequest| {
        let mut callers = fixture.callers();
        let answer = within("list", callers.list_operation_records(request)).await;
        answer.map(tonic::Response::into_inner)
    };
    for (parent, metadata_type) in
        [("", ""), ("projects/p", "google.protobuf.Struct"), ("projects/p", "")]
    {
        fixture.let_pass(Duration::from_millis(1));
        let request = pb::StartOperationRequest {
            parent: parent.to_owned(),
            metadata_type: metadata_type.to_owned(),
            ..start("q")
        };
        fixture.start(request).await.granted();
    }
    let operations = pages(fixture, "-", 50).await.concat();
    let mut records = Vec::new();
    let mut request = pb::ListOperationRecordsRequest {
        parent: "-".to_owned(),
        page_size: 2,
        ..Default::default()
    };
    loop {
        let page = list(request.clone()).await.granted();
        records.extend(page.operation_records);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(records.len(), 3);
    for (record, operation) in records.iter().zip(&operations) {
        assert_eq!(record.operation.as_ref(), Some(operation));
        let request =
            pb::GetOperationRecordRequest { name: operation.name.clone(), ..Default::default() };
        let mut callers = fixture.callers();
        let alone = within("record", callers.get_operation_record(request)).await.granted();
        assert_eq!(record, &alone.into_inner());
        assert!(record.server_metadata.is_some(), "whatever the metadata type");
    }
    let bare = pb::ListOperationRecordsRequest::default;
    let view = pb::OperationView::Full.into();
    let full = pb::ListOperationRecordsRequest { view, ..bare() };
    list(full).await.refused_field("UNIMPLEMENTED", "view");
    let parent = pb::ListOperationRecordsRequest { parent: "-/-".to_owned(), ..bare() };
    list(parent).await.refused_field("INVALID_NAME", "parent");
}

async fn pages_stop_at_their_bytes(fixture: &Fixture) {
    let mut leases = Vec::new();
    for _ in 0..7 {
        leases.push(fixture.running(start("q")).await);
    }
    for lease in &leases {
        let response = Some(large("acme.Blob", 1 << 20));
        let done = pb::CompleteOperationRequest { response, ..completion(lease) };
        fixture.complete(done).await.granted();
    }
    let listed = pages(fixture, "", 100).await;
    assert_eq!(listed.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 2, 1], "under 3 MiB each");
    let found: HashSet<String> = names(&listed).into_iter().collect();
    assert_eq!(found.len(), 7);
    for operation in listed.iter().flatten() {
        assert_eq!(response_of(operation), large("acme.Blob", 1 << 20), "byte for byte");
    }
}

async fn concurrent_starts_and_deletes_neither_skip_nor_repeat(fixture: &Fixture) {
    let mut before = Vec::new();
    for _ in 0..10 {
        before.push(fixture.running(start("q")).await);
        fixture.let_pass(Duration::from_millis(1));
    }
    let mut listed = Vec::new();
    let mut token = String::new();
    for round in 0.. {
        let page = fixture.list("", 2, &token).await.granted();
        listed.extend(page.operations.into_iter().map(|operation| operation.name));
        // One operation is added, and one that was listed already is removed.
        fixture.started("new").await;
        let gone = &before[before.len() - 1 - round.min(before.len() - 1)];
        fixture.complete(completion(gone)).await.granted();
        fixture.delete(&gone.operation).await.granted();
        if page.next_page_token.is_empty() {
            break;
        }
        token = page.next_page_token;
    }
    let mut wanted: Vec<_> = before.iter().map(|lease| lease.operation.clone()).collect();
    wanted.reverse();
    assert_eq!(listed, wanted);
}

async fn lists_refuse_what_they_cannot_do(fixture: &Fixture) {
    use longhaul::proto::google::longrunning::ListOperationsRequest;
    let list = async |request: ListOperationsRequest| {
        let mut operations = fixture.operations();
        within("list", operations.list_operations(request)).await
    };
    let negative = ListOperationsRequest { page_size: -1, ..Default::default() };
    list(negative).await.refused_field("INVALID_ARGUMENT", "page_size");
    for name in
        ["projects", "/", "/operations", "projects/p/", "projects//operations", "queues/q", "a b/c"]
    {
        let request = ListOperationsRequest { name: name.to_owned(), ..Default::default() };
        list(request).await.refused_field("INVALID_NAME", "name");
    }
}

/// All pages.
async fn pages(fixture: &Fixture, parent: &str, page_size: i32) -> Vec<Vec<Operation>> {
    let mut pages = Vec::new();
    let mut token = String::new();
    loop {
        let page = fixture.list(parent, page_size, &token).await.granted();
        pages.push(page.operations);
        if page.next_page_token.is_empty() {
            return pages;
        }
        token = page.next_page_token;
    }
}

fn names(pages: &[Vec<Operation>]) -> Vec<String> {
    pages.iter().flatten().map(|operation| operation.name.clone()).collect()
}
