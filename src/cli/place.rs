//! Where a server listens and stores, and the settings in the environment.

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::Args;

use super::connection::TypesArg;
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, Overrides};
use crate::server::opening;
use crate::store::{OpenError, Store};

/// Where to listen, and where to store.
#[derive(Debug, Args)]
pub(super) struct PlaceArgs {
    /// The address to listen on: an address or a name of this machine [default: 127.0.0.1:50051]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// The store: embedded:PATH or redis://HOST:PORT
    #[arg(long, value_name = "STORE")]
    store: Option<String>,
    #[command(flatten)]
    types: TypesArg,
}

impl PlaceArgs {
    /// The settings that these arguments change.
    pub(super) fn overrides(&self) -> Overrides {
        Overrides {
            listen: self.listen.clone(),
            store: self.store.clone(),
            descriptor_sets: self.types.files.clone(),
            ..Overrides::default()
        }
    }
}

/// A store to use instead of a server.
#[derive(Debug, Args)]
pub(super) struct StoreArg {
    /// Use this store instead of asking a server: embedded:PATH, which no server has open, or redis://HOST:PORT
    #[arg(long, value_name = "STORE", global = true)]
    store: Option<String>,
    /// Use the store of this settings file (TOML) instead of asking a server
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<String>,
}

impl StoreArg {
    /// Opens the store, if one is named.
    pub(super) async fn open(&self) -> anyhow::Result<Option<Arc<dyn Store>>> {
        self.opened(false).await
    }

    /// Opens the store, if one is named; makes it if there is none.
    pub(super) async fn open_or_make(&self) -> anyhow::Result<Option<Arc<dyn Store>>> {
        self.opened(true).await
    }

    async fn opened(&self, make: bool) -> anyhow::Result<Option<Arc<dyn Store>>> {
        if self.store.is_none() && self.config.is_none() {
            return Ok(None);
        }
        let overrides = Overrides { store: self.store.clone(), ..Overrides::default() };
        let config = Config::load(self.config.as_deref(), &environment(), &overrides)?;
        let clock: Arc<dyn Clock> = SystemClock::new();
        let opened = if make {
            opening::open(&config, &clock).await
        } else {
            opening::open_existing(&config, &clock).await
        };
        opened.map(Some).map_err(|error| match error {
            OpenError::Locked(_) => anyhow::anyhow!(
                "a server has {} open; ask it: name it with --server HOST:PORT, without --store",
                config.store
            ),
            error => error.into(),
        })
    }
}

/// The variables that are text.
pub(super) fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}
