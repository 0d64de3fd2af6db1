//! Replies of calls, and the parts that every refusal must have.

use std::collections::HashMap;

use longhaul::proto::google::rpc as google;
use prost::Message;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{Operation, Outcome};

/// The answer of a call.
pub(crate) trait Answer<T> {
    /// It was granted.
    fn granted(self) -> T;
    /// It was refused so. Checks the details that every error of that code has, and returns the metadata of ErrorInfo.
    fn refused(self, code: Code, reason: &str) -> HashMap<String, String>;
    /// It was refused for a field.
    fn refused_field(self, reason: &str, field: &str) -> HashMap<String, String>;
}

impl<T: std::fmt::Debug> Answer<T> for Result<T, Status> {
    #[track_caller]
    fn granted(self) -> T {
        match self {
            Ok(answer) => answer,
            Err(status) => panic!("refused: {status:?}"),
        }
    }

    #[track_caller]
    fn refused(self, code: Code, reason: &str) -> HashMap<String, String> {
        let status = self.expect_err("a refusal");
        let info = status.get_details_error_info().expect("ErrorInfo");
        assert_eq!((status.code(), &info.reason[..]), (code, reason), "{}", status.message());
        assert_eq!(info.domain, "longhaul.dev");
        assert!(!status.message().is_empty() && !status.message().ends_with('.'), "{status:?}");
        let trouble = matches!(code, Code::Unavailable | Code::ResourceExhausted);
        assert_eq!(status.get_details_retry_info().is_some(), trouble, "RetryInfo: {status:?}");
        let resource = status.get_details_resource_info();
        // Services of health are no resources.
        let about_one =
            matches!(code, Code::NotFound | Code::AlreadyExists) && reason != "SERVICE_NOT_FOUND";
        assert_eq!(resource.is_some(), about_one, "{status:?}");
        let precondition = status.get_details_precondition_failure();
        assert_eq!(precondition.is_some(), code == Code::FailedPrecondition, "{status:?}");
        let violation = status.get_details_bad_request();
        let field = violation.and_then(|bad| bad.field_violations.first().map(|v| v.field.clone()));
        if code == Code::InvalidArgument {
            assert_eq!(field, info.metadata.get("field").cloned(), "BadRequest: {status:?}");
        }
        info.metadata
    }

    #[track_caller]
    fn refused_field(self, reason: &str, field: &str) -> HashMap<String, String> {
        let metadata = self.refused(Code::InvalidArgument, reason);
        assert_eq!(metadata.get("field").map(String::as_str), Some(field), "{metadata:?}");
        metadata
    }
}

/// The reason and metadata of the ErrorInfo in a status that is part of a message.
#[track_caller]
pub(crate) fn error_info(status: &google::Status) -> google::ErrorInfo {
    let of_type = |any: &&longhaul::proto::google::protobuf::Any| {
        any.type_url.ends_with("/google.rpc.ErrorInfo")
    };
    let mut infos = status.details.iter().filter(of_type);
    let info = infos.next().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert!(infos.next().is_none(), "one ErrorInfo: {status:?}");
    let info = google::ErrorInfo::decode(&info.value[..]).expect("an ErrorInfo");
    assert_eq!(info.domain, "longhaul.dev");
    info
}

/// The error that an operation ended with.
#[track_caller]
pub(crate) fn error_of(operation: &Operation) -> google::Status {
    assert!(operation.done, "{operation:?}");
    match &operation.result {
        Some(Outcome::Error(error)) => error.clone(),
        other => panic!("an error, not {other:?}"),
    }
}

/// The response that an operation ended with.
#[track_caller]
pub(crate) fn response_of(operation: &Operation) -> longhaul::proto::google::protobuf::Any {
    assert!(operation.done, "{operation:?}");
    match &operation.result {
        Some(Outcome::Response(response)) => response.clone(),
        other => panic!("a response, not {other:?}"),
    }
}

/// The instant is that one. Stamps may run a few microseconds ahead, as no two commits have the same.
#[track_caller]
pub(crate) fn assert_at(found: Option<prost_types::Timestamp>, wanted: prost_types::Timestamp) {
    let found = found.expect("a time");
    let nanos = |time: prost_types::Timestamp| {
        i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos)
    };
    assert!((nanos(found) - nanos(wanted)).abs() < 1_000_000, "{found} is not {wanted}");
}
