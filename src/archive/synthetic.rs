//! Fills a store with operations to measure it with, as an import would.

use std::time::Duration;

use tokio::sync::mpsc;
use uuid::Uuid;

use super::import::{Batch, Import, ImportError, Imported, PlannedCopy, RECORDS_AT_ONCE};
use super::line::CopiedRecord;
use crate::clock::Timestamp;
use crate::operation::command::{Command, Complete, Fail, Proof, Take};
use crate::operation::lease::Token;
use crate::operation::name::{Name, Queue};
use crate::operation::payload::Payload;
use crate::operation::{Applied, Birth, Record, Rejection, Spec, Start, apply, start};
use crate::proto::google::protobuf::Any;
use crate::proto::google::rpc::Status;
use crate::record::Kind;
use crate::store::{self, Keyspace, Partition};

/// The operations to make: of one parent, one a millisecond up to now, with a request and a response of 200 bytes. One in 10,000 has
/// failed, one in 100 waits for a worker, the others have succeeded.
#[derive(Clone, Debug)]
pub struct Synthetic {
    /// How many.
    pub operations: u64,
    /// Their parent.
    pub parent: String,
}

/// Writes the operations.
///
/// # Errors
/// [`ImportError`].
pub async fn load(import: &Import, what: Synthetic) -> Result<Imported, ImportError> {
    let now = import.store.now(Partition(0));
    let made = import.take(move |keyspace, sender| make(&what, now, keyspace, sender)).await?;
    Ok(made.0)
}

fn make(
    what: &Synthetic,
    now: Timestamp,
    keyspace: &Keyspace,
    sender: &mpsc::Sender<Batch>,
) -> Result<(), ImportError> {
    let mut batch = Vec::with_capacity(RECORDS_AT_ONCE);
    for number in 0..what.operations {
        let time = now - Duration::from_millis(what.operations - number + PATIENCE_MS);
        let name = format!("{}/operations/{}", what.parent, id(number));
        let refused = |what: String| ImportError::Record { line: number, name: name.clone(), what };
        let parsed = Name::parse(&name).map_err(|error| refused(error.to_string()))?;
        let record = operation(number, parsed, time).map_err(|error| refused(error.to_string()))?;
        let key = keyspace.key(&name);
        let revision = time.as_micros();
        let value = record.encode();
        let stored =
            store::Record { revision, visible_revision: revision, fencing_number: 0, value };
        let copied = CopiedRecord { key, record: stored, bodies: Vec::new() };
        batch.push(PlannedCopy::of(keyspace, number, name, copied));
        let is_last = number + 1 == what.operations;
        if is_last || batch.len() == RECORDS_AT_ONCE {
            let full = std::mem::replace(&mut batch, Vec::with_capacity(RECORDS_AT_ONCE));
            if sender.blocking_send((full, number + 1)).is_err() {
                // The writer has failed, and says why.
                break;
            }
        }
    }
    Ok(())
}

/// An id whose keys lie anywhere; the same number has the same.
fn id(number: u64) -> Uuid {
    let hash = blake3::hash(&number.to_be_bytes());
    let bytes = hash.as_bytes().first_chunk().copied().unwrap_or_default();
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

fn operation(number: u64, name: Name, time: Timestamp) -> Result<Record, Rejection> {
    let spec = Spec {
        queue: Queue::parse(QUEUE).unwrap_or_default(),
        method: "bench".to_owned(),
        request: Some(Payload::Inline(payload())),
        ..Spec::default()
    };
    let uid = Uuid::from_u128(u128::from(number));
    let token = Token([1; 16]);
    let waits = number % 100 == 50;
    let lease = (!waits).then(|| Take {
        token,
        worker: "bench".to_owned(),
        duration: Duration::from_secs(30),
        holder: None,
        stall_timeout: Duration::ZERO,
    });
    let gone = Rejection::Deleted(name.clone());
    let born = start(Start { spec, ..Start::default() }, Birth { name, uid, lease }, time)?;
    // A start always makes a record.
    let born = born.record.ok_or(gone)?;
    if waits {
        return Ok(born);
    }
    Ok(match apply(&born, &end(number, token), time + Duration::from_millis(1))? {
        Applied::Changed(change) => change.record.unwrap_or(born),
        Applied::Unchanged(_) => born,
    })
}

/// How the work on it ended.
fn end(number: u64, token: Token) -> Command {
    let proof = Proof { token, fingerprint: [0; 16] };
    if number % 10_000 != 1 {
        return Command::Complete(Box::new(Complete {
            proof,
            response: Some(payload()),
            metadata: None,
            related_resources: Vec::new(),
            progress: None,
        }));
    }
    let error = Status { code: 3, message: "does not work".to_owned(), details: Vec::new() };
    Command::Fail(Box::new(Fail {
        proof,
        error,
        retry: None,
        retry_delay: None,
        metadata: None,
        checkpoint: None,
    }))
}

fn payload() -> Any {
    Any {
        type_url: "type.googleapis.com/google.protobuf.BytesValue".to_owned(),
        value: vec![b'x'; 200].into(),
    }
}

const QUEUE: &str = "loaded";
/// The last operation is this old, so that no change of it is in the future.
const PATIENCE_MS: u64 = 1_000;
