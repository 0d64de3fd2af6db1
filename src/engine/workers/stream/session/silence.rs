//! Whether a silence is that of the worker, of the store, or of this server.

use std::time::Duration;

use super::StreamSession;
use crate::engine::error::{Error, Reason, Result};
use crate::engine::workers::stream::patience::PAUSE;

impl StreamSession<'_> {
    /// Periodic checks: silence on either side, and renewal of leases in the store.
    pub(super) fn tick(&mut self) -> Result<()> {
        let now = self.rooms.context.clock.elapsed();
        let duration = self.hello.duration;
        self.cut_off_since = match self.cut_off_since {
            _ if !self.holdings.is_cut_off() => None,
            since => since.or(Some(now)),
        };
        let waits_since = [self.handling_since, self.cut_off_since].into_iter().flatten().min();
        if waits_since.is_some_and(|since| now.saturating_sub(since) >= duration) {
            let text = "the store does not accept the calls; send them again on a new stream";
            return Err(Error::new(Reason::StoreUnavailable, text).retry_after(PAUSE));
        }
        let silent = self.silent_for(now);
        if silent >= duration {
            let message = format!(
                "this stream was silent for {} s, as long as a lease lasts",
                duration.as_secs_f64()
            );
            return Err(Error::new(Reason::WorkerLost, message).retry_after(PAUSE));
        }
        if now.saturating_sub(self.spoke) >= self.heartbeat() {
            self.ready.owes = true;
        }
        self.renew(self.holdings.renewals(duration, silent));
        Ok(())
    }

    /// How long the worker has been silent, excluding the time in which this server stood still or
    /// waited for the store, since nothing is read then.
    fn silent_for(&self, now: Duration) -> Duration {
        let resumed = self.rooms.context.standstill.resumed().unwrap_or_default();
        let listened_until = self.handling_since.unwrap_or(now);
        listened_until.saturating_sub(self.heard.max(resumed))
    }
}
