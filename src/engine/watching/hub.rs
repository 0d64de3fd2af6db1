//! The hub: for each operation that somebody here is interested in, its newest state and a signal.
//!
//! A watcher has room for one state, the newest: it may miss intermediate states, never the last one, and never slows a
//! commit or another watcher. Whoever is interested subscribes first and reads second.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use crate::engine::Engine;
use crate::engine::error::{Error, Result};
use crate::engine::metrics::Present;
use crate::engine::operations::view::View;
use crate::operation::{Record, Rejection};
use crate::record::Note;
use crate::store::{Event, Key, Partition, StoreError};

/// What is known of an operation.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Sighting {
    /// Under which generation of its partition it was read.
    pub(in crate::engine) generation: u64,
    /// Its visible revision.
    pub(in crate::engine) revision: u64,
    /// The state, or why there is none.
    pub(in crate::engine) state: Result<Arc<View>>,
}

pub(in crate::engine) struct Hub {
    cells: Mutex<HashMap<Key, Cell>>,
    stale: Mutex<HashSet<Key>>,
    refresh: Notify,
    generations: Vec<AtomicU64>,
}

struct Cell {
    newest: watch::Sender<Option<Sighting>>,
    /// How many [`Interest`]s there are.
    interested: usize,
}

/// Somebody's interest in an operation.
pub(in crate::engine) struct Interest {
    engine: Engine,
    key: Key,
    /// The newest sighting.
    pub(in crate::engine) newest: watch::Receiver<Option<Sighting>>,
    _counted: Present,
}

impl Hub {
    pub(in crate::engine) fn new(partitions: u16) -> Self {
        Self {
            cells: Mutex::default(),
            stale: Mutex::default(),
            refresh: Notify::new(),
            generations: (0..partitions).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// The generation that a read or commit begun now belongs to.
    pub(in crate::engine) fn generation(&self, partition: Partition) -> u64 {
        self.generations[usize::from(partition.0)].load(Ordering::Acquire)
    }

    pub(in crate::engine) fn is_watched(&self, key: Key) -> bool {
        self.cells().contains_key(&key)
    }

    /// Takes in what somebody read or wrote; older news is dropped.
    pub(in crate::engine) fn offer(
        &self,
        key: Key,
        generation: u64,
        revision: u64,
        state: Result<Arc<View>>,
    ) {
        let cells = self.cells();
        let Some(cell) = cells.get(&key) else { return };
        let newest = cell.newest.clone();
        drop(cells);
        newest.send_if_modified(|known| {
            let news = known.as_ref().is_none_or(|known| match generation.cmp(&known.generation) {
                std::cmp::Ordering::Less => false,
                // The store may have gone back: what is read now is the truth, whatever its revision.
                std::cmp::Ordering::Greater => true,
                std::cmp::Ordering::Equal => revision > known.revision,
            });
            if news {
                *known = Some(Sighting { generation, revision, state });
            }
            news
        });
    }

    /// Has an operation read again, once, for everybody.
    pub(in crate::engine) fn refresh(&self, key: Key) {
        lock(&self.stale).insert(key);
        self.refresh.notify_one();
    }

    fn cells(&self) -> MutexGuard<'_, HashMap<Key, Cell>> {
        lock(&self.cells)
    }

    fn known_revision(&self, key: Key) -> Option<u64> {
        let cells = self.cells();
        let cell = cells.get(&key)?;
        Some(cell.newest.borrow().as_ref().map_or(0, |known| known.revision))
    }
}

impl Engine {
    /// Follows an operation from now on; its state now is read and offered.
    pub(in crate::engine) async fn follow(&self, key: Key) -> Result<Interest> {
        let newest = {
            let mut cells = self.inner.hub.cells();
            let cell = cells
                .entry(key)
                .or_insert_with(|| Cell { newest: watch::Sender::new(None), interested: 0 });
            cell.interested += 1;
            cell.newest.subscribe()
        };
        let counted = Present::in_gauge(&self.inner.metrics.watchers);
        let interest = Interest { engine: self.clone(), key, newest, _counted: counted };
        self.sight(&[key]).await?;
        Ok(interest)
    }

    /// Reads operations and offers them to whoever follows them.
    async fn sight(&self, keys: &[Key]) -> std::result::Result<(), StoreError> {
        let store = &self.inner.store;
        let keyspace = store.keyspace();
        let generations: Vec<u64> =
            keys.iter().map(|key| self.inner.hub.generation(keyspace.partition(*key))).collect();
        let records = self.read_each(keys).await?;
        for ((key, generation), record) in keys.iter().zip(generations).zip(records) {
            let (revision, state) = match record {
                // Older than whatever may be started under that name.
                Ok(None) => (
                    0,
                    Err(Error::new(
                        crate::engine::Reason::OperationNotFound,
                        "there is no such operation",
                    )),
                ),
                // Told to those who follow it, and to nobody else.
                Err(damage) => (damage.revision, Err(Error::unreadable())),
                Ok(Some(before)) => match self.see(*key, before.record).await? {
                    // Trouble passes, and what is offered stays until the operation changes.
                    Err(trouble) if trouble.reason == crate::engine::Reason::StoreUnavailable => {
                        self.inner.hub.refresh(*key);
                        continue;
                    }
                    state => (before.stamps.visible, state),
                },
            };
            self.inner.hub.offer(*key, generation, revision, state);
        }
        Ok(())
    }

    /// What callers see of a record.
    async fn see(
        &self,
        key: Key,
        record: Record,
    ) -> std::result::Result<Result<Arc<View>>, StoreError> {
        if let Some(gone) =
            record.gone(self.inner.store.now(self.inner.store.keyspace().partition(key)))
        {
            return Ok(Err(gone.into()));
        }
        let name = record.name().clone();
        let Record::Operation(operation) = record else {
            return Ok(Err(Rejection::Expired(name).into()));
        };
        match View::load(&*self.inner.store, key, *operation).await? {
            Some(view) => Ok(Ok(view)),
            // It changed while it was read; whatever it is now is newer than its revision, and a hint of that follows.
            None => Ok(self.view(&name).await),
        }
    }

    /// Runs the hub: hints in, re-reads out.
    pub(in crate::engine) fn follow_feed(&self) {
        let mut feed = self.inner.store.feed();
        let engine = self.clone();
        self.inner.tasks.spawn("feed", async move {
            while let Some(event) = feed.next().await {
                engine.take_in(event);
            }
        });
        let engine = self.clone();
        self.inner.tasks.spawn("hub", async move {
            loop {
                engine.inner.hub.refresh.notified().await;
                engine.refresh_stale().await;
            }
        });
    }

    fn take_in(&self, event: Event) {
        let hub = &self.inner.hub;
        match event {
            Event::Hint(hint) => {
                match Note::decode(&hint.note) {
                    Note::Changed => {}
                    Note::Scheduled => self.schedule_by_rank(hint.partition),
                    Note::Ready(queue) => self.wake_by_rank(&queue, hint.partition),
                }
                self.inner.held.hint(hint.key, hint.revision);
                if hub.known_revision(hint.key).is_some_and(|known| known < hint.revision) {
                    hub.refresh(hint.key);
                }
            }
            Event::Gap(partitions) => {
                self.inner.recent.clear();
                for partition in &partitions {
                    hub.generations[usize::from(partition.0)].fetch_add(1, Ordering::AcqRel);
                }
                let keyspace = self.inner.store.keyspace();
                self.inner.held.gap(keyspace, &partitions);
                let affected: Vec<Key> = hub
                    .cells()
                    .keys()
                    .copied()
                    .filter(|key| partitions.contains(&keyspace.partition(*key)))
                    .collect();
                lock(&hub.stale).extend(affected);
                hub.refresh.notify_one();
                self.inner.dispatchers.wake_all();
                self.inner.due.wake_scheduler();
            }
        }
    }

    async fn refresh_stale(&self) {
        let hub = &self.inner.hub;
        let stale: Vec<Key> = lock(&hub.stale).drain().collect();
        let watched: Vec<Key> = stale.into_iter().filter(|key| hub.is_watched(*key)).collect();
        for keys in watched.chunks(AT_ONCE) {
            match self.sight(keys).await {
                Ok(()) => {}
                Err(error @ StoreError::Away(_)) => {
                    tracing::debug!(%error, "cannot read what is being watched; trying again");
                    lock(&hub.stale).extend(keys);
                    self.inner.clock.sleep(PAUSE).await;
                    hub.refresh.notify_one();
                }
                // It stays so: whoever waits must be told.
                Err(error) => {
                    let end: Box<Error> = error.into();
                    for key in keys {
                        let generation =
                            hub.generation(self.inner.store.keyspace().partition(*key));
                        hub.offer(*key, generation, u64::MAX, Err(end.clone()));
                    }
                }
            }
        }
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        let mut cells = self.engine.inner.hub.cells();
        // Counted under the lock: receivers are dropped outside of it, so that two who leave at once would each see the other.
        let Some(cell) = cells.get_mut(&self.key) else { return };
        cell.interested -= 1;
        if cell.interested == 0 {
            cells.remove(&self.key);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const AT_ONCE: usize = 128;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(100);
