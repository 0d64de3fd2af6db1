//! The Rust client: typed starts, results, watches and cancels. It uses only the public protocol.

mod connection;
mod handle;
mod jobs;
mod outage;
mod patience;
mod queues;
mod retry;
mod type_sets;
mod watch;

pub use self::connection::{Client, ConnectError};
pub use self::handle::{Handle, OperationError, ResultError};
pub use self::outage::{Outage, cause, outage};
pub use self::watch::{Sequel, Step, Watch, WatchMessage};
pub use crate::address::read_server;
