//! How long a call that may last goes on trying.

use std::time::Duration;

use tonic::Status;

use super::outage::{Outage, outage};
use super::retry::{FIRST_PAUSE, asked_for};

/// The retries of a long call: through every outage of a server that has answered once.
#[derive(Debug)]
pub(super) struct Patience {
    reached: bool,
    failures: u32,
    pause: Duration,
}

impl Patience {
    pub(super) const fn new() -> Self {
        Self { reached: false, failures: 0, pause: FIRST_PAUSE }
    }

    /// The server has answered.
    pub(super) const fn reached(&mut self) {
        *self = Self { reached: true, ..Self::new() };
    }

    /// Whether the server has answered since the beginning.
    pub(super) const fn has_reached(&self) -> bool {
        self.reached
    }

    /// The pause before the next try; `None` if a retry would not help.
    pub(super) fn after(&mut self, status: &Status) -> Option<Duration> {
        let outage = outage(status)?;
        self.failures += 1;
        let goes_on = match outage {
            _ if self.reached => true,
            Outage::NotGrpc => false,
            Outage::Away => true,
            // No server has ever answered: the address may be wrong.
            Outage::Broken | Outage::Silent => self.failures < MAX_FAILURES,
        };
        let pause = self.pause.max(asked_for(status));
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        goes_on.then_some(pause)
    }
}

const MAX_FAILURES: u32 = 5;
/// A caller waits for a server that restarts.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_lasts_as_long_as_an_outage_of_a_server_that_answered_once() {
        let (broken, strange) = (Status::unknown("broken"), Status::unknown(NOT_GRPC));
        let mut patience = Patience::new();
        assert_eq!(patience.after(&strange), None);
        let tries = (0..10).take_while(|_| patience.after(&broken).is_some()).count();
        assert!(tries < 5, "{tries}");
        // UNAVAILABLE comes from a server, or from the client if no server answers yet.
        assert!((0..100).all(|_| patience.after(&Status::unavailable("")).is_some()));

        patience.reached();
        assert_eq!(patience.after(&broken), Some(FIRST_PAUSE));
        assert_eq!(patience.after(&broken), Some(2 * FIRST_PAUSE));
        for status in [&broken, &strange, &Status::unavailable("")] {
            assert!((0..100).all(|_| patience.after(status) <= Some(LONGEST_PAUSE)));
            assert!(patience.after(status).is_some());
        }
        assert_eq!(patience.after(&Status::not_found("gone")), None);
    }

    const NOT_GRPC: &str = "grpc-status header missing, mapped from HTTP status code 404";
}
