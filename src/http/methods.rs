//! Calls of the methods of all services, in this process.
//!
//! Every method has one implementation, whichever face asks for it: its access check, its deadlines and its errors are the
//! same. What serves it is a service of gRPC, which takes a request as bytes.

use std::convert::Infallible;

use axum::body::Body;
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, TE};
use http::uri::PathAndQuery;
use http::{Extensions, HeaderMap, HeaderValue, Method, Request, Response, Uri, Version};
use http_body_util::BodyExt;
use percent_encoding::percent_decode;
use prost::Message;
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt};

use super::error::HttpFailure;
use crate::code::Code;
use crate::engine::Error;
use crate::proto::google::rpc::Status;

/// The methods.
#[derive(Clone, Debug)]
pub(crate) struct Methods(BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>);

/// A call.
pub(super) struct MethodCall {
    /// Which method.
    pub(super) path: PathAndQuery,
    /// Headers of the request that it is made for, as metadata.
    pub(super) headers: HeaderMap,
    /// What is known of the connection.
    pub(super) extensions: Extensions,
    /// The request.
    pub(super) message: Vec<u8>,
}

/// What was answered with one message.
pub(super) struct Reply {
    /// Metadata.
    pub(super) headers: HeaderMap,
    /// The message.
    pub(super) message: Bytes,
}

/// The messages of an answer.
pub(super) struct Messages {
    body: Body,
    read: BytesMut,
    trailers: Option<HeaderMap>,
}

impl Methods {
    /// Methods that `service` serves.
    pub(crate) fn of<S>(service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
        S: Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        Self(BoxCloneSyncService::new(service))
    }

    /// Calls a method that answers with one message.
    pub(super) async fn call(&self, call: MethodCall) -> Result<Reply, HttpFailure> {
        let (headers, mut messages) = self.stream(call).await?;
        let message = messages.next().await.transpose()?;
        let message = message.ok_or_else(|| Error::internal(&"a method has answered nothing"))?;
        // The status follows.
        match messages.next().await.transpose()? {
            None => Ok(Reply { headers, message }),
            Some(_) => Err(Error::internal(&"a method has answered more than once").into()),
        }
    }

    /// Calls a method that answers with messages.
    pub(super) async fn stream(
        &self,
        call: MethodCall,
    ) -> Result<(HeaderMap, Messages), HttpFailure> {
        let request = request(call);
        let Ok(answer) = self.0.clone().oneshot(request).await;
        let (head, body) = answer.into_parts();
        if let Some(status) = status(&head.headers) {
            status?;
        }
        Ok((head.headers, Messages { body, read: BytesMut::new(), trailers: None }))
    }
}

fn request(call: MethodCall) -> Request<Body> {
    let MethodCall { path, mut headers, extensions, message } = call;
    for name in LEFT_OUT {
        headers.remove(*name);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    let mut frame = BytesMut::with_capacity(HEAD + message.len());
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put_slice(&message);
    let mut request = Request::new(Body::from(frame.freeze()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from(path);
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = headers;
    *request.extensions_mut() = extensions;
    request
}

impl Messages {
    /// The next message; `None` after the last.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, HttpFailure>> {
        loop {
            if let Some(message) = self.take() {
                return Some(Ok(message));
            }
            if let Some(trailers) = &self.trailers {
                let ended = status(trailers)?.err();
                self.trailers = Some(HeaderMap::new());
                return ended.map(Err);
            }
            match self.body.frame().await {
                None => self.trailers = Some(HeaderMap::new()),
                Some(Err(error)) => return Some(Err(Error::internal(&error).into())),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.read.extend_from_slice(&data),
                    Err(frame) => self.trailers = frame.into_trailers().ok(),
                },
            }
        }
    }

    fn take(&mut self) -> Option<Bytes> {
        let length = self.read.get(1..HEAD)?.try_into().map(u32::from_be_bytes).ok()? as usize;
        if self.read.len() < HEAD + length {
            return None;
        }
        self.read.advance(HEAD);
        Some(self.read.split_to(length).freeze())
    }
}

/// The status in headers or trailers, if it is there.
fn status(headers: &HeaderMap) -> Option<Result<(), HttpFailure>> {
    let code = headers.get("grpc-status")?.to_str().ok().and_then(|code| code.parse().ok());
    let code = code.unwrap_or(Code::Unknown as i32);
    if code == Code::Ok as i32 {
        return Some(Ok(()));
    }
    let details = headers.get("grpc-status-details-bin");
    let details = details.and_then(|details| BASE64.decode(details).ok());
    let status = details.and_then(|details| Status::decode(&details[..]).ok());
    let message = || {
        let message = headers.get("grpc-message").map(HeaderValue::as_bytes).unwrap_or_default();
        percent_decode(message).decode_utf8_lossy().into_owned()
    };
    let bare = || Status { code, message: message(), details: Vec::new() };
    Some(Err(status.unwrap_or_else(bare).into()))
}

/// What stands before a message: whether it is compressed, and its length.
const HEAD: usize = 5;
/// Headers of a request that are about its own body or connection.
const LEFT_OUT: &[&str] = &[
    "accept",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "expect",
    "grpc-encoding",
    "grpc-accept-encoding",
    "host",
    "keep-alive",
    "transfer-encoding",
    "upgrade",
];
/// As gRPC asks: padded or not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
