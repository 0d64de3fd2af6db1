//! What every room of the engine uses: store, clock, background tasks, counters, and the draining flag.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::error::{Error, Reason};
use super::lately::Lately;
use super::metered::Metered;
use super::metrics::Metrics;
use super::settings::Settings;
use super::standstill::Standstill;
use super::tasks::Tasks;
use crate::clock::{Clock, Timestamp};
use crate::operation::name::Name;
use crate::store::{Key, Partition, Store};
use crate::throttle::Throttle;

/// Shared by all rooms of one engine.
pub(super) struct Context {
    /// The store; its trouble is counted and logged.
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) settings: Settings,
    pub(super) metrics: Arc<Metrics>,
    pub(super) standstill: Arc<Standstill>,
    pub(super) tasks: Tasks,
    pub(super) lately: Lately,
    throttle: Arc<Throttle>,
    draining: CancellationToken,
}

impl Context {
    pub(super) fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, settings: Settings) -> Self {
        let metrics = Arc::new(Metrics::new());
        let throttle = Arc::new(Throttle::new(Arc::clone(&clock)));
        let standstill = Arc::new(Standstill::new(Arc::clone(&store), Arc::clone(&clock)));
        let store = Arc::new(Metered {
            store,
            metrics: Arc::clone(&metrics),
            throttle: Arc::clone(&throttle),
            standstill: Arc::clone(&standstill),
        });
        Self {
            store,
            clock,
            settings,
            metrics,
            standstill,
            tasks: Tasks::default(),
            lately: Lately::default(),
            throttle,
            draining: CancellationToken::new(),
        }
    }

    /// The key of the operation of that name.
    pub(super) fn key(&self, name: &Name) -> Key {
        self.store.keyspace().key(name.as_str())
    }

    pub(super) fn partition(&self, key: Key) -> Partition {
        self.store.keyspace().partition(key)
    }

    /// The latest time of all partitions.
    pub(super) fn latest(&self) -> Timestamp {
        let times = self.store.keyspace().all().map(|partition| self.store.now(partition));
        times.max().unwrap_or_default()
    }

    /// The store's time for the record of that key.
    pub(super) fn now(&self, key: Key) -> Timestamp {
        self.store.now(self.partition(key))
    }

    /// Sleeps on the engine's clock.
    pub(super) async fn sleep(&self, duration: Duration) {
        self.clock.sleep(duration).await;
    }

    pub(super) fn drain(&self) {
        self.draining.cancel();
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Resolves once the server drains.
    pub(super) async fn drained(&self) {
        self.draining.cancelled().await;
    }

    /// Logs that background work has failed. Where that is for the store, [`Metered`] has logged it already.
    pub(super) fn log_failure(&self, what: &'static str, error: &Error) {
        if error.reason == Reason::StoreUnavailable {
            tracing::debug!(%error, "{what}");
        } else if let Some(left_out) = self.throttle.admit(what) {
            tracing::warn!(%error, left_out, "{what}");
        }
    }
}
