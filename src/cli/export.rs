//! `longhaul export`: writes all records of a store as lines of JSON.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use super::connection::ServerArg;
use super::exit::Failure;
use super::gauge::Gauge;
use super::output;
use super::place::environment;
use crate::archive;
use crate::client::Client;
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, Overrides};
use crate::server::opening;
use crate::store::{OpenError, Store};

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    server: ServerArg,
    /// Read this store instead of asking a server: embedded:PATH, which no server has open, or redis://HOST:PORT
    #[arg(long, value_name = "STORE")]
    store: Option<String>,
    /// Read the store of this settings file (TOML) instead of asking a server
    #[arg(long, value_name = "FILE")]
    config: Option<String>,
    /// The file to write, which only you can read; by default standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl ExportArgs {
    pub(super) fn server(&self) -> &str {
        &self.server.address
    }
}

/// Parts of an export, in their order.
type Parts = BoxStream<'static, Result<Vec<u8>, Failure>>;

pub(super) async fn run(args: &ExportArgs) -> Result<(), Failure> {
    let opened = if args.store.is_some() || args.config.is_some() {
        Some(open(args.store.clone(), args.config.as_deref()).await?)
    } else {
        None
    };
    let parts = match &opened {
        Some(store) => of_store(Arc::clone(store)),
        None => of_server(args).await?,
    };
    let written = match &args.output {
        Some(path) if is_special(path) => to_special(parts, path).await,
        Some(path) => to_file(parts, path).await,
        None => write(parts, &mut io::stdout().lock()).await,
    };
    if let Some(store) = opened {
        store.close().await;
    }
    let lines = written?;
    output::note(&format!("exported all records, in {lines} lines"));
    Ok(())
}

async fn open(store: Option<String>, config: Option<&str>) -> anyhow::Result<Arc<dyn Store>> {
    let overrides = Overrides { store, ..Overrides::default() };
    let config = Config::load(config, &environment(), &overrides)?;
    let clock: Arc<dyn Clock> = SystemClock::new();
    opening::open_existing(&config, &clock).await.map_err(|error| match error {
        OpenError::Locked(_) => anyhow::anyhow!(
            "a server has {} open; export from it: longhaul export --server HOST:PORT",
            config.store
        ),
        error => error.into(),
    })
}

fn of_store(store: Arc<dyn Store>) -> Parts {
    let parts = archive::parts(store);
    parts.map(|part| part.map_err(|error| anyhow::Error::from(error).into())).boxed()
}

async fn of_server(args: &ExportArgs) -> Result<Parts, Failure> {
    let client = Client::connect(&args.server.address).await?;
    let parts = client.export_records().await?;
    Ok(parts.map(|part| Ok(part?.data)).boxed())
}

/// Whether it is there and is no file that could be replaced: a pipe, a device or a directory.
fn is_special(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| !found.is_file())
}

async fn to_special(parts: Parts, path: &Path) -> Result<u64, Failure> {
    let opened = File::options().write(true).open(path);
    let mut file = opened.map_err(|error| failed(path, &error))?;
    write(parts, &mut file).await
}

fn failed(what: &Path, error: &io::Error) -> anyhow::Error {
    anyhow::anyhow!("{}: {error}", what.display())
}

/// Writes a file. It has its name only when it is complete.
async fn to_file(parts: Parts, path: &Path) -> Result<u64, Failure> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    // It holds the secret of the keyspace, and payloads.
    let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&partial);
    let file = file.map_err(|error| failed(&partial, &error))?;
    let mut buffered = io::BufWriter::with_capacity(1 << 20, file);
    let lines = write(parts, &mut buffered).await?;
    let file = buffered.into_inner().map_err(|error| failed(&partial, error.error()))?;
    file.sync_all().map_err(|error| failed(&partial, &error))?;
    fs::rename(&partial, path).map_err(|error| failed(path, &error))?;
    Ok(lines)
}

/// Writes all parts, and returns the number of lines.
async fn write(mut parts: Parts, to: &mut impl Write) -> Result<u64, Failure> {
    let gauge = Gauge::counting("lines exported");
    let mut lines = 0_u64;
    while let Some(part) = parts.next().await {
        let part = part?;
        lines += part.split(|byte| *byte == b'\n').count() as u64 - 1;
        to.write_all(&part).map_err(|error| anyhow::anyhow!("cannot write the export: {error}"))?;
        gauge.at(lines);
    }
    to.flush().map_err(|error| anyhow::anyhow!("cannot write the export: {error}"))?;
    Ok(lines)
}
