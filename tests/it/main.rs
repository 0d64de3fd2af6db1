//! Scenarios over the whole server: gRPC in, store below, time in the test's hand. Each runs on every store.

mod cancelling;
mod deleting;
mod leases;
mod pausing;
mod processes;
mod support;
