//! Scenarios over the whole server: gRPC in, store below, time in the test's hand. Each runs on every store.

mod support;
#[path = "../../src/store/redis/test_server.rs"]
mod test_server;

mod access;
mod attempts;
mod bad_input;
mod breaking;
mod cancelling;
mod claims;
mod crowds;
mod damage;
mod deleting;
mod effects;
mod faults;
mod filtering;
mod http_patterns;
mod jobs;
mod leases;
mod listing;
mod logging;
mod over_http;
mod pacing;
mod pausing;
mod payloads;
mod probing;
mod processes;
mod queueing;
mod ranks;
mod replaying;
mod rerunning;
mod serving;
mod standstill;
mod starting;
mod stream_ends;
mod stream_signals;
mod streams;
mod watching;
mod worker_examples;
mod worker_sdk;
mod worker_streams;
