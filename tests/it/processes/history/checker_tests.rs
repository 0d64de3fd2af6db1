//! Histories made by hand: a good one, and the findings of each check in bad ones.

use super::checker::check;
use super::event::{Act, Call, Event, Leased, NEVER, News, Outcome, Said, Seen, State, Told};

#[test]
fn nothing_is_found_in_a_good_history() {
    assert_eq!(check(&good(), "end"), []);
}

#[test]
fn nothing_is_found_where_it_is_not_known_what_was_done() {
    let mut history = vec![
        unknown(start(1)),
        event(20, 21, Act::Missing),
        unknown(event(22, 0, Act::Cancel)),
        event(30, 31, lease(100, 1)),
        unknown(event(32, 0, said(100, Call::Complete, "one"))),
        event(40, 41, Act::Seen(seen(120, State::Pending))),
        event(42, 43, Act::Seen(Seen { cancel_requested: true, ..seen(200, State::Cancelled) })),
        // A repeat of a call that may have counted before.
        event(44, 45, said(100, Call::Complete, "one")),
    ];
    // It got the answer of the first of both: but then that one must be stored.
    let last = history.pop();
    assert_eq!(check(&by_the_end(history.clone(), 200, State::Cancelled), "end"), []);
    history.extend(last);
    let found = checks(&by_the_end(history, 200, State::Cancelled));
    assert_eq!(found, ["the acknowledged result is the stored one"]);
}

#[test]
fn a_lost_start_is_found() {
    finds("no acknowledged start is lost", event(300, 301, Act::Missing));
    let gone = event(960, 961, Act::Missing);
    let deleted = event(950, 951, Act::Delete);
    assert_eq!(checks(&with(vec![deleted.clone(), gone])), Vec::<&str>::new());
    let back = event(960, 961, Act::Seen(done()));
    assert_eq!(checks(&with(vec![deleted, back])), ["what was deleted stays deleted"]);
}

#[test]
fn a_second_result_is_found() {
    let second = event(300, 301, said(100, Call::Complete, "two"));
    let found = checks(&with(vec![second]));
    assert!(found.contains(&"at most one result is accepted"), "{found:?}");
    assert!(found.contains(&"the acknowledged result is the stored one"), "{found:?}");
    assert!(found.contains(&"no stale token is accepted"), "{found:?}");
}

#[test]
fn an_acknowledged_result_that_is_not_there_is_found() {
    let check = "the acknowledged result is the stored one";
    let mut history = good();
    history.retain(|event| event.begin < 60);
    let pending = event(120, 121, Act::Seen(seen(180, State::Pending)));
    history.push(pending);
    history.push(event(130, 131, lease(210, 2)));
    history.push(event(132, 133, said(210, Call::Complete, "other")));
    let found = checks(&by_the_end(history, 220, State::Succeeded));
    assert!(found.contains(&check), "{found:?}");
    // No reply named the stored state.
    let mut history = good();
    history.retain(|event| !matches!(event.act, Act::Said(_)));
    assert_eq!(checks(&history), [check]);
}

#[test]
fn a_stale_token_is_found_and_a_repeat_is_none() {
    let check = "no stale token is accepted";
    // The lease of 50 was lost, and the one of 100 is known at 41.
    let lost = event(5, 6, lease(50, 1));
    let stale = |begin| event(begin, begin + 1, said(50, Call::Report, "late"));
    let renewed = |begin| with(vec![lost.clone(), stale(begin)]);
    assert_eq!(checks(&renewed(20)), Vec::<&str>::new());
    assert_eq!(checks(&renewed(42)), [check]);
    let refused = Event { outcome: Outcome::Refused("LEASE_LOST".to_owned()), ..stale(42) };
    assert_eq!(checks(&with(vec![lost.clone(), refused])), Vec::<&str>::new());
    // A call that was only acknowledged proves nothing.
    let noted = Said { sure: false, ..words(50, Call::Report, "late") };
    assert_eq!(checks(&with(vec![lost, event(42, 43, Act::Said(noted))])), Vec::<&str>::new());
    finds_nothing(event(300, 301, said(100, Call::Complete, "one")));
    // Only the end repeats: a report after it is stale.
    finds(check, event(300, 301, said(100, Call::Report, "more")));
}

#[test]
fn a_stale_token_is_known_from_what_callers_see() {
    let mut history = good();
    history.truncate(2);
    history.push(event(50, 51, Act::Seen(seen(110, State::Pending))));
    history.push(event(52, 53, said(100, Call::Report, "late")));
    history.push(event(54, 55, Act::Seen(seen(120, State::Cancelled))));
    history.push(event(2, 3, Act::Cancel));
    let found = checks(&by_the_end(history, 120, State::Cancelled));
    assert_eq!(
        found,
        ["no stale token is accepted", "an acknowledged cancellation counts, and no other"]
    );
}

#[test]
fn fencing_numbers_that_do_not_grow_are_found() {
    let check = "fencing numbers grow";
    finds(check, event(42, 43, lease(90, 1)));
    finds(check, Event { who: "other".to_owned(), ..event(41, 42, lease(100, 1)) });
    let again = Leased { token: "another".to_owned(), ..grant(100, 1) };
    finds(check, event(41, 42, Act::Leased(again)));
    finds(check, event(5, 6, lease(50, 2)));
    let failed = Said { will_retry: true, ..words(50, Call::Fail, "why") };
    let failed = vec![event(5, 6, lease(50, 1)), event(7, 8, Act::Said(failed))];
    assert_eq!(checks(&with(failed)), [check]);
}

#[test]
fn a_lease_that_is_given_away_too_early_is_found() {
    let early = Leased { expires: 101, ..grant(60, 1) };
    finds("a lease that lives is not given away", event(5, 6, Act::Leased(early.clone())));
    finds_nothing(event(5, 6, Act::Leased(Leased { unary: false, ..early.clone() })));
    finds_nothing(event(5, 6, Act::Leased(Leased { expires: 100, ..early.clone() })));
    let lease = event(5, 6, Act::Leased(Leased { expires: 70, ..early }));
    let renewed = Said { expires: 101, ..words(60, Call::Renew, "") };
    let history = with(vec![lease, event(7, 8, Act::Said(renewed))]);
    assert_eq!(checks(&history), ["a lease that lives is not given away"]);
}

#[test]
fn a_lease_that_is_taken_from_a_holder_that_speaks_is_found() {
    let check = "a holder that speaks keeps its lease";
    let before = event(5, 6, lease(60, 1));
    let kept = |end| with(vec![before.clone(), event(7, end, Act::Kept(60))]);
    assert_eq!(checks(&kept(101)), [check]);
    // It fell silent, or somebody else did.
    assert_eq!(checks(&kept(100)), Vec::<&str>::new());
    finds_nothing(event(42, 800, Act::Kept(100)));
}

#[test]
fn more_leases_than_slots_are_found() {
    let with_more = |holds| Act::Leased(Leased { holds, slots: 2, ..grant(90, 1) });
    finds_nothing(event(5, 6, with_more(2)));
    finds("a worker has no more leases than slots", event(5, 6, with_more(3)));
}

#[test]
fn a_request_to_cancel_that_does_not_reach_the_holder_is_found() {
    let check = "a request to cancel reaches the holder";
    let late = 51 + 4_000_000;
    let held = |end| vec![event(50, 51, Act::Cancel), event(42, end, Act::Kept(100))];
    let asked = |fencing, end| event(end, end, Act::Asked(fencing));
    assert_eq!(checks(&with(held(late))), Vec::<&str>::new(), "it held it for too short a time");
    assert_eq!(checks(&with(held(late + 1))), [check]);
    let with_asked = |asked| with([held(late + 1), vec![asked]].concat());
    assert_eq!(checks(&with_asked(asked(100, late))), Vec::<&str>::new());
    assert_eq!(checks(&with_asked(asked(100, late + 1))), [check]);
    assert_eq!(checks(&with_asked(asked(99, 60))), [check], "another holder was asked");
}

#[test]
fn an_end_that_changes_is_found() {
    let check = "the end is final";
    let changed = Seen { result: "response one, two".to_owned(), ..done() };
    assert!(checks(&with(vec![event(300, 301, Act::Seen(changed))])).contains(&check));
    let moved = Seen { revision: 250, updated: 250, ..done() };
    finds(check, event(999, 1_000, Act::Seen(moved)));
    let alive = Seen { updated: 0, ..seen(0, State::Running) };
    assert!(checks(&with(vec![event(950, 951, Act::Seen(alive))])).contains(&check));
}

#[test]
fn revisions_that_go_back_are_found() {
    let check = "revisions grow for every observer";
    let older = seen(80, State::Pending);
    finds(check, event(50, 51, Act::Seen(older.clone())));
    // It may have been read before the other.
    finds_nothing(event(42, 51, Act::Seen(older.clone())));
    let no_revision = Seen { revision: 0, updated: 80, ..older };
    finds(check, event(50, 51, Act::Seen(no_revision)));
    let two_faced = Seen { state: State::Cancelling, ..seen(100, State::Running) };
    finds(check, event(45, 61, Act::Seen(two_faced)));
}

#[test]
fn a_watch_that_is_out_of_order_is_found() {
    let check = "every connected watcher sees the last state";
    let watch = |messages: Vec<News>| {
        let message = |(place, news)| Event {
            number: place as u64,
            ..event(2, 60 + place as u64, Act::Watched(1, news))
        };
        with(messages.into_iter().enumerate().map(message).collect())
    };
    let (first, second) = (seen(10, State::Pending), seen(100, State::Running));
    let snapshot = News::Snapshot(first.clone());
    let update = News::Update(second.clone());
    let good =
        vec![snapshot.clone(), News::Heartbeat, update.clone(), News::Done(done()), News::End];
    assert_eq!(checks(&watch(good)), Vec::<&str>::new());
    for bad in [
        vec![update.clone(), snapshot.clone()],
        vec![snapshot.clone(), update.clone(), update.clone()],
        vec![snapshot.clone(), News::Update(done())],
        vec![snapshot.clone(), News::End],
        vec![News::Resync(second)],
        vec![News::Done(done()), News::Heartbeat],
    ] {
        assert_eq!(checks(&watch(bad.clone())), [check], "{bad:?}");
    }
    assert_eq!(checks(&watch(vec![snapshot, News::Reconnect, News::End])), Vec::<&str>::new());
}

#[test]
fn a_watch_or_a_wait_that_misses_the_end_is_found() {
    let check = "every connected watcher sees the last state";
    let late = 200 + 5_000_000;
    finds_nothing(event(2, late - 1_000, Act::Watched(1, News::Heartbeat)));
    finds(check, event(2, late, Act::Watched(1, News::Heartbeat)));
    // It may miss a state that a later event replaces soon, but none for long.
    let watched = |end, news| event(2, end, Act::Watched(1, news));
    let stuck = |end| {
        with(vec![
            watched(10, News::Snapshot(seen(10, State::Pending))),
            watched(end, News::Heartbeat),
        ])
    };
    assert_eq!(checks(&stuck(43 + 5_000_000)), Vec::<&str>::new());
    assert_eq!(checks(&stuck(44 + 5_000_000)), [check]);
    let waited = Seen { waited: true, ..seen(100, State::Running) };
    finds_nothing(event(2, late - 1_000, Act::Seen(waited.clone())));
    finds(check, event(2, late, Act::Seen(waited)));
}

#[test]
fn the_checker_finds_cancellations_without_a_request() {
    let check = "an acknowledged cancellation counts, and no other";
    let mut history = good();
    history.retain(|event| event.begin < 40);
    assert_eq!(checks(&by_the_end(history.clone(), 200, State::Cancelled)), [check]);
    history.insert(0, event(3, 4, Act::Cancel));
    let found = checks(&by_the_end(history, 200, State::Cancelled));
    assert_eq!(found, [check], "leased after it was cancelled");
    // It counts unless the end came first.
    finds_nothing(event(300, 301, Act::Cancel));
}

#[test]
fn too_many_attempts_are_found() {
    let check = "attempts stay below their bound";
    let mut history = good();
    for event in &mut history {
        if let Act::Leased(lease) = &mut event.act {
            lease.attempt = 4;
        }
    }
    assert_eq!(checks(&history), [check]);
    let seen = Seen { attempts: 4, ..seen(100, State::Running) };
    finds(check, event(45, 61, Act::Seen(seen)));
}

#[test]
fn the_checker_finds_work_on_suspended_operations() {
    let check = "what is suspended does not run";
    let suspended = event(20, 21, Act::Seen(seen(50, State::Suspended)));
    let paused = event(18, 19, Act::Pause);
    finds(check, suspended.clone());
    finds(check, paused.clone());
    for excuse in [event(22, 23, Act::Resume), unknown(event(2, 0, Act::Resume))] {
        let history = with(vec![suspended.clone(), paused.clone(), excuse]);
        assert_eq!(checks(&history), Vec::<&str>::new());
    }
    let history = with(vec![paused, event(22, 23, Act::Delete)]);
    assert!(!checks(&history).contains(&check), "a deletion ends a pause");
    let timed = vec![event(5, 6, lease(40, 1)), event(7, 8, said(40, Call::SuspendUntil, ""))];
    let history = [timed, vec![suspended]].concat();
    assert_eq!(checks(&with(history)), Vec::<&str>::new());
}

#[test]
fn the_checker_finds_operations_that_do_not_end() {
    let mut history = good();
    history.retain(|event| event.begin < 40);
    assert_eq!(checks(&history), ["every operation ends"]);
    assert_eq!(checks(&by_the_end(history, 110, State::Suspended)), ["every operation ends"]);
}

#[test]
fn callbacks_that_come_out_of_order_are_found() {
    let check = "callbacks come in order";
    let (first, second) = (told(60, 1, State::Running), told(61, 2, State::Succeeded));
    assert_eq!(checks(&told_of(vec![first.clone(), second.clone()])), Vec::<&str>::new());
    // A refused one comes again before the next, and any one may be repeated later.
    let again = told(62, 1, State::Running);
    let repeated = vec![refused(59, 1, State::Running), first.clone(), second.clone(), again];
    assert_eq!(checks(&told_of(repeated)), Vec::<&str>::new());
    let early = told(59, 2, State::Succeeded);
    assert_eq!(checks(&told_of(vec![first.clone(), early])), [check]);
    let skipped = vec![refused(60, 1, State::Running), second, told(62, 1, State::Running)];
    assert_eq!(checks(&told_of(skipped)), [check]);
}

#[test]
fn repeats_of_a_callback_with_another_id_or_content_are_found() {
    let check = "repeats of a callback have its id";
    let both = vec![told(60, 1, State::Running), told(61, 2, State::Succeeded)];
    let with_one = |more: Event| told_of([both.clone(), vec![more]].concat());
    let as_told = |id: &str, sequence| Told {
        id: id.to_owned(),
        sequence,
        state: State::Running,
        accepted: true,
    };
    let repeat = |told| with_one(event(62, 62, Act::Told(told)));
    assert_eq!(checks(&repeat(as_told("id-1", 1))), Vec::<&str>::new());
    assert_eq!(checks(&repeat(as_told("other", 1))), [check]);
    let found = checks(&repeat(Told { state: State::Succeeded, ..as_told("id-1", 1) }));
    assert!(found.contains(&check), "{found:?}");
    let found = checks(&repeat(as_told("id-2", 3)));
    assert!(found.contains(&check), "{found:?}");
}

#[test]
fn callbacks_that_never_come_are_found() {
    let check = "callbacks are delivered";
    let (first, second) = (told(60, 1, State::Running), told(61, 2, State::Succeeded));
    assert_eq!(checks(&told_of(Vec::new())), [check]);
    assert_eq!(checks(&told_of(vec![first.clone()])), [check], "the end");
    assert_eq!(checks(&told_of(vec![second.clone()])), [check], "the lease");
    let refused = vec![first.clone(), refused(61, 2, State::Succeeded)];
    assert_eq!(checks(&told_of(refused)), [check], "the end was only tried");
    let wrong = told(61, 2, State::Failed);
    assert_eq!(checks(&told_of(vec![first.clone(), wrong])), [check], "another end");
    assert_eq!(checks(&with(vec![first.clone()])), [check], "it has no callback");
    // Leased twice, and told once.
    let again = event(43, 44, lease(110, 1));
    let told_once = |more: Vec<Event>| told_of([vec![again.clone()], more].concat());
    let found = checks(&told_once(vec![first.clone(), second.clone()]));
    assert!(found.contains(&check), "{found:?}");
    // What a deletion ends is told as far as it went, without a gap.
    let deleted = event(57, 58, Act::Delete);
    let told_of_deleted = |more: Vec<Event>| {
        let mut history = told_of([vec![deleted.clone()], more].concat());
        history.retain(|event| event.who != "end");
        checks(&history)
    };
    assert_eq!(told_of_deleted(vec![first]), Vec::<&str>::new());
    assert_eq!(told_of_deleted(vec![second]), [check]);
}

/// The good history of an operation with a callback.
fn told_of(more: Vec<Event>) -> Vec<Event> {
    let mut history = with(more);
    history[0].act = Act::Start { max_attempts: 3, told: true };
    history.sort_by_key(|event| event.begin);
    history
}

fn told(begin: u64, sequence: u64, state: State) -> Event {
    let id = format!("id-{sequence}");
    event(begin, begin, Act::Told(Told { id, sequence, state, accepted: true }))
}

fn refused(begin: u64, sequence: u64, state: State) -> Event {
    let id = format!("id-{sequence}");
    event(begin, begin, Act::Told(Told { id, sequence, state, accepted: false }))
}

/// Started, leased, reported, completed, and read in between.
fn good() -> Vec<Event> {
    let history = vec![
        start(1),
        event(30, 41, lease(100, 1)),
        event(42, 43, Act::Seen(seen(100, State::Running))),
        event(50, 51, said(100, Call::Report, "more")),
        event(55, 56, said(100, Call::Complete, "one")),
    ];
    by_the_end(history, 200, State::Succeeded)
}

/// With a last read that shows it so.
fn by_the_end(mut history: Vec<Event>, revision: u64, state: State) -> Vec<Event> {
    let last = Act::Seen(seen(revision, state));
    history.push(Event { who: "end".to_owned(), ..event(900, 901, last) });
    history
}

fn with(more: Vec<Event>) -> Vec<Event> {
    let mut history = good();
    history.extend(more);
    history
}

fn finds(check: &str, more: Event) {
    assert_eq!(checks(&with(vec![more.clone()])), [check], "{more:?}");
}

fn finds_nothing(more: Event) {
    assert_eq!(checks(&with(vec![more.clone()])), Vec::<&str>::new(), "{more:?}");
}

/// The checks that found something.
fn checks(history: &[Event]) -> Vec<&'static str> {
    let mut checks: Vec<_> = check(history, "end").iter().map(|found| found.check).collect();
    checks.dedup();
    checks
}

fn event(begin: u64, end: u64, act: Act) -> Event {
    let (who, operation) = ("somebody".to_owned(), "operations/one".to_owned());
    Event { who, number: begin, begin, end, operation, act, outcome: Outcome::Ok }
}

fn unknown(event: Event) -> Event {
    Event { end: NEVER, outcome: Outcome::Unknown, ..event }
}

fn start(begin: u64) -> Event {
    event(begin, begin + 9, Act::Start { max_attempts: 3, told: false })
}

fn lease(fencing: u64, attempt: i32) -> Act {
    Act::Leased(grant(fencing, attempt))
}

fn grant(fencing: u64, attempt: i32) -> Leased {
    let token = format!("token-{fencing}");
    Leased { token, fencing, attempt, expires: fencing, unary: true, holds: 1, slots: 1 }
}

fn said(fencing: u64, call: Call, content: &str) -> Act {
    Act::Said(words(fencing, call, content))
}

fn words(fencing: u64, call: Call, content: &str) -> Said {
    let content = content.to_owned();
    Said { fencing, call, content, sure: true, will_retry: false, discarded: false, expires: 0 }
}

fn done() -> Seen {
    seen(200, State::Succeeded)
}

fn seen(revision: u64, state: State) -> Seen {
    let result = match state {
        State::Succeeded => "response one",
        State::Failed | State::Cancelled => "error",
        _ => "",
    };
    let cancel_requested = state == State::Cancelled;
    let result = result.to_owned();
    Seen { revision, updated: revision, state, result, cancel_requested, ..Seen::default() }
}
