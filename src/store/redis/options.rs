//! How to open the store.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::time::StoreTime;
use crate::clock::{Clock, SystemClock};
use crate::store::backend::Durability;
use crate::store::keyspace::Origin;

/// How to open the store.
#[derive(Clone)]
pub struct Options {
    /// Where it is, with credentials: `redis://user:password@host:port/database`.
    pub url: String,
    /// The prefix of all keys; without braces, which mark the part that decides a key's cluster slot.
    pub prefix: String,
    /// Creates a keyspace if there is none.
    pub create: bool,
    /// Open this keyspace or none.
    pub keyspace: Option<Uuid>,
    /// Makes or continues the copy of another store, instead of opening one.
    pub import: Option<Origin>,
    /// The least durability to accept; if the server hides its settings, the operator states it.
    pub durability: Option<Durability>,
    /// Partitions of a keyspace that is yet to be made.
    pub partitions: u16,
    /// How long to wait for a connection or an answer.
    pub response_timeout: Duration,
    /// Counts elapsed time and sleeps; with [`StoreTime::Clock`] also the store's time.
    pub clock: Arc<dyn Clock>,
    /// The clock of the store's time.
    pub time: StoreTime,
    /// Tells which of the process's runtimes the calling task runs on, as a small number. Each has connections and a queue of
    /// its own: a connection that is driven by the runtime that uses it wakes no other thread. Under
    /// `Server::serve_on_cores` this is `server::lane::current`.
    pub lane: fn() -> usize,
}

impl Options {
    /// The defaults for a Redis at `url`, used from one runtime.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            prefix: "lh:".to_owned(),
            create: true,
            keyspace: None,
            import: None,
            durability: None,
            partitions: 16,
            response_timeout: Duration::from_secs(2),
            clock: SystemClock::new(),
            time: StoreTime::Server,
            lane: || 0,
        }
    }
}

/// The URL may hold a password and stays out of logs.
impl fmt::Debug for Options {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Options")
            .field("prefix", &self.prefix)
            .field("keyspace", &self.keyspace)
            .finish_non_exhaustive()
    }
}
