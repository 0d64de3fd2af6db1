//! Errors as tonic's statuses.

use prost::Message;
use tonic::{Code, Status};

use crate::engine::Error;
use crate::wire::status::to_message;

impl From<Box<Error>> for Status {
    fn from(error: Box<Error>) -> Self {
        to_status(error)
    }
}

/// The status of an error.
#[expect(clippy::needless_pass_by_value, reason = "made for map_err")]
pub fn to_status(error: Box<Error>) -> Status {
    let status = to_message(&error);
    let details = status.encode_to_vec().into();
    Status::with_details(Code::from_i32(status.code), status.message, details)
}
