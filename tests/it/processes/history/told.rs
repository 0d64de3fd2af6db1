//! Properties of what the receiver of a callback is told.

use std::collections::{BTreeMap, BTreeSet};

use super::checker::Story;
use super::event::{Event, State, Told};

/// The events of an operation arrive in their order, and none before the receiver took the one before it.
pub(super) fn told_in_order(story: &Story<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let mut arrived: BTreeMap<u64, (&Event, bool)> = BTreeMap::new();
    for (event, told) in &story.told {
        if let Some((_, accepted)) = arrived.get_mut(&told.sequence) {
            *accepted |= told.accepted;
            continue;
        }
        let later = arrived.range(told.sequence..).next().map(|(_, (later, _))| later);
        found.extend(later.map(|later| format!("first {later:?}; then {event:?}")));
        let waits = arrived.range(..told.sequence).find(|(_, (_, accepted))| !accepted);
        let waits = waits.map(|(_, (waits, _))| waits);
        found.extend(waits.map(|waits| format!("not taken yet: {waits:?}; then {event:?}")));
        arrived.insert(told.sequence, (event, told.accepted));
    }
    found
}

/// Repeats of an event have its id and its content.
pub(super) fn repeats_have_their_id(story: &Story<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for (place, (event, told)) in story.told.iter().enumerate() {
        let same = |told: &Told| (told.id.clone(), told.sequence, told.state);
        let other = story.told[..place].iter().find(|(_, other)| {
            let about_it = other.id == told.id || other.sequence == told.sequence;
            about_it && same(other) != same(told)
        });
        found.extend(other.map(|(other, _)| format!("told: {other:?}; and as {event:?}")));
    }
    found
}

/// No change of the state is left out, up to the end.
pub(super) fn everything_is_told(story: &Story<'_>) -> Vec<String> {
    let mut found = Vec::new();
    if !story.is_told {
        found.extend(story.told.iter().map(|(event, _)| format!("has no callback: {event:?}")));
        return found;
    }
    let accepted = story.told.iter().filter(|(_, told)| told.accepted);
    let changes: BTreeMap<u64, (&Event, State)> =
        accepted.map(|(event, told)| (told.sequence, (*event, told.state))).collect();
    let mut state = State::Pending;
    for (event, next) in changes.values() {
        if !follows(state, *next) {
            found.push(format!("something between {state:?} and this was left out: {event:?}"));
        }
        state = *next;
    }
    // A deletion ends what is told.
    if story.deletes.iter().any(|delete| delete.may_count()) {
        return found;
    }
    let last = story.seen.iter().filter(|(look, _)| look.who == story.last_look);
    let ended = last.filter(|(_, seen)| seen.state.is_done() && seen.state != state);
    found.extend(ended.map(|(look, _)| format!("told until {state:?}: {look:?}")));
    let leases: BTreeSet<u64> = story.leased.iter().map(|(_, lease)| lease.fencing).collect();
    let runs = changes.values().filter(|(_, state)| *state == State::Running).count();
    if state.is_done() && runs < leases.len() {
        found.push(format!("leased {} times, told {runs} times", leases.len()));
    }
    found
}

/// Whether one commit leads from one state to the other.
const fn follows(state: State, next: State) -> bool {
    use State::{Cancelled, Cancelling, Failed, Pending, Running, Succeeded, Suspended};
    match state {
        Pending => matches!(next, Running | Suspended | Failed | Cancelled),
        Running => matches!(next, Pending | Suspended | Cancelling | Succeeded | Failed),
        Cancelling => matches!(next, Succeeded | Failed | Cancelled),
        Suspended => matches!(next, Pending | Failed | Cancelled),
        Succeeded | Failed | Cancelled => false,
    }
}
