//! The message types that are known for the operations of each parent: those of this server, and those of the type sets of the
//! parent and of the parents above it.
//!
//! Nothing here is told of every change. An entry is read again after [`TYPES_REREAD`], or at once after a hint. While the
//! store has no type sets, a call costs one load of an atomic.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use super::context::Context;
use super::error::{Error, Result};
use super::reading::reader::Reader;
use super::transact::{Commit, Observer};
use crate::limits::{
    MAX_KNOWN_PARENTS, MAX_KNOWN_TYPES_BYTES, MAX_NAME_BYTES, MAX_TYPE_PARENT_PAIRS, TYPES_REREAD,
};
use crate::operation::name::ancestry;
use crate::record::Before;
use crate::record::type_sets::{PARTITION, TYPE_SETS, TypeSets};
use crate::store::{BodyKey, Index, Key, Scan};
use crate::types::Registry;

/// The types of each parent.
pub(super) struct ParentTypes {
    context: Arc<Context>,
    reader: Arc<Reader>,
    /// Whether the store may have type sets.
    any: AtomicBool,
    /// Rises with each commit and hint.
    changes: AtomicU64,
    known: Mutex<HashMap<String, KnownTypes>>,
    /// One registry is built at a time, since each costs time and memory.
    turn: tokio::sync::Mutex<()>,
    woken: Notify,
}

/// The types of one parent.
#[derive(Clone)]
struct KnownTypes {
    types: Registry,
    /// Revisions of the records that they were read from, the nearest first; 0 for none.
    revisions: Vec<u64>,
    /// The changes that were known, and when, at the last read.
    changes: u64,
    at: Duration,
    /// Bytes of the sets; 0 where another entry has the same types.
    bytes: usize,
}

/// The records of a parent and of those above it.
type Chain = Vec<Option<Before<TypeSets>>>;

impl ParentTypes {
    pub(super) fn new(context: Arc<Context>, reader: Arc<Reader>) -> Self {
        Self {
            context,
            reader,
            any: AtomicBool::new(true),
            changes: AtomicU64::new(0),
            known: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            woken: Notify::new(),
        }
    }

    /// The types for operations at that place: a name, a parent, or a pattern of parents. What is malformed has those of the
    /// root: its call will be refused.
    pub(super) async fn at(&self, place: &str) -> Result<Registry> {
        if !self.are_any() {
            return Ok(self.own().clone());
        }
        let place = if place.len() > MAX_NAME_BYTES { "" } else { place };
        let chain = ancestry(place);
        let deepest = chain.len().saturating_sub(MAX_TYPE_PARENT_PAIRS + 1);
        self.of_chain(&chain[deepest..]).await
    }

    /// The types of the root, as far as this server knows them now.
    pub(super) fn of_root(&self) -> Registry {
        self.lock().get("").map_or_else(|| self.own().clone(), |known| known.types.clone())
    }

    /// Whether the store may have type sets.
    pub(super) fn are_any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// What every parent has.
    pub(super) fn own(&self) -> &Registry {
        &self.context.settings.types
    }

    /// A type set was created or deleted, or may have been.
    pub(super) fn changed(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.any.store(true, Ordering::Release);
        self.woken.notify_one();
    }

    /// Looks now and then whether there are type sets, and reads those of the root.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            if let Err(error) = self.check().await {
                self.context.log_failure("could not look for type sets; trying again", &error);
            }
            tokio::select! {
                () = self.context.sleep(TYPES_REREAD) => {}
                () = self.woken.notified() => {}
            }
        }
    }

    async fn check(&self) -> Result<()> {
        let changes = self.changes.load(Ordering::Acquire);
        let scan = Scan::first(Index::new(TYPE_SETS), 1).within(PARTITION);
        if !self.context.store.scan(scan).await?.is_empty() {
            self.any.store(true, Ordering::Release);
            self.at("").await?;
            return Ok(());
        }
        self.any.store(false, Ordering::Release);
        if self.changes.load(Ordering::Acquire) != changes {
            self.any.store(true, Ordering::Release);
        }
        self.lock().clear();
        Ok(())
    }

    /// The types of a parent. `parents` begins with it, then come the parents above it, in order, up to the root.
    async fn of_chain(&self, parents: &[&str]) -> Result<Registry> {
        let former = match self.fresh(parents[0]) {
            Ok(types) => return Ok(types),
            Err(former) => former,
        };
        let changes = self.changes.load(Ordering::Acquire);
        let mut chain = match (self.read(parents).await, former) {
            (Ok(chain), _) => chain,
            // A store that does not answer takes nothing away.
            (Err(_), Some(former)) => return Ok(former.types),
            (Err(error), None) => return Err(error),
        };
        for _ in 0..READS {
            if let Some(types) = self.types_of(parents, &chain, changes).await? {
                return Ok(types);
            }
            chain = self.read(parents).await?;
        }
        Err(Error::busy(&"a set of message types"))
    }

    /// What was read a moment ago, or else what was known before. One caller reads again; those beside it use what is known.
    fn fresh(&self, parent: &str) -> std::result::Result<Registry, Option<KnownTypes>> {
        let (changes, now) = (self.changes.load(Ordering::Acquire), self.context.clock.elapsed());
        let mut known = self.lock();
        let Some(known) = known.get_mut(parent) else { return Err(None) };
        if known.changes != changes {
            return Err(Some(known.clone()));
        }
        if now.saturating_sub(known.at) < TYPES_REREAD {
            return Ok(known.types.clone());
        }
        known.at = now;
        Err(Some(known.clone()))
    }

    /// A record that cannot be read counts as none; the reader has noted it.
    async fn read(&self, parents: &[&str]) -> Result<Chain> {
        let keyspace = self.context.store.keyspace();
        let keys: Vec<Key> = parents.iter().map(|parent| TypeSets::key(keyspace, parent)).collect();
        let found = self.reader.read_each::<TypeSets>(&keys).await?;
        Ok(found.into_iter().map(|found| found.ok().flatten()).collect())
    }

    /// The types of records that were read just now; `None` if they have changed meanwhile.
    async fn types_of(
        &self,
        parents: &[&str],
        chain: &Chain,
        changes: u64,
    ) -> Result<Option<Registry>> {
        let revision = |record: &Option<Before<TypeSets>>| {
            record.as_ref().map_or(0, |record| record.stamps.revision)
        };
        let revisions: Vec<u64> = chain.iter().map(revision).collect();
        let at = self.context.clock.elapsed();
        // A parent without sets has the types of the next above it that has some.
        let Some(first) = chain.iter().position(Option::is_some) else {
            let types = self.own().clone();
            let known = KnownTypes { types: types.clone(), revisions, changes, at, bytes: 0 };
            self.keep(parents[0], known);
            return Ok(Some(types));
        };
        let _turn = self.turn.lock().await;
        let same = |known: &&KnownTypes| known.revisions == revisions[first..];
        let built = self.lock().get(parents[first]).filter(same).cloned();
        let mut known = match built {
            Some(known) => known,
            None => match self.build(parents, &chain[first..]).await? {
                None => return Ok(None),
                Some((types, bytes)) => {
                    KnownTypes { types, revisions: revisions[first..].into(), changes, at, bytes }
                }
            },
        };
        (known.changes, known.at) = (changes, at);
        self.keep(parents[first], known.clone());
        if first > 0 {
            self.keep(parents[0], KnownTypes { revisions, bytes: 0, ..known.clone() });
        }
        Ok(Some(known.types))
    }

    /// The types of these records, the nearest first, and the bytes of their sets.
    async fn build(
        &self,
        parents: &[&str],
        chain: &[Option<Before<TypeSets>>],
    ) -> Result<Option<(Registry, usize)>> {
        let keyspace = self.context.store.keyspace();
        let keys: Vec<BodyKey> = chain
            .iter()
            .flatten()
            .flat_map(|before| {
                let key = TypeSets::key(keyspace, before.record.parent.as_str());
                before.record.sets.iter().filter_map(move |set| set.body(key))
            })
            .collect();
        let Some(sets) = self.contents(&keys).await? else { return Ok(None) };
        let bytes = sets.iter().map(Bytes::len).sum();
        tracing::debug!(parent = parents[0], sets = sets.len(), bytes, "building message types");
        let own = self.own().clone();
        let build = tokio::task::spawn_blocking(move || own.with_each(sets));
        let types = build.await.map_err(|error| Error::internal(&error))?;
        Ok(Some((types, bytes)))
    }

    /// Descriptors; `None` if one is gone.
    pub(super) async fn contents(&self, keys: &[BodyKey]) -> Result<Option<Vec<Bytes>>> {
        Ok(self.context.store.bodies(keys).await?.into_iter().collect())
    }

    /// Keeps an entry, and of the others those that were used last.
    fn keep(&self, parent: &str, new: KnownTypes) {
        let mut known = self.lock();
        known.insert(parent.to_owned(), new);
        let mut bytes: usize = known.values().map(|known| known.bytes).sum();
        while known.len() > MAX_KNOWN_PARENTS || bytes > MAX_KNOWN_TYPES_BYTES {
            let others = known.iter().filter(|(other, _)| *other != parent);
            let oldest = others.min_by_key(|(_, known)| known.at).map(|(oldest, _)| oldest.clone());
            let Some(gone) = oldest.and_then(|oldest| known.remove(&oldest)) else { return };
            bytes -= gone.bytes;
            if gone.bytes > 0 {
                known.retain(|_, other| !other.types.is(&gone.types));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, KnownTypes>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer<TypeSets> for ParentTypes {
    fn committed(&self, commit: Commit<TypeSets>) -> Option<TypeSets> {
        self.changed();
        commit.change.main
    }
}

/// How often records are read whose descriptors go away meanwhile.
const READS: usize = 3;
