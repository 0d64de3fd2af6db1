//! Handing out work: the dispatcher of a queue, the workers that wait there, leases on their way.

pub(in crate::engine) mod batch;
pub(in crate::engine) mod dispatcher;
pub(in crate::engine) mod seat;
