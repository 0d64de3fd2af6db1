//! What may run and wait for each receiver.

use super::*;
use crate::engine::courier::lane::FIRST_WIDTH;
use crate::limits::{
    FAILURES_BEFORE_PROBES, MAX_DELIVERIES_TO_ONE, MAX_HELD_FOR_ONE, MIN_PROBE_PAUSE,
};
use crate::operation::events::{Facts, OperationEvent};
use crate::operation::name::Name;
use crate::proto::longhaul::v1 as pb;
use crate::record::delivery::{Delivery, Target};
use crate::store::Key;

const LANE: LaneId = LaneId([1; 8]);
const OTHER: LaneId = LaneId([2; 8]);
const NOW: Duration = Duration::from_secs(100);
const QUICKLY: LaneNews = LaneNews::Took(Duration::from_millis(1));

const fn at(secs: u64) -> Timestamp {
    Timestamp::from_micros(secs * 1_000_000)
}

fn delivery() -> Delivery {
    let news = OperationEvent {
        name: Name::parse("operations/o").expect("a name"),
        uid: uuid::Uuid::nil(),
        sequence: 1,
        time: at(1),
        facts: Facts::from_number(0),
        state: pb::operation_record::State::Pending,
        fraction: None,
        status_detail: String::new(),
        trace_parent: String::new(),
    };
    let target = Target::Callback(pb::Callback::default());
    Delivery::new(news, pb::callback::Event::Done, target, at(40))
}

/// Claims that end at 40; their attempts begin by 20.
fn claim(lanes: &Lanes, lane: LaneId, count: usize, now: Duration) -> usize {
    let room = lanes.reserve(lane, count, now);
    let held =
        || Held { claimed: (Key::from_bytes([0; Key::LENGTH]), delivery()), begin_by: at(20) };
    lanes.hold(lane, (0..room).map(|_| held()).collect(), room);
    room
}

/// The attempts that begin.
fn begin(lanes: &Lanes, now: Duration) -> usize {
    lanes.begin(at(10), now).len()
}

fn end(lanes: &Lanes, lane: LaneId, news: LaneNews, now: Duration) -> bool {
    lanes.end(lane, news, at(10), now).claimed.is_some()
}

fn fail(lanes: &Lanes, times: u32, now: Duration) {
    for _ in 0..times {
        assert_eq!((claim(lanes, LANE, 1, now), begin(lanes, now)), (1, 1));
        assert!(!end(lanes, LANE, LaneNews::Failed(Duration::ZERO), now));
    }
}

/// A receiver that takes deliveries at once; so many of its attempts run.
fn quick(lanes: &Lanes) -> usize {
    assert_eq!((claim(lanes, LANE, 100, NOW), begin(lanes, NOW)), (FIRST_WIDTH, FIRST_WIDTH));
    let mut running = FIRST_WIDTH;
    for _ in 0..100 {
        assert!(!end(lanes, LANE, QUICKLY, NOW));
        running -= 1;
        claim(lanes, LANE, MAX_DELIVERIES_TO_ONE - running, NOW);
        running += begin(lanes, NOW);
    }
    running
}

#[test]
fn a_receiver_that_takes_deliveries_gets_more_at_a_time_up_to_the_bound() {
    let lanes = Lanes::default();
    assert_eq!(quick(&lanes), MAX_DELIVERIES_TO_ONE);
    assert_eq!(lanes.running(), MAX_DELIVERIES_TO_ONE);
}

#[test]
fn deliveries_wait_for_the_attempts_to_a_receiver_that_replies_at_once_and_follow_them() {
    let lanes = Lanes::default();
    let running = quick(&lanes);
    let waiting = MAX_HELD_FOR_ONE - running;
    assert_eq!((claim(&lanes, LANE, 1_000, NOW), begin(&lanes, NOW)), (waiting, 0));
    for _ in 0..waiting {
        assert!(end(&lanes, LANE, QUICKLY, NOW));
    }
    assert!(!end(&lanes, LANE, QUICKLY, NOW));
    // One that takes its time gets no more than it can have at once.
    assert!(!end(&lanes, LANE, LaneNews::Took(Duration::from_secs(1)), NOW));
    assert_eq!(claim(&lanes, LANE, 1_000, NOW), 2);
}

#[test]
fn a_delivery_that_waited_too_long_is_looked_for_when_its_claim_ends() {
    let lanes = Lanes::default();
    quick(&lanes);
    claim(&lanes, LANE, 3, NOW);
    assert!(lanes.end(LANE, QUICKLY, at(21), NOW).claimed.is_none());
    assert_eq!(lanes.due(at(39), NOW), []);
    assert_eq!(lanes.due(at(40), NOW), [LANE]);
    // The same of a receiver that is left alone.
    assert_eq!(lanes.look(LANE), at(40));
    claim(&lanes, LANE, 3, NOW);
    assert!(!end(&lanes, LANE, LaneNews::Failed(Duration::from_mins(1)), NOW));
    let later = NOW + Duration::from_mins(1);
    assert_eq!(lanes.due(at(40), NOW), []);
    assert_eq!(lanes.due(at(40), later), []);
    while lanes.running() > 0 {
        assert!(!end(&lanes, LANE, LaneNews::NotTried, NOW));
    }
    assert_eq!(lanes.due(at(40), later), [LANE]);
}

#[test]
fn a_new_delivery_does_not_pass_one_that_is_due() {
    let lanes = Lanes::default();
    lanes.expect(LANE, at(10));
    assert!(!lanes.reserve_new(LANE, at(10), NOW));
    assert!(lanes.reserve_new(LANE, at(9), NOW), "that one is tried again later");
    assert!(lanes.reserve_new(OTHER, at(10), NOW));
}

#[test]
fn receivers_that_do_not_reply_leave_room_for_others() {
    let lanes = Lanes::default();
    for number in 0_u64.. {
        let lane = LaneId((1_000 + number).to_be_bytes());
        claim(&lanes, lane, FIRST_WIDTH, NOW);
        if begin(&lanes, NOW) < FIRST_WIDTH {
            break;
        }
    }
    assert!(lanes.running() >= MAX_DELIVERIES_AT_ONCE);
    assert_eq!((claim(&lanes, OTHER, 9, NOW), begin(&lanes, NOW)), (FIRST_WIDTH, 1));
}

#[test]
fn a_receiver_that_fails_is_probed_more_and_more_rarely_and_others_do_not_notice() {
    let lanes = Lanes::default();
    fail(&lanes, FAILURES_BEFORE_PROBES, NOW);
    assert_eq!(claim(&lanes, LANE, 9, NOW), 0);
    assert_eq!(claim(&lanes, OTHER, 9, NOW), FIRST_WIDTH);
    let probe = NOW + MIN_PROBE_PAUSE;
    assert_eq!((claim(&lanes, LANE, 9, probe), begin(&lanes, probe)), (1, FIRST_WIDTH + 1));
    assert!(!end(&lanes, LANE, LaneNews::Failed(Duration::ZERO), probe));
    assert_eq!(claim(&lanes, LANE, 9, probe + MIN_PROBE_PAUSE), 0);
    let second = probe + MIN_PROBE_PAUSE * 2;
    assert_eq!((claim(&lanes, LANE, 9, second), begin(&lanes, second)), (1, 1));
    assert!(!end(&lanes, LANE, QUICKLY, second));
    assert_eq!(claim(&lanes, LANE, 9, second), FIRST_WIDTH, "it is well again");
}

#[test]
fn a_receiver_is_left_alone_for_as_long_as_it_asks() {
    let lanes = Lanes::default();
    assert_eq!((claim(&lanes, LANE, 1, NOW), begin(&lanes, NOW)), (1, 1));
    assert!(!end(&lanes, LANE, LaneNews::Failed(Duration::from_mins(1)), NOW));
    assert_eq!(claim(&lanes, LANE, 1, NOW + Duration::from_secs(59)), 0);
    assert_eq!(claim(&lanes, LANE, 1, NOW + Duration::from_mins(1)), 1);
}

#[test]
fn what_is_due_is_known_until_it_is_looked_up_and_idle_receivers_are_forgotten() {
    let lanes = Lanes::default();
    lanes.expect(LANE, at(20));
    lanes.expect(LANE, at(10));
    lanes.expect(OTHER, at(30));
    assert_eq!(lanes.due(at(9), NOW), []);
    assert_eq!(lanes.next(at(9), NOW, Duration::from_mins(1)), Duration::from_secs(1));
    assert_eq!(lanes.due(at(10), NOW), [LANE]);
    assert_eq!(lanes.look(LANE), at(10));
    assert_eq!(lanes.look(OTHER), at(30));
    assert!(lanes.lock().known.is_empty());
    assert_eq!((claim(&lanes, LANE, 1, NOW), begin(&lanes, NOW)), (1, 1));
    assert!(!end(&lanes, LANE, LaneNews::NotTried, NOW));
    assert!(lanes.lock().known.is_empty());
    assert_eq!(lanes.lock().held, 0);
}
