//! The servers that run on the store, and the rank of this one among them for each partition.
//!
//! Each server gives a sign of life now and then; those that did so lately share the partitions by rendezvous hashing. Ranks
//! only keep servers from meeting at the same entries: a server that knows of no other ranks first everywhere and holds
//! nothing back, and where two believe that of themselves, compare-and-set lets one of them have it.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::engine::Engine;
use crate::engine::error::{Error, Result};
use crate::engine::random;
use crate::engine::transact::{Assumed, Commit, Decision, Ended, Observed, Transaction};
use crate::operation::Stamps;
use crate::record::server::{self, STALE, Server, ServerId};
use crate::record::{self, Before, Change};
use crate::store::{
    CommitError, Entry, Index, Key, Keyspace, Partition, Record as Stored, Scan, StoreError,
};

/// Tells the other servers that this one is there, and learns of them.
#[derive(Clone, Copy, Debug)]
pub struct Heartbeat;

/// What this server knows of its ranks.
pub(super) struct Ranks {
    id: ServerId,
    /// By partition; 0 is first.
    by_partition: Vec<AtomicU8>,
    /// No other server is known.
    alone: AtomicBool,
    /// There may be a record of this server.
    announced: AtomicBool,
    /// When the other servers were last known, in microseconds as the engine's clock counts elapsed time.
    known: AtomicU64,
}

impl Ranks {
    /// Those of a server that knows of no other.
    pub(super) fn new(partitions: u16) -> Self {
        Self {
            id: ServerId(random()),
            by_partition: (0..partitions).map(|_| AtomicU8::new(0)).collect(),
            alone: AtomicBool::new(true),
            announced: AtomicBool::new(false),
            known: AtomicU64::new(0),
        }
    }

    /// How many live servers come before this one in a partition.
    pub(super) fn of(&self, partition: Partition) -> u32 {
        let rank = self.by_partition.get(usize::from(partition.0));
        rank.map_or(0, |rank| rank.load(Ordering::Relaxed).into())
    }

    /// Whether this server ranks first in every partition, as it does when it is alone.
    pub(super) fn is_first_everywhere(&self) -> bool {
        self.by_partition.iter().all(|rank| rank.load(Ordering::Relaxed) == 0)
    }

    /// Ranks this server among these others.
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

impl Heartbeat {
    /// Gives a sign of life and looks for those of the others.
    pub async fn run_once(self, engine: &Engine) -> Result<()> {
        Ok(engine.beat().await?)
    }
}

impl Engine {
    /// How many live servers come before this one in a partition; 0 where it is the first, or knows of no other.
    pub fn rank(&self, partition: Partition) -> u32 {
        self.inner.ranks.of(partition)
    }

    /// Whether this server knows of no other.
    pub fn is_alone(&self) -> bool {
        self.inner.ranks.alone.load(Ordering::Relaxed)
    }

    /// Something became ready in a queue. A server that does not rank first there leaves it a moment to those that do.
    pub(super) fn wake_by_rank(&self, queue: &str, partition: Partition) {
        let rank = self.rank(partition);
        if rank == 0 {
            self.inner.dispatchers.wake(queue);
        } else if let Some(late) = self.inner.dispatchers.hold_back(queue) {
            let engine = self.clone();
            self.inner.tasks.spawn("held back", async move {
                engine.idle_for(HOLD_BACK * rank).await;
                late.wake();
            });
        }
    }

    /// Something comes due soon in a partition, as a hint says.
    pub(super) fn schedule_by_rank(&self, partition: Partition) {
        if self.rank(partition) == 0 {
            self.inner.due.wake_scheduler();
        }
    }

    pub(super) fn run_heartbeat(&self) {
        let engine = self.clone();
        self.inner.tasks.spawn("heartbeat", async move {
            loop {
                if let Err(error) = engine.beat().await {
                    engine.hampered(
                        "could not tell other servers of this one",
                        &Box::<Error>::from(error),
                    );
                }
                engine.idle_for(BEAT).await;
            }
        });
    }

    async fn beat(&self) -> std::result::Result<(), StoreError> {
        let (ranks, now) = (&self.inner.ranks, self.inner.clock.elapsed().as_micros() as u64);
        match self.exchange().await {
            Ok(others) => {
                ranks.known.store(now, Ordering::Relaxed);
                ranks.set(self.inner.store.keyspace(), &others);
                Ok(())
            }
            Err(error) => {
                let unheard = now.saturating_sub(ranks.known.load(Ordering::Relaxed));
                if Duration::from_micros(unheard) >= STALE {
                    ranks.set(self.inner.store.keyspace(), &[]);
                }
                Err(error)
            }
        }
    }

    /// Writes this server's sign of life and removes the records of servers that are gone; returns the others.
    async fn exchange(&self) -> std::result::Result<Vec<ServerId>, StoreError> {
        let (store, ranks) = (&self.inner.store, &self.inner.ranks);
        let now = store.now(server::PARTITION);
        let mut beat = Sign::of(ranks.id.key(), Some(Server::this(ranks.id)));
        let (mut others, mut signs) = (Vec::new(), Vec::new());
        for (key, before) in self.servers().await? {
            if key == ranks.id.key() {
                beat.before = Some(before);
            } else if now.since(server::last_beat(before.stamps.revision)) >= STALE {
                let only = Some(before.stamps.revision);
                signs.push(Sign { before: Some(before), only, ..Sign::of(key, None) });
            } else {
                others.push(before.record.id);
            }
        }
        ranks.announced.store(true, Ordering::Relaxed);
        signs.insert(0, beat);
        // A conflict means that another server removed a record, ours or a stale one: the next beat sees to it.
        match self.transact(&mut signs).await.into_iter().next() {
            Some(Ended::Failed(CommitError::Unavailable(error))) => Err(error),
            _ => Ok(others),
        }
    }

    /// The records of all servers. A damaged one still has a key and a revision, which is all that counts.
    pub(super) async fn servers(
        &self,
    ) -> std::result::Result<Vec<(Key, Before<Server>)>, StoreError> {
        let store = &self.inner.store;
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
                    Some((key, Before { record: Server::unknown(key), stamps }))
                }
            }
        };
        Ok(keys.into_iter().zip(records).filter_map(read).collect())
    }

    /// Takes leave of the other servers. Where that fails they notice by themselves.
    pub(super) async fn take_leave(&self) {
        let (store, ranks) = (&self.inner.store, &self.inner.ranks);
        let announced = ranks.announced.swap(false, Ordering::Relaxed);
        if announced && store.answering_since(server::PARTITION).is_some() {
            drop(self.transact_one(&mut Sign::of(ranks.id.key(), None)).await);
        }
    }
}

/// A sign of life, or the end of one.
struct Sign {
    key: Key,
    /// The record as it was read a moment ago.
    before: Option<Before<Server>>,
    after: Option<Server>,
    /// Only if the record still has this revision.
    only: Option<u64>,
}

impl Sign {
    const fn of(key: Key, after: Option<Server>) -> Self {
        Self { key, before: None, after, only: None }
    }
}

impl Transaction for Sign {
    type Kind = Server;

    fn key(&self) -> Key {
        self.key
    }

    fn assume(&mut self) -> Assumed<Server> {
        match (self.before.take(), &self.after) {
            (Some(before), _) => Assumed::Known(before),
            (None, Some(_)) => Assumed::Absent,
            (None, None) => Assumed::Nothing,
        }
    }

    fn decide(
        &mut self,
        _engine: &Engine,
        before: Option<&Before<Server>>,
        _certain: bool,
        _now: Timestamp,
    ) -> Decision<Server> {
        let revision = before.map(|before| before.stamps.revision);
        let gone = revision.is_none() && self.after.is_none();
        if gone || self.only.is_some_and(|only| revision != Some(only)) {
            return Decision::Keep;
        }
        Decision::Commit(Box::new(Change { visible: true, ..Change::of(self.after.clone()) }))
    }

    /// A server that has given a sign of life meanwhile is not removed.
    fn competes(&self) -> bool {
        false
    }
}

impl Observed for Server {
    fn observe(_engine: &Engine, commit: Commit<Self>) -> Option<Self> {
        commit.change.main
    }
}

/// What each server that ranks higher adds to the time for which work is left to its workers.
const HOLD_BACK: Duration = Duration::from_millis(2);
/// How often a server gives a sign of life.
const BEAT: Duration = Duration::from_secs(2);
/// More servers than anybody runs.
const AT_MOST: usize = 1_000;
