//! Watching sets of operations: the hints of the store become changes of each watched set.

mod evaluator;
pub(in crate::engine) mod follower;
pub(in crate::engine) mod intake;
pub(in crate::engine) mod log;
pub(in crate::engine) mod positions;
mod ring;
mod set;
