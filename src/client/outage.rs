//! Classifies the error of a call: is the server unreachable for a while, or is it not a gRPC server at all?

use std::error::Error;

use tonic::{Code, Status, TimeoutExpired};

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// The server or its store is unreachable; a retry may succeed.
    Away,
    /// The connection broke; a retry may succeed, unless it always breaks.
    Broken,
    /// The server did not answer within the timeout of the call.
    Silent,
    /// The answer is not gRPC. If there was a gRPC server before, it may come back.
    NotGrpc,
}

/// The outage that an error means; `None` if the server answered.
pub fn outage(status: &Status) -> Option<Outage> {
    if status.code() == Code::DeadlineExceeded || below::<TimeoutExpired>(status).is_some() {
        return Some(Outage::Silent);
    }
    match http_status(status.message()) {
        Some(429 | 502 | 503 | 504) => return Some(Outage::Away),
        Some(_) => return Some(Outage::NotGrpc),
        None => {}
    }
    if below::<h2::Error>(status).is_some_and(is_another_protocol) {
        return Some(Outage::NotGrpc);
    }
    // An error below gRPC has no details.
    let broken = matches!(status.code(), Code::Unknown | Code::Internal | Code::Cancelled)
        && status.details().is_empty();
    match status.code() {
        Code::Unavailable => Some(Outage::Away),
        _ => broken.then_some(Outage::Broken),
    }
}

/// The innermost cause.
pub fn cause(status: &Status) -> String {
    match http_status(status.message()) {
        Some(code) => format!("the answer is HTTP status {code}, not gRPC"),
        None => std::iter::successors(status.source(), |&cause| cause.source())
            .last()
            .map_or_else(|| status.message().to_owned(), ToString::to_string),
    }
}

/// The HTTP status of an answer without a gRPC status, parsed from tonic's message.
fn http_status(message: &str) -> Option<u16> {
    let known = ["mapped from HTTP status code ", "while receiving response with status: "];
    let (_, rest) = known.iter().find_map(|words| message.split_once(words))?;
    rest.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

/// How a connection to a server without HTTP/2 ends.
fn is_another_protocol(error: &h2::Error) -> bool {
    error.is_library()
        && matches!(error.reason(), Some(h2::Reason::FRAME_SIZE_ERROR | h2::Reason::PROTOCOL_ERROR))
}

fn below<E: Error + 'static>(status: &Status) -> Option<&E> {
    std::iter::successors(status.source(), |&cause| cause.source())
        .find_map(|cause| cause.downcast_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_the_server_is_told_from_its_absence() {
        let detailed = Status::with_details(Code::Internal, "its own", vec![8, 13].into());
        for (status, expected) in [
            (Status::unavailable("the store is away"), Some(Outage::Away)),
            (Status::unknown("transport error"), Some(Outage::Broken)),
            (Status::cancelled("operation was canceled"), Some(Outage::Broken)),
            (detailed, None),
            (Status::not_found("there is no operation"), None),
            (Status::failed_precondition("a state"), None),
            (Status::deadline_exceeded(""), Some(Outage::Silent)),
            (Status::from_error(Box::new(TimeoutExpired(()))), Some(Outage::Silent)),
            (Status::unavailable(format!("{MISSING} 503")), Some(Outage::Away)),
            (Status::internal(format!("{WHILE} 502 Bad Gateway")), Some(Outage::Away)),
            (Status::internal(format!("{WHILE} 200 OK")), Some(Outage::NotGrpc)),
            (Status::unimplemented(format!("{MISSING} 404")), Some(Outage::NotGrpc)),
            (
                Status::from_error(Box::new(h2::Error::from(h2::Reason::FRAME_SIZE_ERROR))),
                Some(Outage::Broken),
            ),
        ] {
            assert_eq!(outage(&status), expected, "{status:?}");
        }
    }

    const MISSING: &str = "grpc-status header missing, mapped from HTTP status code";
    const WHILE: &str = "invalid compression flag: 60 while receiving response with status:";
}
