//! Lists with filters and orders, compared with a plain reading of every record.

use std::collections::BTreeSet;

use longhaul::engine::{Caller, Resource, Rules, Verb};
use longhaul::proto::google::longrunning::ListOperationsRequest;
use prost::Message;
use prost_types::{ListValue, Struct, Value, value::Kind};

use crate::support::*;

scenarios! {
    filtered_pages_are_what_a_plain_reading_of_every_record_finds,
    writes_between_pages_neither_repeat_nor_hide_what_matches_throughout,
    a_page_token_is_bound_to_its_filter_its_order_and_its_call,
    payloads_beside_their_records_are_loaded_within_a_bound,
    a_filter_finds_nothing_outside_of_what_its_caller_may_list,
    bad_filters_and_orders_are_refused_with_their_position,
}

type Listed = pb::ListOperationRecordsRequest;
type Holds = fn(&pb::OperationRecord) -> bool;

/// A filter, what it means, and the index that it is answered from.
const FILTERS: &[(&str, Holds, &str)] = &[
    ("", |_| true, "list"),
    ("done = true", |record| operation(record).done, "list"),
    ("NOT done = true", |record| !operation(record).done, "unfinished"),
    ("state() = FAILED", |record| record.state() == State::Failed, "failed"),
    ("error.code = 8", |record| error_code(record) == Some(8), "list"),
    (
        "state() = FAILED error.code = 14",
        |record| record.state() == State::Failed && error_code(record) == Some(14),
        "failed",
    ),
    (
        "state() = (RUNNING OR CANCELLING)",
        |record| matches!(record.state(), State::Running | State::Cancelling),
        "due/lease",
    ),
    (
        "state() = PENDING AND queue() = q",
        |record| record.state() == State::Pending && record.queue == "queues/q",
        "ready",
    ),
    ("state() = SUSPENDED", |record| record.state() == State::Suspended, "unfinished"),
    (
        "-label(\"team\") = red queue() = (q OR r)",
        |record| team(record) != Some("red") && ["queues/q", "queues/r"].contains(&&*record.queue),
        "list",
    ),
    ("label(team) != red", |record| team(record).is_some_and(|team| team != "red"), "list"),
    ("response.size = 7", |record| size_of(record) == Some(7.0), "list"),
    (
        "response.size > 7 OR state() = FAILED",
        |record| size_of(record).is_some_and(|size| size > 7.0) || record.state() == State::Failed,
        "list",
    ),
    ("done = true done = false", |_| false, "none"),
];

async fn filtered_pages_are_what_a_plain_reading_of_every_record_finds(fixture: &Fixture) {
    populate(fixture).await;
    let all = walk(fixture, Listed { parent: "-".to_owned(), ..Listed::default() }).await.0;
    assert!(all.len() > 25, "{}", all.len());
    for (filter, holds, index) in FILTERS {
        for (parent, order_by, page_size) in [
            ("-", "", 3),
            ("-", "create_time", 50),
            ("projects/-", "create_time", 1),
            ("", "create_time desc", 2),
            ("", "create_time", 4),
            ("projects/a", " create_time ", 100),
        ] {
            let request = Listed {
                parent: parent.to_owned(),
                filter: (*filter).to_owned(),
                order_by: order_by.to_owned(),
                page_size,
                ..Listed::default()
            };
            let (found, from) = walk(fixture, request).await;
            let mut wanted: Vec<_> =
                all.iter().filter(|record| is_in(record, parent) && holds(record)).collect();
            wanted.sort_by_key(|record| time_of(record));
            if order_by.trim() != "create_time" {
                wanted.reverse();
            }
            wanted.sort_by_key(|record| parent_of(record));
            let (found, wanted) = (found.iter().map(name), wanted.into_iter().map(name));
            assert!(
                found.clone().eq(wanted.clone()),
                "{filter} in {parent:?} by {order_by:?}: {:?}, not {:?}",
                found.collect::<Vec<_>>(),
                wanted.collect::<Vec<_>>()
            );
            assert_eq!(from, BTreeSet::from([(*index).to_owned()]), "{filter}");
        }
    }
    by_name_and_time(fixture, &all).await;
}

/// Filters that depend on what there is.
async fn by_name_and_time(fixture: &Fixture, all: &[pb::OperationRecord]) {
    let list = async |parent: &str, filter: String| {
        let parent = parent.to_owned();
        walk(fixture, Listed { parent, filter, page_size: 2, ..Listed::default() }).await
    };
    for record in all {
        // `done:*` asks for true.
        let filter = format!("name = {} done:*", name(record));
        let found = list(parent_of(record), filter).await;
        assert_eq!(found.0.iter().map(name).collect::<Vec<_>>(), found_if_done(record));
        assert_eq!(found.1, BTreeSet::from(["name".to_owned()]));
    }
    let elsewhere = all.iter().find(|record| parent_of(record) == "projects/a").expect("one");
    assert_eq!(list("projects/b", format!("name = {}", name(elsewhere))).await.0, []);
    assert_eq!(list("-", "name = operations/none".to_owned()).await.0, []);
    assert_eq!(list("-", "name = 'no name'".to_owned()).await.0, []);

    let mut times: Vec<_> = all.iter().map(time_of).collect();
    times.sort_unstable();
    let text =
        |time: (i64, i32)| prost_types::Timestamp { seconds: time.0, nanos: time.1 }.to_string();
    let (first, last) = (times[5], times[15]);
    let filter = format!("create_time() > {} create_time() <= {}", text(first), text(last));
    let (found, from) = list("-", filter).await;
    let within = |record: &&pb::OperationRecord| {
        (first..=last).contains(&time_of(record)) && time_of(record) != first
    };
    let wanted: BTreeSet<_> = all.iter().filter(within).map(name).collect();
    assert_eq!(found.iter().map(name).collect::<BTreeSet<_>>(), wanted);
    assert_eq!((wanted.len(), from), (10, BTreeSet::from(["list".to_owned()])));
}

fn found_if_done(record: &pb::OperationRecord) -> Vec<&str> {
    if operation(record).done { vec![name(record)] } else { Vec::new() }
}

async fn writes_between_pages_neither_repeat_nor_hide_what_matches_throughout(fixture: &Fixture) {
    for (filter, order_by) in [
        ("state() = FAILED", ""),
        ("state() = FAILED", "create_time"),
        ("state() = RUNNING", "create_time"),
        ("state() = RUNNING", ""),
        ("state() = PENDING queue() = q", ""),
        ("done = false", "create_time"),
        ("NOT label(team) = blue", ""),
    ] {
        let parent = format!("projects/{}", uuid::Uuid::new_v4());
        let leases = eight_leased_and_four_waiting(fixture, &parent).await;
        let request = Listed {
            parent: parent.clone(),
            filter: filter.to_owned(),
            order_by: order_by.to_owned(),
            page_size: 1,
            ..Listed::default()
        };
        let matching = async || {
            let request = Listed { page_size: 100, ..request.clone() };
            let found = walk(fixture, request).await.0;
            found.iter().map(|record| name(record).to_owned()).collect::<BTreeSet<_>>()
        };
        let mut throughout = matching().await;
        let mut found = Vec::new();
        let (mut request, mut changes) = (request.clone(), [5, 0, 7, 4].iter());
        loop {
            let page = fixture.callers().list_operation_records(request.clone()).await.granted();
            let page = page.into_inner();
            found.extend(page.operation_records.iter().map(|record| name(record).to_owned()));
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
            let Some(change) = changes.next() else { continue };
            end(fixture, &leases[*change]).await;
            fixture.renew(vec![renewal(&leases[3])]).await.granted();
            fixture.let_pass(Duration::from_millis(1));
            let request = pb::StartOperationRequest { parent: parent.clone(), ..start("q") };
            fixture.start(request).await.granted();
            let now = matching().await;
            throughout.retain(|name| now.contains(name));
        }
        let once: BTreeSet<_> = found.iter().cloned().collect();
        assert_eq!(once.len(), found.len(), "{filter} by {order_by:?}: twice in {found:?}");
        assert!(once.is_superset(&throughout), "{filter}: {found:?} without {throughout:?}");
        assert!(throughout.len() >= 2, "{filter}: {throughout:?}");
        drain(fixture).await;
    }
}

/// Two of the leased ones have failed, in the wrong order.
async fn eight_leased_and_four_waiting(fixture: &Fixture, parent: &str) -> Vec<pb::Lease> {
    let mut leases = Vec::new();
    for number in 0..12 {
        fixture.let_pass(Duration::from_millis(1));
        let queue = if number < 8 { "work" } else { "q" };
        let request = pb::StartOperationRequest { parent: parent.to_owned(), ..start(queue) };
        let name = fixture.start(request).await.granted().name;
        if queue == "work" {
            let lease = fixture.lease(queue).await;
            assert_eq!(lease.operation, name);
            leases.push(lease);
        }
    }
    for number in [2, 1] {
        end(fixture, &leases[number]).await;
    }
    leases
}

async fn a_page_token_is_bound_to_its_filter_its_order_and_its_call(fixture: &Fixture) {
    for _ in 0..4 {
        fixture.started("q").await;
    }
    let records = async |filter: &str, order_by: &str, page_token: &str| {
        let request = Listed {
            filter: filter.to_owned(),
            order_by: order_by.to_owned(),
            page_token: page_token.to_owned(),
            page_size: 1,
            ..Listed::default()
        };
        let answer = fixture.callers().list_operation_records(request).await;
        answer.map(|page| page.into_inner().next_page_token)
    };
    let token = records("done = false queue() = q", "", "").await.granted();
    for same in ["done=false AND queue()=q", " done = false  queue() = \"q\" "] {
        let next = records(same, "create_time desc", &token).await.granted();
        assert!(!next.is_empty());
    }
    for (filter, order_by) in [
        ("", ""),
        ("done = false", ""),
        ("done = true queue() = q", ""),
        ("done = false queue() = q", "create_time"),
    ] {
        let refused = records(filter, order_by, &token).await;
        refused.refused_field("INVALID_PAGE_TOKEN", "page_token");
    }
    let filter = "done = false queue() = q".to_owned();
    let operations = ListOperationsRequest { filter, page_token: token, ..Default::default() };
    let refused = fixture.operations().list_operations(operations).await;
    refused.refused_field("INVALID_PAGE_TOKEN", "page_token");
}

async fn payloads_beside_their_records_are_loaded_within_a_bound(fixture: &Fixture) {
    for number in 0..20 {
        let request = Some(large("acme.Blob", (1 << 20) - number));
        fixture.start(pb::StartOperationRequest { request, ..start("q") }).await.granted();
    }
    fixture.let_pass(Duration::from_millis(1));
    let last = structure("size", 7.0);
    let last = pb::StartOperationRequest { request: Some(last), ..start("q") };
    let last = fixture.start(last).await.granted().name;
    let list = async |order_by: &str, page_token: String| {
        let request = Listed {
            filter: "request.size = 7".to_owned(),
            order_by: order_by.to_owned(),
            page_token,
            ..Listed::default()
        };
        fixture.callers().list_operation_records(request).await.granted().into_inner()
    };
    let short = list("create_time", String::new()).await;
    assert_eq!(short.operation_records, [], "16 MiB were looked through");
    let rest = list("create_time", short.next_page_token).await;
    assert_eq!(rest.operation_records.iter().map(name).collect::<Vec<_>>(), [last]);
    assert_eq!(rest.next_page_token, "");
    // The type of a payload is known without loading it.
    let filter = "request.@type = google.protobuf.Struct".to_owned();
    let (found, _) = walk(fixture, Listed { filter, page_size: 50, ..Listed::default() }).await;
    assert_eq!(found.len(), 1);
}

/// Allows lists of one parent.
#[derive(Debug)]
struct Lists(&'static str);

impl Rules for Lists {
    fn allow(&self, _: &Caller, verb: Verb, on: Resource<'_>) -> bool {
        verb == Verb::List && on.parent() == Some(self.0)
    }
}

async fn a_filter_finds_nothing_outside_of_what_its_caller_may_list(fixture: &Fixture) {
    populate(fixture).await;
    let guarded = fixture.guarded_by(std::sync::Arc::new(Lists("projects/a"))).await;
    let list = async |parent: &str, filter: &str| {
        let (parent, filter) = (parent.to_owned(), filter.to_owned());
        let request = Listed { parent, filter, page_size: 100, ..Listed::default() };
        guarded.callers().list_operation_records(request).await
    };
    let mut found = 0;
    for (filter, _, _) in FILTERS {
        let page = list("projects/a", filter).await.granted().into_inner();
        assert!(page.operation_records.iter().all(|record| parent_of(record) == "projects/a"));
        found += page.operation_records.len();
        for denied in ["projects/b", "projects/-", "-", ""] {
            list(denied, filter).await.refused(Code::PermissionDenied, "PERMISSION_DENIED");
        }
    }
    assert!(found > 10, "{found}");
    // What is denied is not parsed.
    list("", "nonsense").await.refused(Code::PermissionDenied, "PERMISSION_DENIED");
    guarded.stop().await;
}

async fn bad_filters_and_orders_are_refused_with_their_position(fixture: &Fixture) {
    for (filter, position) in [
        ("done", "0"),
        ("done = maybe", "7"),
        ("done = true AND", "12"),
        ("done = true AND unknown = 3", "16"),
        ("state() = RUNING", "10"),
        ("create_time() > yesterday", "16"),
        ("(done = true", "0"),
    ] {
        let request = Listed { filter: filter.to_owned(), ..Listed::default() };
        let records = fixture.callers().list_operation_records(request).await;
        let metadata = records.refused_field("INVALID_FILTER", "filter");
        assert_eq!(metadata["position"], position, "{filter}");
        let filter = filter.to_owned();
        let request = ListOperationsRequest { filter, ..Default::default() };
        let operations = fixture.operations().list_operations(request).await;
        assert_eq!(operations.refused_field("INVALID_FILTER", "filter"), metadata);
    }
    for (order_by, position) in
        [("name", "0"), ("create_time asc", "12"), ("create_time, name", "11")]
    {
        let request = Listed { order_by: order_by.to_owned(), ..Listed::default() };
        let refused = fixture.callers().list_operation_records(request).await;
        let metadata = refused.refused_field("INVALID_ARGUMENT", "order_by");
        assert_eq!(metadata["position"], position, "{order_by}");
    }
}

/// Operations in every state, below several parents.
async fn populate(fixture: &Fixture) {
    for (number, parent) in ["", "projects/a", "projects/b"].into_iter().enumerate() {
        let started = async |queue: &str, team: &str, options: pb::OperationOptions| {
            fixture.let_pass(Duration::from_millis(1));
            let labels = [("team", team)].into_iter().filter(|(_, team)| !team.is_empty());
            let labels = labels.map(|(key, team)| (key.to_owned(), team.to_owned())).collect();
            let options = pb::OperationOptions { labels, ..options };
            let parent = parent.to_owned();
            let request = pb::StartOperationRequest { parent, ..start_with(queue, options) };
            fixture.start(request).await.granted().name
        };
        let leased = async |team: &str| {
            let queue = format!("work-{number}");
            started(&queue, team, pb::OperationOptions::default()).await;
            fixture.lease(&queue).await
        };
        let plain = pb::OperationOptions::default;
        started("q", "red", plain()).await;
        started("q", "blue", plain()).await;
        started("r", "", plain()).await;
        let later = Some(fixture.at(Duration::from_hours(1)));
        started("q", "", pb::OperationOptions { schedule_time: later, ..plain() }).await;
        leased("red").await;
        let cancelling = leased("").await.operation;
        fixture.cancel(&cancelling).await.granted();
        let paused = started("q", "red", plain()).await;
        fixture.pause(&paused).await.granted();
        let cancelled = started("q", "blue", plain()).await;
        fixture.cancel(&cancelled).await.granted();
        let gone = leased("red").await.operation;
        fixture.delete(&gone).await.granted();
        for size in [7.0, 8.0] {
            let response = Some(structure("size", size));
            let done = pb::CompleteOperationRequest { response, ..completion(&leased("").await) };
            fixture.complete(done).await.granted();
        }
        let (first, second) = (leased("blue").await, leased("").await);
        // In order of their end they stand the other way round.
        end(fixture, &second).await;
        let error = Some(error(Code::ResourceExhausted));
        let do_not = pb::fail_operation_request::RetryDecision::DoNotRetry.into();
        let failed = pb::FailOperationRequest {
            error,
            retry_decision: do_not,
            ..failure(&first, Code::Aborted)
        };
        fixture.fail(failed).await.granted();
    }
    // It waits for its next attempt.
    let retried = fixture.running(start("retried")).await;
    fixture.fail(failure(&retried, Code::Unavailable)).await.granted();
}

/// Ends it badly, once and for all.
async fn end(fixture: &Fixture, lease: &pb::Lease) {
    fixture.let_pass(Duration::from_millis(1));
    let retry_decision = pb::fail_operation_request::RetryDecision::DoNotRetry.into();
    let failed = pb::FailOperationRequest { retry_decision, ..failure(lease, Code::Unavailable) };
    fixture.fail(failed).await.granted();
}

/// Takes whatever waits in the queue `q`.
async fn drain(fixture: &Fixture) {
    let request = pb::LeaseOperationsRequest { max_operations: 100, ..leasing("q") };
    fixture.leases(request).await.granted();
}

/// All pages, and the indexes that they were read from.
async fn walk(
    fixture: &Fixture,
    mut request: Listed,
) -> (Vec<pb::OperationRecord>, BTreeSet<String>) {
    let (mut records, mut indexes) = (Vec::new(), BTreeSet::new());
    loop {
        let page = fixture.callers().list_operation_records(request.clone()).await.granted();
        let index = page.metadata().get("longhaul-index").expect("a header");
        indexes.insert(index.to_str().expect("a name").to_owned());
        let page = page.into_inner();
        let most = if request.page_size == 0 { 50 } else { request.page_size as usize };
        assert!(page.operation_records.len() <= most);
        records.extend(page.operation_records);
        if page.next_page_token.is_empty() {
            return (records, indexes);
        }
        request.page_token = page.next_page_token;
    }
}

/// A Struct that is too large to be kept in its record.
fn structure(key: &str, number: f64) -> Any {
    let text = Value { kind: Some(Kind::StringValue("x".repeat(2_000))) };
    let filler = Value { kind: Some(Kind::ListValue(ListValue { values: vec![text] })) };
    let number = Value { kind: Some(Kind::NumberValue(number)) };
    let fields = [(key.to_owned(), number), ("filler".to_owned(), filler)].into();
    any("google.protobuf.Struct", &Struct { fields }.encode_to_vec())
}

fn size_of(record: &pb::OperationRecord) -> Option<f64> {
    let Some(Outcome::Response(any)) = &operation(record).result else { return None };
    let fields = Struct::decode(&any.value[..]).ok()?.fields;
    match fields.get("size")?.kind.as_ref()? {
        Kind::NumberValue(number) => Some(*number),
        _ => None,
    }
}

fn operation(record: &pb::OperationRecord) -> &Operation {
    record.operation.as_ref().expect("an operation")
}

fn name(record: &pb::OperationRecord) -> &str {
    &operation(record).name
}

fn parent_of(record: &pb::OperationRecord) -> &str {
    let name = name(record);
    name.rfind("operations/").map_or("", |end| name[..end].trim_end_matches('/'))
}

fn is_in(record: &pb::OperationRecord, parent: &str) -> bool {
    let own = parent_of(record);
    parent == "-" || own == parent || (parent == "projects/-" && own.starts_with("projects/"))
}

fn time_of(record: &pb::OperationRecord) -> (i64, i32) {
    let metadata = record.server_metadata.as_ref().expect("metadata");
    let time = metadata.create_time.as_ref().expect("a time");
    (time.seconds, time.nanos)
}

fn team(record: &pb::OperationRecord) -> Option<&str> {
    let labels = &record.options.as_ref()?.labels;
    labels.get("team").map(String::as_str)
}

fn error_code(record: &pb::OperationRecord) -> Option<i32> {
    match &operation(record).result {
        Some(Outcome::Error(error)) => Some(error.code),
        _ => None,
    }
}
