//! Random requests: whatever their headers, paths, queries and bodies say, they are read or refused.

use std::sync::LazyLock;

use axum::body::Body;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Map, Value};

use super::accept::{Accept, EVENTS, JSON};
use super::origins::Origins;
use super::prefer::Prefer;
use super::routes::Routes;
use super::{body, etag, idempotency, query};
use crate::types::Registry;
use crate::wire::transcode::read;

const HEADERS: [&str; 9] = [
    "accept",
    "prefer",
    "if-match",
    "if-none-match",
    "idempotency-key",
    "operation-id",
    "repeatability-request-id",
    "content-type",
    "content-encoding",
];

/// Texts that mean something in headers, paths and queries.
const WORDS: [&str; 24] = [
    "*/*",
    "application/json",
    "text/event-stream",
    ";q=0.5",
    "wait=",
    "respond-async",
    "W/\"",
    "\"",
    ",",
    "=",
    ";",
    "/v1/",
    "operations",
    "projects/p/",
    ":start",
    ":cancel",
    "%2F",
    "%",
    "?",
    "&",
    "-",
    "queue",
    "options.ttl",
    "9999999999",
];

/// Keys and texts of the JSON of requests.
const KEYS: [&str; 14] = [
    "queue",
    "request",
    "@type",
    "value",
    "options",
    "ttl",
    "labels",
    "parent",
    "operationId",
    "operation_id",
    "retryPolicy",
    "requests",
    "a",
    "",
];
const TEXTS: [&str; 12] = [
    "",
    "q",
    "projects/p",
    "type.googleapis.com/google.protobuf.Struct",
    "type.googleapis.com/google.protobuf.Duration",
    "type.googleapis.com/google.protobuf.Any",
    "google.rpc.Status",
    "5s",
    "-1.5s",
    "1e99",
    "AQID",
    "2026-01-01T00:00:00Z",
];

fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![3 => select(WORDS.to_vec()).prop_map(str::to_owned), 1 => ".{0,8}"];
    vec(part, 0..8).prop_map(|parts| parts.concat())
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        select(TEXTS.to_vec()).prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 32, 6, |inner| {
        let key = select(KEYS.to_vec()).prop_map(str::to_owned);
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((key, inner), 0..6).prop_map(|fields| Value::Object(Map::from_iter(fields))),
        ]
    })
}

/// Made once: a random test has many cases.
static ROUTES: LazyLock<Routes> = LazyLock::new(|| Routes::of_services().expect("routes"));

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..<_>::default() })]

    #[test]
    fn any_text_in_a_header_is_read_or_refused(
        given in vec((select(HEADERS.to_vec()), text()), 0..6),
        noise in vec(any::<u8>(), 0..40),
    ) {
        let mut headers = HeaderMap::new();
        for (name, text) in &given {
            if let Ok(value) = HeaderValue::from_str(text) {
                headers.append(HeaderName::from_static(name), value);
            }
        }
        if let Ok(value) = HeaderValue::from_bytes(&noise) {
            headers.append(HeaderName::from_static(HEADERS[noise.len() % HEADERS.len()]), value);
        }
        let accept = Accept::of(&headers);
        let _ = (accept.choose(&[JSON, EVENTS]), accept.names(JSON));
        let prefer = Prefer::of(&headers);
        let _ = (prefer.applied_wait(), etag::is_known(&headers, "\"x\""), etag::required(&headers));
        drop(idempotency::given(&headers));
        drop(Origins::of(given.iter().map(|(_, text)| &**text)));
        let body = Body::from(given.iter().map(|(_, text)| &**text).collect::<String>());
        drop(body::read(&headers, body).now_or_never().expect("a body that is there"));
    }

    #[test]
    fn any_text_of_a_path_is_routed_or_lost(path in text(), words in vec(select(WORDS.to_vec()), 0..6)) {
        for path in [path, words.concat(), format!("/v1/{}", words.join("/"))] {
            for method in [Method::GET, Method::POST, Method::DELETE] {
                drop(ROUTES.find(&method, &path));
            }
        }
    }

    #[test]
    fn any_json_and_any_query_is_a_message_or_refused(json in json(), query in text(), nth in any::<Index>()) {
        let types = Registry::builtin();
        let mut object = json.as_object().cloned().unwrap_or_default();
        let route = ROUTES.iter().nth(nth.index(ROUTES.iter().count())).expect("a route");
        let input = route.rpc.method.input();
        if query::bind(&mut object, &input, &query).is_ok() {
            drop(read::message(&types, input, object));
        }
        let whole = Body::from(json.to_string());
        let read = body::read(&HeaderMap::new(), whole).now_or_never().expect("a body that is there");
        prop_assert!(read.is_ok() || json.to_string().len() > 100, "{json}");
    }
}
