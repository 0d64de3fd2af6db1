//! The streams of this server that hold an operation, so that a request to cancel, or a lost lease, reaches the worker at once.
//!
//! A stream's waiter registers before the commit of its lease, so that it misses no later change. It is removed when
//! that commit is refused or the lease ends. Other waiters of the same operation stay registered: each receives all
//! news, and compares token and holder with its own lease.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::engine::leases::news::{News, Standing};
use crate::engine::leases::waiter::Waiter;
use crate::operation::Operation;
use crate::store::{Key, Keyspace, Partition};

/// The waiters of streams, by the key of the operations that they hold or are about to hold.
#[derive(Default)]
pub(in crate::engine) struct Holders {
    posts: Mutex<HashMap<Key, Post>>,
}

#[derive(Default)]
struct Post {
    /// Mostly one. A waiter is in here once for each lease that it holds or may be about to get.
    waiters: Vec<Arc<Waiter>>,
    /// The newest revision known here.
    newest: u64,
}

impl Holders {
    /// Called before a lease is committed for a worker: its stream, if it has one, receives all later changes.
    pub(in crate::engine) fn expect(&self, key: Key, waiter: &Arc<Waiter>) {
        if waiter.holder.is_some() {
            self.enter(key, waiter);
        }
    }

    /// The stream of that waiter may be about to hold it.
    pub(in crate::engine) fn enter(&self, key: Key, waiter: &Arc<Waiter>) {
        self.posts().entry(key).or_default().waiters.push(waiter.clone());
    }

    /// That stream does not get it, or holds it no more: undoes one [`Self::enter`].
    pub(in crate::engine) fn leave(&self, key: Key, waiter: &Arc<Waiter>) {
        let mut posts = self.posts();
        let Some(post) = posts.get_mut(&key) else { return };
        if let Some(position) = post.waiters.iter().position(|other| Arc::ptr_eq(other, waiter)) {
            post.waiters.swap_remove(position);
        }
        if post.waiters.is_empty() {
            posts.remove(&key);
        }
    }

    /// Whether a stream of this server holds it, or may be about to.
    pub(in crate::engine) fn contains(&self, key: Key) -> bool {
        self.posts().contains_key(&key)
    }

    /// The newest known revision.
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
                // The store may have gone back: the next state counts, whatever its revision.
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
    /// Tells each waiter once.
    fn tell(&self, news: News) {
        for (position, waiter) in self.waiters.iter().enumerate() {
            if !self.waiters[..position].iter().any(|told| Arc::ptr_eq(told, waiter)) {
                waiter.tell(news);
            }
        }
    }
}
