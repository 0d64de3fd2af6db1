//! `longhaul upgrade`: raises the oldest format whose writers may write to a store.

use std::sync::Arc;

use clap::Args;

use super::output;
use super::place::environment;
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, Overrides, StoreUrl};
use crate::record::server::{self, ServerRecord};
use crate::record::{self, Kind};
use crate::server::opening;
use crate::store::{Entry, FORMAT, Index, Key, OpenError, Scan, Store, StoreError};

#[derive(Debug, Args)]
pub(super) struct UpgradeArgs {
    /// The store to upgrade: embedded:PATH or redis://HOST:PORT
    #[arg(long, value_name = "STORE")]
    store: Option<String>,
    /// Settings file (TOML); see default.toml for every setting
    #[arg(long, value_name = "FILE")]
    config: Option<String>,
    /// Upgrade only this keyspace
    #[arg(long, value_name = "ID")]
    keyspace: Option<String>,
    /// Say what would happen, and change nothing
    #[arg(long)]
    check: bool,
}

pub(super) async fn run(args: UpgradeArgs) -> anyhow::Result<()> {
    let overrides =
        Overrides { store: args.store, keyspace: args.keyspace, ..Overrides::default() };
    let config = Config::load(args.config.as_deref(), &environment(), &overrides)?;
    let clock: Arc<dyn Clock> = SystemClock::new();
    let store = opening::open_existing(&config, &clock)
        .await
        .map_err(|error| explain(&config.store, error))?;
    let result = upgrade(&*store, &config.store, args.check).await;
    store.close().await;
    result
}

async fn upgrade(store: &dyn Store, place: &StoreUrl, check: bool) -> anyhow::Result<()> {
    let servers = match place {
        // This process has the directory open, so no server has. One that was killed may have left its record.
        StoreUrl::Embedded(_) => Vec::new(),
        StoreUrl::Redis(_) => live_servers(store).await?,
    };
    output::line(&format!("keyspace {}", store.keyspace().id()));
    for line in plan(store.keyspace().min_writer(), FORMAT, &servers) {
        output::line(&line);
    }
    if !check && raise(store, FORMAT, &servers).await? {
        output::line(&format!("raised to format {FORMAT}"));
    }
    Ok(())
}

/// Raises the minimum unless a running server would stop; returns whether there was anything to raise.
async fn raise(store: &dyn Store, target: u32, servers: &[ServerRecord]) -> anyhow::Result<bool> {
    if store.keyspace().min_writer() >= target {
        return Ok(false);
    }
    let older = servers.iter().filter(|server| server.format < target).count();
    anyhow::ensure!(
        older == 0,
        "not upgraded: running servers of an older version: {older}; replace or stop them, then upgrade again"
    );
    store.raise_min_writer(target).await?;
    Ok(true)
}

/// What an upgrade to `target` means, line by line.
fn plan(min_writer: u32, target: u32, servers: &[ServerRecord]) -> Vec<String> {
    let mut lines = vec![
        format!("the store accepts writers of format {min_writer} and newer"),
        format!("this longhaul, {}, writes format {target}", env!("CARGO_PKG_VERSION")),
    ];
    let raises = min_writer < target;
    for server in servers {
        let name = server.name();
        let then = if raises && server.format < target {
            "; replace or stop it before the upgrade"
        } else {
            ""
        };
        lines.push(match server.format {
            0 => format!("{name} does not say which format it writes{then}"),
            format => format!("{name}, {}, writes format {format}{then}", server.version),
        });
    }
    lines.push(if raises {
        format!(
            "an upgrade raises this to format {target}; an older longhaul then no longer starts on this store"
        )
    } else {
        "there is nothing to upgrade".to_owned()
    });
    lines
}

async fn live_servers(store: &dyn Store) -> Result<Vec<ServerRecord>, StoreError> {
    let scan = Scan::first(Index::new(server::SERVERS), MOST).within(server::PARTITION);
    let keys: Vec<Key> = store.scan(scan).await?.iter().filter_map(Entry::key).collect();
    let now = store.now(server::PARTITION);
    let found = keys.iter().zip(store.get(&keys).await?).filter_map(|(key, record)| {
        let record = record?;
        let lives = now.since(server::last_beat(record.revision)) < server::STALE;
        lives.then(|| match record::read::<ServerRecord>(&record) {
            Ok(before) => before.record,
            Err(_) => ServerRecord::unknown(*key),
        })
    });
    Ok(found.collect())
}

fn explain(place: &StoreUrl, error: OpenError) -> anyhow::Error {
    match error {
        OpenError::Locked(_) => anyhow::anyhow!(
            "a server has {place} open; stop it, run longhaul upgrade, then start the new version"
        ),
        error => error.into(),
    }
}

/// More servers than one store has.
const MOST: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ManualClock, Timestamp};
    use crate::record::server::ServerId;
    use crate::store::Keyspace;
    use crate::store::memory::MemoryStore;

    fn server(id: u8, format: u32) -> ServerRecord {
        let known = ServerRecord::unknown(ServerId([id; 8]).key());
        ServerRecord { version: "0.1.0".to_owned(), format, ..known }
    }

    #[test]
    fn a_plan_names_the_servers_that_would_stop() {
        let lines = plan(1, 2, &[server(1, 1), server(2, 2), server(3, 0)]);
        assert_eq!(lines[0], "the store accepts writers of format 1 and newer");
        assert_eq!(
            lines[2],
            "server 0101010101010101, 0.1.0, writes format 1; replace or stop it before the upgrade"
        );
        assert_eq!(lines[3], "server 0202020202020202, 0.1.0, writes format 2");
        assert!(lines[4].starts_with("server 0303030303030303 does not say"), "{}", lines[4]);
        assert!(lines[4].ends_with("before the upgrade"), "{}", lines[4]);
        assert!(lines[5].contains("raises this to format 2"), "{}", lines[5]);
    }

    #[tokio::test]
    async fn no_upgrade_stops_a_running_server_of_an_older_version() {
        let clock = ManualClock::new(Timestamp::from_micros(1_700_000_000_000_000));
        let store = MemoryStore::new(Keyspace::generate(1), clock);
        let (old, target) = (server(1, FORMAT), FORMAT + 1);
        let servers = [old, server(2, target), server(3, 0)];
        let refused = raise(&*store, target, &servers).await.expect_err("two would stop");
        assert!(refused.to_string().contains("an older version: 2;"), "{refused}");
        assert_eq!(store.keyspace().min_writer(), FORMAT);

        assert!(raise(&*store, target, &servers[1..2]).await.expect("raised"));
        assert_eq!(store.keyspace().min_writer(), target);
        assert!(!raise(&*store, target, &servers).await.expect("nothing to raise"));
    }

    #[test]
    fn where_the_store_is_of_this_format_there_is_nothing_to_upgrade() {
        let lines = plan(1, 1, &[server(1, 1)]);
        assert_eq!(lines.last().map(String::as_str), Some("there is nothing to upgrade"));
        assert_eq!(lines[2], "server 0101010101010101, 0.1.0, writes format 1");
    }
}
