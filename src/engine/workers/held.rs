//! Which stream of this server holds what, so that a request to cancel, or the loss of a lease, reaches its worker at once.
//!
//! A stream's seat enters before the commit that gives it a lease: it can miss nothing that happens afterwards. It leaves when
//! that commit is refused or the lease ends. An entry takes nothing from the other seats of the same operation: each hears all
//! news, and tells by token and holder whether it is about its own lease.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::engine::dispatch::seat::Seat;
use crate::operation::lease::{Holder, Token};
use crate::operation::{Operation, State};
use crate::store::{Key, Keyspace, Partition};

/// The streams' seats, by the key of what they hold or are about to hold.
#[derive(Default)]
pub(in crate::engine) struct Held {
    posts: Mutex<HashMap<Key, Post>>,
}

#[derive(Default)]
struct Post {
    /// Mostly one. A seat is in here once for each lease that it holds or may be about to get.
    seats: Vec<Arc<Seat>>,
    /// The newest revision that is known of here.
    newest: u64,
}

/// Something happened to what a stream holds.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) enum News {
    /// Somebody wrote that revision: it must be read, unless this is the commit that gave the lease.
    Changed(Key, u64),
    /// This is how it stands.
    Stands(Key, Standing),
}

/// What matters to the holder of a lease.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Standing {
    /// As of which revision.
    pub(in crate::engine) revision: u64,
    pub(in crate::engine) attempt: u32,
    pub(in crate::engine) fencing_number: u64,
    /// The lease that lives.
    pub(in crate::engine) terms: Option<Terms>,
}

/// A lease, and what is asked of its worker.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Terms {
    pub(in crate::engine) token: Token,
    pub(in crate::engine) holder: Option<Holder>,
    pub(in crate::engine) cancel_requested: bool,
    pub(in crate::engine) pause_requested: bool,
}

impl Standing {
    /// How an operation stands with whoever holds it; `None`: there is none.
    pub(in crate::engine) fn of(operation: Option<&Operation>, revision: u64) -> Self {
        let Some(operation) = operation else {
            return Self { revision, attempt: 0, fencing_number: 0, terms: None };
        };
        let terms = operation.state.lease().map(|lease| Terms {
            token: lease.token,
            holder: lease.holder,
            cancel_requested: matches!(operation.state, State::Cancelling(..)),
            pause_requested: operation.pause_requested,
        });
        let (attempt, fencing_number) = (operation.attempt(), operation.stamps.fencing);
        Self { revision, attempt, fencing_number, terms }
    }
}

impl Held {
    /// That seat may be about to hold it.
    pub(in crate::engine) fn enter(&self, key: Key, seat: &Arc<Seat>) {
        self.posts().entry(key).or_default().seats.push(seat.clone());
    }

    /// That seat does not get it, or holds it no more: undoes one [`Self::enter`].
    pub(in crate::engine) fn leave(&self, key: Key, seat: &Arc<Seat>) {
        let mut posts = self.posts();
        let Some(post) = posts.get_mut(&key) else { return };
        if let Some(place) = post.seats.iter().position(|other| Arc::ptr_eq(other, seat)) {
            post.seats.swap_remove(place);
        }
        if post.seats.is_empty() {
            posts.remove(&key);
        }
    }

    /// Whether a stream of this server holds it, or may be about to.
    pub(in crate::engine) fn contains(&self, key: Key) -> bool {
        self.posts().contains_key(&key)
    }

    /// The newest revision that is known of.
    pub(in crate::engine) fn newest(&self, key: Key) -> u64 {
        self.posts().get(&key).map_or(0, |post| post.newest)
    }

    /// How much streams hold.
    pub(in crate::engine) fn count(&self) -> usize {
        self.posts().len()
    }

    /// Somebody wrote a record.
    pub(in crate::engine) fn hint(&self, key: Key, revision: u64) {
        self.tell(key, revision, News::Changed(key, revision));
    }

    /// This server wrote a record.
    pub(in crate::engine) fn written(
        &self,
        key: Key,
        revision: u64,
        operation: Option<&Operation>,
    ) {
        self.tell(key, revision, News::Stands(key, Standing::of(operation, revision)));
    }

    /// Anything may have happened in these partitions.
    pub(in crate::engine) fn gap(&self, keyspace: &Keyspace, partitions: &[Partition]) {
        for (key, post) in &mut *self.posts() {
            if partitions.contains(&keyspace.partition(*key)) {
                // The store may have gone back: what comes now counts, whatever its revision.
                post.newest = 0;
                post.tell(News::Changed(*key, u64::MAX));
            }
        }
    }

    fn tell(&self, key: Key, revision: u64, news: News) {
        let mut posts = self.posts();
        let Some(post) = posts.get_mut(&key).filter(|post| post.newest < revision) else { return };
        post.newest = revision;
        post.tell(news);
    }

    fn posts(&self) -> MutexGuard<'_, HashMap<Key, Post>> {
        self.posts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Post {
    /// Tells each seat once.
    fn tell(&self, news: News) {
        for (place, seat) in self.seats.iter().enumerate() {
            if !self.seats[..place].iter().any(|told| Arc::ptr_eq(told, seat)) {
                seat.tell(news);
            }
        }
    }
}
