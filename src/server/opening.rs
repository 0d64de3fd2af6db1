//! Opens the store that the settings name.

use std::sync::Arc;
use std::time::Duration;

use super::lane;
use crate::clock::Clock;
use crate::config::{Config, StoreUrl};
use crate::record;
use crate::store::embedded::{self, EmbeddedStore};
use crate::store::redis::{self, RedisStore};
use crate::store::{OpenError, Origin, Store};
use crate::throttle::Throttle;

/// Opens the store.
///
/// # Errors
/// Says what is in the way and what to do.
pub(crate) async fn open(
    config: &Config,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<dyn Store>, OpenError> {
    open_as(config, clock, Purpose::Serve).await
}

/// Opens the store, if there is one.
///
/// # Errors
/// Says what is in the way and what to do.
pub(crate) async fn open_existing(
    config: &Config,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<dyn Store>, OpenError> {
    open_as(config, clock, Purpose::Look).await
}

/// Makes a store for the copy of another, or opens one whose copying was interrupted.
///
/// # Errors
/// Says what is in the way and what to do.
pub(crate) async fn open_for_import(
    config: &Config,
    clock: &Arc<dyn Clock>,
    origin: Origin,
) -> Result<Arc<dyn Store>, OpenError> {
    open_as(config, clock, Purpose::Import(origin)).await
}

/// What a store is opened for.
enum Purpose {
    /// Makes one if there is none.
    Serve,
    Look,
    Import(Origin),
}

async fn open_as(
    config: &Config,
    clock: &Arc<dyn Clock>,
    purpose: Purpose,
) -> Result<Arc<dyn Store>, OpenError> {
    let (create, import) = match purpose {
        Purpose::Serve => (true, None),
        Purpose::Look => (false, None),
        Purpose::Import(origin) => (true, Some(origin)),
    };
    // An import makes the keyspace that it comes from, and no other.
    let keyspace = config.keyspace.filter(|_| import.is_none());
    match &config.store {
        StoreUrl::Embedded(path) => {
            let options = embedded::Options {
                path: path.clone(),
                layout: record::layout(),
                create,
                keyspace,
                import,
                accept_loss: config.embedded.accept_loss,
                reserve_bytes: config.embedded.reserve_mib << 20,
                clock: clock.clone(),
                stopwatch: clock.clone(),
            };
            Ok(EmbeddedStore::open(options)?)
        }
        StoreUrl::Redis(url) => {
            let options = redis::Options {
                prefix: config.redis.prefix.clone(),
                create,
                keyspace,
                import,
                durability: config.redis.durability,
                response_timeout: config.redis.response_timeout,
                clock: clock.clone(),
                lane: lane::current,
                ..redis::Options::new(url.clone())
            };
            Ok(RedisStore::open(options).await?)
        }
    }
}

/// Opens the store, and waits while it is not reachable.
///
/// # Errors
/// Where waiting would not help.
pub(crate) async fn wait_for(
    config: &Config,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<dyn Store>, OpenError> {
    let throttle = Throttle::new(Arc::clone(clock));
    loop {
        match open(config, clock).await {
            Err(error) if error.passes() => {
                if let Some(left_out) = throttle.admit("waiting") {
                    tracing::warn!(%error, left_out, "waiting for the store");
                }
                clock.sleep(PAUSE).await;
            }
            opened => return opened,
        }
    }
}

const PAUSE: Duration = Duration::from_secs(1);
