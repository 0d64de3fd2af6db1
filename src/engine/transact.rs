//! The only loop that reads, decides and commits: for one record or many, of every kind.
//!
//! Only this file handles conflicts, waiting for the store, and commits with unknown outcome.

use std::sync::Arc;

use super::context::Context;
use super::error::{Error, Result};
use super::reading::reader::{Damage, Lookup, Reader};
use crate::clock::Timestamp;
use crate::record::{Before, Change, Kind, write_set};
use crate::store::{CommitError, Committed, Key, StoreError, WriteSet};

/// Runs transactions, and tells `O` of each change that the store took.
pub(super) struct Transactor<O> {
    context: Arc<Context>,
    reader: Arc<Reader>,
    observer: Arc<O>,
}

/// A decision about one record.
pub(super) trait Transaction {
    type Kind: Kind;

    /// Which record.
    fn key(&self) -> Key;

    /// The record to decide on first without a read, if one is assumed.
    fn assume(&mut self) -> Assumed<Self::Kind> {
        Assumed::Nothing
    }

    /// Decides. `certain`: the record was read just now, rather than assumed.
    fn decide(
        &mut self,
        before: Option<&Before<Self::Kind>>,
        certain: bool,
        now: Timestamp,
    ) -> Decision<Self::Kind>;

    /// A change that was decided and not committed.
    fn withdrawn(&mut self, _change: Change<Self::Kind>) {}

    /// Whether to decide again after a conflict. After an unknown outcome it always decides again, to find out.
    fn competes(&self) -> bool {
        true
    }

    /// Whether another decision would recognise the write of an earlier commit of this transaction.
    fn recognises_itself(&self) -> bool {
        true
    }
}

/// Receives each change that the store has committed.
pub(super) trait Observer<K: Kind> {
    /// Completes a decided change before it is planned. A change that was not committed may come here again.
    fn complete(&self, _key: Key, _before: Option<&Before<K>>, _change: &mut Change<K>) {}

    /// Stamps the committed record, and informs the tasks of this server.
    fn committed(&self, commit: Commit<K>) -> Option<K>;
}

/// Tells no one: for kinds of record that only their own agent reads.
pub(super) struct Unobserved;

impl<K: Kind> Observer<K> for Unobserved {
    fn committed(&self, commit: Commit<K>) -> Option<K> {
        commit.change.main
    }
}

/// The input of a first decision, before any read.
pub(super) enum Assumed<K> {
    /// None: read the record.
    Nothing,
    /// That there is no record.
    Absent,
    /// This record, which may be out of date.
    Known(Before<K>),
    /// This record, which the caller has just read.
    Read(Before<K>),
}

/// The result of a decision.
pub(super) enum Decision<K> {
    /// Write this.
    Commit(Box<Change<K>>),
    /// Nothing to write.
    Keep,
    /// The record must be read first.
    Read,
}

/// A change that the store took.
pub(super) struct Commit<K> {
    pub(super) key: Key,
    pub(super) before: Option<Before<K>>,
    pub(super) change: Change<K>,
    pub(super) committed: Committed,
    /// The generation of the partition when the commit began.
    pub(super) generation: u64,
}

/// How a transaction ended.
pub(super) enum Ended<K> {
    /// Its change was written; this is the record now.
    Written { record: Option<K>, now: Timestamp },
    /// It decided to write nothing, given this record.
    Kept { before: Option<Before<K>>, now: Timestamp },
    /// It was not written, as far as this server knows.
    Failed(CommitError),
    /// Its record cannot be read.
    Unreadable(Damage),
    /// The store did not say whether it was written, and another commit has followed.
    Unknown,
}

/// A transaction that has not ended.
struct OpenTransaction<K: Kind> {
    /// Which one.
    number: usize,
    key: Key,
    assumed: Assumed<K>,
    /// A possible write: the revision that it was based on, and the value.
    sent: Option<(u64, Option<K>)>,
    conflicts: u32,
    outages: u32,
}

/// A decided change on its way to the store.
struct Sending<K: Kind> {
    open: OpenTransaction<K>,
    before: Option<Before<K>>,
    change: Box<Change<K>>,
    generation: u64,
    now: Timestamp,
}

impl<O> Transactor<O> {
    pub(super) const fn new(context: Arc<Context>, reader: Arc<Reader>, observer: Arc<O>) -> Self {
        Self { context, reader, observer }
    }

    /// Runs one transaction to its end.
    pub(super) async fn transact_one<T: Transaction>(&self, transaction: &mut T) -> Ended<T::Kind>
    where
        O: Observer<T::Kind>,
    {
        let mut ended = self.transact(std::slice::from_mut(transaction)).await;
        ended.pop().unwrap_or(Ended::Failed(CommitError::Conflict))
    }

    /// Runs transactions to their ends; each is atomic on its own. They share commits of the store where possible.
    pub(super) async fn transact<T: Transaction>(
        &self,
        transactions: &mut [T],
    ) -> Vec<Ended<T::Kind>>
    where
        O: Observer<T::Kind>,
    {
        let mut ends: Vec<Option<Ended<T::Kind>>> = transactions.iter().map(|_| None).collect();
        let mut open: Vec<OpenTransaction<T::Kind>> = transactions
            .iter_mut()
            .enumerate()
            .map(|(number, it)| OpenTransaction::new(number, it))
            .collect();
        while !open.is_empty() {
            open = self.round(open, transactions, &mut ends).await;
        }
        let cut = || Ended::Failed(CommitError::Conflict);
        ends.into_iter().map(|end| end.unwrap_or_else(cut)).collect()
    }

    /// One round: reads, decides, commits. Returns the transactions that must decide again.
    async fn round<T: Transaction>(
        &self,
        open: Vec<OpenTransaction<T::Kind>>,
        transactions: &mut [T],
        ends: &mut [Option<Ended<T::Kind>>],
    ) -> Vec<OpenTransaction<T::Kind>>
    where
        O: Observer<T::Kind>,
    {
        let read = match self.read_missing(&open).await {
            Ok(read) => read,
            Err(error) => {
                for open in open {
                    ends[open.number] = Some(Ended::Failed(error.clone().into()));
                }
                return Vec::new();
            }
        };
        let (mut again, mut sending) = (Vec::new(), Vec::new());
        for (mut open, read) in open.into_iter().zip(read) {
            let number = open.number;
            let certain = read.is_some() || matches!(open.assumed, Assumed::Read(_));
            let before = match (read, std::mem::replace(&mut open.assumed, Assumed::Nothing)) {
                (Some(Ok(before)), _) => before,
                (Some(Err(damage)), _) => {
                    ends[number] = Some(Ended::Unreadable(damage));
                    continue;
                }
                (None, Assumed::Known(before) | Assumed::Read(before)) => Some(before),
                (None, Assumed::Absent | Assumed::Nothing) => None,
            };
            let now = self.context.now(open.key);
            if let Some(end) = open.find_out(before.as_ref(), now) {
                ends[number] = Some(end);
                continue;
            }
            match transactions[number].decide(before.as_ref(), certain, now) {
                Decision::Commit(mut change) => {
                    self.observer.complete(open.key, before.as_ref(), &mut change);
                    let generation = self.reader.generation(self.context.partition(open.key));
                    sending.push(Sending { open, before, change, generation, now });
                }
                Decision::Keep => ends[number] = Some(Ended::Kept { before, now }),
                Decision::Read => again.push(open),
            }
        }
        again.extend(self.send(sending, transactions, ends).await);
        again
    }

    /// Commits the decisions. Returns the transactions that must decide again.
    async fn send<T: Transaction>(
        &self,
        sending: Vec<Sending<T::Kind>>,
        transactions: &mut [T],
        ends: &mut [Option<Ended<T::Kind>>],
    ) -> Vec<OpenTransaction<T::Kind>>
    where
        O: Observer<T::Kind>,
    {
        if sending.is_empty() {
            return Vec::new();
        }
        let keyspace = self.context.store.keyspace();
        let plan = |it: &Sending<T::Kind>| {
            write_set(keyspace, it.open.key, it.before.as_ref(), &it.change)
        };
        let sets: Vec<WriteSet> = sending.iter().map(plan).collect();
        let results = self.context.store.commit(sets).await;
        let mut again = Vec::new();
        for (it, result) in sending.into_iter().zip(results) {
            let Sending { mut open, before, change, generation, now } = it;
            let number = open.number;
            match result {
                Ok(committed) => {
                    let key = open.key;
                    let commit = Commit { key, before, change: *change, committed, generation };
                    let record = self.observer.committed(commit);
                    ends[number] = Some(Ended::Written { record, now });
                }
                Err(error) => {
                    let transaction = &mut transactions[number];
                    if matches!(error, CommitError::Unavailable(_))
                        && !transaction.recognises_itself()
                    {
                        let revision = before.map_or(0, |before| before.stamps.revision);
                        open.sent = Some((revision, change.main.clone()));
                    }
                    transaction.withdrawn(*change);
                    match open.spend(error, transaction.competes()) {
                        Ok(open) => again.push(open),
                        Err(error) => ends[number] = Some(Ended::Failed(error)),
                    }
                }
            }
        }
        again
    }

    /// Reads the records of transactions that assume nothing; `None` for the others.
    async fn read_missing<K: Kind>(
        &self,
        open: &[OpenTransaction<K>],
    ) -> std::result::Result<Vec<Option<Lookup<Before<K>>>>, StoreError> {
        let missing = |open: &&OpenTransaction<K>| matches!(open.assumed, Assumed::Nothing);
        let keys: Vec<Key> = open.iter().filter(missing).map(|open| open.key).collect();
        let found = if keys.is_empty() { Vec::new() } else { self.reader.read_each(&keys).await? };
        let mut found = found.into_iter();
        let read = |open| if missing(&open) { found.next() } else { None };
        Ok(open.iter().map(read).collect())
    }
}

impl<K: Kind> OpenTransaction<K> {
    fn new<T: Transaction<Kind = K>>(number: usize, transaction: &mut T) -> Self {
        let (key, assumed) = (transaction.key(), transaction.assume());
        Self { number, key, assumed, sent: None, conflicts: 0, outages: 0 }
    }

    /// After a commit of unknown outcome that deciding again would not recognise: whether it was written.
    fn find_out(&mut self, before: Option<&Before<K>>, now: Timestamp) -> Option<Ended<K>> {
        let (revision, sent) = self.sent.take()?;
        if before.map_or(0, |before| before.stamps.revision) == revision {
            return None;
        }
        let found = before.map(|before| before.record.clone());
        if self.value(sent) == self.value(found.clone()) {
            return Some(Ended::Written { record: found, now });
        }
        tracing::warn!(
            revision,
            "another commit followed one of unknown outcome; its worker must send the report again"
        );
        Some(Ended::Unknown)
    }

    fn value(&self, record: Option<K>) -> Option<bytes::Bytes> {
        let mut record = record?;
        record.detach(self.key);
        Some(record.encode())
    }

    /// Whether to go round again. Everything is read anew then.
    fn spend(
        mut self,
        error: CommitError,
        competes: bool,
    ) -> std::result::Result<Self, CommitError> {
        match error {
            CommitError::Conflict if competes && self.conflicts < MAX_CONFLICTS => {
                self.conflicts += 1;
            }
            CommitError::Unavailable(_) if self.outages < MAX_OUTAGES => self.outages += 1,
            error => return Err(error),
        }
        Ok(self)
    }
}

impl<K> Ended<K> {
    /// The error of a transaction that failed.
    pub(super) fn into_result(self) -> Result<Self> {
        match self {
            Self::Failed(CommitError::Conflict) | Self::Unknown => {
                Err(Error::busy(&"the operation"))
            }
            Self::Unreadable(damage) => Err(damage.error()),
            Self::Failed(CommitError::Early) => Err(Error::busy(&"the store's clock")),
            Self::Failed(CommitError::Unavailable(error)) => Err(error.into()),
            ended => Ok(ended),
        }
    }
}

const MAX_CONFLICTS: u32 = 100;
const MAX_OUTAGES: u32 = 2;
