//! `longhaul import`: reads an export into an empty store.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Args;

use super::gauge::Gauge;
use super::output;
use super::place::environment;
use crate::archive::{ExportHeader, ExportLines, Import, ImportState, Imported};
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, Overrides};
use crate::server::opening;

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// The export; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The store to make: embedded:PATH or redis://HOST:PORT
    #[arg(long, value_name = "STORE")]
    store: Option<String>,
    /// Settings file (TOML); see default.toml for every setting
    #[arg(long, value_name = "FILE")]
    config: Option<String>,
}

/// An export that is being read.
type Input = Box<dyn BufRead + Send>;

pub(super) async fn run(args: ImportArgs) -> anyhow::Result<()> {
    let overrides = Overrides { store: args.store, ..Overrides::default() };
    let config = Config::load(args.config.as_deref(), &environment(), &overrides)?;
    let (input, size) = input(&args.file)?;
    let mut lines = ExportLines::new(input);
    let header = lines.header()?;
    let origin = header.origin().ok_or_else(|| anyhow::anyhow!("the export has no identity"))?;
    output::note(&intention(&header, &config));
    let clock: Arc<dyn Clock> = SystemClock::new();
    let store = opening::open_for_import(&config, &clock, origin).await?;
    let state = Arc::<ImportState>::default();
    let import = Import { store: Arc::clone(&store), clock: Arc::clone(&clock), state };
    let imported = shown(&import, &*clock, lines, size).await;
    store.close().await;
    output::line(&report(&header, &imported?));
    Ok(())
}

/// The export, and its size if it is known.
fn input(path: &Path) -> anyhow::Result<(Input, Option<u64>)> {
    if path == Path::new("-") {
        return Ok((Box::new(BufReader::with_capacity(BUFFER, io::stdin())), None));
    }
    let failed = |error: io::Error| anyhow::anyhow!("{}: {error}", path.display());
    let file = File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    Ok((Box::new(BufReader::with_capacity(BUFFER, file)), Some(size)))
}

fn intention(header: &ExportHeader, config: &Config) -> String {
    let ExportHeader { keyspace, time, longhaul, .. } = header;
    format!(
        "importing keyspace {keyspace}, exported at {time} by longhaul {longhaul}, into {}",
        config.store
    )
}

fn report(header: &ExportHeader, imported: &Imported) -> String {
    let Imported { totals, found, unread, unreadable } = imported;
    let mut text = format!(
        "imported keyspace {}: {} records and {} payloads beside them, equal to the export",
        header.keyspace, totals.records, totals.bodies
    );
    for (count, what) in [
        (*found, "were written by an earlier, interrupted import"),
        (*unread, "are of a kind that this version does not know, and have no index entries"),
        (*unreadable, "were damaged in the store that was exported, and are missing"),
        (totals.lost_bodies, "payloads were lost in the store that was exported"),
    ] {
        if count > 0 {
            // Writing to a string cannot fail.
            let _ = write!(text, "; {count} {what}");
        }
    }
    text
}

/// Imports, and shows how far it is.
async fn shown(
    import: &Import,
    clock: &dyn Clock,
    lines: ExportLines<Input>,
    size: Option<u64>,
) -> anyhow::Result<Imported> {
    let state = Arc::clone(&import.state);
    let running = import.run(lines);
    tokio::pin!(running);
    let mut reading = size.map_or_else(
        || Some(Gauge::counting("records imported")),
        |size| Some(Gauge::towards(size, "importing")),
    );
    let mut verifying = None;
    loop {
        tokio::select! {
            imported = &mut running => return Ok(imported?),
            () = clock.sleep(TICK) => {}
        }
        let records = state.records.load(Ordering::Relaxed);
        let verified = state.verified.load(Ordering::Relaxed);
        if verified > 0 {
            reading = None;
            verifying.get_or_insert_with(|| Gauge::towards(records, "verifying")).at(verified);
        } else if let Some(gauge) = &reading {
            let bytes = state.bytes.load(Ordering::Relaxed);
            gauge.at_with(
                if size.is_some() { bytes } else { records },
                format!("{records} records"),
            );
        }
    }
}

const BUFFER: usize = 1 << 20;
const TICK: Duration = Duration::from_millis(200);
