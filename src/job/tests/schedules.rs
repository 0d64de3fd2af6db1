//! The ticks of schedules.

use std::time::Duration;

use uuid::Uuid;

use super::at;
use crate::clock::Timestamp;
use crate::job::schedule::{
    Calendar, CalendarError, CalendarParts, CronExpression, Schedule, Timing,
};
use crate::job::zone::Zone;

/// A cron schedule.
fn cron(text: &str, zone: &str) -> Schedule {
    of(Timing::Cron(CronExpression::parse(text).expect(text)), zone)
}

fn of(timing: Timing, zone: &str) -> Schedule {
    let zone = Zone::parse(zone).expect(zone);
    Schedule { timing, zone, jitter: Duration::ZERO, start_time: None, end_time: None }
}

/// The first ticks after an instant.
fn ticks(schedule: &Schedule, after: &str, count: usize) -> Vec<String> {
    let next = |tick: &Timestamp| schedule.next_after(*tick, Timestamp::EPOCH);
    let all = std::iter::successors(next(&at(after)), next);
    all.take(count).map(|tick| tick.to_string()).collect()
}

#[test]
fn ticks_over_changes_of_clocks_are_as_documented() {
    for (text, zone, after, expected) in CHANGES {
        let found = ticks(&cron(text, zone), after, expected.len());
        assert_eq!(found, *expected, "{text} in {zone}");
    }
}

#[test]
fn ticks_over_years_are_as_the_calendar_has_them() {
    for (text, after, expected) in YEARS {
        assert_eq!(ticks(&cron(text, ""), after, expected.len()), *expected, "{text}");
    }
    assert_eq!(ticks(&cron("0 0 1 1 *", ""), "9999-06-01T00:00:00Z", 1), [""; 0]);
}

#[test]
fn every_match_is_found_that_a_plain_search_finds() {
    let shown = |zone: &Zone, tick: Timestamp| {
        let instant = jiff::Timestamp::from_second((tick.as_micros() / 1_000_000) as i64);
        zone.zone().to_datetime(instant.expect("an instant"))
    };
    for zone in ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Gaza"] {
        let schedule = cron("*/10 * * * *", zone);
        for after in ["2026-03-27T00:00:00Z", "2026-10-23T00:00:00Z", "2026-04-03T00:00:00Z"] {
            let (start, mut expected) = (at(after), Vec::new());
            for minute in 1..=(4 * 24 * 60) {
                let time = start + Duration::from_mins(minute);
                if shown(&schedule.zone, time).minute() % 10 == 0 {
                    expected.push(time.to_string());
                }
            }
            assert_eq!(ticks(&schedule, after, expected.len()), expected, "{zone} {after}");
        }
    }
}

#[test]
fn intervals_are_counted_from_the_start_time_or_from_the_anchor() {
    let every = |minutes| of(Timing::Interval(Duration::from_mins(minutes)), "");
    let anchor = at("2026-01-01T00:00:07Z");
    let next = |schedule: &Schedule, time: &str| {
        schedule.next_after(at(time), anchor).map(|tick| tick.to_string())
    };
    let plain = every(90);
    assert_eq!(next(&plain, "2026-01-01T00:00:07Z").as_deref(), Some("2026-01-01T01:30:07Z"));
    assert_eq!(next(&plain, "2026-01-01T01:30:07Z").as_deref(), Some("2026-01-01T03:00:07Z"));
    // However long nothing was done, the times are the same.
    assert_eq!(next(&plain, "2026-01-02T00:00:00Z").as_deref(), Some("2026-01-02T00:00:07Z"));
    assert_eq!(next(&plain, "2025-06-01T00:00:00Z").as_deref(), Some("2026-01-01T01:30:07Z"));

    let start_time = Some(at("2026-02-01T00:00:00Z"));
    let end_time = Some(at("2026-02-01T03:00:00Z"));
    let bounded = Schedule { start_time, end_time, ..every(90) };
    assert_eq!(next(&bounded, "2026-01-01T00:00:00Z").as_deref(), Some("2026-02-01T00:00:00Z"));
    assert_eq!(next(&bounded, "2026-02-01T00:00:00Z").as_deref(), Some("2026-02-01T01:30:00Z"));
    assert_eq!(next(&bounded, "2026-02-01T01:30:00Z"), None, "the end is no tick");

    let cron = Schedule { start_time, end_time, ..cron("0 * * * *", "") };
    let expected = ["2026-02-01T00:00:00Z", "2026-02-01T01:00:00Z", "2026-02-01T02:00:00Z"];
    assert_eq!(ticks(&cron, "2026-01-01T00:00:00Z", 9), expected);
}

#[test]
fn a_calendar_matches_where_all_its_parts_match() {
    let calendar = |parts: CalendarParts| Calendar::new(parts).map(Timing::Calendar);
    let friday_13th = CalendarParts {
        days: vec![13],
        weekdays: vec![5],
        hours: vec![9, 17],
        ..CalendarParts::default()
    };
    let schedule = of(calendar(friday_13th).expect("a calendar"), "America/New_York");
    let expected = ["2026-03-13T13:00:00Z", "2026-03-13T21:00:00Z", "2026-11-13T14:00:00Z"];
    assert_eq!(ticks(&schedule, "2026-03-01T00:00:00Z", 3), expected);

    let leap = CalendarParts {
        months: vec![2],
        days: vec![29],
        weekdays: vec![1],
        ..CalendarParts::default()
    };
    let schedule = of(calendar(leap).expect("a calendar"), "");
    assert_eq!(ticks(&schedule, "2026-01-01T00:00:00Z", 1), ["2044-02-29T00:00:00Z"]);

    let last = CalendarParts { days: vec![-1], months: vec![2], ..CalendarParts::default() };
    let schedule = of(calendar(last).expect("a calendar"), "");
    assert_eq!(ticks(&schedule, "2027-01-01T00:00:00Z", 1), ["2027-02-28T00:00:00Z"]);

    let days = |months: &[u32], days: &[i32]| {
        let (months, days) = (months.to_vec(), days.to_vec());
        Calendar::new(CalendarParts { months, days, ..CalendarParts::default() })
    };
    assert_eq!(days(&[2], &[30]), Err(CalendarError::NoSuchDay));
    for (wrong, part) in [
        (days(&[13], &[]), "months has 13"),
        (days(&[], &[0]), "days has 0; write 1 to 31, or -1"),
        (days(&[], &[-2]), "days has"),
        (days(&[], &[32]), "days has 32"),
        (
            Calendar::new(CalendarParts { hours: vec![24], ..CalendarParts::default() }),
            "hours has 24; write 0 to 23",
        ),
    ] {
        let error = wrong.expect_err(part).to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn jitter_delays_each_tick_always_by_as_much_and_by_less_than_its_bound() {
    let jitter = Duration::from_secs(30);
    let schedule = Schedule { jitter, ..cron("* * * * *", "") };
    let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let delays = |uid: Uuid| -> Vec<Duration> {
        let tick = |number| Timestamp::EPOCH + Duration::from_mins(number);
        (1..100).map(|number| schedule.fire_time(uid, tick(number)).since(tick(number))).collect()
    };
    assert_eq!(delays(one), delays(one));
    assert_ne!(delays(one), delays(other));
    assert!(delays(one).iter().all(|delay| *delay < jitter));
    let spread = |part: u32| delays(one).iter().filter(|delay| **delay < jitter / part).count();
    assert!((30..70).contains(&spread(2)), "{}", spread(2));
}

#[test]
fn a_zone_that_does_not_exist_is_refused_with_one_that_does() {
    for (text, hint) in [
        ("Europe/Berln", "is \"Europe/Berlin\" meant?"),
        ("america/newyork", "\"America/New_York\""),
        ("+02:00", "it looks like"),
        ("\u{1f552}", "it looks like"),
        ("../../etc/passwd", "it looks like"),
    ] {
        let error = Zone::parse(text).expect_err(text).to_string();
        assert!(error.contains(hint), "{error}");
    }
    assert!(Zone::parse(&"x".repeat(10_000)).expect_err("long").to_string().len() < 200);
    assert_eq!(Zone::parse("europe/berlin").expect("a zone").as_str(), "Europe/Berlin");
    assert_eq!(Zone::parse("").expect("a zone").as_str(), "UTC");
}

/// Expression, zone, after when, and the next ticks.
const CHANGES: &[(&str, &str, &str, &[&str])] = &[
    // Forward: what is left out fires at the first instant after it, once.
    (
        "30 2 * * *",
        "Europe/Berlin",
        "2026-03-28T12:00:00Z",
        &["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"],
    ),
    (
        "30 2,14 * * *",
        "Europe/Berlin",
        "2026-03-28T14:00:00Z",
        &["2026-03-29T01:00:00Z", "2026-03-29T12:30:00Z"],
    ),
    (
        "*/30 * * * *",
        "Europe/Berlin",
        "2026-03-29T00:00:00Z",
        &["2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"],
    ),
    (
        "*/20 2 * * *",
        "Europe/Berlin",
        "2026-03-28T12:00:00Z",
        &["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"],
    ),
    (
        "30 2 * * *",
        "America/New_York",
        "2026-03-08T00:00:00Z",
        &["2026-03-08T07:00:00Z", "2026-03-09T06:30:00Z"],
    ),
    // Asked from just before the change, too.
    ("30 2 * * *", "America/New_York", "2026-03-08T06:59:59.5Z", &["2026-03-08T07:00:00Z"]),
    ("30 2 * * *", "America/New_York", "2026-03-08T07:00:00Z", &["2026-03-09T06:30:00Z"]),
    // By half an hour, at midnight, and over a whole day.
    (
        "15 2 * * *",
        "Australia/Lord_Howe",
        "2026-10-03T12:00:00Z",
        &["2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"],
    ),
    (
        "0 0 * * *",
        "America/Sao_Paulo",
        "2018-11-03T12:00:00Z",
        &["2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z"],
    ),
    (
        "0 12 * * *",
        "Pacific/Apia",
        "2011-12-29T00:00:00Z",
        &["2011-12-29T22:00:00Z", "2011-12-30T10:00:00Z", "2011-12-30T22:00:00Z"],
    ),
    // Back: the first time only, unless every hour is meant.
    (
        "30 2 * * *",
        "Europe/Berlin",
        "2026-10-24T12:00:00Z",
        &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
    ),
    (
        "30 1,2,3 * * *",
        "Europe/Berlin",
        "2026-10-24T23:00:00Z",
        &["2026-10-24T23:30:00Z", "2026-10-25T00:30:00Z", "2026-10-25T02:30:00Z"],
    ),
    (
        "30 * * * *",
        "Europe/Berlin",
        "2026-10-25T00:00:00Z",
        &["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z"],
    ),
    (
        "30 1 * * *",
        "America/New_York",
        "2026-11-01T00:00:00Z",
        &["2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"],
    ),
    ("30 1 * * *", "America/New_York", "2026-11-01T06:10:00Z", &["2026-11-02T06:30:00Z"]),
    (
        "0 */2 * * *",
        "America/New_York",
        "2026-11-01T03:30:00Z",
        &["2026-11-01T04:00:00Z", "2026-11-01T07:00:00Z"],
    ),
    (
        "45 1 * * *",
        "Australia/Lord_Howe",
        "2026-04-04T12:00:00Z",
        &["2026-04-04T14:45:00Z", "2026-04-05T15:15:00Z"],
    ),
    // Ireland's winter time is the one that the tables call saving time.
    (
        "30 1 * * *",
        "Europe/Dublin",
        "2026-10-24T12:00:00Z",
        &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
    ),
    (
        "30 1 * * *",
        "Europe/Dublin",
        "2026-03-28T12:00:00Z",
        &["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"],
    ),
    // Zones without changes.
    (
        "0 9 * * *",
        "Asia/Kolkata",
        "2026-03-28T12:00:00Z",
        &["2026-03-29T03:30:00Z", "2026-03-30T03:30:00Z"],
    ),
    ("0 9 * * *", "", "2026-03-28T12:00:00Z", &["2026-03-29T09:00:00Z"]),
];

/// Expression, after when, and the next ticks in UTC.
const YEARS: &[(&str, &str, &[&str])] = &[
    ("0 0 29 2 *", "2026-01-01T00:00:00Z", &["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]),
    // No leap day in 2100.
    ("0 0 29 2 *", "2096-03-01T00:00:00Z", &["2104-02-29T00:00:00Z"]),
    ("0 0 31 * *", "2026-01-31T00:00:00Z", &["2026-03-31T00:00:00Z", "2026-05-31T00:00:00Z"]),
    ("0 0 L * *", "2028-01-31T00:00:00Z", &["2028-02-29T00:00:00Z", "2028-03-31T00:00:00Z"]),
    ("0 0 L,15 2 *", "2027-02-01T00:00:00Z", &["2027-02-15T00:00:00Z", "2027-02-28T00:00:00Z"]),
    (
        "*/20 59 23 31 12 *",
        "2026-01-01T00:00:00Z",
        &[
            "2026-12-31T23:59:00Z",
            "2026-12-31T23:59:20Z",
            "2026-12-31T23:59:40Z",
            "2027-12-31T23:59:00Z",
        ],
    ),
    // Day of the month or day of the week, as cron has it.
    (
        "0 0 13 * 5",
        "2026-03-01T00:00:00Z",
        &["2026-03-06T00:00:00Z", "2026-03-13T00:00:00Z", "2026-03-20T00:00:00Z"],
    ),
    ("0 0 13 * 5", "2026-04-11T00:00:00Z", &["2026-04-13T00:00:00Z", "2026-04-17T00:00:00Z"]),
    // A field that begins with a star restricts nothing, and one that lists everything does.
    (
        "0 0 */2 * 1",
        "2026-03-01T00:00:00Z",
        &["2026-03-09T00:00:00Z", "2026-03-23T00:00:00Z", "2026-04-13T00:00:00Z"],
    ),
    ("0 0 1-31 * 1", "2026-03-02T00:00:00Z", &["2026-03-03T00:00:00Z", "2026-03-04T00:00:00Z"]),
    ("0 0 13 * 0-6", "2026-03-02T00:00:00Z", &["2026-03-03T00:00:00Z", "2026-03-04T00:00:00Z"]),
    ("0 0 L * *", "2026-03-02T00:00:00Z", &["2026-03-31T00:00:00Z", "2026-04-30T00:00:00Z"]),
    ("59 23 * * 7", "2026-03-01T00:00:00Z", &["2026-03-01T23:59:00Z", "2026-03-08T23:59:00Z"]),
    ("* * * * *", "2026-03-01T00:00:00.000001Z", &["2026-03-01T00:01:00Z"]),
    ("0 0 1 1 *", "9998-06-01T00:00:00Z", &["9999-01-01T00:00:00Z"]),
];
