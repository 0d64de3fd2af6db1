//! Refusals of the connections themselves, in terms that both faces read.

use std::sync::Arc;
use std::time::Duration;

use tonic::Status;

use crate::engine::{Error, Reason};
use crate::grpc::status::to_status;

/// The status of a refusal. The error itself is its source, for the HTTP face to find.
pub(super) fn refusal(error: Box<Error>) -> Status {
    let mut status = to_status(error.clone());
    status.set_source(Arc::new(*error));
    status
}

/// Refuses for want of room; the caller may ask again.
pub(super) fn overloaded(message: &str) -> Box<Error> {
    let mut error = Error::new(Reason::Overloaded, message);
    error.retry_delay = Some(RETRY);
    error
}

/// When to ask again after a refusal.
pub(super) const RETRY: Duration = Duration::from_secs(1);
