//! Watching sets of operations: a list, then its changes.

mod model;

use longhaul::limits::MAX_SET_CHANGES;

use crate::support::http::Http2;
use crate::support::rest::Events;
use crate::support::*;
use crate::type_sets::{create, deletion, set, shop};

scenarios! {
    over every face;
    a_watch_of_a_set_sends_a_snapshot_and_then_each_change,
    an_operation_that_matches_no_more_is_removed,
    changes_of_what_was_never_in_the_set_are_not_sent,
    an_operation_that_expires_is_removed,
    a_set_is_that_of_its_parents,
    a_new_watch_uses_the_type_sets_of_now_and_an_old_one_those_that_it_began_with,
    a_token_continues_where_the_watch_stopped_on_every_server,
    a_token_from_the_middle_of_a_snapshot_begins_anew,
    a_token_is_bound_to_its_parent_and_filter,
    a_quiet_watch_sends_bookmarks,
    min_interval_leaves_out_states_but_never_the_newest,
    the_full_view_carries_the_request,
    a_change_without_a_hint_arrives_within_a_second,
    a_server_that_drains_asks_its_watches_to_reconnect;
    over grpc;
    a_server_that_starts_later_continues_if_nothing_has_changed,
    a_watch_that_does_not_read_is_sent_a_new_snapshot,
    events_of_a_set_go_on_where_they_broke_off,
    events_over_http_show_payloads_by_the_types_of_each_parent,
}

type Watch = pb::WatchOperationsRequest;

fn set_of(parent: &str, filter: &str) -> Watch {
    Watch { parent: parent.to_owned(), filter: filter.to_owned(), ..Watch::default() }
}

fn below(parent: &str, id: &str) -> pb::StartOperationRequest {
    let (parent, operation_id) = (parent.to_owned(), id.to_owned());
    pb::StartOperationRequest { parent, operation_id, ..start("q") }
}

async fn a_watch_of_a_set_sends_a_snapshot_and_then_each_change(fixture: &Fixture) {
    let first = fixture.start(below("projects/p", "a")).await.granted().name;
    fixture.clock.advance(Duration::from_millis(1));
    let second = fixture.start(below("projects/p", "b")).await.granted().name;
    let mut watcher = fixture.watch_set(set_of("projects/p", "")).await;
    let event = watcher.expect(SetEventType::Snapshot).await;
    let record = pb::OperationRecord { request: None, ..fixture.record(&second).await };
    assert_eq!(event.record, Some(record));
    assert_eq!(watcher.snapshot().await, std::slice::from_ref(&first));

    let third = fixture.start(below("projects/p", "c")).await.granted().name;
    let event = watcher.expect(SetEventType::Update).await;
    let record = pb::OperationRecord { request: None, ..fixture.record(&third).await };
    assert_eq!((event.name, event.record), (third, Some(record)));
    let lease = fixture.lease("q").await;
    let event = watcher.expect(SetEventType::Update).await;
    assert_eq!(event.record.expect("a record").state(), State::Running);
    // A change that callers cannot see is no event.
    fixture.let_pass(Duration::from_secs(20));
    fixture.renew(vec![renewal(&lease)]).await.granted();
    let response = Some(large("acme.Done", 100_000));
    let done = pb::CompleteOperationRequest { response: response.clone(), ..completion(&lease) };
    fixture.complete(done).await.granted();
    let event = watcher.expect(SetEventType::Update).await;
    let operation = event.record.expect("a record").operation.expect("an operation");
    assert_eq!(Some(response_of(&operation)), response);
    fixture.delete(&first).await.granted();
    assert_eq!(watcher.expect(SetEventType::Removed).await.name, first);
    assert_eq!(watcher.set, fixture.listed("projects/p", "").await);
}

async fn an_operation_that_matches_no_more_is_removed(fixture: &Fixture) {
    let mut watcher = fixture.watch_set(set_of("", "state() = PENDING")).await;
    assert!(watcher.snapshot().await.is_empty());
    fixture.started("q").await;
    // A lease before that could make the watch skip the state.
    let event = watcher.expect(SetEventType::Update).await;
    assert_eq!(event.record.expect("a record").state(), State::Pending);
    let lease = fixture.lease("q").await;
    assert_eq!(watcher.expect(SetEventType::Removed).await.name, lease.operation);
    fixture.release(release(&lease)).await.granted();
    assert_eq!(watcher.expect(SetEventType::Update).await.name, lease.operation);
    // With a payload that is stored beside its record.
    let filter = "metadata.@type = acme.Big OR response.@type = acme.Big";
    let mut typed = fixture.watch_set(set_of("", filter)).await;
    assert!(typed.snapshot().await.is_empty());
    let lease = fixture.lease("q").await;
    let response = Some(large("acme.Big", 50_000));
    fixture
        .complete(pb::CompleteOperationRequest { response, ..completion(&lease) })
        .await
        .granted();
    let update = async {
        while typed.message().await.granted().expect("an event").r#type() != SetEventType::Update {}
    };
    within("the update", update).await;
    assert_eq!(typed.set.len(), 1);
}

async fn changes_of_what_was_never_in_the_set_are_not_sent(fixture: &Fixture) {
    let mut watcher = fixture.watch_set(set_of("", "state() = FAILED")).await;
    assert!(watcher.snapshot().await.is_empty());
    fixture.let_pass(Duration::from_secs(11));
    for _ in 0..5 {
        let lease = fixture.running(start("q")).await;
        fixture.complete(completion(&lease)).await.granted();
        // A change that is skipped may have been a failure: let each be read by itself.
        fixture.get(&lease.operation).await.granted();
    }
    let lease = fixture.running(start("q")).await;
    fixture.fail(failure(&lease, Code::Internal)).await.granted();
    let mut removed = 0;
    loop {
        let event = within("an event", watcher.message()).await.granted().expect("an event");
        match event.r#type() {
            SetEventType::Update => break assert_eq!(event.name, lease.operation),
            _ => removed += 1,
        }
    }
    assert!(removed < 5, "{removed} of 5 operations were removed that never failed");
}

async fn an_operation_that_expires_is_removed(fixture: &Fixture) {
    let options = pb::OperationOptions {
        expiration: Some(pb::operation_options::Expiration::Ttl(seconds(3_600).expect("an hour"))),
        ..Default::default()
    };
    let lease = fixture.running(start_with("q", options)).await;
    fixture.complete(completion(&lease)).await.granted();
    let mut watcher = fixture.watch_set(set_of("", "")).await;
    assert_eq!(watcher.snapshot().await, std::slice::from_ref(&lease.operation));
    fixture.pass(Duration::from_hours(1)).await;
    let removed = async {
        while watcher.message().await.granted().expect("an event").r#type() != SetEventType::Removed
        {
        }
    };
    within("the removal", removed).await;
    assert!(watcher.set.is_empty());
}

async fn a_set_is_that_of_its_parents(fixture: &Fixture) {
    let mut watchers = Vec::new();
    for parent in ["-", "projects/-", "projects/p", "operations", "projects/p/operations"] {
        let mut watcher = fixture.watch_set(set_of(parent, "")).await;
        assert!(watcher.snapshot().await.is_empty());
        watchers.push((parent, watcher));
    }
    for parent in ["", "projects/p", "projects/q", "projects/p/locations/l"] {
        fixture.start(below(parent, "o")).await.granted();
    }
    for (parent, mut watcher) in watchers {
        let wanted = fixture.listed(parent, "").await;
        within(parent, watcher.until(&wanted)).await;
    }
    for parent in ["projects", "projects/p/operations/o", "-/-"] {
        let refused = fixture.try_watch_set(set_of(parent, "")).await;
        refused.refused_field("INVALID_NAME", "parent");
    }
    let refused = fixture.try_watch_set(set_of("", "state() = DOING")).await;
    refused.refused_field("INVALID_FILTER", "filter");
}

async fn a_token_continues_where_the_watch_stopped_on_every_server(fixture: &Fixture) {
    let other = fixture.beside().await;
    let first = fixture.start(below("", "a")).await.granted().name;
    let second = fixture.start(below("", "b")).await.granted().name;
    let mut watcher = fixture.watch_set(set_of("", "done = false")).await;
    watcher.snapshot().await;
    let from = |watcher: &SetWatcher| Watch {
        resume_token: watcher.token.clone(),
        ..set_of("", "done=false")
    };
    // Nothing has changed.
    let mut same = fixture.watch_set(from(&watcher)).await;
    // A hint that arrived after the snapshot may bring a state again.
    let caught_up = async {
        while same.message().await.granted().expect("an event").r#type() != SetEventType::Bookmark {
        }
    };
    within("a bookmark", caught_up).await;
    assert_eq!(same.resyncs, 0);
    fixture.cancel(&first).await.granted();
    let third = fixture.start(below("", "c")).await.granted().name;
    for (number, server) in [fixture, &other].into_iter().enumerate() {
        // A watch of another filter shows that the server has heard of all that.
        let mut heard = server.watch_set(set_of("", "")).await;
        let known = fixture.listed("", "").await;
        within("the snapshot", heard.until(&known)).await;
        server.start(below("", &format!("heard-{number}"))).await.granted();
        let all = fixture.listed("", "").await;
        within("a later change", heard.until(&all)).await;
        let resumed = server.watch_set(from(&watcher)).await;
        watcher.resume(resumed);
        let wanted = fixture.listed("", "done = false").await;
        let caught_up = async {
            loop {
                let event = watcher.message().await.granted().expect("an event");
                match event.r#type() {
                    SetEventType::Bookmark if watcher.set == wanted => break,
                    SetEventType::Update | SetEventType::Removed | SetEventType::Bookmark => {}
                    _ => panic!("{event:?} instead of what has changed"),
                }
            }
        };
        within("what has changed", caught_up).await;
    }
    assert!(watcher.set.contains_key(&second) && watcher.set.contains_key(&third));
    assert!(!watcher.set.contains_key(&first));
}

async fn a_server_that_starts_later_continues_if_nothing_has_changed(fixture: &Fixture) {
    let name = fixture.started("q").await;
    let mut watcher = fixture.watch_set(set_of("", "")).await;
    assert_eq!(watcher.snapshot().await, std::slice::from_ref(&name));
    let from =
        |watcher: &SetWatcher| Watch { resume_token: watcher.token.clone(), ..set_of("", "") };
    let later = fixture.beside().await;
    let mut same = later.watch_set(from(&watcher)).await;
    let event = within("an event", same.message()).await.granted().expect("an event");
    // It may not know yet how far the hints are.
    assert!(matches!(event.r#type(), SetEventType::Bookmark | SetEventType::Resync), "{event:?}");
    fixture.cancel(&name).await.granted();
    let latest = fixture.beside().await;
    let mut resumed = latest.watch_set(from(&watcher)).await;
    resumed.expect(SetEventType::Resync).await;
    assert_eq!(resumed.snapshot().await, [name]);
    assert_eq!(resumed.set, fixture.listed("", "").await);
}

async fn a_token_from_the_middle_of_a_snapshot_begins_anew(fixture: &Fixture) {
    fixture.started("q").await;
    fixture.started("q").await;
    let mut watcher = fixture.watch_set(set_of("", "")).await;
    let resume_token = watcher.expect(SetEventType::Snapshot).await.resume_token;
    let mut again = fixture.watch_set(Watch { resume_token, ..set_of("", "") }).await;
    again.expect(SetEventType::Resync).await;
    assert_eq!(again.snapshot().await.len(), 2);
}

async fn a_token_is_bound_to_its_parent_and_filter(fixture: &Fixture) {
    let mut watcher = fixture.watch_set(set_of("projects/p", "done = false")).await;
    watcher.snapshot().await;
    let token = watcher.token.clone();
    let page = fixture.started("q").await;
    fixture.started("q").await;
    let page_token = fixture.list("", 1, "").await.granted().next_page_token;
    for (parent, filter, token) in [
        ("projects/q", "done = false", &token),
        ("projects/p", "done = true", &token),
        ("projects/p", "", &token),
        ("projects/p", "done = false", &token[1..].to_owned()),
        ("projects/p", "done = false", &"now".to_owned()),
        ("", "", &page_token),
        ("", "", &page),
    ] {
        let request = Watch { resume_token: token.clone(), ..set_of(parent, filter) };
        let refused = fixture.try_watch_set(request).await;
        refused.refused_field("INVALID_ARGUMENT", "resume_token");
    }
}

async fn a_quiet_watch_sends_bookmarks(fixture: &Fixture) {
    let request = Watch { heartbeat_interval: seconds(7), ..set_of("", "state() = FAILED") };
    let mut watcher = fixture.watch_set(request).await;
    watcher.snapshot().await;
    let first = watcher.token.clone();
    for beat in 1..=3 {
        fixture.clock.asked_for(Duration::from_secs(7), beat).await;
        fixture.let_pass(Duration::from_secs(7));
        watcher.expect(SetEventType::Bookmark).await;
    }
    // The token moves on with changes that are not in the set.
    fixture.let_pass(Duration::from_secs(11));
    let name = fixture.started("q").await;
    let moved = async {
        loop {
            let event = watcher.message().await.granted().expect("an event");
            if event.r#type() == SetEventType::Bookmark && event.resume_token != first {
                break;
            }
        }
    };
    fixture.passing("another token", moved).await;
    fixture.cancel(&name).await.granted();
}

async fn min_interval_leaves_out_states_but_never_the_newest(fixture: &Fixture) {
    let lease = fixture.running(start("q")).await;
    let request = Watch { min_interval: seconds(2), ..set_of("", "") };
    let mut watcher = fixture.watch_set(request).await;
    watcher.snapshot().await;
    let reported = async |fraction: f64| {
        let progress = Some(pb::Progress { fraction: Some(fraction), ..Default::default() });
        // With a checkpoint each is committed by itself.
        let checkpoint = Some(any("x.Y", b""));
        let report = pb::ReportProgressRequest { progress, checkpoint, ..report(&lease) };
        fixture.report(report).await.granted();
    };
    let fraction_of = |event: pb::WatchOperationsResponse| {
        let metadata = event.record.expect("a record").server_metadata.expect("metadata");
        metadata.progress.and_then(|progress| progress.fraction)
    };
    for tenth in 1..=9 {
        reported(f64::from(tenth) / 10.0).await;
    }
    let (mut last, mut updates) = (None, 0);
    let newest = async {
        while last != Some(0.9) {
            let event = watcher.message().await.granted().expect("an event");
            if event.r#type() == SetEventType::Update {
                (last, updates) = (fraction_of(event), updates + 1);
            }
        }
    };
    fixture.passing("the newest", newest).await;
    assert!(updates <= 3, "{updates} updates");
}

async fn the_full_view_carries_the_request(fixture: &Fixture) {
    let request = Some(large("acme.Wish", 5_000));
    let started = pb::StartOperationRequest { request: request.clone(), ..start("q") };
    let name = fixture.start(started).await.granted().name;
    let full = Watch { view: pb::OperationView::Full.into(), ..set_of("", "") };
    let mut watcher = fixture.watch_set(full).await;
    let event = watcher.expect(SetEventType::Snapshot).await;
    assert_eq!(event.record, Some(fixture.record(&name).await));
    assert_eq!(event.record.expect("a record").request, request);
    let mut basic = fixture.watch_set(set_of("", "")).await;
    let event = basic.expect(SetEventType::Snapshot).await;
    assert_eq!(event.record.expect("a record").request, None);
    let odd = Watch { view: 7, ..set_of("", "") };
    fixture.try_watch_set(odd).await.refused_field("INVALID_ARGUMENT", "view");
}

async fn a_change_without_a_hint_arrives_within_a_second(fixture: &Fixture) {
    let mut watcher = fixture.watch_set(set_of("", "")).await;
    watcher.snapshot().await;
    fixture.store.set_hints_lost(true);
    let name = fixture.started("q").await;
    let began = fixture.at(Duration::ZERO).seconds;
    let wanted = fixture.listed("", "").await;
    fixture.passing("the change", watcher.until(&wanted)).await;
    assert!(watcher.set.contains_key(&name));
    assert!(fixture.at(Duration::ZERO).seconds - began < 10);
}

async fn a_server_that_drains_asks_its_watches_to_reconnect(fixture: &Fixture) {
    fixture.started("q").await;
    let mut watcher = fixture.watch_set(set_of("", "")).await;
    watcher.snapshot().await;
    let token = watcher.token.clone();
    fixture.server.drain();
    let event = watcher.expect(SetEventType::Reconnect).await;
    assert_eq!(event.resume_token, token);
    assert!(event.reconnect_delay.is_some());
    let end = within("the end", watcher.message()).await.granted();
    assert!(end.is_none(), "{end:?}");
    fixture.try_watch_set(set_of("", "")).await.refused(Code::Unavailable, "SERVER_DRAINING");
}

async fn a_watch_that_does_not_read_is_sent_a_new_snapshot(fixture: &Fixture) {
    let mut watcher = fixture.watch_set(set_of("", "")).await;
    watcher.snapshot().await;
    let mut other = fixture.watch_set(set_of("", "")).await;
    other.snapshot().await;
    let labels = (0..10).map(|number| (format!("label-{number}"), "x".repeat(250))).collect();
    let wide = start_with("q", pb::OperationOptions { labels, ..Default::default() });
    // More than the connection and the server keep for it.
    for round in 1..=(MAX_SET_CHANGES + 1_800) / 100 {
        let requests = (0..100).map(|_| wide.clone()).collect();
        let batch = pb::BatchStartOperationsRequest { requests, ..Default::default() };
        within("a batch", fixture.producers().batch_start_operations(batch)).await.granted();
        // One that reads is not disturbed.
        while other.set.len() < round * 100 {
            other.expect(SetEventType::Update).await;
        }
    }
    let wanted = fixture.listed("", "").await;
    within("all changes", other.until(&wanted)).await;
    assert_eq!(other.resyncs, 0);
    within("another snapshot", watcher.until(&wanted)).await;
    assert_eq!(watcher.resyncs, 1);
}

async fn events_of_a_set_go_on_where_they_broke_off(fixture: &Fixture) {
    let name = fixture.start(below("projects/p", "a")).await.granted().name;
    let path = "/v1/projects/p/operations:watch?filter=done%3Dfalse";
    let http2 = Http2::to(fixture.address).await;
    let accept = ("accept", "text/event-stream");
    let mut events = Events::open(&http2, path, &[accept]).await;
    events.next().await.expect("advice");
    let first = events.next().await.expect("an event");
    assert_eq!(
        (&first.json()["type"], &first.json()["name"]),
        (&"SNAPSHOT".into(), &name.as_str().into())
    );
    let complete = events.next().await.expect("an event");
    assert_eq!(complete.json()["type"], "SNAPSHOT_COMPLETE");
    assert_eq!(complete.id, complete.json()["resumeToken"].as_str().map(str::to_owned));
    fixture.clock.advance(Duration::from_secs(30));
    let bookmark = events.next().await.expect("a sign of life");
    assert_eq!(bookmark.json()["type"], "BOOKMARK");
    drop(events);
    fixture.cancel(&name).await.granted();
    let token = bookmark.id.expect("an id");
    let mut events = Events::open(&http2, path, &[accept, ("last-event-id", &token)]).await;
    events.next().await.expect("advice");
    let removed = events.next().await.expect("an event");
    assert_eq!(removed.json()["type"], "REMOVED");
    assert_eq!(removed.json()["name"], name.as_str());
}

/// A start whose request and metadata are a `shop.Order` with that field.
fn order(parent: &str, field: u8, text: &str) -> pb::StartOperationRequest {
    let value = [&[field << 3 | 2, text.len() as u8], text.as_bytes()].concat();
    let order = Some(any("shop.Order", &value));
    let (id, metadata_type) = (format!("o{field}"), "shop.Order".to_owned());
    let (request, initial_metadata) = (order.clone(), order);
    pb::StartOperationRequest { request, metadata_type, initial_metadata, ..below(parent, &id) }
}

async fn a_new_watch_uses_the_type_sets_of_now_and_an_old_one_those_that_it_began_with(
    fixture: &Fixture,
) {
    let parent = "projects/p";
    let wanted = || set_of(parent, "request.@type = shop.Order AND request.title = book");
    fixture.try_watch_set(wanted()).await.map(drop).refused_field("INVALID_FILTER", "filter");
    create(fixture, parent, "shop", shop()).await.granted();
    let mut old = fixture.watch_set(wanted()).await;
    assert!(old.snapshot().await.is_empty());
    crate::type_sets::delete(fixture, deletion("projects/p/typeSets/shop")).await.granted();
    create(fixture, parent, "shop", set("shop", "Order", &["price", "title"])).await.granted();
    let mut new = fixture.watch_set(wanted()).await;
    assert!(new.snapshot().await.is_empty());
    // What is younger than a set was never sent, so the other watch hears nothing of it.
    fixture.clock.advance(Duration::from_secs(20));
    for (field, watcher) in [(2, &mut new), (1, &mut old)] {
        let start = pb::StartOperationRequest {
            metadata_type: String::new(),
            initial_metadata: None,
            ..order(parent, field, "book")
        };
        let name = fixture.start(start).await.granted().name;
        assert_eq!(watcher.expect(SetEventType::Update).await.name, name);
    }
}

async fn events_over_http_show_payloads_by_the_types_of_each_parent(fixture: &Fixture) {
    create(fixture, "projects/p", "shop", shop()).await.granted();
    create(fixture, "projects/q", "shop", set("shop", "Order", &["name"])).await.granted();
    for parent in ["projects/p", "projects/q"] {
        fixture.start(order(parent, 1, "book")).await.granted();
    }
    let http2 = Http2::to(fixture.address).await;
    let accept = ("accept", "text/event-stream");
    let path = "/v1/projects/-/operations:watch";
    let mut events = Events::open(&http2, path, &[accept]).await;
    events.next().await.expect("advice");
    for field in ["title", "name"] {
        let event = events.next().await.expect("an event").json();
        assert_eq!(event["record"]["operation"]["metadata"][field], "book", "{event}");
    }
}
