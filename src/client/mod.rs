//! The Rust client: typed starts, results, watches and cancels. It uses only the public protocol.

mod channel;
mod connection;
mod deliveries;
mod handle;
mod jobs;
mod outage;
mod patience;
mod queues;
mod retry;
mod target;
mod tokens;
mod type_sets;
mod watch;
mod webhooks;

pub use self::channel::{AuthorizedChannel, BearerToken};
pub use self::connection::Client;
pub use self::handle::{Handle, OperationError, ResultError};
pub use self::outage::{Outage, cause, outage};
pub(crate) use self::target::root_cause;
pub use self::target::{ConnectError, ServerTarget};
pub use self::watch::{Sequel, Step, Watch, WatchMessage};
pub use crate::address::read_server;
