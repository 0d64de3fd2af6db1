//! The live servers on the store, and the rank of this one among them for each partition.
//!
//! Each server refreshes its record regularly; the live servers share the partitions by rendezvous hashing. Ranks
//! only keep servers from working on the same entries: a server that knows no other ranks first everywhere and holds
//! nothing back; if two do, compare-and-set lets one of them win.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::engine::context::Context;
use crate::engine::error::Error;
use crate::engine::queues::known::KnownQueues;
use crate::engine::random::random;
use crate::engine::roster::registry::Roster;
use crate::engine::transact::{Assumed, Decision, Ended, Transaction, Transactor, Unobserved};
use crate::operation::Stamps;
use crate::record::server::{self, STALE, Served, ServerId, ServerRecord};
use crate::record::{self, Before, Change};
use crate::store::{
    CommitError, Entry, Index, Key, Keyspace, Partition, Record as Stored, Scan, StoreError,
};

/// Announces this server to the others, and reads their records.
#[derive(Clone, Copy, Debug)]
pub struct Heartbeat;

/// This server among those that run on the store.
pub(in crate::engine) struct Membership {
    context: Arc<Context>,
    transactor: Transactor<Unobserved>,
    roster: Arc<Roster>,
    queues: Arc<KnownQueues>,
    ranks: Ranks,
}

/// The ranks that this server knows.
struct Ranks {
    id: ServerId,
    /// By partition; 0 is first.
    by_partition: Vec<AtomicU8>,
    /// No other server is known.
    alone: AtomicBool,
    /// There may be a record of this server.
    announced: AtomicBool,
    /// When another server was last known, in microseconds as the engine's clock counts elapsed time.
    known: AtomicU64,
}

impl Ranks {
    /// The ranks of a server that knows no other.
    fn new(partitions: u16) -> Self {
        Self {
            id: ServerId(random()),
            by_partition: (0..partitions).map(|_| AtomicU8::new(0)).collect(),
            alone: AtomicBool::new(true),
            announced: AtomicBool::new(false),
            known: AtomicU64::new(0),
        }
    }

    fn of(&self, partition: Partition) -> u32 {
        let rank = self.by_partition.get(usize::from(partition.0));
        rank.map_or(0, |rank| rank.load(Ordering::Relaxed).into())
    }

    /// Ranks this server among the given others.
    fn set(&self, keyspace: &Keyspace, others: &[ServerId]) {
        self.alone.store(others.is_empty(), Ordering::Relaxed);
        for (partition, rank) in keyspace.all().zip(&self.by_partition) {
            let own = (score(keyspace, self.id, partition), self.id);
            let higher =
                others.iter().filter(|other| (score(keyspace, **other, partition), **other) > own);
            rank.store(u8::try_from(higher.count()).unwrap_or(u8::MAX), Ordering::Relaxed);
        }
    }
}

/// The same on every server.
fn score(keyspace: &Keyspace, server: ServerId, partition: Partition) -> [u8; 8] {
    keyspace.hash("rank", &[&server.0[..], &partition.0.to_be_bytes()].concat())
}

impl Membership {
    pub(in crate::engine) fn new(
        context: Arc<Context>,
        transactor: Transactor<Unobserved>,
        roster: Arc<Roster>,
        queues: Arc<KnownQueues>,
    ) -> Self {
        let ranks = Ranks::new(context.store.keyspace().partitions());
        Self { context, transactor, roster, queues, ranks }
    }

    /// How many live servers rank before this one in a partition; 0 if it is the first, or knows no other.
    pub(in crate::engine) fn rank(&self, partition: Partition) -> u32 {
        self.ranks.of(partition)
    }

    /// Whether this server knows no other.
    pub(in crate::engine) fn is_alone(&self) -> bool {
        self.ranks.alone.load(Ordering::Relaxed)
    }

    /// Whether this server ranks first everywhere, as it does when it is alone.
    pub(in crate::engine) fn is_first_everywhere(&self) -> bool {
        self.ranks.by_partition.iter().all(|rank| rank.load(Ordering::Relaxed) == 0)
    }

    /// Refreshes this server's record until the engine is dropped.
    pub(in crate::engine) async fn run(self: Arc<Self>) {
        loop {
            if let Err(error) = self.beat().await {
                let error = Box::<Error>::from(error);
                self.context.log_failure("could not tell other servers of this one", &error);
            }
            self.context.sleep(BEAT).await;
        }
    }

    /// Refreshes this server's record and reads those of the others.
    pub(in crate::engine) async fn beat(&self) -> std::result::Result<(), StoreError> {
        let (ranks, now) = (&self.ranks, self.context.clock.elapsed().as_micros() as u64);
        self.roster.sample();
        match self.exchange().await {
            Ok(others) => {
                ranks.known.store(now, Ordering::Relaxed);
                ranks.set(self.context.store.keyspace(), &others);
                Ok(())
            }
            Err(error) => {
                let unheard = now.saturating_sub(ranks.known.load(Ordering::Relaxed));
                if Duration::from_micros(unheard) >= STALE {
                    ranks.set(self.context.store.keyspace(), &[]);
                }
                Err(error)
            }
        }
    }

    /// Writes this server's record and removes the records of servers that are gone; returns the others.
    async fn exchange(&self) -> std::result::Result<Vec<ServerId>, StoreError> {
        let (store, ranks) = (&self.context.store, &self.ranks);
        let now = store.now(server::PARTITION);
        let mut beat = Sign::of(ranks.id.key(), None);
        let (mut others, mut signs, mut served) = (Vec::new(), Vec::new(), Vec::new());
        for (key, before) in self.servers().await? {
            if key == ranks.id.key() {
                beat.before = Some(before);
            } else if now.since(server::last_beat(before.stamps.revision)) >= STALE {
                let only = Some(before.stamps.revision);
                signs.push(Sign { before: Some(before), only, ..Sign::of(key, None) });
            } else {
                others.push(before.record.id);
                served.push(before.record.served);
            }
        }
        self.queues.share_with(&served);
        beat.after = Some(ServerRecord::this(ranks.id, self.served(&others).await));
        ranks.announced.store(true, Ordering::Relaxed);
        signs.insert(0, beat);
        // A conflict means that another server removed a record, ours or a stale one: the next beat sees to it.
        match self.transactor.transact(&mut signs).await.into_iter().next() {
            Some(Ended::Failed(CommitError::Unavailable(error))) => Err(error),
            _ => Ok(others),
        }
    }

    /// What this server tells others of its workers; nothing if there are no others.
    async fn served(&self, others: &[ServerId]) -> Served {
        if others.is_empty() {
            return Served::default();
        }
        let mut served = self.roster.served_for_others().await;
        self.queues.mark_wanted(&mut served.queues);
        served
    }

    /// What other live servers serve, as of their last sign of life, and the name of each.
    pub(in crate::engine) async fn others(
        &self,
    ) -> std::result::Result<Vec<(String, Served)>, StoreError> {
        let now = self.context.store.now(server::PARTITION);
        let is_other = |(key, before): &(Key, Before<ServerRecord>)| {
            let is_live = now.since(server::last_beat(before.stamps.revision)) < STALE;
            *key != self.ranks.id.key() && is_live
        };
        let servers = self.servers().await?.into_iter().filter(is_other);
        Ok(servers.map(|(_, before)| (before.record.name, before.record.served)).collect())
    }

    /// The records of all servers. A damaged one still has a key and a revision, which is all that counts.
    pub(in crate::engine) async fn servers(
        &self,
    ) -> std::result::Result<Vec<(Key, Before<ServerRecord>)>, StoreError> {
        let store = &self.context.store;
        let scan = Scan::first(Index::new(server::SERVERS), AT_MOST).within(server::PARTITION);
        let keys: Vec<Key> = store.scan(scan).await?.iter().filter_map(Entry::key).collect();
        let records = store.get(&keys).await?;
        let read = |(key, found): (Key, Option<Stored>)| {
            let found = found?;
            match record::read(&found) {
                Ok(before) => Some((key, before)),
                Err(StoreError::Newer(_)) => None,
                Err(_) => {
                    let stamps = Stamps { revision: found.revision, ..Stamps::default() };
                    Some((key, Before { record: ServerRecord::unknown(key), stamps }))
                }
            }
        };
        Ok(keys.into_iter().zip(records).filter_map(read).collect())
    }

    /// Takes leave of the other servers. Where that fails they notice by themselves.
    pub(in crate::engine) async fn take_leave(&self) {
        let (store, ranks) = (&self.context.store, &self.ranks);
        let announced = ranks.announced.swap(false, Ordering::Relaxed);
        if announced && store.answering_since(server::PARTITION).is_some() {
            drop(self.transactor.transact_one(&mut Sign::of(ranks.id.key(), None)).await);
        }
    }
}

/// A sign of life, or the end of one.
struct Sign {
    key: Key,
    /// The record as it was read a moment ago.
    before: Option<Before<ServerRecord>>,
    after: Option<ServerRecord>,
    /// Only if the record still has this revision.
    only: Option<u64>,
}

impl Sign {
    const fn of(key: Key, after: Option<ServerRecord>) -> Self {
        Self { key, before: None, after, only: None }
    }
}

impl Transaction for Sign {
    type Kind = ServerRecord;

    fn key(&self) -> Key {
        self.key
    }

    fn assume(&mut self) -> Assumed<ServerRecord> {
        match (self.before.take(), &self.after) {
            (Some(before), _) => Assumed::Known(before),
            (None, Some(_)) => Assumed::Absent,
            (None, None) => Assumed::Nothing,
        }
    }

    fn decide(
        &mut self,
        before: Option<&Before<ServerRecord>>,
        _certain: bool,
        _now: Timestamp,
    ) -> Decision<ServerRecord> {
        let revision = before.map(|before| before.stamps.revision);
        let gone = revision.is_none() && self.after.is_none();
        if gone || self.only.is_some_and(|only| revision != Some(only)) {
            return Decision::Keep;
        }
        Decision::Commit(Box::new(Change { visible: true, ..Change::of(self.after.clone()) }))
    }

    /// A server that has refreshed its record meanwhile is not removed.
    fn competes(&self) -> bool {
        false
    }
}

/// How often a server gives a sign of life.
const BEAT: Duration = Duration::from_secs(2);
/// More servers than any real installation has.
const AT_MOST: usize = 1_000;
