//! Which index a filter is answered from.

use super::*;

fn time(seconds: u64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

fn access(text: &str) -> Access {
    plan(&filter(text), Order::default()).access
}

#[test]
fn the_index_follows_from_the_states_that_are_possible() {
    for (text, name) in [
        ("", "list"),
        ("state() = FAILED", "failed"),
        ("state():FAILED", "failed"),
        ("state() = FAILED AND error.code = 8", "failed"),
        ("done = true AND error:* AND state() != CANCELLED", "failed"),
        ("NOT (done = false OR state() = SUCCEEDED OR state() = CANCELLED)", "failed"),
        ("state() = FAILED OR state() = CANCELLED", "list"),
        ("state() = FAILED OR method() = x", "list"),
        ("NOT (state() = FAILED AND method() = x)", "list"),
        ("-state() = FAILED", "list"),
        ("state() = RUNNING", "due/lease"),
        ("state() = (RUNNING OR CANCELLING)", "due/lease"),
        ("done = false state() != (PENDING AND SUSPENDED)", "due/lease"),
        ("state() = RUNNING queue() = a", "due/lease"),
        ("state() = PENDING queue() = a", "ready"),
        ("state() = PENDING queue() = a*", "unfinished"),
        ("state() = PENDING queue() != a", "unfinished"),
        ("state() = PENDING (queue() = a OR queue() = b)", "unfinished"),
        ("state() = PENDING", "unfinished"),
        ("queue() = a", "list"),
        ("done = false", "unfinished"),
        ("state():*", "list"),
        ("name = operations/x", "name"),
        ("name = operations/x*", "list"),
        ("name != operations/x", "list"),
        ("state() = FAILED done = false", "none"),
        ("response:* error:*", "none"),
        ("state() = RUNNING error:*", "none"),
        ("done:* done != true", "none"),
        ("create_time() > 2030-01-31T12:00:00Z create_time() < 2030-01-31T12:00:00Z", "none"),
        ("create_time() < 1969-01-01T00:00:00Z", "none"),
    ] {
        assert_eq!(access(text).as_str(), name, "{text}");
    }
    assert_eq!(access("queue() = queues/a state() = PENDING"), Access::Waiting("a".to_owned()));
    assert_eq!(access("name = operations/x"), Access::Name("operations/x".to_owned()));
}

#[test]
fn times_of_creation_bound_the_list_to_the_microsecond() {
    let micros = Timestamp::from_micros;
    let last = micros(u64::MAX);
    for (text, range) in [
        ("create_time() >= 1970-01-01T00:00:05Z", time(5)..=last),
        ("create_time() > 1970-01-01T00:00:05Z", micros(5_000_001)..=last),
        ("create_time() <= 1970-01-01T00:00:05Z", time(0)..=time(5)),
        ("create_time() < 1970-01-01T00:00:05Z", time(0)..=micros(4_999_999)),
        ("create_time() < 1970-01-01T00:00:05.0000001Z", time(0)..=time(5)),
        ("create_time() >= 1970-01-01T00:00:05.0000001Z", micros(5_000_001)..=last),
        ("create_time() = 1970-01-01T00:00:05Z", time(5)..=time(5)),
        ("create_time() > 1969-01-01T00:00:05Z", time(0)..=last),
        (
            "create_time() > 1970-01-01T00:00:05Z method() = x create_time() <= 1970-01-01T00:00:07Z",
            micros(5_000_001)..=time(7),
        ),
        ("create_time() != 1970-01-01T00:00:05Z", time(0)..=last),
        ("method() = x OR create_time() > 1970-01-01T00:00:05Z", time(0)..=last),
    ] {
        assert_eq!(access(text), Access::List(range), "{text}");
    }
    assert_eq!(access("create_time() = 1970-01-01T00:00:05.0000001Z"), Access::Nothing);
}

#[test]
fn what_the_range_stands_for_is_not_asked_again() {
    let planned = plan(
        &filter("create_time() > 1970-01-01T00:00:05Z AND method() = resize"),
        Order::OldestFirst,
    );
    assert_eq!(planned.order, Order::OldestFirst);
    // Outside of the range, which is the index's to see to.
    let old = Sample { create_time: time(1), ..Sample::running() };
    assert_eq!(planned.residual.test(&old), Verdict::Match);
    let other = Sample { method: "other".to_owned(), ..Sample::running() };
    assert_eq!(planned.residual.test(&other), Verdict::NoMatch);
}
