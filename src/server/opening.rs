//! Opens the store that the settings name.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::lane;
use crate::clock::Clock;
use crate::config::{self, Config, StoreUrl};
use crate::record;
use crate::store::embedded::{self, EmbeddedStore};
use crate::store::redis::{self, RedisStore, RedisTls};
use crate::store::{OpenError, Origin, Sealed, SealingKeys, Store};
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

/// Opens the store with its encryption, if there is one and if it has keys.
///
/// # Errors
/// Says what is in the way and what to do.
pub(crate) async fn open_sealed(
    config: &Config,
    clock: &Arc<dyn Clock>,
) -> Result<Option<Arc<Sealed>>, OpenError> {
    let Some(keys) = sealing_keys(config)? else { return Ok(None) };
    let store = open_plain(config, clock, Purpose::Look).await?;
    Ok(Some(Sealed::new(store, keys)))
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
    let keys = sealing_keys(config)?;
    let store = open_plain(config, clock, purpose).await?;
    Ok(match keys {
        Some(keys) => Sealed::new(store, keys),
        None => store,
    })
}

fn sealing_keys(config: &Config) -> Result<Option<SealingKeys>, OpenError> {
    config.encryption.sealing_keys().map_err(|error| OpenError::Address(error.to_string()))
}

/// Opens the store below its encryption.
async fn open_plain(
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
    Ok(match &config.store {
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
            EmbeddedStore::open(options)?
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
                tls: redis_tls(&config.redis)?,
                ..redis::Options::new(url.clone())
            };
            RedisStore::open(options).await?
        }
    })
}

/// The certificates of connections to Redis.
fn redis_tls(settings: &config::Redis) -> Result<RedisTls, OpenError> {
    let read = |path: &Path| {
        std::fs::read(path)
            .map_err(|error| OpenError::Address(format!("cannot read {}: {error}", path.display())))
    };
    let given = |path: &Path| (!path.as_os_str().is_empty()).then(|| read(path)).transpose();
    let (ca, cert, key) =
        (given(&settings.tls_ca)?, given(&settings.tls_cert)?, given(&settings.tls_key)?);
    if cert.is_some() != key.is_some() {
        let why = "redis.tls_cert and redis.tls_key belong together; set both, or neither";
        return Err(OpenError::Address(why.to_owned()));
    }
    Ok(RedisTls { ca, identity: cert.zip(key) })
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
