//! The worker SDK. It uses only the public protocol, as workers in other languages do.
//!
//! [`Worker`] leases operations of a queue over one stream and runs a handler for each:
//!
//! ```no_run
//! use longhaul::client::Client;
//! use longhaul::worker::{Context, Json, Stop, Worker};
//!
//! async fn greet(context: Context, Json(name): Json<String>) -> Result<Json<String>, Stop> {
//!     context.progress(0.5);
//!     Ok(Json(format!("hello {name}")))
//! }
//!
//! # async fn run() -> anyhow::Result<()> {
//! let client = Client::connect("127.0.0.1:50051").await?;
//! Worker::builder(client).queue("hello").handler("greet", greet).concurrency(8).run().await?;
//! # Ok(())
//! # }
//! ```

mod builder;
pub mod command;
mod connection;
mod context;
pub mod demo;
mod handlers;
mod job;
mod payload;
mod serve;
mod session;
mod shared;
mod stop;

pub use self::builder::Worker;
pub use self::connection::Connection;
pub use self::context::{Acknowledgement, Context, ReportError};
pub use self::job::Cancelled;
pub use self::payload::{Json, Pack, TypeMismatch, Unpack, Unpackable};
pub use self::serve::RunError;
pub use self::stop::Stop;
