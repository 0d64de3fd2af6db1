//! When to ask again about an operation that goes on.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::engine::Engine;
use crate::operation::{Operation, State};

/// Seconds until it is worth asking again: until the estimated end if there is one, else as long as its method took lately,
/// else a quarter of its age. Spread a little, so that what was started together is not asked about together.
pub(super) fn seconds(engine: &Engine, operation: &Operation) -> u64 {
    let now = engine.store_now(&operation.name);
    let wait = until_the_end(operation, now, engine.took_lately(&operation.spec.method));
    // The first byte of such an id is random.
    let spread = uuid::Uuid::new_v4().as_bytes()[0];
    spread_out(wait, f64::from(spread) / 255.0)
}

fn until_the_end(operation: &Operation, now: Timestamp, lately: Option<Duration>) -> Duration {
    let age = now.since(operation.create_time);
    let ready = operation.spec.options.schedule_time;
    let scheduled = ready.map(|ready| ready.since(now)).filter(|wait| !wait.is_zero());
    match (&operation.state, operation.estimated_end(), lately) {
        (State::Pending(_), _, _) if scheduled.is_some() => scheduled.unwrap_or_default(),
        (_, Some(end), _) => end.since(now),
        (_, None, Some(lately)) if lately > age => lately.saturating_sub(age),
        _ => age / 4,
    }
}

/// Whole seconds within the bounds; `spread` from 0 to 1 adds up to a fifth.
fn spread_out(wait: Duration, spread: f64) -> u64 {
    let seconds = wait.as_secs_f64().clamp(1.0, MOST.as_secs_f64()) * (1.0 + spread / 5.0);
    seconds.floor() as u64
}

/// A client should not learn of the end much later than this.
const MOST: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_whole_seconds_within_bounds_and_spread() {
        for (millis, spread, seconds) in [
            (0, 0.0, 1),
            (0, 1.0, 1),
            (10_000, 0.0, 10),
            (10_000, 0.5, 11),
            (10_000, 1.0, 12),
            (3_600_000, 0.0, 60),
            (3_600_000, 1.0, 72),
        ] {
            assert_eq!(spread_out(Duration::from_millis(millis), spread), seconds, "{millis}");
        }
    }
}
