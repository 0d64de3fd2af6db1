//! Errors as google.rpc.Status (AIP-193): every one with ErrorInfo, and whatever else helps a program.

use prost::Message;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::engine::Error;
use crate::operation::published::DOMAIN;
use crate::proto::google::rpc as google;

/// The status of an error over gRPC.
#[expect(clippy::needless_pass_by_value, reason = "made for map_err")]
pub fn to_status(error: Box<Error>) -> Status {
    let code = error.reason.code();
    Status::with_error_details(code, error.message.clone(), details(&error))
}

/// The same as a message, for replies that carry errors of single items.
pub fn to_message(error: &Error) -> google::Status {
    let status =
        Status::with_error_details(error.reason.code(), error.message.clone(), details(error));
    // What a gRPC trailer carries is that very message.
    google::Status::decode(status.details()).unwrap_or_default()
}

fn details(error: &Error) -> ErrorDetails {
    let mut details = ErrorDetails::with_error_info(
        error.reason.as_str(),
        DOMAIN,
        error.metadata.clone().into_iter().collect::<std::collections::HashMap<_, _>>(),
    );
    if let Some(delay) = error.retry_delay {
        details.set_retry_info(Some(delay));
    }
    let name = error.resource.as_deref().unwrap_or_default();
    match error.reason.code() {
        Code::InvalidArgument => {
            if let Some(field) = error.metadata.get("field") {
                details.add_bad_request_violation(field, &error.message);
            }
        }
        Code::NotFound | Code::AlreadyExists if !name.is_empty() => {
            details.set_resource_info("google.longrunning.Operation", name, "", &error.message);
        }
        Code::FailedPrecondition => {
            details.add_precondition_failure_violation(error.reason.as_str(), name, &error.message);
        }
        _ => {}
    }
    details
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Reason;

    #[test]
    fn every_reason_has_a_word_a_code_and_error_info() {
        for reason in Reason::ALL {
            let status = to_status(Error::new(reason, "why").with("field", "f"));
            let info = status.get_details_error_info().expect("error info");
            assert_eq!(
                (info.reason.as_str(), info.domain.as_str()),
                (reason.as_str(), "longhaul.dev")
            );
            assert_ne!(status.code(), Code::Ok);
            assert_ne!(status.code(), Code::Unknown);
            let word = reason.as_str();
            assert!(
                word.len() <= 63
                    && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'),
                "{word}"
            );
            assert!(
                status.get_details_bad_request().is_some()
                    == (status.code() == Code::InvalidArgument)
            );
            assert!(!to_message(&Error::new(reason, "why")).details.is_empty());
        }
    }
}
