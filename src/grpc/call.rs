//! What every method needs of a call: its caller, its headers, and the type of its answer.

use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status};

use crate::engine::Caller;
use crate::wire::starts;

/// The answer of a method.
pub(super) type Reply<T> = Result<Response<T>, Status>;

/// Who makes the call, as the server found out before it reached the services.
pub(super) fn caller<T>(request: &Request<T>) -> Caller {
    request.extensions().get::<Caller>().cloned().unwrap_or_default()
}

/// The trace that a request belongs to; empty without one.
pub(super) fn trace_parent<T>(request: &Request<T>) -> String {
    starts::trace_parent(header(request, "traceparent")).to_owned()
}

/// Names the index that a list was read from in a header.
pub(super) fn read_from<T>(index: &'static str, page: T) -> Response<T> {
    let mut response = Response::new(page);
    response.metadata_mut().insert("longhaul-index", MetadataValue::from_static(index));
    response
}

/// The text of a header, if it is one.
pub(super) fn header<'a, T>(request: &'a Request<T>, name: &str) -> Option<&'a str> {
    request.metadata().get(name).and_then(|value| value.to_str().ok())
}
