//! `longhaul webhook verify` and `longhaul webhook listen`: the receiving side, while it is developed.

use std::convert::Infallible;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::body::Body;
use clap::{Args, Subcommand};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use humantime::format_duration;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::connection::Output;
use super::exit::Failure;
use super::{output, plain};
use crate::clock::{Clock, SystemClock};
use crate::limits::MAX_BODY_BYTES;
use crate::post::{SignedHead, Unverified, VerifyingKey};

/// What a receiver does with deliveries.
#[derive(Debug, Subcommand)]
pub(super) enum ReceivingCommand {
    /// Check the signature and the age of a delivery, and say what is wrong with it
    Verify(VerifyArgs),
    /// Receive deliveries on this machine and print them, with what is wrong with them
    Listen(ListenArgs),
}

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// The delivery in a file, or - for standard input: its headers, an empty line and its body, as `listen` prints it
    #[arg(default_value = "-", value_name = "FILE")]
    delivery: String,
    /// The body in a file of its own, exactly as it arrived; FILE then has only the headers
    #[arg(long, value_name = "FILE")]
    body: Option<String>,
    /// The secret of the endpoint (whsec_...), or the public key of the server or the endpoint (whpk_...)
    #[arg(long, value_name = "KEY", env = KEY, hide_env_values = true, value_parser = VerifyingKey::parse)]
    key: VerifyingKey,
    #[command(flatten)]
    tolerance: ToleranceArg,
}

#[derive(Debug, Args)]
pub(super) struct ListenArgs {
    /// The address to listen on
    #[arg(long, default_value = "127.0.0.1:9000", value_name = "ADDRESS:PORT")]
    address: SocketAddr,
    /// Check deliveries with this secret (whsec_...) or public key (whpk_...), and refuse others with 400
    #[arg(long, value_name = "KEY", env = KEY, hide_env_values = true, value_parser = VerifyingKey::parse)]
    key: Option<VerifyingKey>,
    #[command(flatten)]
    tolerance: ToleranceArg,
    /// The status to reply with, such as 500 to see how a delivery is tried again
    #[arg(long, default_value_t = 204, value_name = "STATUS", value_parser = clap::value_parser!(u16).range(200..600))]
    status: u16,
}

#[derive(Clone, Copy, Debug, Args)]
struct ToleranceArg {
    /// How far webhook-timestamp may be from now
    #[arg(long = "tolerance", default_value = "5m", value_name = "DURATION", value_parser = humantime::parse_duration)]
    duration: Duration,
}

impl ReceivingCommand {
    pub(super) async fn run(&self, output: Output) -> Result<(), Failure> {
        match self {
            Self::Verify(args) => args.verify(output),
            Self::Listen(args) => listen(args, output).await,
        }
    }
}

impl VerifyArgs {
    fn verify(&self, output: Output) -> Result<(), Failure> {
        let whole = contents(&self.delivery)?;
        let (headers, rest) = head(&whole)?;
        let body = match &self.body {
            Some(path) => contents(path)?,
            None => rest.to_vec(),
        };
        let refused = |why: Unverified| Failure::Other(anyhow::Error::new(why));
        let head = SignedHead::parse(|name| text(&headers, name)).map_err(refused)?;
        // Programs that write a delivery to a file end it with a line feed that was not sent.
        let shorter = body.strip_suffix(b"\n").filter(|_| self.body.is_none());
        let added = shorter.is_some_and(|body| head.check(&self.key, body).is_ok());
        if !added {
            head.check(&self.key, &body).map_err(refused)?;
        }
        let now = SystemClock::new().now();
        let age = head.check_time(now, self.tolerance.duration).map_err(refused)?;
        match output {
            Output::Text => {
                output::line(&format!("valid: {}, sent {} ago", head.id, format_duration(age)));
            }
            Output::Json => output::json(&json!({
                "valid": true,
                "webhookId": head.id,
                "webhookTimestamp": head.timestamp,
            })),
        }
        Ok(())
    }
}

/// Prints deliveries until it is stopped.
async fn listen(args: &ListenArgs, output: Output) -> Result<(), Failure> {
    let listener = TcpListener::bind(args.address)
        .await
        .with_context(|| format!("cannot listen on {}", args.address))?;
    let address = listener.local_addr().context("the listener has no address")?;
    output::note(&format!("listening at http://{address}; Ctrl-C ends it"));
    let status = StatusCode::from_u16(args.status).unwrap_or(StatusCode::NO_CONTENT);
    let (key, tolerance) = (args.key.clone(), args.tolerance.duration);
    let receiver = Arc::new(DeliveryListener { key, tolerance, status, output });
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.context("cannot accept a connection")?;
        let receiver = Arc::clone(&receiver);
        connections.spawn(async move {
            let service = service_fn(|request| receiver.receive(request));
            let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // A sender that breaks off sends again.
            drop(served.await);
        });
        while connections.try_join_next().is_some() {}
    }
}

/// What `listen` does with each request.
struct DeliveryListener {
    key: Option<VerifyingKey>,
    tolerance: Duration,
    status: StatusCode,
    output: Output,
}

impl DeliveryListener {
    async fn receive(&self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let (head, body) = request.into_parts();
        if head.method == Method::OPTIONS {
            let origin = text(&head.headers, ORIGIN);
            output::note(&format!("OPTIONS {}: agreed to deliveries from {origin:?}", head.uri));
            let mut response = Response::new(Body::empty());
            let all = HeaderValue::from_static("*");
            response.headers_mut().insert("webhook-allowed-origin", all);
            return Ok(response);
        }
        let Ok(body) = Limited::new(body, MAX_BODY_BYTES).collect().await else {
            return Ok(reply(StatusCode::PAYLOAD_TOO_LARGE));
        };
        let body = body.to_bytes();
        let checked = self.key.as_ref().map(|key| self.check(key, &head.headers, &body));
        let problem = checked.as_ref().and_then(|checked| checked.as_ref().err());
        let status = if problem.is_some() { StatusCode::BAD_REQUEST } else { self.status };
        let body = String::from_utf8_lossy(&body);
        match self.output {
            Output::Text => {
                let first = format!("{} {} HTTP/1.1", head.method, head.uri);
                output::exact(&format!("{}\n\n{body}", lines(&first, &head.headers)));
                let verdict = match (&checked, problem) {
                    (None, _) => "not checked, since no --key was given".to_owned(),
                    (_, None) => "valid".to_owned(),
                    (_, Some(problem)) => format!("refused: {problem}"),
                };
                output::note(&format!("{}: {}", status.as_u16(), plain::line(&verdict)));
            }
            Output::Json => {
                let headers = pairs(&head.headers).map(|(name, value)| (name, Value::from(value)));
                let line = json!({
                    "method": head.method.as_str(),
                    "uri": head.uri.to_string(),
                    "headers": headers.collect::<Map<_, _>>(),
                    "body": body,
                    "valid": checked.as_ref().map(Result::is_ok),
                    "problem": problem.map(ToString::to_string),
                    "status": status.as_u16(),
                });
                output::exact(&line.to_string());
            }
        }
        Ok(reply(status))
    }

    fn check(
        &self,
        key: &VerifyingKey,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<(), Unverified> {
        let head = SignedHead::parse(|name| text(headers, name))?;
        head.check(key, body)?;
        head.check_time(SystemClock::new().now(), self.tolerance).map(drop)
    }
}

fn reply(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// A head as it was sent, so that `verify` can read it.
fn lines(first: &str, headers: &HeaderMap) -> String {
    let headers = pairs(headers).map(|(name, value)| plain::escaped(&format!("{name}: {value}")));
    std::iter::once(plain::escaped(first)).chain(headers).collect::<Vec<_>>().join("\n")
}

fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (String, String)> {
    let value = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(move |(name, it)| (name.to_string(), value(it)))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn contents(path: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = match path {
        "-" => std::io::stdin().read_to_end(&mut bytes).map(drop),
        path => std::fs::read(path).map(|read| bytes = read),
    };
    let name = if path == "-" { "standard input" } else { path };
    read.map_err(|error| Failure::Usage(format!("cannot read {name}: {error}")))?;
    Ok(bytes)
}

/// The headers at the beginning of a delivery, and what follows the empty line after them.
fn head(whole: &[u8]) -> Result<(HeaderMap, &[u8]), Failure> {
    let (mut headers, mut rest, mut number) = (HeaderMap::new(), whole, 0);
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
        rest = rest.get(end + 1..).unwrap_or_default();
        number += 1;
        if line.is_empty() {
            break;
        }
        let taken = |(name, value)| headers.try_append(name, value).is_ok();
        let is_header = header(line).is_some_and(taken);
        // Its method and its path.
        let is_request = number == 1 && line.windows(6).any(|part| part == b" HTTP/");
        if !is_header && !is_request {
            let why = format!("line {number} of the delivery is not NAME: VALUE");
            return Err(Failure::Usage(why));
        }
    }
    Ok((headers, rest))
}

fn header(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = HeaderName::from_bytes(&line[..colon]).ok()?;
    let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
    Some((name, value))
}

const KEY: &str = "LONGHAUL_WEBHOOK_KEY";
const ORIGIN: &str = "webhook-request-origin";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_is_read_with_and_without_the_line_of_its_request() {
        for (whole, body) in [
            (
                &b"POST /hook HTTP/1.1\r\nWebhook-Id: msg_1\r\nhost: x\r\n\r\n{}\n\n"[..],
                &b"{}\n\n"[..],
            ),
            (b"webhook-id:msg_1\n\n{}", b"{}"),
            (b"webhook-id: msg_1", b""),
        ] {
            let (headers, rest) = head(whole).expect("a head");
            assert_eq!((text(&headers, "webhook-id"), rest), ("msg_1", body));
        }
        for (whole, line) in [(&b"{}"[..], 1), (b"a: b\nPOST /hook HTTP/1.1\n", 2), (b": b\n", 1)] {
            let refused = head(whole).expect_err("no head");
            assert_eq!(refused.code(), 2);
            let why = format!("line {line} of the delivery is not NAME: VALUE");
            assert_eq!(refused.message(), why);
        }
    }
}
