//! The order of the waiters.

use std::time::Duration;

use super::*;
use crate::engine::access::LeaseScope;
use crate::engine::leases::waiter::Presented;
use crate::operation::worker::WorkerProcess;

#[test]
fn whoever_has_no_room_for_a_moment_keeps_its_position() {
    let (queue, waiters) = three_waiters();
    let busy = waiters[0].offer(1).expect("room");
    let eager = queue.single_offers(1);
    assert_eq!(workers(&eager), ["1"]);
    drop(busy);
    // The one that was served is the last now.
    assert_eq!(workers(&queue.single_offers(3)), ["0", "2"]);
    drop(eager);
    assert_eq!(workers(&queue.offers()), ["1", "0", "2"]);
}

#[test]
fn whoever_got_nothing_stays_before_those_who_did() {
    let (queue, _waiters) = three_waiters();
    let offers = queue.offers();
    assert_eq!(workers(&offers), ["0", "1", "2"]);
    assert!(queue.single_offers(1).is_empty(), "all room is set aside");
    queue.end_poll(offers, &[true, false, false]);
    assert_eq!(workers(&queue.offers()), ["1", "2", "0"]);
    // A poll that found nothing changes nothing.
    queue.end_poll(queue.offers(), &[]);
    assert_eq!(workers(&queue.offers()), ["1", "2", "0"]);
}

fn three_waiters() -> (Waiters, Vec<Arc<Waiter>>) {
    let waiter = |number: usize| {
        let presented = Presented {
            worker: number.to_string(),
            process: WorkerProcess::default(),
            duration: Duration::from_secs(1),
            scope: LeaseScope::default(),
            activity: Arc::default(),
        };
        Waiter::once(presented, 1)
    };
    let waiters: Vec<_> = (0..3).map(|number| Arc::new(waiter(number))).collect();
    let queue = Waiters::new("q", LeaseScope::default(), Arc::default());
    for waiter in &waiters {
        queue.push(waiter.clone());
    }
    (queue, waiters)
}

fn workers(offers: &[Offer]) -> Vec<&str> {
    offers.iter().map(|offer| offer.waiter.worker.as_str()).collect()
}
