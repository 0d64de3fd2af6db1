//! Claims of a worker that comes back: a refused claim changes nothing, and no lease is counted twice.

use crate::support::stream::{Hello, Request, held, hello, slots};
use crate::support::*;
use longhaul::store::faulty::Hang;

scenarios! {
    a_refused_claim_leaves_the_holder_alone,
    a_claim_that_the_store_never_answers_leaves_the_holder_alone,
    a_claim_at_another_server_leaves_the_holder_alone,
    a_worker_that_comes_back_is_given_no_more_than_its_slots,
    a_lease_that_hello_names_twice_takes_one_slot_and_is_heard_of,
    a_lease_named_beside_an_older_one_of_its_operation_is_heard_of,
}

/// The holder of an operation that another worker lost, and the lease that was lost.
async fn after_a_loss(fixture: &Fixture) -> (WorkerStream, pb::Lease, pb::Lease) {
    fixture.started("q").await;
    let mut first = WorkerStream::serving(fixture, hello("q"), 1).await;
    let lost = first.leases(1).await.remove(0);
    first.settle(nothing()).await;
    let before = fixture.clock.count(GRACE);
    first.cut().await;
    fixture.clock.asked_for(GRACE, before + 1).await;
    fixture.pass(GRACE).await;
    let second = Hello { worker: "worker-2".to_owned(), ..hello("q") };
    let mut second = WorkerStream::serving(fixture, second, 1).await;
    let lease = second.leases(1).await.remove(0);
    assert_eq!((&lease.operation, lease.attempt), (&lost.operation, 2));
    (second, lease, lost)
}

/// It keeps its lease, its slot and its signals.
async fn expect_undisturbed(fixture: &Fixture, mut holder: WorkerStream, lease: &pb::Lease) {
    let waiting = fixture.started("q").await;
    for _ in 0..5 {
        fixture.pass(Duration::from_secs(9)).await;
        holder.say(nothing()).await;
        loop {
            let reply = holder.hear().await;
            assert!(reply.leases.is_empty(), "more than its slots: {reply:?}");
            if reply.acknowledged_sequence >= holder.sequence {
                break;
            }
        }
    }
    assert_eq!(fixture.state(&waiting).await, State::Pending);
    let record = fixture.record(&lease.operation).await;
    assert_eq!((record.state(), record.attempts.len()), (State::Running, 2), "{record:?}");
    fixture.cancel(&lease.operation).await.granted();
    let signal = holder.signal().await;
    assert!(signal.directive.expect("a directive").cancel_requested);
    let stopped = Request { failures: vec![failure(lease, Code::Cancelled)], ..Request::default() };
    assert!(holder.settle(stopped).await.is_empty());
    assert_eq!(fixture.state(&lease.operation).await, State::Cancelled);
    assert_eq!(holder.leases(1).await[0].operation, waiting);
}

async fn a_refused_claim_leaves_the_holder_alone(fixture: &Fixture) {
    let (holder, lease, lost) = after_a_loss(fixture).await;
    let back = Hello { held: vec![held(&lost)], ..hello("q") };
    let mut first = WorkerStream::open(fixture).await;
    assert_eq!(first.greet(back, 0).await.lost, [lost.operation]);
    first.settle(nothing()).await;
    expect_undisturbed(fixture, holder, &lease).await;
}

async fn a_claim_that_the_store_never_answers_leaves_the_holder_alone(fixture: &Fixture) {
    let (holder, lease, lost) = after_a_loss(fixture).await;
    let back = Hello { held: vec![held(&lost)], lease_duration: seconds(1), ..hello("q") };
    let mut first = WorkerStream::open(fixture).await;
    fixture.store.set_away(true);
    first.say(Request { hello: Some(back), ..slots(0) }).await;
    let end = fixture.passing("the stream to be given up", first.ended()).await;
    end.refused(Code::Unavailable, "STORE_UNAVAILABLE");
    fixture.store.set_away(false);
    expect_undisturbed(fixture, holder, &lease).await;
}

async fn a_claim_at_another_server_leaves_the_holder_alone(fixture: &Fixture) {
    let (holder, lease, lost) = after_a_loss(fixture).await;
    let other = fixture.beside().await;
    let back = Hello { held: vec![held(&lost)], ..hello("q") };
    let mut first = WorkerStream::open(&other).await;
    assert_eq!(first.greet(back, 0).await.lost, [lost.operation]);
    expect_undisturbed(fixture, holder, &lease).await;
}

async fn a_worker_that_comes_back_is_given_no_more_than_its_slots(fixture: &Fixture) {
    fixture.started("q").await;
    let mut stream = WorkerStream::serving(fixture, hello("q"), 1).await;
    let lease = stream.leases(1).await.remove(0);
    stream.settle(nothing()).await;
    let before = fixture.clock.count(GRACE);
    stream.cut().await;
    fixture.clock.asked_for(GRACE, before + 1).await;
    let waiting = fixture.started("q").await;
    // A poll for this worker finds operations before the claims are settled.
    fixture.store.set_hang(Some(Hang::Reads));
    let back = Hello { held: vec![held(&lease)], ..hello("q") };
    let mut stream = WorkerStream::serving(fixture, back, 1).await;
    fixture.store.set_hang(None);
    stream.say(nothing()).await;
    let reply = stream.hear().await;
    assert!(reply.leases.is_empty(), "more than its slots: {reply:?}");
    assert_eq!(fixture.state(&waiting).await, State::Pending);
    stream.say(Request { completions: vec![completion(&lease)], ..Request::default() }).await;
    assert_eq!(stream.leases(1).await[0].operation, waiting);
}

async fn a_lease_that_hello_names_twice_takes_one_slot_and_is_heard_of(fixture: &Fixture) {
    let name = fixture.started("q").await;
    let mut stream = WorkerStream::serving(fixture, hello("q"), 1).await;
    let lease = stream.leases(1).await.remove(0);
    stream.settle(nothing()).await;
    stream.cut().await;
    let twice = Hello { held: vec![held(&lease), held(&lease)], ..hello("q") };
    let mut stream = WorkerStream::serving(fixture, twice, 2).await;
    // One slot is left, and once it has ended both are.
    fixture.started("q").await;
    assert_eq!(stream.leases(1).await.len(), 1);
    fixture.cancel(&name).await.granted();
    assert_eq!(stream.signal().await.name, name);
    stream.settle(Request { completions: vec![completion(&lease)], ..Request::default() }).await;
    let next = fixture.started("q").await;
    assert_eq!(stream.leases(1).await[0].operation, next);
}

async fn a_lease_named_beside_an_older_one_of_its_operation_is_heard_of(fixture: &Fixture) {
    let (mut second, lease, lost) = after_a_loss(fixture).await;
    second.settle(nothing()).await;
    second.cut().await;
    let both = Hello { held: vec![held(&lease), held(&lost)], ..hello("q") };
    let mut stream = WorkerStream::open(fixture).await;
    assert_eq!(stream.greet(both, 1).await.lost, [lost.operation]);
    expect_undisturbed(fixture, stream, &lease).await;
}

/// A call that is refused, so that it is acknowledged at once.
fn nothing() -> Request {
    Request { completions: vec![pb::CompleteOperationRequest::default()], ..Request::default() }
}

const GRACE: Duration = Duration::from_secs(3);
