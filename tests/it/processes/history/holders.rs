//! Properties of leases from the view of their holders.

use super::checker::Story;
use super::event::{Event, Leased};

/// While a worker holds a lease and speaks in time, no other lease of that operation is given.
pub(super) fn speaking_holder_keeps(story: &Story<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for (kept, fencing) in &story.kept {
        let given_away = |(_, lease): &&(&Event, &Leased)| {
            // A fencing number is the store's time as of which the lease was given, or a little more.
            lease.fencing > *fencing && lease.fencing < kept.end
        };
        let next = story.leased.iter().find(given_away);
        found.extend(next.map(|(next, _)| format!("kept: {kept:?}; given away: {next:?}")));
    }
    found
}

/// No worker receives more leases than it requested.
pub(super) fn slots_are_bounds(story: &Story<'_>) -> Vec<String> {
    let too_many = story.leased.iter().filter(|(_, lease)| lease.holds > lease.slots);
    too_many.map(|(event, _)| format!("more than its slots: {event:?}")).collect()
}

/// A worker that holds a lease for long enough after an acknowledged cancel has received the request to stop by then.
pub(super) fn cancel_reaches_holder(story: &Story<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for cancel in story.cancels.iter().filter(|cancel| cancel.is_ok()) {
        let late = cancel.end + REACH;
        let held =
            story.kept.iter().filter(|(kept, _)| kept.begin < cancel.begin && late < kept.end);
        for (kept, fencing) in held {
            let asked = |(asked, of): &(&Event, u64)| of == fencing && asked.end <= late;
            if !story.asked.iter().any(asked) {
                found.push(format!("acknowledged: {cancel:?}; never heard of it: {kept:?}"));
            }
        }
    }
    found
}

/// How long a request to cancel may take to its worker, in microseconds: one second where every hint is lost, and room for
/// a busy machine.
const REACH: u64 = 4_000_000;
