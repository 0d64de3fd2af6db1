//! Reads an export into an empty store, and checks the result.
//!
//! A record is written only if there is none, so an import that was interrupted is repeated from its first line: what is there
//! already is compared and left alone.

use std::io::BufRead;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::line::{CopiedRecord, ExportedRecord, Totals};
use super::reader::{ExportLines, ExportPiece, UnreadableLine};
use super::walk::{StoreWalk, WalkStep};
use crate::clock::Clock;
use crate::record::{AnyRecord, copy_set};
use crate::store::{CommitError, Key, Keyspace, Record, Store, StoreError, WriteSet};

/// Why an import did not come to its end. What was written stays, and the same import can be repeated.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The export.
    #[error(transparent)]
    Line(#[from] UnreadableLine),
    /// A record of it.
    #[error("line {line} of the export, {name}: {what}")]
    Record {
        /// The line.
        line: u64,
        /// The record.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// The store.
    #[error("{0}; repeat the same command to continue")]
    Store(#[from] StoreError),
    /// The copy is not equal.
    #[error(
        "the copy is not equal to the export: it has {found} records where the export has {wanted}, or one of them differs; remove it and import again"
    )]
    Differs {
        /// Records of the copy.
        found: u64,
        /// Records of the export.
        wanted: u64,
    },
}

/// How far an import is; read by those who show it.
#[derive(Debug, Default)]
pub struct ImportState {
    /// Bytes of the export that were read.
    pub bytes: AtomicU64,
    /// Records that are in the store.
    pub records: AtomicU64,
    /// Records that were compared at the end.
    pub verified: AtomicU64,
}

/// The result of an import.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// What the copy holds.
    pub totals: Totals,
    /// Records that an earlier, interrupted import had written.
    pub found: u64,
    /// Records that this version cannot read; they were copied byte for byte, without index entries.
    pub unread: u64,
    /// Records that the export could not copy.
    pub unreadable: u64,
}

/// An import.
pub struct Import {
    /// The store that it writes to.
    pub store: Arc<dyn Store>,
    /// Waits between attempts.
    pub clock: Arc<dyn Clock>,
    /// How far it is.
    pub state: Arc<ImportState>,
}

/// A record that is ready to be written.
pub(super) struct PlannedCopy {
    pub(super) line: u64,
    pub(super) name: String,
    pub(super) key: Key,
    pub(super) record: Record,
    pub(super) set: WriteSet,
    /// Whether this version can read it.
    pub(super) is_read: bool,
}

/// Records of a batch, and how many bytes of the export were read up to its end.
pub(super) type Batch = (Vec<PlannedCopy>, u64);

impl Import {
    /// Imports all lines behind the header, checks the copy, and opens it to servers.
    ///
    /// # Errors
    /// [`ImportError`].
    pub async fn run<R: BufRead + Send + 'static>(
        &self,
        lines: ExportLines<R>,
    ) -> Result<Imported, ImportError> {
        let read =
            |keyspace: &Keyspace, sender: &mpsc::Sender<Batch>| read(lines, keyspace, sender);
        let (mut imported, (wanted, unreadable)) = self.take(read).await?;
        imported.unreadable = unreadable;
        imported.totals = self.verify(wanted).await?;
        self.store.finish_import().await?;
        Ok(imported)
    }

    /// Writes the batches that `produce` sends from a thread of its own.
    pub(super) async fn take<T: Send + 'static>(
        &self,
        produce: impl FnOnce(&Keyspace, &mpsc::Sender<Batch>) -> Result<T, ImportError> + Send + 'static,
    ) -> Result<(Imported, T), ImportError> {
        let (sender, mut batches) = mpsc::channel(BATCHES);
        let keyspace = self.store.keyspace().clone();
        let producing = spawn_blocking(move || produce(&keyspace, &sender));
        let mut imported = Imported::default();
        while let Some(batch) = batches.recv().await {
            self.write(batch, &mut imported).await?;
        }
        let produced = producing.await.map_err(|error| StoreError::Away(error.to_string()))?;
        Ok((imported, produced?))
    }

    /// Writes a batch; what the store did not answer is tried again for a while.
    async fn write(
        &self,
        (mut batch, bytes): Batch,
        imported: &mut Imported,
    ) -> Result<(), ImportError> {
        let began = self.clock.elapsed();
        imported.unread += batch.iter().filter(|copy| !copy.is_read).count() as u64;
        let all = batch.len() as u64;
        while !batch.is_empty() {
            let sets = batch.iter().map(|copy| copy.set.clone()).collect();
            let outcomes = self.store.commit(sets).await;
            let (mut there, mut again, mut trouble) = (Vec::new(), Vec::new(), None);
            for (copy, outcome) in batch.into_iter().zip(outcomes) {
                match outcome {
                    Ok(_) => {}
                    Err(CommitError::Conflict) => there.push(copy),
                    Err(error) => {
                        trouble = Some(trouble_of(&copy, &error));
                        again.push(copy);
                    }
                }
            }
            self.compare(&there).await?;
            imported.found += there.len() as u64;
            batch = again;
            if let Some(trouble) = trouble {
                if self.clock.elapsed().saturating_sub(began) >= PATIENCE {
                    return Err(trouble);
                }
                self.clock.sleep(PAUSE).await;
            }
        }
        self.state.records.fetch_add(all, Ordering::Relaxed);
        self.state.bytes.store(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Fails unless the records that are there already are equal.
    async fn compare(&self, copies: &[PlannedCopy]) -> Result<(), ImportError> {
        if copies.is_empty() {
            return Ok(());
        }
        let keys: Vec<Key> = copies.iter().map(|copy| copy.key).collect();
        for (copy, found) in copies.iter().zip(self.store.get(&keys).await?) {
            let stamps = |record: &Record| (record.visible_revision, record.fencing_number);
            let same = found.is_some_and(|found| {
                stamps(&found) == stamps(&copy.record) && found.value == copy.record.value
            });
            if !same {
                return Err(copy.wrong("the store has another record of that name already"));
            }
        }
        Ok(())
    }

    /// Reads the copy, and compares it with the totals of the export.
    async fn verify(&self, wanted: Totals) -> Result<Totals, ImportError> {
        let (mut walk, mut found) = (StoreWalk::new(Arc::clone(&self.store)), Totals::default());
        while let Some(step) = walk.next().await? {
            if let WalkStep::Record(copied, _) = step {
                found.add(&copied);
                self.state.verified.store(found.records, Ordering::Relaxed);
            }
        }
        if !found.equals(&wanted) {
            return Err(ImportError::Differs { found: found.records, wanted: wanted.records });
        }
        Ok(found)
    }
}

impl PlannedCopy {
    fn wrong(&self, what: &str) -> ImportError {
        ImportError::Record { line: self.line, name: self.name.clone(), what: what.to_owned() }
    }

    /// Plans the write of a record.
    pub(super) fn of(keyspace: &Keyspace, line: u64, name: String, copied: CopiedRecord) -> Self {
        let CopiedRecord { key, record, bodies } = copied;
        let derived = AnyRecord::read_at(keyspace, key, &record).ok();
        let derived = derived.map(|record| record.derived(key));
        let bodies = bodies.into_iter().filter_map(|(key, body)| Some((key, body?))).collect();
        let is_read = derived.is_some();
        let set = copy_set(keyspace, key, &record, bodies, derived);
        Self { line, name, key, record, set, is_read }
    }

    /// Approximate size.
    pub(super) fn size(&self) -> usize {
        self.record.value.len()
            + self.set.body_puts.iter().map(|(_, body)| body.len()).sum::<usize>()
    }
}

fn trouble_of(copy: &PlannedCopy, error: &CommitError) -> ImportError {
    match error {
        CommitError::Early => copy.wrong(
            "its last change is in the future of the store's clock; correct the clock, then repeat the same command",
        ),
        CommitError::Unavailable(error) => ImportError::Store(error.clone()),
        CommitError::Conflict => copy.wrong("the store has another record of that name already"),
    }
}

/// Reads the lines and plans what to write, on a thread of its own. Returns the totals that the export ends with, and how many
/// records it could not copy.
fn read<R: BufRead>(
    mut lines: ExportLines<R>,
    keyspace: &Keyspace,
    sender: &mpsc::Sender<Batch>,
) -> Result<(Totals, u64), ImportError> {
    let (mut batch, mut size, mut unreadable) = (Vec::new(), 0, 0);
    let end = loop {
        match lines.next()? {
            ExportPiece::Record(line, record) => {
                let copy = planned(keyspace, line, &record)?;
                size += copy.size();
                batch.push(copy);
            }
            ExportPiece::Unreadable => unreadable += 1,
            ExportPiece::End(totals) => break totals,
        }
        if batch.len() >= RECORDS_AT_ONCE || size >= BYTES_AT_ONCE {
            size = 0;
            if sender.blocking_send((std::mem::take(&mut batch), lines.bytes())).is_err() {
                // The writer has failed, and says why.
                return Ok((Totals::default(), 0));
            }
        }
    };
    // If the writer has failed, it says why.
    let _ = sender.blocking_send((batch, lines.bytes()));
    Ok((end, unreadable))
}

fn planned(
    keyspace: &Keyspace,
    line: u64,
    record: &ExportedRecord,
) -> Result<PlannedCopy, ImportError> {
    let name = if record.name.is_empty() { record.key.clone() } else { record.name.clone() };
    let copied = record.copied().map_err(|field| ImportError::Record {
        line,
        name: name.clone(),
        what: format!("its {field} cannot be read; use another copy of the export"),
    })?;
    Ok(PlannedCopy::of(keyspace, line, name, copied))
}

/// Batches that are ready to be written; the reader waits beyond it.
const BATCHES: usize = 2;
pub(super) const RECORDS_AT_ONCE: usize = 2_000;
const BYTES_AT_ONCE: usize = 2 << 20;
/// How long a store may not answer, and how far its clock may be behind.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(100);
