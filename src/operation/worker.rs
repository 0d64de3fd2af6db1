//! Who a worker is, as it says.

use crate::clock::Timestamp;

/// The process of a worker. All of it is unknown where the worker says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerProcess {
    /// The name of its host.
    pub host: String,
    /// Its id on that host.
    pub id: u64,
    /// When it started.
    pub start_time: Option<Timestamp>,
    /// The language of its SDK.
    pub language: String,
    /// The version of its SDK.
    pub version: String,
}

impl WorkerProcess {
    /// Whether this is that very process, or nothing is known of both.
    pub fn is(&self, other: &Self) -> bool {
        let identity = |it: &Self| (it.id, it.start_time);
        self.host == other.host && identity(self) == identity(other)
    }
}
