//! longhaul: a server for long-running operations.
//!
//! Data flows one way: faces (`grpc`, `http`) turn a request into a command, the `engine` reads the record, the pure `operation`
//! decides, `record` plans what to write, the `store` commits, and a hint tells everybody else. See `ARCHITECTURE.md`.

mod address;
pub mod archive;
pub mod bench;
pub mod cli;
pub mod client;
pub mod clock;
pub mod code;
pub mod config;
pub mod engine;
pub mod expression;
pub mod filter;
pub mod grpc;
mod http;
pub mod job;
#[cfg(test)]
mod layers;
pub mod limits;
mod machine;
pub mod operation;
pub mod peer;
pub mod post;
pub mod proto;
pub mod record;
pub mod server;
pub mod store;
pub mod throttle;
mod turn;
pub mod types;
pub mod webhook;
pub mod wire;
pub mod worker;

pub use self::clock::SystemClock;
pub use self::server::Server;
pub use self::store::embedded::{EmbeddedStore, Options as EmbeddedOptions};
