//! `ServeQueue`: every end of a stream, and its effect on leases.

use crate::support::stream::{
    GRACE, Held, Hello, Request, complete, complete_nothing, cut, held, hello,
};
use crate::support::*;

scenarios! {
    a_broken_streams_leases_live_on_for_the_grace_then_are_lost,
    hello_after_a_reconnect_keeps_held_leases_and_names_lost_ones,
    a_newer_stream_takes_over_from_an_older_one_that_is_still_open,
    half_close_releases_the_held_leases_and_counts_no_attempt,
    leases_released_by_half_close_go_to_other_workers_even_with_slots_free,
    a_lease_that_was_never_seen_is_no_attempt_but_the_fourth_in_a_row_is,
    a_silent_stream_ends_unavailable_and_counts_as_broken,
    a_stream_that_speaks_keeps_its_leases_alive,
}

async fn a_broken_streams_leases_live_on_for_the_grace_then_are_lost(fixture: &Fixture) {
    let name = fixture.started("q").await;
    let mut stream = WorkerStream::serving(fixture, hello("q"), 1).await;
    stream.leases(1).await;
    stream.settle(complete_nothing()).await;
    cut(fixture, stream).await;
    fixture.pass(Duration::from_secs(2)).await;
    assert_eq!(fixture.state(&name).await, State::Running);
    fixture.pass(Duration::from_secs(1)).await;
    let lease = fixture.lease("q").await;
    assert_eq!((lease.operation, lease.attempt), (name.clone(), 2));
    let record = fixture.record(&name).await;
    let first = record.attempts[0].error.clone().expect("an error");
    assert_eq!(error_info(&first).reason, "WORKER_LOST");
}

async fn hello_after_a_reconnect_keeps_held_leases_and_names_lost_ones(fixture: &Fixture) {
    let kept = fixture.started("q").await;
    let mut stream = WorkerStream::serving(fixture, hello("q"), 2).await;
    let lease = stream.leases(1).await.remove(0);
    stream.settle(complete_nothing()).await;
    cut(fixture, stream).await;
    fixture.pass(Duration::from_secs(2)).await;
    let strangers = ["operations/nobody", "no name at all"]
        .map(|name| Held { name: name.to_owned(), lease_token: lease.lease_token.clone() });
    let mut back = Hello { held: vec![held(&lease)], ..hello("q") };
    back.held.extend(strangers);
    let mut stream = WorkerStream::open(fixture).await;
    let mut lost = stream.greet(back, 2).await.lost;
    lost.sort();
    assert_eq!(lost, ["no name at all", "operations/nobody"]);
    fixture.pass(Duration::from_secs(5)).await;
    stream.settle(complete(&lease)).await;
    let record = fixture.record(&kept).await;
    assert_eq!(record.state(), State::Succeeded);
    assert_eq!(record.attempts.len(), 1);
}

async fn a_newer_stream_takes_over_from_an_older_one_that_is_still_open(fixture: &Fixture) {
    let name = fixture.started("q").await;
    let mut older = WorkerStream::serving(fixture, hello("q"), 1).await;
    let lease = older.leases(1).await.remove(0);
    older.settle(complete_nothing()).await;
    let back = Hello { held: vec![held(&lease)], ..hello("q") };
    let mut newer = WorkerStream::serving(fixture, back, 1).await;
    // The end of the older stream no longer affects the lease.
    older.cut().await;
    fixture.cancel(&name).await.granted();
    assert!(newer.signal().await.directive.expect("a directive").cancel_requested);
    fixture.let_pass(Duration::from_secs(8));
    newer.settle(complete_nothing()).await;
    fixture.pass(Duration::from_secs(8)).await;
    assert_eq!(fixture.state(&name).await, State::Cancelling);
    newer.settle(complete(&lease)).await;
    assert_eq!(fixture.state(&name).await, State::Succeeded);
}

async fn half_close_releases_the_held_leases_and_counts_no_attempt(fixture: &Fixture) {
    let (first, second) = (fixture.started("q").await, fixture.started("q").await);
    let mut stream = WorkerStream::serving(fixture, hello("q"), 2).await;
    let leases = stream.leases(2).await;
    fixture.cancel(&second).await.granted();
    stream.signal().await;
    let done = leases.iter().find(|lease| lease.operation == first).expect("a lease");
    stream
        .say(Request {
            reports: vec![pb::ReportProgressRequest {
                status_detail: "so far".to_owned(),
                ..report(done)
            }],
            ..Default::default()
        })
        .await;
    let said = stream.sequence;
    let replies = stream.half_close().await;
    let acknowledged = replies.iter().map(|reply| reply.acknowledged_sequence).max();
    assert_eq!(acknowledged, Some(said), "{replies:?}");
    let record = fixture.record(&first).await;
    assert_eq!(record.state(), State::Pending);
    assert_eq!(record.server_metadata.expect("metadata").status_detail, "so far");
    assert!(record.attempts.is_empty(), "{:?}", record.attempts);
    assert_eq!(fixture.state(&second).await, State::Cancelled);
    assert_eq!(fixture.lease("q").await.attempt, 1);
}

async fn leases_released_by_half_close_go_to_other_workers_even_with_slots_free(fixture: &Fixture) {
    let mut names = Vec::new();
    for _ in 0..5 {
        names.push(fixture.started("q").await);
    }
    let mut stream = WorkerStream::serving(fixture, hello("q"), 20).await;
    let mut leases = 0;
    while leases < names.len() {
        leases += stream.hear().await.leases.len();
    }
    stream.settle(complete_nothing()).await;
    stream.half_close().await;
    for name in &names {
        let record = fixture.record(name).await;
        assert_eq!(record.state(), State::Pending, "{record:?}");
        assert!(record.attempts.is_empty(), "{:?}", record.attempts);
    }
    for _ in &names {
        assert_eq!(fixture.lease("q").await.attempt, 1);
    }
}

async fn a_lease_that_was_never_seen_is_no_attempt_but_the_fourth_in_a_row_is(fixture: &Fixture) {
    let name = fixture.started("q").await;
    for unseen in 1..=4 {
        let mut stream = WorkerStream::open(fixture).await;
        stream.greet(hello("q"), 1).await;
        while stream.hear().await.leases.is_empty() {}
        stream.cut().await;
        let back = async { while fixture.state(&name).await != State::Pending {} };
        within("the lease to be given back", back).await;
        let record = fixture.record(&name).await;
        assert_eq!(record.attempts.len(), usize::from(unseen == 4), "{unseen}: {record:?}");
    }
    assert_eq!(fixture.lease("q").await.attempt, 2);
}

async fn a_silent_stream_ends_unavailable_and_counts_as_broken(fixture: &Fixture) {
    fixture.started("q").await;
    let mut stream = WorkerStream::serving(fixture, hello("q"), 1).await;
    stream.leases(1).await;
    stream.settle(complete_nothing()).await;
    let before = fixture.clock.count(GRACE);
    let end = fixture.passing("the stream to be given up", stream.ended()).await;
    end.refused(Code::Unavailable, "WORKER_LOST");
    fixture.clock.asked_for(GRACE, before + 1).await;
    fixture.pass(GRACE).await;
    assert_eq!(fixture.lease("q").await.attempt, 2);
}

async fn a_stream_that_speaks_keeps_its_leases_alive(fixture: &Fixture) {
    let name = fixture.started("q").await;
    let mut stream = WorkerStream::serving(fixture, hello("q"), 1).await;
    let lease = stream.leases(1).await.remove(0);
    for _ in 0..8 {
        fixture.pass(Duration::from_secs(9)).await;
        stream.settle(complete_nothing()).await;
    }
    let record = fixture.record(&name).await;
    assert_eq!(record.state(), State::Running);
    assert!(stream.settle(complete(&lease)).await.is_empty());
    assert_eq!(fixture.record(&name).await.attempts.len(), 1);
}
