//! The hub: for each operation with a subscriber on this server, its newest state and a signal.
//!
//! A watcher has room for one state, the newest: it may miss intermediate states, but never the last one, and never slows a
//! commit or another watcher. A subscriber subscribes first and reads second.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use crate::engine::context::Context;
use crate::engine::error::{Error, Reason, Result};
use crate::engine::metrics::Present;
use crate::engine::reading::reader::Reader;
use crate::engine::reading::view::View;
use crate::operation::name::Name;
use crate::operation::{Record, Rejection};
use crate::store::{Key, Partition, StoreError};

/// The known state of an operation.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Sighting {
    /// Under which generation of its partition it was read.
    pub(in crate::engine) generation: u64,
    /// Its visible revision.
    pub(in crate::engine) revision: u64,
    /// The state, or why there is none.
    pub(in crate::engine) state: Result<Arc<View>>,
}

/// The operations that callers of this server wait for or watch.
pub(in crate::engine) struct Hub {
    pub(in crate::engine) context: Arc<Context>,
    pub(in crate::engine) reader: Arc<Reader>,
    cells: Mutex<HashMap<Key, Cell>>,
    stale: Mutex<HashSet<Key>>,
    wake: Notify,
}

struct Cell {
    newest: watch::Sender<Option<Sighting>>,
    /// How many [`Interest`]s there are.
    interested: usize,
}

/// Somebody's interest in an operation.
pub(in crate::engine) struct Interest {
    hub: Arc<Hub>,
    key: Key,
    /// The newest sighting.
    pub(in crate::engine) newest: watch::Receiver<Option<Sighting>>,
    _counted: Present,
}

impl Hub {
    pub(in crate::engine) fn new(context: Arc<Context>, reader: Arc<Reader>) -> Self {
        Self {
            context,
            reader,
            cells: Mutex::default(),
            stale: Mutex::default(),
            wake: Notify::new(),
        }
    }

    pub(in crate::engine) fn is_watched(&self, key: Key) -> bool {
        self.cells().contains_key(&key)
    }

    /// Takes a state that was read or written here; an older state is dropped.
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
                // The store may have gone back: the next read counts, whatever its revision.
                std::cmp::Ordering::Greater => true,
                std::cmp::Ordering::Equal => revision > known.revision,
            });
            if news {
                *known = Some(Sighting { generation, revision, state });
            }
            news
        });
    }

    /// Schedules one read of an operation, for all its subscribers.
    pub(in crate::engine) fn refresh(&self, key: Key) {
        lock(&self.stale).insert(key);
        self.wake.notify_one();
    }

    fn cells(&self) -> MutexGuard<'_, HashMap<Key, Cell>> {
        lock(&self.cells)
    }

    /// A hint says that an operation has this revision now.
    pub(in crate::engine) fn hint(&self, key: Key, revision: u64) {
        if self.known_revision(key).is_some_and(|known| known < revision) {
            self.refresh(key);
        }
    }

    /// Anything may have happened in these partitions.
    pub(in crate::engine) fn gap(&self, partitions: &[Partition]) {
        let is_affected = |key: &Key| partitions.contains(&self.context.partition(*key));
        let affected: Vec<Key> = self.cells().keys().copied().filter(is_affected).collect();
        lock(&self.stale).extend(affected);
        self.wake.notify_one();
    }

    fn known_revision(&self, key: Key) -> Option<u64> {
        let cells = self.cells();
        let cell = cells.get(&key)?;
        Some(cell.newest.borrow().as_ref().map_or(0, |known| known.revision))
    }

    /// Follows an operation from now on; its state now is read and offered.
    pub(in crate::engine) async fn follow(self: &Arc<Self>, key: Key) -> Result<Interest> {
        let newest = {
            let mut cells = self.cells();
            let cell = cells
                .entry(key)
                .or_insert_with(|| Cell { newest: watch::Sender::new(None), interested: 0 });
            cell.interested += 1;
            cell.newest.subscribe()
        };
        let counted = Present::in_gauge(&self.context.metrics.watchers);
        let interest = Interest { hub: self.clone(), key, newest, _counted: counted };
        self.sight(&[key]).await?;
        Ok(interest)
    }

    /// Reads operations and passes them to their subscribers.
    async fn sight(&self, keys: &[Key]) -> std::result::Result<(), StoreError> {
        let generation = |key: &Key| self.reader.generation(self.context.partition(*key));
        let generations: Vec<u64> = keys.iter().map(generation).collect();
        let records = self.reader.read_each(keys).await?;
        for ((key, generation), record) in keys.iter().zip(generations).zip(records) {
            let (revision, state) = match record {
                // Older than any operation that may be started under that name.
                Ok(None) => {
                    let text = "there is no such operation";
                    (0, Err(Error::new(Reason::OperationNotFound, text)))
                }
                // Only the subscribers of this operation receive the error.
                Err(damage) => (damage.revision, Err(damage.error())),
                Ok(Some(before)) => match self.see(*key, before.record).await? {
                    // Outages end, and the last state stays valid until the operation changes.
                    Err(trouble) if trouble.reason == Reason::StoreUnavailable => {
                        self.refresh(*key);
                        continue;
                    }
                    state => (before.stamps.visible, state),
                },
            };
            self.offer(*key, generation, revision, state);
        }
        Ok(())
    }

    /// The published form of a record.
    async fn see(
        &self,
        key: Key,
        record: Record,
    ) -> std::result::Result<Result<Arc<View>>, StoreError> {
        if let Some(gone) = record.gone(self.context.now(key)) {
            return Ok(Err(gone.into()));
        }
        let name = record.name().clone();
        let Record::Operation(operation) = record else {
            return Ok(Err(Rejection::Expired(name).into()));
        };
        match View::load(&*self.context.store, key, *operation).await? {
            Some(view) => Ok(Ok(view)),
            // It changed during the read; the present state has a newer revision, and its hint follows.
            None => Ok(self.reader.view(&name).await),
        }
    }

    /// Reads changed operations again, until the engine is dropped.
    pub(in crate::engine) async fn run(self: Arc<Self>) {
        loop {
            self.wake.notified().await;
            self.refresh_stale().await;
        }
    }

    async fn refresh_stale(&self) {
        let stale: Vec<Key> = lock(&self.stale).drain().collect();
        let watched: Vec<Key> = stale.into_iter().filter(|key| self.is_watched(*key)).collect();
        for keys in watched.chunks(AT_ONCE) {
            match self.sight(keys).await {
                Ok(()) => {}
                Err(error @ StoreError::Away(_)) => {
                    tracing::debug!(%error, "cannot read a watched operation; trying again");
                    lock(&self.stale).extend(keys);
                    self.context.sleep(PAUSE).await;
                    self.wake.notify_one();
                }
                // It stays unreadable: subscribers must receive the error.
                Err(error) => {
                    let end: Box<Error> = error.into();
                    for key in keys {
                        let generation = self.reader.generation(self.context.partition(*key));
                        self.offer(*key, generation, u64::MAX, Err(end.clone()));
                    }
                }
            }
        }
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        let mut cells = self.hub.cells();
        // Counted under the lock: receivers are dropped outside of it, so two that leave at once would each count the other.
        let Some(cell) = cells.get_mut(&self.key) else { return };
        cell.interested -= 1;
        if cell.interested == 0 {
            cells.remove(&self.key);
        }
    }
}

/// Sets the name of an operation that was known by key alone.
pub(in crate::engine) fn named(name: &Name, error: Box<Error>) -> Box<Error> {
    match error.reason {
        Reason::OperationNotFound => Error::not_found(name),
        _ => error,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const AT_ONCE: usize = 128;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(100);
