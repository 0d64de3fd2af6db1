//! The errors of all verbs: one closed list of reasons, each with its code.
#![deny(clippy::wildcard_enum_match_arm)]

use std::collections::BTreeMap;
use std::time::Duration;

use crate::code::Code;
use crate::job::JobRejection;
use crate::operation::Rejection;
use crate::operation::name::{Name, NameError};
use crate::store::StoreError;

/// The reasons of ErrorInfo, domain `longhaul.dev`. Contract: their names stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are what they are known by")]
pub enum Reason {
    InvalidName,
    InvalidArgument,
    Unimplemented,
    /// A whole feature that does not exist; its reason and its code are UNIMPLEMENTED.
    NotSupported,
    LimitExceeded,
    /// The body of a request did not arrive in time. The reason is LIMIT_EXCEEDED; a retry can succeed.
    RequestLate,
    /// Calls in flight use all the memory that they may. The reason is LIMIT_EXCEEDED; a retry can succeed.
    Overloaded,
    /// A tenant is at one of its limits. The reason is LIMIT_EXCEEDED; a retry can succeed.
    TenantLimit,
    ServerDraining,
    PermissionDenied,
    Unauthenticated,
    /// The keys of the issuer of a token are not known at this time. The reason is UNAUTHENTICATED; a retry can succeed.
    KeysUnavailable,
    Internal,
    OperationNotFound,
    OperationExpired,
    OperationDeleted,
    OperationAlreadyExists,
    JobNotFound,
    JobAlreadyExists,
    ExecutionNotFound,
    /// A tombstone blocks a start; the reason is that of the tombstone.
    NameExpired,
    /// A tombstone blocks a start; the reason is that of the tombstone.
    NameDeleted,
    RequestIdReused,
    InvalidPageToken,
    PageTokenExpired,
    InvalidFilter,
    UnknownType,
    /// A response has a type whose JSON is not known, and the caller reads no other form. The reason is UNKNOWN_TYPE.
    UnknownResponse,
    TypeMismatch,
    PayloadTooLarge,
    EtagMismatch,
    /// The limit of a concurrency key is reached.
    ConcurrencyConflict,
    InvalidState,
    LeaseLost,
    StoreUnavailable,
    /// A worker's stream was silent for too long.
    WorkerLost,
    TypeSetNotFound,
    TypeSetAlreadyExists,
    WebhookEndpointNotFound,
    WebhookEndpointAlreadyExists,
    WebhookDeliveryNotFound,
    /// A callback or an endpoint has a URI that is never called.
    CallbackUriRejected,
    WorkerNotFound,
    TokenNotFound,
    TokenAlreadyExists,
    /// Health has no such service.
    ServiceNotFound,
}

impl Reason {
    /// All of them, for the tests that hold documents and projections to this list.
    pub const ALL: [Self; 46] = [
        Self::InvalidName,
        Self::InvalidArgument,
        Self::Unimplemented,
        Self::NotSupported,
        Self::LimitExceeded,
        Self::RequestLate,
        Self::Overloaded,
        Self::TenantLimit,
        Self::ServerDraining,
        Self::PermissionDenied,
        Self::Unauthenticated,
        Self::KeysUnavailable,
        Self::Internal,
        Self::OperationNotFound,
        Self::OperationExpired,
        Self::OperationDeleted,
        Self::OperationAlreadyExists,
        Self::JobNotFound,
        Self::JobAlreadyExists,
        Self::ExecutionNotFound,
        Self::NameExpired,
        Self::NameDeleted,
        Self::RequestIdReused,
        Self::InvalidPageToken,
        Self::PageTokenExpired,
        Self::InvalidFilter,
        Self::UnknownType,
        Self::UnknownResponse,
        Self::TypeMismatch,
        Self::PayloadTooLarge,
        Self::EtagMismatch,
        Self::ConcurrencyConflict,
        Self::InvalidState,
        Self::LeaseLost,
        Self::StoreUnavailable,
        Self::WorkerLost,
        Self::TypeSetNotFound,
        Self::TypeSetAlreadyExists,
        Self::WebhookEndpointNotFound,
        Self::WebhookEndpointAlreadyExists,
        Self::WebhookDeliveryNotFound,
        Self::CallbackUriRejected,
        Self::WorkerNotFound,
        Self::TokenNotFound,
        Self::TokenAlreadyExists,
        Self::ServiceNotFound,
    ];

    /// The word in ErrorInfo.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidName => "INVALID_NAME",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::Unimplemented | Self::NotSupported => "UNIMPLEMENTED",
            Self::LimitExceeded | Self::RequestLate | Self::Overloaded | Self::TenantLimit => {
                "LIMIT_EXCEEDED"
            }
            Self::ServerDraining => "SERVER_DRAINING",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::Unauthenticated | Self::KeysUnavailable => "UNAUTHENTICATED",
            Self::Internal => "INTERNAL",
            Self::OperationNotFound => "OPERATION_NOT_FOUND",
            Self::OperationExpired | Self::NameExpired => "OPERATION_EXPIRED",
            Self::OperationDeleted | Self::NameDeleted => "OPERATION_DELETED",
            Self::OperationAlreadyExists => "OPERATION_ALREADY_EXISTS",
            Self::JobNotFound => "JOB_NOT_FOUND",
            Self::JobAlreadyExists => "JOB_ALREADY_EXISTS",
            Self::ExecutionNotFound => "EXECUTION_NOT_FOUND",
            Self::RequestIdReused => "REQUEST_ID_REUSED",
            Self::InvalidPageToken => "INVALID_PAGE_TOKEN",
            Self::PageTokenExpired => "PAGE_TOKEN_EXPIRED",
            Self::InvalidFilter => "INVALID_FILTER",
            Self::UnknownType | Self::UnknownResponse => "UNKNOWN_TYPE",
            Self::TypeMismatch => "TYPE_MISMATCH",
            Self::PayloadTooLarge => "PAYLOAD_TOO_LARGE",
            Self::EtagMismatch => "ETAG_MISMATCH",
            Self::ConcurrencyConflict => "CONCURRENCY_CONFLICT",
            Self::InvalidState => "INVALID_STATE",
            Self::LeaseLost => "LEASE_LOST",
            Self::StoreUnavailable => "STORE_UNAVAILABLE",
            Self::WorkerLost => "WORKER_LOST",
            Self::TypeSetNotFound => "TYPE_SET_NOT_FOUND",
            Self::TypeSetAlreadyExists => "TYPE_SET_ALREADY_EXISTS",
            Self::WebhookEndpointNotFound => "WEBHOOK_ENDPOINT_NOT_FOUND",
            Self::WebhookEndpointAlreadyExists => "WEBHOOK_ENDPOINT_ALREADY_EXISTS",
            Self::WebhookDeliveryNotFound => "WEBHOOK_DELIVERY_NOT_FOUND",
            Self::CallbackUriRejected => "CALLBACK_URI_REJECTED",
            Self::WorkerNotFound => "WORKER_NOT_FOUND",
            Self::TokenNotFound => "TOKEN_NOT_FOUND",
            Self::TokenAlreadyExists => "TOKEN_ALREADY_EXISTS",
            Self::ServiceNotFound => "SERVICE_NOT_FOUND",
        }
    }

    /// The canonical code (AIP-193).
    pub const fn code(self) -> Code {
        match self {
            Self::InvalidName
            | Self::InvalidArgument
            // A field that has no effect is a bad argument; whole methods that do not exist are answered below the faces.
            | Self::Unimplemented
            | Self::LimitExceeded
            | Self::RequestIdReused
            | Self::InvalidPageToken
            | Self::PageTokenExpired
            | Self::InvalidFilter
            | Self::UnknownType
            | Self::TypeMismatch
            | Self::CallbackUriRejected
            | Self::PayloadTooLarge => Code::InvalidArgument,
            Self::NotSupported => Code::Unimplemented,
            Self::RequestLate | Self::Overloaded | Self::ServerDraining | Self::KeysUnavailable | Self::StoreUnavailable | Self::WorkerLost => Code::Unavailable,
            Self::TenantLimit => Code::ResourceExhausted,
            Self::PermissionDenied => Code::PermissionDenied,
            Self::Unauthenticated => Code::Unauthenticated,
            Self::Internal => Code::Internal,
            Self::OperationNotFound
            | Self::OperationExpired
            | Self::OperationDeleted
            | Self::TypeSetNotFound
            | Self::WebhookEndpointNotFound
            | Self::WebhookDeliveryNotFound
            | Self::WorkerNotFound
            | Self::TokenNotFound
            | Self::JobNotFound
            | Self::ExecutionNotFound
            | Self::ServiceNotFound => Code::NotFound,
            Self::OperationAlreadyExists
            | Self::NameExpired
            | Self::NameDeleted
            | Self::TypeSetAlreadyExists
            | Self::WebhookEndpointAlreadyExists
            | Self::TokenAlreadyExists
            | Self::JobAlreadyExists => Code::AlreadyExists,
            Self::EtagMismatch | Self::ConcurrencyConflict => Code::Aborted,
            Self::UnknownResponse | Self::InvalidState | Self::LeaseLost => Code::FailedPrecondition,
        }
    }
}

/// An error for the caller. Details for operators were logged where it happened.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// Why.
    pub reason: Reason,
    /// For people.
    pub message: String,
    /// For programs: the names and values in the message.
    pub metadata: BTreeMap<String, String>,
    /// The resource that it is about.
    pub resource: Option<String>,
    /// The time to wait before a retry.
    pub retry_delay: Option<Duration>,
}

/// Of verbs.
pub type Result<T> = std::result::Result<T, Box<Error>>;

impl Error {
    /// An error of that reason.
    pub fn new(reason: Reason, message: impl Into<String>) -> Box<Self> {
        let message = cut(message.into(), MAX_MESSAGE);
        Box::new(Self {
            reason,
            message,
            metadata: BTreeMap::new(),
            resource: None,
            retry_delay: None,
        })
    }

    /// A field of the request that cannot be.
    pub fn field(field: &str, message: impl Into<String>) -> Box<Self> {
        Self::new(Reason::InvalidArgument, message).with("field", field)
    }

    /// Names something for programs.
    #[must_use]
    pub fn with(mut self: Box<Self>, key: &str, value: impl ToString) -> Box<Self> {
        self.metadata.insert(key.to_owned(), cut(value.to_string(), MAX_VALUE));
        self
    }

    /// Adds the time to wait before a retry.
    #[must_use]
    pub fn retry_after(mut self: Box<Self>, delay: Duration) -> Box<Self> {
        self.retry_delay = Some(delay);
        self
    }

    /// There is no such operation.
    pub fn not_found(name: &Name) -> Box<Self> {
        Self::about(Reason::OperationNotFound, name, format!("there is no operation {name}"))
    }

    /// An error about an operation.
    pub fn about(reason: Reason, name: &Name, message: impl Into<String>) -> Box<Self> {
        Self::on(reason, name.to_string(), message)
    }

    /// An error about the resource of that name.
    pub(super) fn on(reason: Reason, name: String, message: impl Into<String>) -> Box<Self> {
        let mut error = Self::new(reason, message).with("name", &name);
        error.resource = Some(name);
        error
    }

    /// The server stops.
    pub fn draining() -> Box<Self> {
        let mut error = Self::new(
            Reason::ServerDraining,
            "this server is shutting down; ask again, another one may answer",
        );
        error.retry_delay = Some(Duration::from_secs(1));
        error
    }

    /// The server has not reached its store since it was started.
    pub fn waiting_for_store() -> Box<Self> {
        Self::new(Reason::StoreUnavailable, "this server waits for its store; ask again")
            .retry_after(Duration::from_secs(1))
    }

    /// It changes faster than it can be read or written.
    pub fn busy(what: &dyn std::fmt::Display) -> Box<Self> {
        let mut error = Self::new(
            Reason::StoreUnavailable,
            format!("{what} changes too fast just now; try again"),
        );
        error.retry_delay = Some(Duration::from_millis(100));
        error
    }

    /// A record that a newer longhaul wrote, and that this one must not change.
    pub(super) fn newer() -> Box<Self> {
        Self::new(
            Reason::Internal,
            "the record of this operation was written by a newer longhaul; ask a server of that version",
        )
    }

    /// A record that cannot be read; that was noted where it was found.
    pub fn unreadable() -> Box<Self> {
        Self::new(
            Reason::Internal,
            "the record of this operation cannot be read; the server's log has the cause, and deleting the operation removes it",
        )
    }

    /// Something that cannot be; the cause is in the log.
    pub fn internal(cause: &dyn std::fmt::Display) -> Box<Self> {
        tracing::error!(%cause, "internal error");
        Self::new(Reason::Internal, "internal error; the server's log has the cause")
    }
}

/// Clients accept 8 KiB of trailers, and a message occurs in them several times: long input is not repeated in full.
fn cut(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit));
        text.push_str("...");
    }
    text
}

const MAX_MESSAGE: usize = 1_024;
const MAX_VALUE: usize = 512;

impl From<NameError> for Box<Error> {
    fn from(error: NameError) -> Self {
        Error::new(Reason::InvalidName, error.to_string()).with("name", &error.text)
    }
}

impl From<StoreError> for Box<Error> {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Damaged(_) => Error::internal(&error),
            StoreError::Newer(_) => Error::newer(),
            // The store logs this change itself.
            StoreError::Full(message) => unavailable(&error, message),
            StoreError::Foreign(_) => unavailable(
                &error,
                "the store no longer holds this server's data; its operator must act",
            ),
            StoreError::Unfit(_) => unavailable(
                &error,
                "the store takes no writes now; its operator must act, the server's log and /readyz say why",
            ),
            StoreError::Away(_) | StoreError::Closed => {
                unavailable(&error, "the store does not answer; ask again")
            }
        }
    }
}

fn unavailable(error: &StoreError, message: &str) -> Box<Error> {
    Error::new(Reason::StoreUnavailable, message).retry_after(error.retry_delay())
}

impl From<JobRejection> for Box<Error> {
    fn from(rejection: JobRejection) -> Self {
        let message = rejection.to_string();
        match rejection {
            JobRejection::InvalidState { name, verb, .. } => {
                Error::on(Reason::InvalidState, name.to_string(), message).with("verb", verb)
            }
            JobRejection::EtagMismatch { name, current } => {
                Error::on(Reason::EtagMismatch, name.to_string(), message).with("etag", current)
            }
        }
    }
}

impl From<Rejection> for Box<Error> {
    fn from(rejection: Rejection) -> Self {
        let message = rejection.to_string();
        match rejection {
            Rejection::Deleted(name) => Error::about(Reason::OperationDeleted, &name, message),
            Rejection::Expired(name) => Error::about(Reason::OperationExpired, &name, message),
            Rejection::LeaseLost { name, attempt, fencing_number } => {
                Error::about(Reason::LeaseLost, &name, message)
                    .with("attempt", attempt)
                    .with("fencingNumber", fencing_number)
            }
            Rejection::InvalidState { name, verb, .. } => {
                Error::about(Reason::InvalidState, &name, message).with("verb", verb)
            }
            Rejection::TypeMismatch { name, field, declared, found } => {
                Error::about(Reason::TypeMismatch, &name, message)
                    .with("field", field)
                    .with("declared", declared)
                    .with("found", found)
            }
            Rejection::EtagMismatch { name, current } => {
                Error::about(Reason::EtagMismatch, &name, message).with("etag", current)
            }
            Rejection::LimitExceeded { name, what, limit } => {
                Error::about(Reason::LimitExceeded, &name, message)
                    .with("what", what)
                    .with("limit", limit)
            }
            Rejection::DeadlinePassed { name, .. } => {
                Error::about(Reason::InvalidArgument, &name, message)
                    .with("field", "options.deadline_time")
            }
            Rejection::NotReady(name) => Error::about(Reason::InvalidState, &name, message),
        }
    }
}
