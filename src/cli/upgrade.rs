//! `longhaul upgrade`: raises the oldest format whose writers may write to a store.

use std::sync::Arc;

use clap::Args;

use super::output;
use super::place::environment;
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, Overrides};
use crate::record::server::{self, ServerRecord};
use crate::record::{self, Kind};
use crate::server::opening;
use crate::store::{Entry, FORMAT, Index, Key, OpenError, Scan, Store};

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
    let store = opening::open_existing(&config, &clock).await.map_err(explain)?;
    let result = upgrade(&*store, args.check).await;
    store.close().await;
    result
}

async fn upgrade(store: &dyn Store, check: bool) -> anyhow::Result<()> {
    let keyspace = store.keyspace();
    output::line(&format!("keyspace {}", keyspace.id()));
    let plan = plan(keyspace.min_writer(), FORMAT, &live_servers(store).await?);
    for line in &plan {
        output::line(line);
    }
    if !check && keyspace.min_writer() < FORMAT {
        store.raise_min_writer(FORMAT).await?;
        output::line(&format!("raised to format {FORMAT}"));
    }
    Ok(())
}

/// What an upgrade to `target` means, line by line.
fn plan(min_writer: u32, target: u32, servers: &[ServerRecord]) -> Vec<String> {
    let mut lines = vec![
        format!("the store asks for writers of at least format {min_writer}"),
        format!("this longhaul, {}, writes format {target}", env!("CARGO_PKG_VERSION")),
    ];
    let raises = min_writer < target;
    for server in servers {
        let name = server.name();
        let then = if raises && server.format < target {
            ": it would refuse writes and not start again; replace it first"
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
            "an upgrade raises the minimum to format {target}; longhaul of an older format then no longer starts here"
        )
    } else {
        "there is nothing to upgrade".to_owned()
    });
    lines
}

async fn live_servers(store: &dyn Store) -> anyhow::Result<Vec<ServerRecord>> {
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

fn explain(error: OpenError) -> anyhow::Error {
    match error {
        OpenError::Locked(text) => {
            anyhow::anyhow!("{text}; stop its server first, then upgrade, then start the new one")
        }
        error => error.into(),
    }
}

/// More servers than one store has.
const MOST: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::server::ServerId;

    fn server(id: u8, format: u32) -> ServerRecord {
        ServerRecord { id: ServerId([id; 8]), version: "0.1.0".to_owned(), format }
    }

    #[test]
    fn a_plan_names_the_servers_that_would_stop() {
        let lines = plan(1, 2, &[server(1, 1), server(2, 2), server(3, 0)]);
        assert_eq!(lines[0], "the store asks for writers of at least format 1");
        assert_eq!(
            lines[2],
            "server 0101010101010101, 0.1.0, writes format 1: it would refuse writes and not start again; replace it first"
        );
        assert_eq!(lines[3], "server 0202020202020202, 0.1.0, writes format 2");
        assert!(lines[4].starts_with("server 0303030303030303 does not say"), "{}", lines[4]);
        assert!(lines[4].ends_with("replace it first"), "{}", lines[4]);
        assert!(lines[5].contains("raises the minimum to format 2"), "{}", lines[5]);
    }

    #[test]
    fn where_the_store_is_of_this_format_there_is_nothing_to_upgrade() {
        let lines = plan(1, 1, &[server(1, 1)]);
        assert_eq!(lines.last().map(String::as_str), Some("there is nothing to upgrade"));
        assert_eq!(lines[2], "server 0101010101010101, 0.1.0, writes format 1");
    }
}
