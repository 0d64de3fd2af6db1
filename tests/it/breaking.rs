//! How a stream ends, frame by frame: only END_STREAM releases the leases; a reset with any code is a broken stream.

use h2::Reason;

use crate::support::frames::RawStream;
use crate::support::http::Http2;
use crate::support::stream::{Request, hello, slots};
use crate::support::*;

scenarios! {
    a_reset_with_no_error_leaves_the_leases_for_the_grace,
    a_reset_with_cancel_leaves_the_leases_for_the_grace,
    a_reset_right_after_a_message_leaves_the_leases_for_the_grace,
    end_stream_releases_the_held_leases,
    end_stream_releases_the_held_leases_although_a_reset_follows,
}

async fn a_reset_with_no_error_leaves_the_leases_for_the_grace(fixture: &Fixture) {
    leaves_the_leases_for_the_grace(fixture, async |stream| stream.reset(Reason::NO_ERROR)).await;
}

async fn a_reset_with_cancel_leaves_the_leases_for_the_grace(fixture: &Fixture) {
    leaves_the_leases_for_the_grace(fixture, async |stream| stream.reset(Reason::CANCEL)).await;
}

async fn a_reset_right_after_a_message_leaves_the_leases_for_the_grace(fixture: &Fixture) {
    leaves_the_leases_for_the_grace(fixture, async |mut stream| {
        stream.say(slots(2));
        stream.reset(Reason::NO_ERROR);
    })
    .await;
}

async fn leaves_the_leases_for_the_grace(fixture: &Fixture, reset: impl AsyncFnOnce(RawStream)) {
    let name = fixture.started("q").await;
    let http2 = Http2::to(fixture.address).await;
    let stream = holding(&http2).await;
    let before = fixture.clock.count(GRACE);
    reset(stream).await;
    // The grace is waited for only where something was left for it.
    fixture.clock.asked_for(GRACE, before + 1).await;
    let record = fixture.record(&name).await;
    assert_eq!(record.state(), State::Running, "{record:?}");
    fixture.expect_no_lease("q").await;
    fixture.pass(GRACE).await;
    let record = fixture.record(&name).await;
    let [lost] = &record.attempts[..] else { panic!("one attempt: {record:?}") };
    assert_eq!(error_info(lost.error.as_ref().expect("an error")).reason, "WORKER_LOST");
    assert_eq!(fixture.lease("q").await.attempt, 2);
}

const GRACE: Duration = Duration::from_secs(3);

async fn end_stream_releases_the_held_leases(fixture: &Fixture) {
    let name = fixture.started("q").await;
    let http2 = Http2::to(fixture.address).await;
    holding(&http2).await.end().await;
    is_back(fixture, &name).await;
}

async fn end_stream_releases_the_held_leases_although_a_reset_follows(fixture: &Fixture) {
    let name = fixture.started("q").await;
    let http2 = Http2::to(fixture.address).await;
    holding(&http2).await.end_and_reset(Reason::CANCEL).await;
    is_back(fixture, &name).await;
}

/// It was released, which is no attempt.
async fn is_back(fixture: &Fixture, name: &str) {
    let back = async { while fixture.state(name).await != State::Pending {} };
    within("the lease to be given back", back).await;
    let record = fixture.record(name).await;
    assert!(record.attempts.is_empty(), "{record:?}");
    assert_eq!(fixture.lease("q").await.attempt, 1);
}

/// A stream that holds the one lease of the queue, and has acknowledged it.
async fn holding(http2: &Http2) -> RawStream {
    let mut stream = http2.serve_queue().await;
    stream.say(Request { hello: Some(hello("q")), ..slots(1) });
    while stream.hear().await.leases.is_empty() {}
    let nothing = pb::CompleteOperationRequest::default();
    stream.say(Request { completions: vec![nothing], ..Default::default() });
    while stream.hear().await.acknowledged_sequence < 2 {}
    stream
}
