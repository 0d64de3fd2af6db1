//! How long recent operations of each method took: `Retry-After` follows from it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::operation::{Operation, Record, State};

/// Means by method, in which the newest counts for a fifth. Of this server alone.
#[derive(Debug, Default)]
pub(in crate::engine) struct Lately(Mutex<HashMap<String, f64>>);

impl Lately {
    /// Notes the duration of an operation that a commit has just ended.
    pub(in crate::engine) fn ended(&self, before: Option<&Record>, ended: &Operation) {
        let was_done = before.and_then(Record::operation).is_some_and(|it| it.state.is_done());
        if let (false, State::Succeeded(_), Some(end)) = (was_done, &ended.state, ended.end_time) {
            self.note(&ended.spec.method, end.since(ended.create_time));
        }
    }

    /// Adds the duration of one operation, unless another thread holds the lock: a mean is not worth waiting for.
    fn note(&self, method: &str, took: Duration) {
        let Ok(mut means) = self.0.try_lock() else { return };
        let took = took.as_secs_f64();
        let has_room = means.len() < MAX_METHODS;
        match means.get_mut(method) {
            Some(mean) => *mean += (took - *mean) * WEIGHT,
            None if has_room => drop(means.insert(method.to_owned(), took)),
            None => {}
        }
    }

    /// The mean duration of a method, if one of its operations has ended on this server.
    pub(in crate::engine) fn mean(&self, method: &str) -> Option<Duration> {
        let means = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Duration::try_from_secs_f64(*means.get(method)?).ok()
    }
}

const WEIGHT: f64 = 0.2;
/// Methods are few. A caller that invents a method for each start gets no mean.
const MAX_METHODS: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_follows_what_operations_took_lately() {
        let lately = Lately::default();
        assert_eq!(lately.mean("m"), None);
        lately.note("m", Duration::from_secs(10));
        assert_eq!(lately.mean("m"), Some(Duration::from_secs(10)));
        lately.note("m", Duration::from_secs(20));
        assert_eq!(lately.mean("m"), Some(Duration::from_secs(12)));
        for other in 0..2 * MAX_METHODS {
            lately.note(&other.to_string(), Duration::ZERO);
        }
        assert_eq!(lately.mean(&(2 * MAX_METHODS - 1).to_string()), None);
    }
}
