//! Writes an export: header, the records of each partition, end.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures_util::stream::{self, Stream};
use tokio::task::{JoinHandle, spawn_blocking};
use uuid::Uuid;

use super::content::content;
use super::line::{
    CopiedRecord, EXPORT_VERSION, ExportEnd, ExportHeader, ExportLine, ExportedBody,
    ExportedPartition, ExportedRecord, Totals, UnreadableRecord, hex, seal,
};
use super::walk::{StoreWalk, WalkStep};
use crate::record::Derived;
use crate::store::{Partition, Store, StoreError};

/// An export under way. It reads on only when it is asked for more, so its reader sets the pace.
pub(super) struct Exporter {
    store: Arc<dyn Store>,
    walk: StoreWalk,
    /// Lines that are being written on another thread, while the next records are read.
    writing: Option<JoinHandle<Result<Written, serde_json::Error>>>,
    stage: ExportStage,
    totals: Totals,
}

enum ExportStage {
    Header,
    Records,
    Done,
}

/// The export of a store in parts that fit into a message.
pub fn parts(store: Arc<dyn Store>) -> impl Stream<Item = Result<Vec<u8>, StoreError>> + Send {
    let next = |(mut exporter, mut rest): (Exporter, Vec<u8>)| async move {
        if rest.is_empty() {
            rest = match exporter.next().await {
                Ok(text) => text?,
                Err(error) => {
                    // What follows would lack some records.
                    exporter.stage = ExportStage::Done;
                    return Some((Err(error), (exporter, Vec::new())));
                }
            };
        }
        let later = rest.split_off(rest.len().min(PART_BYTES));
        Some((Ok(rest), (exporter, later)))
    };
    stream::unfold((Exporter::new(store), Vec::new()), next)
}

/// The text of some lines, and what they add to the totals.
struct Written {
    text: Vec<u8>,
    totals: Totals,
}

impl Exporter {
    /// Exports all records of a store, which may be in use.
    fn new(store: Arc<dyn Store>) -> Self {
        Self {
            walk: StoreWalk::new(Arc::clone(&store)),
            store,
            writing: None,
            stage: ExportStage::Header,
            totals: Totals::default(),
        }
    }

    /// The next whole lines; `None` after the last.
    ///
    /// # Errors
    /// [`StoreError`], after which the export has failed.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        match self.stage {
            ExportStage::Header => {
                self.stage = ExportStage::Records;
                sealed(&ExportLine::Header(self.header()))
            }
            ExportStage::Records => {
                if let Some(text) = self.lines().await? {
                    return Ok(Some(text));
                }
                self.stage = ExportStage::Done;
                sealed(&ExportLine::End(self.end()))
            }
            ExportStage::Done => Ok(None),
        }
    }

    async fn lines(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        loop {
            let steps = self.gather().await?;
            let more = !steps.is_empty();
            let writing = more.then(|| spawn_blocking(|| write(steps)));
            if let Some(before) = std::mem::replace(&mut self.writing, writing) {
                let written = before.await.map_err(|error| unwritable(&error))?;
                let written = written.map_err(|error| unwritable(&error))?;
                self.totals.join(&written.totals);
                return Ok(Some(written.text));
            }
            if !more {
                return Ok(None);
            }
        }
    }

    /// Reads some records, of about as many bytes as one message carries.
    async fn gather(&mut self) -> Result<Vec<WalkStep>, StoreError> {
        let (mut steps, mut bytes) = (Vec::new(), 0);
        while bytes < BYTES_AT_ONCE && steps.len() < STEPS_AT_ONCE {
            let Some(step) = self.walk.next().await? else { break };
            if let WalkStep::Record(copied, _) = &step {
                let bodies = copied.bodies.iter().flat_map(|(_, body)| body);
                bytes += copied.record.value.len() + bodies.map(bytes::Bytes::len).sum::<usize>();
            }
            steps.push(step);
        }
        Ok(steps)
    }

    fn header(&self) -> ExportHeader {
        let keyspace = self.store.keyspace();
        let export = Uuid::new_v4();
        let origin = keyspace.origin(export);
        ExportHeader {
            longhaul_export: EXPORT_VERSION,
            export: export.to_string(),
            longhaul: env!("CARGO_PKG_VERSION").to_owned(),
            format: origin.min_writer,
            keyspace: origin.keyspace.to_string(),
            secret: BASE64_STANDARD.encode(origin.secret),
            partitions: keyspace.partitions(),
            time: self.time(),
        }
    }

    fn end(&self) -> ExportEnd {
        let Totals { records, bodies, digest, .. } = self.totals;
        ExportEnd { records, bodies, digest: format!("{digest:032x}"), time: self.time() }
    }

    fn time(&self) -> String {
        self.store.now(Partition(0)).to_string()
    }
}

fn write(steps: Vec<WalkStep>) -> Result<Written, serde_json::Error> {
    let mut written = Written { text: Vec::new(), totals: Totals::default() };
    for step in steps {
        let line = match step {
            WalkStep::Partition(partition, time) => ExportLine::Partition(ExportedPartition {
                number: partition.0,
                time: time.to_string(),
            }),
            WalkStep::Record(copied, derived) => {
                written.totals.add(&copied);
                ExportLine::Record(exported(&copied, derived))
            }
            WalkStep::Unreadable(key, cause) => {
                ExportLine::Unreadable(UnreadableRecord { key: hex(key.as_bytes()), cause })
            }
        };
        written.text.extend(seal(&line)?);
    }
    Ok(written)
}

fn exported(copied: &CopiedRecord, derived: Option<Derived>) -> ExportedRecord {
    let CopiedRecord { key, record, bodies } = copied;
    let (kind, content) = content(&record.value);
    let bodies = bodies.iter().map(|(key, body)| ExportedBody {
        key: hex(&key.to_bytes()),
        value: body.as_ref().map(|body| BASE64_STANDARD.encode(body)),
    });
    ExportedRecord {
        kind,
        name: derived.map(|derived| derived.name).unwrap_or_default(),
        revision: record.revision,
        visible_revision: record.visible_revision,
        fencing_number: record.fencing_number,
        content,
        key: hex(key.as_bytes()),
        value: BASE64_STANDARD.encode(&record.value),
        bodies: bodies.collect(),
    }
}

fn sealed(line: &ExportLine) -> Result<Option<Vec<u8>>, StoreError> {
    seal(line).map(Some).map_err(|error| unwritable(&error))
}

fn unwritable(error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Damaged(format!("a line of the export cannot be written: {error}"))
}

const BYTES_AT_ONCE: usize = 64 << 10;
const PART_BYTES: usize = 256 << 10;
const STEPS_AT_ONCE: usize = 256;
