//! Errors for callers (AIP-193), in both projections: google.rpc.Status for gRPC, status and JSON body for HTTP.
//!
//! Both follow from `Reason::code`, so the two faces cannot disagree.
#![deny(clippy::wildcard_enum_match_arm)]

use prost::Message;
use prost_types::Duration;
use serde_json::{Value, json};

use crate::code::Code;
use crate::engine::{Error, Reason};
use crate::operation::payload::type_url;
use crate::operation::published::DOMAIN;
use crate::proto::google::protobuf::Any;
use crate::proto::google::rpc;
use crate::proto::google::rpc::bad_request::FieldViolation;
use crate::proto::google::rpc::precondition_failure::Violation;
use crate::types::Registry;

/// The error as google.rpc.Status, with ErrorInfo and whatever else helps a program.
pub fn to_message(error: &Error) -> rpc::Status {
    let (code, message) = (error.reason.code() as i32, error.message.clone());
    rpc::Status { code, message, details: details(error) }
}

/// The error as an HTTP status and the body that Google's REST clients read.
pub fn to_http(error: &Error, types: &Registry) -> (u16, Value) {
    status_to_http(&to_message(error), types)
}

/// The same of an error that is a message already.
pub fn status_to_http(error: &rpc::Status, types: &Registry) -> (u16, Value) {
    let code = Code::from_number(error.code);
    let word = reason(error);
    let known =
        Reason::ALL.into_iter().find(|known| known.as_str() == word && known.code() == code);
    let status = known.map_or(code.http_status(), http_status);
    let details: Vec<Value> = error.details.iter().map(|detail| types.any(detail)).collect();
    let name = code.as_str();
    let body =
        json!({ "code": status, "message": error.message, "status": name, "details": details });
    (status, json!({ "error": body }))
}

/// The HTTP status of a reason: that of its code, but for two that HTTP has statuses of its own for.
const fn http_status(reason: Reason) -> u16 {
    match reason {
        Reason::PayloadTooLarge => 413,
        // As draft-ietf-httpapi-idempotency-key-header asks.
        Reason::RequestIdReused => 422,
        Reason::InvalidName
        | Reason::InvalidArgument
        | Reason::Unimplemented
        | Reason::NotSupported
        | Reason::LimitExceeded
        | Reason::RequestLate
        | Reason::Overloaded
        | Reason::TenantLimit
        | Reason::ServerDraining
        | Reason::PermissionDenied
        | Reason::Unauthenticated
        | Reason::KeysUnavailable
        | Reason::Internal
        | Reason::OperationNotFound
        | Reason::OperationExpired
        | Reason::OperationDeleted
        | Reason::OperationAlreadyExists
        | Reason::JobNotFound
        | Reason::JobAlreadyExists
        | Reason::ExecutionNotFound
        | Reason::NameExpired
        | Reason::NameDeleted
        | Reason::InvalidPageToken
        | Reason::PageTokenExpired
        | Reason::InvalidFilter
        | Reason::UnknownType
        | Reason::UnknownResponse
        | Reason::TypeMismatch
        | Reason::EtagMismatch
        | Reason::ConcurrencyConflict
        | Reason::InvalidState
        | Reason::LeaseLost
        | Reason::StoreUnavailable
        | Reason::WorkerLost
        | Reason::TypeSetNotFound
        | Reason::TypeSetAlreadyExists
        | Reason::WebhookEndpointNotFound
        | Reason::WebhookEndpointAlreadyExists
        | Reason::WebhookDeliveryNotFound
        | Reason::CallbackUriRejected
        | Reason::WorkerNotFound
        | Reason::TokenNotFound
        | Reason::TokenAlreadyExists
        | Reason::ServiceNotFound => reason.code().http_status(),
    }
}

/// The reason in the ErrorInfo of an error, if there is one.
pub fn reason(error: &rpc::Status) -> String {
    let info = error.details.iter().find(|any| any.type_url.ends_with("/google.rpc.ErrorInfo"));
    let info = info.and_then(|info| rpc::ErrorInfo::decode(&info.value[..]).ok());
    info.map(|info| info.reason).unwrap_or_default()
}

fn details(error: &Error) -> Vec<Any> {
    let (reason, message) = (error.reason.as_str().to_owned(), error.message.clone());
    let domain = DOMAIN.to_owned();
    let metadata = error.metadata.clone();
    let info = rpc::ErrorInfo { reason: reason.clone(), domain, metadata };
    let mut details = vec![pack("ErrorInfo", &info)];
    if let Some(delay) = error.retry_delay {
        let retry_delay = Duration::try_from(delay).ok();
        details.push(pack("RetryInfo", &rpc::RetryInfo { retry_delay }));
    }
    let resource = error.resource.clone().unwrap_or_default();
    match error.reason.code() {
        Code::InvalidArgument => {
            if let Some(field) = error.metadata.get("field").cloned() {
                let violation =
                    FieldViolation { field, description: message, ..FieldViolation::default() };
                let bad_request = rpc::BadRequest { field_violations: vec![violation] };
                details.push(pack("BadRequest", &bad_request));
            }
        }
        Code::NotFound | Code::AlreadyExists if !resource.is_empty() => {
            let info = rpc::ResourceInfo {
                resource_type: resource_type(error.reason).to_owned(),
                resource_name: resource,
                owner: String::new(),
                description: message,
            };
            details.push(pack("ResourceInfo", &info));
        }
        Code::FailedPrecondition => {
            let violation = Violation { r#type: reason, subject: resource, description: message };
            let failure = rpc::PreconditionFailure { violations: vec![violation] };
            details.push(pack("PreconditionFailure", &failure));
        }
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => {}
    }
    details
}

const fn resource_type(reason: Reason) -> &'static str {
    if matches!(reason, Reason::TypeSetNotFound | Reason::TypeSetAlreadyExists) {
        "longhaul.dev/TypeSet"
    } else if matches!(reason, Reason::TokenNotFound | Reason::TokenAlreadyExists) {
        "longhaul.dev/Token"
    } else if matches!(
        reason,
        Reason::WebhookEndpointNotFound | Reason::WebhookEndpointAlreadyExists
    ) {
        "longhaul.dev/WebhookEndpoint"
    } else if matches!(reason, Reason::WebhookDeliveryNotFound) {
        "longhaul.dev/WebhookDelivery"
    } else if matches!(reason, Reason::JobNotFound | Reason::JobAlreadyExists) {
        "longhaul.dev/Job"
    } else if matches!(reason, Reason::ExecutionNotFound) {
        "longhaul.dev/Execution"
    } else {
        "google.longrunning.Operation"
    }
}

fn pack(name: &str, message: &impl Message) -> Any {
    Any { type_url: type_url(&format!("google.rpc.{name}")), value: message.encode_to_vec().into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_word_a_code_and_error_info_for_both_faces() {
        let types = Registry::builtin();
        for reason in Reason::ALL {
            let error = Error::new(reason, "why").with("field", "f");
            let status = to_message(&error);
            let code = Code::from_number(status.code);
            assert!(code != Code::Ok && code != Code::Unknown, "{reason:?}");
            let info = rpc::ErrorInfo::decode(&status.details[0].value[..]).expect("error info");
            assert_eq!((&*info.reason, &*info.domain), (reason.as_str(), "longhaul.dev"));
            let word = reason.as_str();
            let shape = |byte: u8| byte.is_ascii_uppercase() || byte == b'_';
            assert!(word.len() <= 63 && word.bytes().all(shape), "{word}");
            let names: Vec<&str> = status
                .details
                .iter()
                .map(|detail| detail.type_url.rsplit('.').next().expect("a name"))
                .collect();
            assert_eq!(names.contains(&"BadRequest"), code == Code::InvalidArgument, "{word}");

            let (http, body) = to_http(&error, &types);
            assert!((400..=599).contains(&http), "{word}");
            assert_eq!(body["error"]["code"], http, "{word}");
            assert_eq!(body["error"]["status"], code.as_str(), "{word}");
            let info = &body["error"]["details"][0];
            assert_eq!(info["@type"], "type.googleapis.com/google.rpc.ErrorInfo", "{word}");
            assert_eq!(info["reason"], word);
        }
    }

    #[test]
    fn a_refusal_names_the_resource_the_field_and_when_to_ask_again() {
        let types = Registry::builtin();
        let name = crate::operation::name::Name::parse("projects/p/operations/o").expect("a name");
        let (status, body) = to_http(&Error::not_found(&name), &types);
        assert_eq!(status, 404);
        assert_eq!(body["error"]["details"][1]["resourceName"], "projects/p/operations/o");

        let (status, body) = to_http(&Error::draining(), &types);
        assert_eq!((status, &body["error"]["details"][1]["retryDelay"]), (503, &json!("1s")));

        let (status, body) = to_http(&Error::field("ttl", "too short"), &types);
        assert_eq!(status, 400);
        assert_eq!(body["error"]["details"][1]["fieldViolations"][0]["field"], "ttl");
    }
}
