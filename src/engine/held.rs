//! Which stream of this server holds what, so that a request to cancel, or the loss of a lease, reaches its worker at once.
//!
//! An entry is made before the commit that gives the lease: nothing that happens afterwards can be missed.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::seat::Seat;
use crate::operation::lease::{Holder, Token};
use crate::operation::{Operation, State};
use crate::store::{Key, Keyspace, Partition};

/// The streams' seats, by the key of what they hold.
#[derive(Default)]
pub(super) struct Held {
    posts: Mutex<HashMap<Key, Post>>,
}

struct Post {
    seat: Arc<Seat>,
    /// The newest revision that is known of here.
    newest: u64,
}

/// Something happened to what a stream holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum News {
    /// Somebody wrote that revision: it must be read, unless this is the commit that gave the lease.
    Changed(Key, u64),
    /// This is how it stands.
    Stands(Key, Standing),
    /// Another stream of this server holds it now.
    TakenOver(Key),
}

/// What matters to the holder of a lease.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    /// As of which revision.
    pub(super) revision: u64,
    pub(super) attempt: u32,
    pub(super) fencing_number: u64,
    /// The lease that lives.
    pub(super) terms: Option<Terms>,
}

/// A lease, and what is asked of its worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) token: Token,
    pub(super) holder: Option<Holder>,
    pub(super) cancel_requested: bool,
    pub(super) pause_requested: bool,
}

impl Standing {
    /// How an operation stands with whoever holds it; `None`: there is none.
    pub(super) fn of(operation: Option<&Operation>, revision: u64) -> Self {
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
    /// That seat is about to hold it.
    pub(super) fn enter(&self, key: Key, seat: &Arc<Seat>) {
        let before = self.posts().insert(key, Post { seat: seat.clone(), newest: 0 });
        if let Some(before) = before.filter(|before| !Arc::ptr_eq(&before.seat, seat)) {
            before.seat.tell(News::TakenOver(key));
        }
    }

    /// The same, unless somebody here holds it already.
    pub(super) fn enter_if_absent(&self, key: Key, seat: &Arc<Seat>) -> bool {
        match self.posts().entry(key) {
            Entry::Vacant(vacant) => {
                vacant.insert(Post { seat: seat.clone(), newest: 0 });
                true
            }
            Entry::Occupied(_) => false,
        }
    }

    /// That seat holds it no more.
    pub(super) fn leave(&self, key: Key, seat: &Arc<Seat>) {
        if let Entry::Occupied(post) = self.posts().entry(key)
            && Arc::ptr_eq(&post.get().seat, seat)
        {
            post.remove();
        }
    }

    /// The newest revision that is known of.
    pub(super) fn newest(&self, key: Key) -> u64 {
        self.posts().get(&key).map_or(0, |post| post.newest)
    }

    /// How much streams hold.
    pub(super) fn count(&self) -> usize {
        self.posts().len()
    }

    /// Somebody wrote a record.
    pub(super) fn hint(&self, key: Key, revision: u64) {
        self.tell(key, revision, News::Changed(key, revision));
    }

    /// This server wrote a record.
    pub(super) fn written(&self, key: Key, revision: u64, operation: Option<&Operation>) {
        self.tell(key, revision, News::Stands(key, Standing::of(operation, revision)));
    }

    /// Anything may have happened in these partitions.
    pub(super) fn gap(&self, keyspace: &Keyspace, partitions: &[Partition]) {
        for (key, post) in &mut *self.posts() {
            if partitions.contains(&keyspace.partition(*key)) {
                // The store may have gone back: what comes now counts, whatever its revision.
                post.newest = 0;
                post.seat.tell(News::Changed(*key, u64::MAX));
            }
        }
    }

    fn tell(&self, key: Key, revision: u64, news: News) {
        let mut posts = self.posts();
        let Some(post) = posts.get_mut(&key).filter(|post| post.newest < revision) else { return };
        post.newest = revision;
        let seat = post.seat.clone();
        drop(posts);
        seat.tell(news);
    }

    fn posts(&self) -> MutexGuard<'_, HashMap<Key, Post>> {
        self.posts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
