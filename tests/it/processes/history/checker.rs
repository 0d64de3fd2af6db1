//! Properties of every history, whichever processes were killed, stopped and cut off. Pure: it reads only events.
//!
//! A call takes effect somewhere between its begin and its end. So one event is known to follow another only if it began
//! after the other ended; nothing here relies on more.

use std::collections::BTreeMap;

use super::event::{Act, Call, Event, Leased, NEVER, News, Outcome, Said, Seen, State, Told};
use super::{holders, told};

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Violation {
    /// The check that found it.
    pub(super) check: &'static str,
    pub(super) operation: String,
    pub(super) what: String,
}

/// Checks a history; `last_look` is the actor that read everything at the end.
pub(super) fn check(history: &[Event], last_look: &str) -> Vec<Violation> {
    let mut stories: BTreeMap<&str, Story<'_>> = BTreeMap::new();
    for event in history {
        let story = stories.entry(&event.operation).or_insert_with(|| Story::new(last_look));
        story.take(event);
    }
    let mut violations = Vec::new();
    for (operation, story) in &stories {
        for (check, holds) in CHECKS {
            violations.extend(holds(story).into_iter().map(|what| Violation {
                check,
                operation: (*operation).to_owned(),
                what,
            }));
        }
    }
    violations
}

/// Each returns its findings.
type Check = fn(&Story<'_>) -> Vec<String>;

const CHECKS: [(&str, Check); 21] = [
    ("no call fails inside", nothing_fails_inside),
    ("no acknowledged start is lost", no_start_is_lost),
    ("what was deleted stays deleted", deleted_stays_deleted),
    ("at most one result is accepted", one_result),
    ("the acknowledged result is the stored one", acknowledged_is_stored),
    ("no stale token is accepted", no_stale_token),
    ("fencing numbers grow", fencing_grows),
    ("a lease that lives is not given away", live_lease_is_kept),
    ("a holder that speaks keeps its lease", holders::speaking_holder_keeps),
    ("a worker has no more leases than slots", holders::slots_are_bounds),
    ("a request to cancel reaches the holder", holders::cancel_reaches_holder),
    ("the end is final", end_is_final),
    ("revisions grow for every observer", revisions_grow),
    ("every connected watcher sees the last state", watchers_see_the_end),
    ("an acknowledged cancellation counts, and no other", cancellation),
    ("attempts stay below their bound", attempts_are_bounded),
    ("what is suspended does not run", suspended_does_not_run),
    ("every operation ends", everything_ends),
    ("callbacks come in order", told::told_in_order),
    ("repeats of a callback have its id", told::repeats_have_their_id),
    ("callbacks are delivered", told::everything_is_told),
];

/// All that happened to one operation.
pub(super) struct Story<'a> {
    pub(super) last_look: &'a str,
    /// It has a callback.
    pub(super) is_told: bool,
    starts: Vec<&'a Event>,
    pub(super) cancels: Vec<&'a Event>,
    pauses: Vec<&'a Event>,
    resumes: Vec<&'a Event>,
    pub(super) deletes: Vec<&'a Event>,
    missing: Vec<&'a Event>,
    pub(super) seen: Vec<(&'a Event, &'a Seen)>,
    watches: BTreeMap<(&'a str, u64), Vec<(&'a Event, &'a News)>>,
    pub(super) kept: Vec<(&'a Event, u64)>,
    pub(super) asked: Vec<(&'a Event, u64)>,
    pub(super) leased: Vec<(&'a Event, &'a Leased)>,
    said: Vec<(&'a Event, &'a Said)>,
    pub(super) told: Vec<(&'a Event, &'a Told)>,
    failed_inside: Vec<&'a Event>,
    max_attempts: i32,
}

impl<'a> Story<'a> {
    fn new(last_look: &'a str) -> Self {
        Self {
            last_look,
            is_told: false,
            starts: Vec::new(),
            cancels: Vec::new(),
            pauses: Vec::new(),
            resumes: Vec::new(),
            deletes: Vec::new(),
            missing: Vec::new(),
            seen: Vec::new(),
            watches: BTreeMap::new(),
            kept: Vec::new(),
            asked: Vec::new(),
            leased: Vec::new(),
            said: Vec::new(),
            told: Vec::new(),
            failed_inside: Vec::new(),
            max_attempts: i32::MAX,
        }
    }

    fn take(&mut self, event: &'a Event) {
        if event.outcome == Outcome::Refused("INTERNAL".to_owned()) {
            self.failed_inside.push(event);
        }
        match &event.act {
            Act::Start { max_attempts, told } => {
                self.max_attempts = *max_attempts;
                self.is_told = *told;
                self.starts.push(event);
            }
            Act::Cancel => self.cancels.push(event),
            Act::Pause => self.pauses.push(event),
            Act::Resume => self.resumes.push(event),
            Act::Delete => self.deletes.push(event),
            Act::Missing => self.missing.push(event),
            Act::Seen(seen) => self.seen.push((event, seen)),
            Act::Watched(watch, news) => {
                self.seen.extend(news.seen().map(|seen| (event, seen)));
                self.missing.extend((*news == News::Deleted).then_some(event));
                self.watches.entry((&event.who, *watch)).or_default().push((event, news));
            }
            Act::Leased(leased) => self.leased.push((event, leased)),
            Act::Said(said) => self.said.push((event, said)),
            Act::Kept(fencing) => self.kept.push((event, *fencing)),
            Act::Asked(fencing) => self.asked.push((event, *fencing)),
            Act::Told(told) => self.told.push((event, told)),
        }
    }

    fn accepted(&self) -> impl Iterator<Item = (&'a Event, &'a Said)> {
        self.said.iter().copied().filter(|(event, _)| event.is_ok())
    }

    /// Calls that ended the operation, according to their replies.
    fn results(&self) -> impl Iterator<Item = (&'a Event, &'a Said)> {
        self.accepted().filter(|(_, said)| match said.call {
            Call::Complete => true,
            Call::Fail => !said.will_retry,
            _ => false,
        })
    }

    /// When somebody first knew that it had ended.
    fn known_end(&self) -> Option<u64> {
        let seen = self.seen.iter().filter(|(_, seen)| seen.state.is_done());
        let ends = seen.map(|(event, _)| event.end);
        ends.chain(self.results().map(|(event, _)| event.end)).min()
    }

    /// A read that showed a newer state by then.
    fn newer_than(&self, revision: u64, time: u64) -> Option<&'a Event> {
        let newer = |(look, seen): &&(&Event, &Seen)| seen.revision > revision && look.end < time;
        self.seen.iter().find(newer).map(|(look, _)| *look)
    }

    fn begun_before(events: &[&Event], time: u64) -> bool {
        events.iter().any(|event| event.may_count() && event.begin < time)
    }
}

fn nothing_fails_inside(story: &Story<'_>) -> Vec<String> {
    story.failed_inside.iter().map(|event| format!("{event:?}")).collect()
}

fn no_start_is_lost(story: &Story<'_>) -> Vec<String> {
    let Some(start) = story.starts.iter().filter(|start| start.is_ok()).min_by_key(|s| s.end)
    else {
        return Vec::new();
    };
    let lost = story
        .missing
        .iter()
        .filter(|look| look.begin > start.end && !Story::begun_before(&story.deletes, look.end));
    lost.map(|look| format!("acknowledged: {start:?}; not there: {look:?}")).collect()
}

fn deleted_stays_deleted(story: &Story<'_>) -> Vec<String> {
    let Some(delete) = story.deletes.iter().filter(|delete| delete.is_ok()).min_by_key(|d| d.end)
    else {
        return Vec::new();
    };
    let seen = story.seen.iter().filter(|(look, _)| look.begin > delete.end);
    seen.map(|(look, _)| format!("deleted: {delete:?}; there: {look:?}")).collect()
}

fn one_result(story: &Story<'_>) -> Vec<String> {
    let mut results = story.results();
    let Some((first, said)) = results.next() else { return Vec::new() };
    let what = |said: &Said| (said.fencing, said.call, said.content.clone());
    let others = results.filter(|(_, other)| what(other) != what(said));
    others.map(|(other, _)| format!("accepted: {first:?}; and {other:?}")).collect()
}

fn acknowledged_is_stored(story: &Story<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for (result, said) in story.results().filter(|(_, said)| !said.discarded) {
        let lies = |look: &Event, seen: &Seen| {
            if !seen.state.is_done() {
                return look.begin > result.end;
            }
            let cancelled = said.call == Call::Fail && seen.state == State::Cancelled;
            !cancelled && !seen.result.ends_with(&said.content)
        };
        let lies = story.seen.iter().filter(|(look, seen)| lies(look, seen));
        found.extend(lies.map(|(look, _)| format!("accepted: {result:?}; stored: {look:?}")));
        let later = story.leased.iter().filter(|(_, lease)| lease.fencing > said.fencing);
        found.extend(later.map(|(lease, _)| format!("accepted: {result:?}; leased: {lease:?}")));
    }
    for (look, seen) in story.seen.iter().filter(|(_, seen)| seen.state == State::Succeeded) {
        let said = |(event, said): &(&Event, &Said)| {
            let completes = said.call == Call::Complete && event.may_count();
            completes && event.begin < look.end && seen.result.ends_with(&said.content)
        };
        if !story.said.iter().any(said) {
            found.push(format!("nobody said that: {look:?}"));
        }
    }
    found
}

/// A call with a token counts until something newer was seen; afterwards only as the repeat of one that may have counted.
fn no_stale_token(story: &Story<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for (event, said) in story.accepted().filter(|(_, said)| said.sure) {
        let is_earlier = |(earlier, other): &&(&Event, &Said)| {
            other.fencing == said.fencing && earlier.begin < event.begin && earlier.may_count()
        };
        let mut earlier = story.said.iter().filter(is_earlier);
        let same = |other: &Said| other.call == said.call && other.content == said.content;
        if said.call.ends() && earlier.any(|(_, other)| same(other)) {
            continue;
        }
        let leases = story.leased.iter().filter(|(_, lease)| lease.fencing > said.fencing);
        let shows = |seen: &Seen| {
            seen.fencing > said.fencing || (seen.revision > said.fencing && !seen.state.is_leased())
        };
        let looks = story.seen.iter().filter(|(_, seen)| shows(seen));
        let ended = story.accepted().filter(|(other, another)| {
            another.fencing == said.fencing
                && another.call.ends()
                && another.sure
                && !std::ptr::eq(*other, event)
        });
        let newer = leases.map(|(lease, _)| *lease);
        let newer = newer.chain(looks.map(|(look, _)| *look)).chain(ended.map(|(event, _)| event));
        if let Some(newer) = newer.filter(|newer| newer.end < event.begin).min_by_key(|n| n.end) {
            found.push(format!("known: {newer:?}; accepted nevertheless: {event:?}"));
        }
    }
    found
}

fn fencing_grows(story: &Story<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let mut leased = story.leased.clone();
    leased.sort_by_key(|(_, lease)| lease.fencing);
    for pair in leased.windows(2) {
        let ((first, older), (second, newer)) = (pair[0], pair[1]);
        if older.fencing == newer.fencing || older.token == newer.token {
            found.push(format!("leased twice: {first:?}; {second:?}"));
        }
        // The older number was given out after the newer one was there.
        if first.begin > second.end {
            found.push(format!("first {second:?}; then {first:?}"));
        }
        let failed = story
            .accepted()
            .any(|(_, said)| said.call == Call::Fail && said.fencing == older.fencing);
        if newer.attempt < older.attempt + i32::from(failed) {
            found.push(format!("attempts do not count: {first:?}; {second:?}"));
        }
    }
    found
}

fn live_lease_is_kept(story: &Story<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for (event, lease) in story.leased.iter().filter(|(_, lease)| lease.unary) {
        let of_it = || story.said.iter().filter(|(_, said)| said.fencing == lease.fencing);
        if of_it().any(|(event, said)| said.call.ends() && event.may_count()) {
            continue;
        }
        let promised = of_it().filter(|(event, _)| event.is_ok()).map(|(_, said)| said.expires);
        let promised = promised.max().unwrap_or(0).max(lease.expires);
        let next = story.leased.iter().filter(|(_, next)| next.fencing > lease.fencing);
        let next = next.min_by_key(|(_, next)| next.fencing);
        // A fencing number is the store's time as of which the lease was given, or a little more.
        if let Some((next, _)) = next.filter(|(_, next)| next.fencing < promised) {
            found.push(format!("{event:?} was promised until {promised}; given away: {next:?}"));
        }
    }
    found
}

fn end_is_final(story: &Story<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let mut ends = story.seen.iter().filter(|(_, seen)| seen.state.is_done());
    let Some((first, end)) = ends.next() else { return found };
    for (other, seen) in ends {
        let moved = seen.revision != end.revision && seen.revision != 0 && end.revision != 0;
        if (seen.state, &seen.result) != (end.state, &end.result) || moved {
            found.push(format!("ended as {first:?}; and as {other:?}"));
        }
    }
    let first = story.seen.iter().filter(|(_, seen)| seen.state.is_done()).map(|(look, _)| look);
    let Some(first) = first.min_by_key(|look| look.end) else { return found };
    let alive = |(look, seen): &&(&Event, &Seen)| look.begin > first.end && !seen.state.is_done();
    found.extend(
        story
            .seen
            .iter()
            .filter(alive)
            .map(|(look, _)| format!("ended: {first:?}; alive: {look:?}")),
    );
    found
}

fn revisions_grow(story: &Story<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let mut by_end = story.seen.clone();
    by_end.sort_by_key(|(look, _)| look.end);
    let mut by_begin = story.seen.clone();
    by_begin.sort_by_key(|(look, _)| look.begin);
    let mut passed = by_end.into_iter().peekable();
    let mut revision: Option<(&Event, u64)> = None;
    let mut updated = revision;
    for (look, seen) in by_begin {
        while let Some((earlier, known)) = passed.next_if(|(earlier, _)| earlier.end < look.begin) {
            if revision.is_none_or(|(_, newest)| newest < known.revision) {
                revision = Some((earlier, known.revision));
            }
            if updated.is_none_or(|(_, newest)| newest < known.updated) {
                updated = Some((earlier, known.updated));
            }
        }
        let behind = |newest: Option<(&Event, u64)>, here: u64| {
            newest.filter(|(_, newest)| here != 0 && here < *newest).map(|(event, _)| event.clone())
        };
        let earlier = behind(revision, seen.revision).or_else(|| behind(updated, seen.updated));
        found.extend(earlier.map(|earlier| format!("seen: {earlier:?}; later: {look:?}")));
    }
    let mut known: BTreeMap<u64, (&Event, &Seen)> = BTreeMap::new();
    for (look, seen) in story.seen.iter().filter(|(_, seen)| seen.revision != 0) {
        let (first, same) = known.entry(seen.revision).or_insert((look, seen));
        if (same.state, &same.result, same.updated) != (seen.state, &seen.result, seen.updated) {
            found.push(format!("one revision, two states: {first:?}; {look:?}"));
        }
    }
    found
}

fn watchers_see_the_end(story: &Story<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let late = story.known_end().map_or(NEVER, |end| end + PATIENCE);
    for messages in story.watches.values() {
        let mut messages = messages.clone();
        messages.sort_by_key(|(event, _)| event.number);
        let (mut told, mut stuck): (Option<&Seen>, bool) = (None, false);
        let mut last: Option<&News> = None;
        for (event, news) in messages {
            let ends = matches!(last, Some(News::Done(_) | News::Deleted | News::Reconnect));
            let in_order = match news {
                News::Snapshot(seen) => last.is_none() && !seen.state.is_done(),
                News::Update(seen) => !seen.state.is_done(),
                News::Done(seen) => seen.state.is_done(),
                // No store here ever goes back.
                News::Resync(_) => false,
                News::End => ends,
                News::Heartbeat | News::Deleted | News::Reconnect => true,
            };
            if !in_order || (ends && *news != News::End) {
                found.push(format!("out of order after {last:?}: {event:?}"));
            }
            if let Some(seen) = news.seen() {
                let grows = told.is_none_or(|told| {
                    told.revision < seen.revision && told.updated <= seen.updated
                });
                if !grows {
                    found.push(format!("went back from {told:?}: {event:?}"));
                }
                told = Some(seen);
            }
            let knows = told.map_or(NEVER, |told| told.revision);
            let since = event.end.saturating_sub(PATIENCE);
            let missed = story.newer_than(knows, since);
            if *news == News::Heartbeat && !stuck && (event.end > late || missed.is_some()) {
                stuck = true;
                found.push(format!("missed {missed:?} or the end for too long: {event:?}"));
            }
            last = Some(news);
        }
    }
    let slow = story
        .seen
        .iter()
        .filter(|(look, seen)| seen.waited && !seen.state.is_done() && look.end > late);
    found.extend(slow.map(|(look, _)| format!("waited in vain, long after the end: {look:?}")));
    found
}

fn cancellation(story: &Story<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for (look, seen) in &story.seen {
        let cancelled = seen.cancel_requested || seen.state == State::Cancelled;
        if cancelled && !Story::begun_before(&story.cancels, look.end) {
            found.push(format!("nobody had asked for it: {look:?}"));
        }
    }
    let acknowledged = story.cancels.iter().filter(|cancel| cancel.is_ok());
    let Some(cancel) = acknowledged.min_by_key(|cancel| cancel.end) else { return found };
    let forgot = story.seen.iter().filter(|(look, seen)| {
        look.begin > cancel.end && !seen.cancel_requested && !seen.state.is_done()
    });
    found.extend(forgot.map(|(look, _)| format!("asked: {cancel:?}; forgotten: {look:?}")));
    let leased = story.leased.iter().filter(|(lease, _)| lease.begin > cancel.end);
    found.extend(leased.map(|(lease, _)| format!("asked: {cancel:?}; leased: {lease:?}")));
    found
}

fn attempts_are_bounded(story: &Story<'_>) -> Vec<String> {
    let leased = story.leased.iter().filter(|(_, lease)| lease.attempt > story.max_attempts);
    let seen = story.seen.iter().filter(|(_, seen)| seen.attempts > story.max_attempts);
    let events = leased.map(|(lease, _)| lease).chain(seen.map(|(look, _)| look));
    events.map(|event| format!("at most {}: {event:?}", story.max_attempts)).collect()
}

fn suspended_does_not_run(story: &Story<'_>) -> Vec<String> {
    let mut found = Vec::new();
    // A deletion ends a pause too: no caller could ever resume it.
    let resumed = |from: u64, to: u64| {
        let between = |end: &&Event| end.may_count() && end.begin < to && end.end > from;
        story.resumes.iter().chain(&story.deletes).any(between)
    };
    let wakes = |revision: u64| {
        let timed = |(event, said): &(&Event, &Said)| {
            said.call == Call::SuspendUntil && event.may_count() && said.fencing < revision
        };
        story.said.iter().any(timed)
    };
    let suspended = |seen: &Seen| seen.state == State::Suspended && seen.revision != 0;
    for (look, seen) in story.seen.iter().filter(|(_, seen)| suspended(seen)) {
        let leased = story.leased.iter().filter(|(lease, leased)| {
            let later = leased.fencing > seen.revision;
            later && !wakes(seen.revision) && !resumed(look.begin, lease.end)
        });
        found.extend(leased.map(|(lease, _)| format!("suspended: {look:?}; leased: {lease:?}")));
    }
    for pause in story.pauses.iter().filter(|pause| pause.is_ok()) {
        let runs = |event: &Event| event.begin > pause.end && !resumed(pause.begin, event.end);
        let leased = story.leased.iter().map(|(lease, _)| *lease);
        let waits = story.seen.iter().filter(|(_, seen)| seen.state == State::Pending);
        let events = leased.chain(waits.map(|(look, _)| *look)).filter(|event| runs(event));
        found.extend(events.map(|event| format!("paused: {pause:?}; not so: {event:?}")));
    }
    found
}

fn everything_ends(story: &Story<'_>) -> Vec<String> {
    if story.deletes.iter().any(|delete| delete.may_count()) {
        return Vec::new();
    }
    let looks = || story.seen.iter().filter(|(look, _)| look.who == story.last_look);
    let alive = looks().filter(|(_, seen)| !seen.state.is_done());
    let mut found: Vec<String> = alive.map(|(look, _)| format!("goes on: {look:?}")).collect();
    let missing = story.missing.iter().any(|look| look.who == story.last_look);
    if let Some(start) = story.starts.iter().find(|start| start.is_ok())
        && looks().next().is_none()
        && !missing
    {
        found.push(format!("nobody looked in the end: {start:?}"));
    }
    found
}

/// How long the news of an end may take, in microseconds: one second where every hint is lost, and room for a busy machine.
const PATIENCE: u64 = 5_000_000;
