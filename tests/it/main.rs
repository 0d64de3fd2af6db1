//! Scenarios over the whole server: gRPC in, store below, time in the test's hand. Each runs on every store.

mod support;
#[path = "../../src/store/redis/test_server.rs"]
mod test_server;

mod access;
mod attempts;
mod bad_input;
mod breaking;
mod browsers;
mod cancelling;
mod claims;
mod crowds;
mod damage;
mod deleting;
mod effects;
mod exporting;
mod faults;
mod filtering;
mod http_patterns;
mod leases;
mod listing;
mod logging;
mod over_http;
mod pacing;
mod partial_lists;
mod pausing;
mod payloads;
mod probing;
mod processes;
mod queueing;
mod ranks;
mod replaying;
mod serving;
mod standstill;
mod starting;
mod stats;
mod stream_ends;
mod stream_signals;
mod streams;
mod type_sets;
mod watched_sets;
mod watching;
mod webhooks;
mod worker_examples;
mod worker_sdk;
mod worker_streams;
