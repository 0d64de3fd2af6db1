//! Adds ErrorInfo (AIP-193) to the errors that tonic makes itself: unknown methods, and requests that cannot be read or
//! are too large.

use std::task::{Context, Poll};

use futures_util::TryFutureExt;
use futures_util::future::MapOk;
use tonic::{Code, Status};
use tower::{Layer, Service};

use crate::engine::{Error, Reason};
use crate::grpc::status::to_status;
use crate::limits::MAX_MESSAGE_BYTES;

/// Adds ErrorInfo to errors that have none.
#[derive(Clone, Copy, Debug)]
pub struct Explain;

/// A service with [`Explain`] around it.
#[derive(Clone, Debug)]
pub struct Explained<S> {
    inner: S,
}

impl<S> Layer<S> for Explain {
    type Service = Explained<S>;

    fn layer(&self, inner: S) -> Explained<S> {
        Explained { inner }
    }
}

impl<S, B, C: Default> Service<http::Request<B>> for Explained<S>
where
    S: Service<http::Request<B>, Response = http::Response<C>>,
{
    type Response = http::Response<C>;
    type Error = S::Error;
    type Future = MapOk<S::Future, fn(Self::Response) -> Self::Response>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        self.inner.call(request).map_ok(explain)
    }
}

/// A reply that has only trailers is an error. The errors of running streams come from the services, with ErrorInfo.
fn explain<C: Default>(response: http::Response<C>) -> http::Response<C> {
    let silent = response.headers().contains_key("grpc-status")
        && !response.headers().contains_key("grpc-status-details-bin");
    match Status::from_header_map(response.headers())
        .filter(|status| silent && status.code() != Code::Ok)
    {
        Some(status) => to_status(error(&status)).into_http(),
        None => response,
    }
}

/// The error that stands for a status of tonic's.
pub(super) fn error(status: &Status) -> Box<Error> {
    match status.code() {
        Code::Unimplemented if status.message().is_empty() => Error::new(
            Reason::NotSupported,
            "there is no such method; reflection lists those that there are",
        ),
        Code::Unimplemented => Error::new(Reason::NotSupported, status.message()),
        Code::OutOfRange => {
            let message = format!(
                "the request is larger than the {MAX_MESSAGE_BYTES} bytes that this server reads"
            );
            Error::new(Reason::PayloadTooLarge, message).with("limit", MAX_MESSAGE_BYTES)
        }
        // tonic's codes for bytes that are not the expected message.
        Code::Internal | Code::InvalidArgument => Error::new(
            Reason::InvalidArgument,
            format!("the request cannot be read: {}", status.message()),
        ),
        // The client disconnected in the middle of its request: it does not read this, and the server is not at fault.
        _ => Error::new(
            Reason::Internal,
            format!("the request did not arrive whole: {}", status.message()),
        ),
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt;

    use super::*;

    #[test]
    fn every_error_that_tonic_makes_says_why() {
        for (bare, reason, code) in [
            (Status::unimplemented(""), "UNIMPLEMENTED", Code::Unimplemented),
            (
                Status::out_of_range("decoded message length too large"),
                "PAYLOAD_TOO_LARGE",
                Code::InvalidArgument,
            ),
            (Status::internal("invalid wire type"), "INVALID_ARGUMENT", Code::InvalidArgument),
            (Status::unknown("?"), "INTERNAL", Code::Internal),
        ] {
            let explained = explain(bare.into_http::<String>());
            let status = Status::from_header_map(explained.headers()).expect("status");
            let info = status.get_details_error_info().expect("error info");
            assert_eq!((info.reason.as_str(), status.code()), (reason, code));
        }
        let own = to_status(Error::field("f", "own")).into_http::<String>();
        assert_eq!(
            Status::from_header_map(explain(own).headers()).expect("status").message(),
            "own"
        );
        assert!(explain(http::Response::new(String::new())).headers().is_empty());
    }
}
