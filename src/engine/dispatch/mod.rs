//! Handing out work: the queue of waiting workers, the dispatcher that serves it, and leases that go back.

pub(in crate::engine) mod batch;
pub(in crate::engine) mod dispatcher;
pub(in crate::engine) mod grants;
pub(in crate::engine) mod poller;
pub(in crate::engine) mod registration;
mod turns;
pub(in crate::engine) mod waiters;
