//! Tells receivers what happened to operations: an event that a commit left becomes a delivery for each receiver, and each
//! delivery is tried until the receiver takes it or the schedule ends.
//!
//! The backlog is in the store. Memory holds the attempts that run, and a few numbers for each receiver.

pub(in crate::engine) mod agent;
mod attempts;
mod handshakes;
mod lane;
mod lanes;
pub(in crate::engine) mod letters;
mod lines;
mod receivers;
mod replays;
mod resolver;
mod schedule;
mod settling;
pub(in crate::engine) mod trials;
mod writes;
