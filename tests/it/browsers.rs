//! What scripts of web pages can do: call methods over gRPC-Web, and read the answers if their page may (CORS).

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
use longhaul::config::Origins;
use longhaul::proto::google::longrunning::GetOperationRequest;
use prost::Message;
use prost::bytes::{Buf, Bytes};
use serde_json::json;
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::support::http::{Answer, Http2, ask_with};
use crate::support::rest::whole;
use crate::support::*;

scenarios! {
    a_method_is_called_over_grpc_web_in_both_its_forms,
    a_page_of_another_machine_may_call_if_its_origin_is_allowed,
    a_page_of_this_machine_may_call_a_server_on_loopback,
    a_watch_over_grpc_web_goes_on_to_the_last_state,
    every_header_of_an_answer_may_be_read,
}

const GET: &str = "/google.longrunning.Operations/GetOperation";
const PAGE: &str = "http://localhost:3000";
const APP: &str = "https://app.example.com";

/// A frame of gRPC-Web: whether it holds trailers, and what it holds.
type Frame = (bool, Bytes);

fn framed(message: &impl Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    let length = (message.len() as u32).to_be_bytes();
    [&[0], &length[..], &message].concat()
}

fn frames(bytes: Vec<u8>) -> Vec<Frame> {
    let (mut bytes, mut frames) = (Bytes::from(bytes), Vec::new());
    while bytes.has_remaining() {
        let is_trailers = bytes.get_u8() == 0x80;
        let length = bytes.get_u32() as usize;
        frames.push((is_trailers, bytes.split_to(length)));
    }
    frames
}

/// A call in base64 over HTTP/1.1.
async fn call_as_text(fixture: &Fixture, path: &str, message: &impl Message) -> Answer {
    let kind = "application/grpc-web-text";
    let headers = [("content-type", kind), ("accept", kind), ("origin", PAGE), ("x-grpc-web", "1")];
    let body = BASE64_STANDARD.encode(framed(message));
    ask_with(fixture.address, "POST", path, &headers, &body).await
}

/// A call in bytes over HTTP/2.
async fn call_in_bytes(fixture: &Fixture, path: &str, message: &impl Message) -> Vec<Frame> {
    let kind = "application/grpc-web+proto";
    let headers = [("content-type", kind), ("accept", kind), ("x-grpc-web", "1")];
    let http2 = Http2::to(fixture.address).await;
    let (head, body) = http2.send("POST", path, &headers, framed(message).into()).await;
    assert_eq!(
        (head.status.as_u16(), head.headers["content-type"].as_bytes()),
        (200, kind.as_bytes())
    );
    frames(within("an answer", whole(body)).await)
}

/// The frames of an answer in base64, which may be cut anywhere.
fn text_frames(text: &str) -> Vec<Frame> {
    let mut bytes = Vec::new();
    for part in text.split_inclusive('=').filter(|part| *part != "=") {
        let padding = (4 - part.len() % 4) % 4;
        let part = format!("{part}{}", "=".repeat(padding));
        bytes.extend(BASE64_STANDARD.decode(part).expect("base64"));
    }
    frames(bytes)
}

fn status_of(frames: &[Frame]) -> String {
    let (is_trailers, trailers) = frames.last().expect("trailers");
    assert!(is_trailers);
    let text = String::from_utf8(trailers.to_vec()).expect("text");
    let status = text.lines().find_map(|line| line.strip_prefix("grpc-status:")).expect("a status");
    status.trim().to_owned()
}

async fn preflight(address: SocketAddr, path: &str, origin: &str) -> Answer {
    let headers = [
        ("origin", origin),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type,x-grpc-web"),
    ];
    ask_with(address, "OPTIONS", path, &headers, "").await
}

fn allowed(answer: &Answer) -> &str {
    answer.header("access-control-allow-origin")
}

async fn a_method_is_called_over_grpc_web_in_both_its_forms(fixture: &Fixture) {
    let name = fixture.started("q").await;
    let request = GetOperationRequest { name: name.clone() };
    let answer = call_as_text(fixture, GET, &request).await;
    assert_eq!((answer.status, allowed(&answer)), (200, PAGE), "{answer:?}");
    for frames in [text_frames(&answer.body), call_in_bytes(fixture, GET, &request).await] {
        assert_eq!((frames.len(), &*status_of(&frames)), (2, "0"));
        let operation = Operation::decode(frames[0].1.clone()).expect("an operation");
        assert_eq!((operation.name, operation.done), (name.clone(), false));
    }
    let missing = GetOperationRequest { name: "operations/none".to_owned() };
    let answer = call_as_text(fixture, GET, &missing).await;
    assert_eq!((answer.status, answer.header("grpc-status")), (200, "5"), "{answer:?}");
    let details = BASE64_STANDARD_NO_PAD.decode(answer.header("grpc-status-details-bin"));
    let status = RpcStatus::decode(&details.expect("base64")[..]).expect("a status");
    assert_eq!(status.code, Code::NotFound as i32);
    // What is neither form of it gets the answer of HTTP.
    for (method, kind) in
        [("POST", "application/grpc-web+json"), ("PUT", "application/grpc-web+proto")]
    {
        let answer = ask_with(fixture.address, method, GET, &[("content-type", kind)], "{}").await;
        answer.refused(415, "UNIMPLEMENTED");
    }
}

async fn a_watch_over_grpc_web_goes_on_to_the_last_state(fixture: &Fixture) {
    let lease = fixture.running(start("q")).await;
    let path = "/longhaul.v1.Callers/WatchOperation";
    let kind = "application/grpc-web-text";
    let headers = [("content-type", kind), ("accept", kind)];
    let body = BASE64_STANDARD.encode(framed(&watch(&lease.operation)));
    let http2 = Http2::to(fixture.address).await;
    // The answer begins once it watches.
    let watching = http2.send("POST", path, &headers, body.into());
    let (_, body) = within("a watch", watching).await;
    fixture.complete(completion(&lease)).await.expect("a completion");
    let text = within("the last state", whole(body)).await;
    let frames = text_frames(std::str::from_utf8(&text).expect("text"));
    assert_eq!(status_of(&frames), "0");
    let events: Vec<_> = frames[..frames.len() - 1]
        .iter()
        .map(|(_, bytes)| pb::WatchOperationResponse::decode(bytes.clone()).expect("an event"))
        .map(|event| event.r#type())
        .collect();
    assert_eq!((events[0], events.last()), (EventType::Snapshot, Some(&EventType::Done)));
}

async fn a_page_of_this_machine_may_call_a_server_on_loopback(fixture: &Fixture) {
    let name = fixture.started("q").await;
    for path in [GET, "/v1/operations:start"] {
        let answer = preflight(fixture.address, path, PAGE).await;
        assert_eq!((answer.status, allowed(&answer)), (200, PAGE), "{answer:?}");
        assert_eq!(
            answer.header("access-control-allow-headers"),
            "content-type,x-grpc-web",
            "{answer:?}"
        );
        assert!(answer.header("access-control-allow-methods").contains("DELETE"), "{answer:?}");
        assert_eq!(answer.header("access-control-max-age"), "7200");
        assert_eq!(allowed(&preflight(fixture.address, path, APP).await), "");
    }
    let path = format!("/v1/{name}");
    let answer = ask_with(fixture.address, "GET", &path, &[("origin", PAGE)], "").await;
    assert_eq!((answer.status, allowed(&answer)), (200, PAGE), "{answer:?}");
    assert!(answer.header("vary").contains("origin"), "{answer:?}");
    for (path, headers) in
        [(&*path, &[("origin", APP)][..]), (GET, &[("origin", APP), WEB]), (GET, &[EVIL_HOST, WEB])]
    {
        let method = if path == GET { "POST" } else { "GET" };
        let answer = ask_with(fixture.address, method, path, headers, "").await;
        answer.refused(403, "PERMISSION_DENIED");
        assert_eq!(allowed(&answer), "");
    }
    // What is no preflight is no business of CORS.
    let answer = ask_with(fixture.address, "OPTIONS", &path, &[("origin", PAGE)], "").await;
    answer.refused(405, "UNIMPLEMENTED");
}

const WEB: (&str, &str) = ("content-type", "application/grpc-web+proto");
const EVIL_HOST: (&str, &str) = ("host", "rebound.example.com");

async fn a_page_of_another_machine_may_call_if_its_origin_is_allowed(fixture: &Fixture) {
    let name = fixture.started("q").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let (shutdown, told) = oneshot::channel::<()>();
    let server = fixture.server.clone().for_pages_of(Origins::of([APP]).expect("an origin"));
    let serving = server.serve_on_cores(listener, 2, async move { drop(told.await) });
    let asking = async {
        assert_eq!(allowed(&preflight(address, GET, APP).await), APP);
        for (origin, status) in [(APP, 200), (PAGE, 200), ("https://other.example.com", 403)] {
            let path = format!("/v1/{name}");
            let answer = ask_with(address, "GET", &path, &[("origin", origin)], "").await;
            assert_eq!(answer.status, status, "{origin}: {answer:?}");
            assert_eq!(allowed(&answer), if status == 200 { origin } else { "" });
        }
        drop(shutdown);
    };
    let (served, ()) = within("the cores", async { tokio::join!(serving, asking) }).await;
    served.expect("an orderly end");
}

async fn every_header_of_an_answer_may_be_read(fixture: &Fixture) {
    // Those that scripts may always read, and those that say what they may read.
    let safe = [
        "cache-control",
        "connection",
        "content-length",
        "content-type",
        "date",
        "vary",
        "x-content-type-options",
        "transfer-encoding",
    ];
    let start = [
        ("origin", PAGE),
        ("accept", "application/vnd.longhaul.azure+json"),
        ("prefer", "respond-async"),
        ("repeatability-request-id", "one"),
        ("repeatability-first-sent", "Sat, 01 Jan 2000 00:00:00 GMT"),
    ];
    let body = json!({ "queue": "q" }).to_string();
    let mut seen = Vec::new();
    for _ in 0..2 {
        seen.push(ask_with(fixture.address, "POST", "/v1/operations:start", &start, &body).await);
    }
    let path = "/v1/operations:records?filter=queue()%20%3D%20q";
    for (method, path) in [("GET", path), ("PUT", path)] {
        seen.push(ask_with(fixture.address, method, path, &[("origin", PAGE)], "").await);
    }
    let names = ["operation-location", "longhaul-replayed", "longhaul-index", "allow"];
    for (answer, name) in seen.iter().zip(names) {
        assert_ne!(answer.header(name), "", "{name}: {answer:?}");
        let exposed = answer.header("access-control-expose-headers");
        for header in answer.headers.keys() {
            let is_known = safe.contains(&&**header) || header.starts_with("access-control-");
            let is_exposed = exposed.split(',').any(|name| name.trim() == header);
            assert!(is_known || is_exposed, "{header} is not exposed: {exposed}");
        }
    }
}
