//! Refusals of the connections themselves, in terms that both faces read.

use std::sync::Arc;

use tonic::Status;

use crate::engine::Error;
use crate::grpc::status::to_status;

/// The status of a refusal. The error itself is its source, for the HTTP face to find.
pub(super) fn refusal(error: Box<Error>) -> Status {
    let mut status = to_status(error.clone());
    status.set_source(Arc::new(*error));
    status
}
