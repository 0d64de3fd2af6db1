//! Waiting for the end of an operation.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::error::Result;
use crate::engine::reading::view::View;
use crate::engine::watching::hub::{Hub, named};
use crate::limits::MAX_WAIT;
use crate::operation::name::Name;

impl Hub {
    /// The operation once it is done, or as it is when the time is up: `timeout`, five minutes, or the server's end.
    pub(in crate::engine) async fn wait(
        self: &Arc<Self>,
        name: &Name,
        timeout: Duration,
    ) -> Result<Arc<View>> {
        self.wait_until(name, timeout, |view| view.published.done).await
    }

    /// The same, once `is_there` holds.
    pub(in crate::engine) async fn wait_until(
        self: &Arc<Self>,
        name: &Name,
        timeout: Duration,
        is_there: impl Fn(&View) -> bool + Send + Sync,
    ) -> Result<Arc<View>> {
        let key = self.context.key(name);
        let mut interest = self.follow(key).await?;
        let done = async {
            let known = interest.newest.wait_for(|known| {
                known
                    .as_ref()
                    .is_some_and(|known| known.state.as_ref().map_or(true, |view| is_there(view)))
            });
            known.await.ok().and_then(|known| known.clone())
        };
        let ended = tokio::select! {
            biased;
            ended = done => ended,
            () = self.context.sleep(timeout.min(MAX_WAIT)) => None,
            () = self.context.drained() => None,
            error = self.context.standstill.store_lost(self.context.partition(key)) => return Err(error),
        };
        let newest = ended.or_else(|| interest.newest.borrow().clone());
        match newest {
            Some(sighting) => sighting.state.map_err(|error| named(name, error)),
            None => self.reader.view(name).await,
        }
    }
}
