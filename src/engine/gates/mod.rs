//! Gates: who runs where the number of running operations is bounded.
//!
//! Each gate is one record. A server that has something to do with a gate runs a task for it until nothing is left to do: so
//! the requests of this server are gathered into one commit, and compare-and-set decides between servers. Nothing is kept in
//! memory that another server could not find out: a gate with slots in use is checked every few seconds.

pub(in crate::engine) mod desk;
mod turn;
mod usage;
