//! Lists of a store of which a part does not answer.

use std::collections::BTreeSet;

use longhaul::proto::google::longrunning::ListOperationsRequest;
use longhaul::store::{Partition, Store};
use tonic::Status;

use crate::support::*;

scenarios! {
    over every face;
    a_list_answers_what_there_is_and_names_what_does_not_answer,
}

async fn list(
    fixture: &Fixture,
    filter: &str,
    partial: bool,
) -> Result<(BTreeSet<String>, BTreeSet<String>), Status> {
    let mut request = ListOperationsRequest {
        name: "-".to_owned(),
        filter: filter.to_owned(),
        page_size: 3,
        return_partial_success: partial,
        ..Default::default()
    };
    let (mut names, mut unreachable) = (BTreeSet::new(), BTreeSet::new());
    loop {
        let page = within("a page", fixture.operations().list_operations(request.clone())).await?;
        let page = page.into_inner();
        for operation in page.operations {
            assert!(names.insert(operation.name), "twice");
        }
        unreachable.extend(page.unreachable);
        if page.next_page_token.is_empty() {
            return Ok((names, unreachable));
        }
        request.page_token = page.next_page_token;
    }
}

async fn records(fixture: &Fixture, partial: bool) -> Result<Vec<String>, Status> {
    let request = pb::ListOperationRecordsRequest {
        parent: "-".to_owned(),
        return_partial_success: partial,
        ..Default::default()
    };
    let page = within("a page", fixture.callers().list_operation_records(request)).await?;
    Ok(page.into_inner().unreachable)
}

async fn a_list_answers_what_there_is_and_names_what_does_not_answer(fixture: &Fixture) {
    const FILTERS: [&str; 4] =
        ["", "state() = FAILED", "state() = PENDING queue() = q", "request.size = 1"];
    for number in 0..20 {
        let parent = ["", "projects/p"][number % 2].to_owned();
        let queue = if number < 4 { "failing" } else { "q" };
        let request = Some(large("google.protobuf.Struct", 2_000));
        fixture
            .start(pb::StartOperationRequest { parent, request, ..start(queue) })
            .await
            .granted();
    }
    for _ in 0..4 {
        let lease = fixture.lease("failing").await;
        let failure = pb::FailOperationRequest {
            retry_decision: pb::fail_operation_request::RetryDecision::DoNotRetry.into(),
            ..failure(&lease, Code::Internal)
        };
        fixture.fail(failure).await.granted();
    }
    let keyspace = fixture.store.keyspace();
    let lost = Partition(keyspace.partitions() - 1);
    let mut before = Vec::new();
    for filter in FILTERS {
        let (names, unreachable) = list(fixture, filter, true).await.granted();
        assert!(unreachable.is_empty(), "{unreachable:?}");
        before.push(names);
    }
    assert_eq!(before[0].len(), 20);
    fixture.store.set_lost(lost, true);
    for (filter, before) in FILTERS.iter().zip(&before) {
        list(fixture, filter, false).await.refused(Code::Unavailable, "STORE_UNAVAILABLE");
        let found = list(fixture, filter, true).await;
        if keyspace.partitions() == 1 {
            found.refused(Code::Unavailable, "STORE_UNAVAILABLE");
            continue;
        }
        let is_there = |name: &&String| keyspace.partition(keyspace.key(name)) != lost;
        let expected: BTreeSet<String> = before.iter().filter(is_there).cloned().collect();
        let named = BTreeSet::from([format!("partitions/{}", lost.0)]);
        assert_eq!(found.granted(), (expected, named), "{filter}");
    }
    records(fixture, false).await.refused(Code::Unavailable, "STORE_UNAVAILABLE");
    if keyspace.partitions() > 1 {
        let named = records(fixture, true).await.granted();
        assert_eq!(named, [format!("partitions/{}", lost.0)]);
    }
    // What could not be read was not taken for gone.
    fixture.store.set_lost(lost, false);
    for (filter, before) in FILTERS.iter().zip(before) {
        let found = list(fixture, filter, false).await.granted();
        assert_eq!(found, (before, BTreeSet::new()), "{filter}");
    }
}
