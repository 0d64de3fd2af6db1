//! Where a server listens and stores, and the settings in the environment.

use std::collections::BTreeMap;

use clap::Args;

use super::connection::TypesArg;
use crate::config::Overrides;

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

/// The variables that are text.
pub(super) fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}
