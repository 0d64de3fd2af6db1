//! `longhaul reencrypt`: encrypts what is stored with the first key, so that former keys can be removed.

use std::sync::Arc;

use clap::Args;

use super::output;
use super::place::environment;
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, Overrides};
use crate::record::AnyRecord;
use crate::server::opening;
use crate::store::{OpenError, Record, Resealing, Sealed, Store};

#[derive(Debug, Args)]
pub(super) struct ReencryptArgs {
    /// The store: embedded:PATH, which no server has open, or redis://HOST:PORT
    #[arg(long, value_name = "STORE")]
    store: Option<String>,
    /// Settings file (TOML); see default.toml for every setting
    #[arg(long, value_name = "FILE")]
    config: Option<String>,
}

/// How many records ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ReencryptCounts {
    done: u64,
    needless: u64,
    unread: u64,
}

pub(super) async fn run(args: ReencryptArgs) -> anyhow::Result<()> {
    let overrides = Overrides { store: args.store, ..Overrides::default() };
    let config = Config::load(args.config.as_deref(), &environment(), &overrides)?;
    let clock: Arc<dyn Clock> = SystemClock::new();
    let opened = opening::open_sealed(&config, &clock).await.map_err(|error| match error {
        OpenError::Locked(_) => anyhow::anyhow!(
            "a server has {} open; stop it, run longhaul reencrypt, then start it again",
            config.store
        ),
        error => error.into(),
    })?;
    let Some(store) = opened else {
        anyhow::bail!(
            "there is no key to encrypt with; set encryption.key_file or encryption.keys"
        );
    };
    let result = reencrypt(&store).await;
    store.close().await;
    let ReencryptCounts { done, needless, unread } = result?;
    output::line(&format!(
        "{done} records were encrypted with the first key; {needless} were before"
    ));
    anyhow::ensure!(
        unread == 0,
        "{unread} records cannot be read, and are as they were: keep the former keys, or add the one that is missing"
    );
    Ok(())
}

/// Goes through all records. A run that was interrupted is taken up by another one, which passes over what is done.
async fn reencrypt(store: &Sealed) -> anyhow::Result<ReencryptCounts> {
    let mut counts = ReencryptCounts::default();
    for partition in store.keyspace().all() {
        let mut after = None;
        loop {
            let keys = store.keys(partition, after, KEYS_AT_ONCE).await?;
            let Some(last) = keys.last() else { break };
            after = Some(*last);
            for key in keys {
                let bodies = |record: &Record| {
                    let read = AnyRecord::read_at(store.keyspace(), key, record).ok()?;
                    Some(read.derived(key).bodies)
                };
                match store.reseal(key, &bodies).await? {
                    Resealing::Done => counts.done += 1,
                    Resealing::Needless => counts.needless += 1,
                    Resealing::Unread => counts.unread += 1,
                }
            }
        }
    }
    Ok(counts)
}

/// Keys that are listed in one call: 16 MiB.
const KEYS_AT_ONCE: usize = 1 << 20;
