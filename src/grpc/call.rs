//! What every method needs of a call: its caller, its headers, and the type of its answer.

use std::borrow::Cow;

use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Request, Response, Status};

use crate::engine::{Caller, Engine};
use crate::types::Registry;
use crate::wire::start_callbacks::{StartCarrier, StartUrl};

/// The answer of a method.
pub(super) type Reply<T> = Result<Response<T>, Status>;

/// Who makes the call, as the server found out before it reached the services.
pub(super) fn caller<T>(request: &Request<T>) -> Caller {
    caller_in(request).clone()
}

/// The same, for a question that ends before the call does.
pub(super) fn caller_in<T>(request: &Request<T>) -> &Caller {
    request.extensions().get::<Caller>().unwrap_or(&Caller::UNASKED)
}

/// The request of that method, as a start that it carries sees it.
pub(super) fn carrier<'a>(
    engine: &'a Engine,
    metadata: &'a MetadataMap,
    method: &'static str,
    types: Cow<'a, Registry>,
) -> StartCarrier<'a> {
    let (url, readable) = (StartUrl::Method(method), engine.callback_headers());
    let receivers = engine.carrier();
    StartCarrier { headers: metadata.as_ref(), url, readable, types, receivers }
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
