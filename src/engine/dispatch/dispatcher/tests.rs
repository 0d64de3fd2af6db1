//! The order of the line.

use super::*;

#[test]
fn whoever_has_no_room_for_a_moment_keeps_the_place_in_the_line() {
    let (dispatcher, seats) = line_of(3);
    let busy = seats[0].offer(1).expect("room");
    let eager = dispatcher.single_offers(1);
    assert_eq!(workers(&eager), ["1"]);
    drop(busy);
    // The one that was served is the last now.
    assert_eq!(workers(&dispatcher.single_offers(3)), ["0", "2"]);
    drop(eager);
    assert_eq!(workers(&dispatcher.offers()), ["1", "0", "2"]);
}

#[test]
fn whoever_got_nothing_stays_before_those_who_did() {
    let (dispatcher, _seats) = line_of(3);
    let offers = dispatcher.offers();
    assert_eq!(workers(&offers), ["0", "1", "2"]);
    assert!(dispatcher.single_offers(1).is_empty(), "all room is set aside");
    dispatcher.end_look(offers, &[true, false, false]);
    assert_eq!(workers(&dispatcher.offers()), ["1", "2", "0"]);
    // A look that found nothing changes nothing.
    dispatcher.end_look(dispatcher.offers(), &[]);
    assert_eq!(workers(&dispatcher.offers()), ["1", "2", "0"]);
}

fn line_of(count: usize) -> (Dispatcher, Vec<Arc<Seat>>) {
    let seat = |number: usize| Seat::once(number.to_string(), Duration::from_secs(1), 1);
    let seats: Vec<_> = (0..count).map(|number| Arc::new(seat(number))).collect();
    let dispatcher = Dispatcher {
        queue: "q".to_owned(),
        line: Mutex::new(seats.iter().cloned().collect()),
        wake: Notify::new(),
        quiet: AtomicBool::new(true),
        looking: AtomicBool::new(false),
        late: AtomicBool::new(false),
    };
    (dispatcher, seats)
}

fn workers(offers: &[Offer]) -> Vec<&str> {
    offers.iter().map(|offer| offer.seat.worker.as_str()).collect()
}
