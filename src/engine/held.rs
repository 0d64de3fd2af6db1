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
    /// Somebody wrote it: it must be read.
    Changed(Key),
    /// It was written here, and this is how it stands; `None`: nobody holds it.
    Stands(Key, Option<Standing>),
}

/// What matters to the holder of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) token: Token,
    pub(super) holder: Option<Holder>,
    pub(super) cancel_requested: bool,
    pub(super) pause_requested: bool,
}

impl Standing {
    /// How an operation stands with whoever holds it.
    pub(super) fn of(operation: &Operation) -> Option<Self> {
        operation.state.lease().map(|lease| Self {
            token: lease.token,
            holder: lease.holder,
            cancel_requested: matches!(operation.state, State::Cancelling(..)),
            pause_requested: operation.pause_requested,
        })
    }
}

impl Held {
    /// That seat is about to hold it.
    pub(super) fn enter(&self, key: Key, seat: &Arc<Seat>) {
        self.posts().insert(key, Post { seat: seat.clone(), newest: 0 });
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

    /// Somebody wrote a record.
    pub(super) fn hint(&self, key: Key, revision: u64) {
        self.tell(key, revision, News::Changed(key));
    }

    /// This server wrote a record.
    pub(super) fn written(&self, key: Key, revision: u64, operation: Option<&Operation>) {
        self.tell(key, revision, News::Stands(key, operation.and_then(Standing::of)));
    }

    /// Anything may have happened in these partitions.
    pub(super) fn gap(&self, keyspace: &Keyspace, partitions: &[Partition]) {
        for (key, post) in &mut *self.posts() {
            if partitions.contains(&keyspace.partition(*key)) {
                // The store may have gone back: what comes now counts, whatever its revision.
                post.newest = 0;
                post.seat.tell(News::Changed(*key));
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
