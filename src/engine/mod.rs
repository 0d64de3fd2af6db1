//! The verbs: read, decide, commit, hint. One way in for callers, workers and background agents alike.
//!
//! The engine knows what an operation is and what a store is, and nothing of how requests arrive.

mod caller;
mod dispatch;
mod due;
mod error;
mod metered;
mod metrics;
mod operations;
mod ranks;
mod settings;
mod steady;
pub mod tasks;
#[cfg(test)]
mod tests;
mod transact;
mod watching;
pub mod workers;

use std::sync::Arc;

use crate::clock::Clock;
pub use crate::record::due::Agent::{self, Janitor, Reaper, Scheduler};
use crate::store::{Key, Partition, Store};
use crate::throttle::Throttle;
use crate::types::Registry;

pub use self::caller::{Caller, Permission, Policy};
pub use self::dispatch::batch::{LeaseBatch, Leased};
pub use self::due::agents::Sweep;
pub use self::error::{Error, Reason, Result};
pub use self::operations::commands::Done;
pub use self::operations::pages::{ListPage, ListQuery, Listed};
pub use self::operations::starts::Started;
pub use self::operations::view::View;
pub use self::ranks::Heartbeat;
pub use self::settings::Settings;
pub use self::watching::watch::{
    EventKind, ResumeToken, Watch, WatchEvent, WatchFrom, WatchOptions,
};
pub use self::workers::work::LeaseRequest;

use self::dispatch::dispatcher::Dispatchers;
use self::due::DueEntries;
use self::metered::Metered;
use self::metrics::Metrics;
use self::operations::reading::Unreadable;
use self::ranks::Ranks;
use self::steady::Steady;
use self::tasks::Tasks;
use self::watching::hub::Hub;
use self::workers::held::Held;
use self::workers::pace::Pace;
use self::workers::recent::Recent;

/// The engine of one server. Clones are the same engine.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    policy: Policy,
    hub: Hub,
    metrics: Arc<Metrics>,
    throttle: Arc<Throttle>,
    dispatchers: Dispatchers,
    held: Held,
    settings: Settings,
    pace: Pace,
    ranks: Arc<Ranks>,
    due: DueEntries,
    recent: Recent,
    lately: operations::lately::Lately,
    unreadable: Arc<Unreadable>,
    steady: Arc<Steady>,
    tasks: Tasks,
    draining: tokio_util::sync::CancellationToken,
}

impl Engine {
    /// An engine on `store`, its background agents running.
    pub fn start(store: Arc<dyn Store>, clock: Arc<dyn Clock>, settings: Settings) -> Self {
        let engine = Self::with(store, clock, settings);
        engine.run_beat();
        engine.run_agents();
        engine.run_heartbeat();
        engine
    }

    /// An engine whose agents run only when a test calls them.
    pub fn without_agents(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        Self::with(store, clock, Settings::default())
    }

    fn with(store: Arc<dyn Store>, clock: Arc<dyn Clock>, settings: Settings) -> Self {
        let partitions = store.keyspace().partitions();
        let hub = Hub::new(partitions);
        let metrics = Arc::new(Metrics::new());
        let throttle = Arc::new(Throttle::new(Arc::clone(&clock)));
        let steady = Arc::new(Steady::new(Arc::clone(&clock), partitions));
        let store: Arc<dyn Store> = Arc::new(Metered {
            store,
            metrics: metrics.clone(),
            throttle: Arc::clone(&throttle),
            steady: Arc::clone(&steady),
        });
        let (ranks, unreadable) = (Arc::new(Ranks::new(partitions)), Arc::<Unreadable>::default());
        let due = DueEntries::new(
            Arc::clone(&store),
            Arc::clone(&ranks),
            Arc::clone(&steady),
            Arc::clone(&unreadable),
        );
        let engine = Self {
            inner: Arc::new(Inner {
                store,
                clock,
                policy: Policy::default(),
                hub,
                metrics,
                throttle,
                dispatchers: Dispatchers::default(),
                held: Held::default(),
                settings,
                pace: Pace::default(),
                ranks,
                due,
                recent: Recent::default(),
                lately: operations::lately::Lately::default(),
                unreadable,
                steady,
                tasks: Tasks::default(),
                draining: tokio_util::sync::CancellationToken::new(),
            }),
        };
        engine.follow_feed();
        engine.run_pace();
        engine
    }

    /// The store below.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.inner.store
    }

    /// The clock that waits are counted by.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.clock
    }

    /// The message types that are known.
    pub fn types(&self) -> &Registry {
        &self.inner.settings.types
    }

    /// Stops leasing and ends waits and watches, politely; calls that run are finished.
    pub fn drain(&self) {
        self.inner.draining.cancel();
    }

    /// Whether [`Self::drain`] was called.
    pub fn is_draining(&self) -> bool {
        self.inner.draining.is_cancelled()
    }

    /// Resolves once [`Self::drain`] is called.
    pub async fn drained(&self) {
        self.inner.draining.cancelled().await;
    }

    /// Ends the background work, then closes the store.
    pub async fn stop(&self) {
        self.drain();
        self.inner.tasks.stop().await;
        self.flush_all_progress().await;
        self.take_leave().await;
        self.inner.store.close().await;
    }

    /// Says that background work has failed. Where it is for the store, [`Metered`] says so for all.
    fn hampered(&self, what: &'static str, error: &Error) {
        if error.reason == Reason::StoreUnavailable {
            tracing::debug!(%error, "{what}");
        } else if let Some(left_out) = self.inner.throttle.admit(what) {
            tracing::warn!(%error, left_out, "{what}");
        }
    }

    fn partition(&self, key: Key) -> Partition {
        self.inner.store.keyspace().partition(key)
    }

    fn key(&self, name: &crate::operation::name::Name) -> Key {
        self.inner.store.keyspace().key(name.as_str())
    }
}

/// So many random bytes, for tokens and nonces.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    for chunk in bytes.chunks_mut(8) {
        // A version-4 UUID fixes six of its first 80 bits; the last eight bytes hold 62 random ones.
        chunk.copy_from_slice(&uuid::Uuid::new_v4().as_bytes()[16 - chunk.len()..]);
    }
    bytes
}
