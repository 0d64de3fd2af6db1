//! Where deliveries may go, how they look, and how receivers that misbehave end them.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use uuid::Uuid;

use super::carrier::{Carrier, HttpCarrier};
use super::connector::Resolve;
use super::guard::{Refused, UrlGuard};
use super::letter::{Letter, LetterContent};
use super::reply::{ReceiverReply, ReplyVerdict, Unanswered};
use super::sign::SigningKey;
use super::verify::{SignedHead, VerifyingKey};
use crate::clock::{SystemClock, Timestamp};
use crate::operation::events::{Facts, OperationEvent};
use crate::operation::name::Name;
use crate::proto::google::longrunning::{Operation as Published, operation::Result as Outcome};
use crate::proto::google::protobuf::Any;
use crate::proto::longhaul::v1::callback::{Event, Format};
use crate::proto::longhaul::v1::operation_record::State;
use crate::types::Registry;

/// Answers with one list of addresses after the other; the last one again and again.
#[derive(Debug)]
struct Script {
    answers: Mutex<VecDeque<Vec<IpAddr>>>,
    asked: AtomicUsize,
}

impl Script {
    fn new<const N: usize>(answers: [&[&str]; N]) -> Arc<Self> {
        let parse =
            |list: &&[&str]| list.iter().map(|it| it.parse().expect("an address")).collect();
        let answers = answers.iter().map(parse).collect();
        Arc::new(Self { answers: Mutex::new(answers), asked: AtomicUsize::new(0) })
    }
}

impl Resolve for Script {
    fn resolve(&self, _: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let next = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        async move { Ok(next.unwrap_or_default()) }.boxed()
    }
}

/// A receiver that answers each connection with the same bytes, and passes on what it got.
struct Listener {
    port: u16,
    requests: Receiver<String>,
}

impl Listener {
    fn answering(reply: impl Fn(&mut dyn Write) -> io::Result<()> + Send + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (send, requests) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut request = Vec::new();
                let mut buffer = [0; 4096];
                while !is_whole(&request) {
                    match stream.read(&mut buffer) {
                        Ok(length) if length > 0 => request.extend_from_slice(&buffer[..length]),
                        _ => break,
                    }
                }
                if send.send(String::from_utf8_lossy(&request).into_owned()).is_err() {
                    return;
                }
                drop(reply(&mut stream));
            }
        });
        Self { port, requests }
    }

    fn saying(reply: &'static str) -> Self {
        Self::answering(move |stream| stream.write_all(reply.as_bytes()))
    }

    fn url(&self) -> String {
        format!("http://receiver.test:{}/hook?x=1", self.port)
    }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.to_ascii_lowercase();
    let length = length.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.map_or(0, |length| length.parse().expect("a number")) <= body.len()
}

fn tls() -> Arc<ClientConfig> {
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    Arc::new(config)
}

fn carrier(guard: UrlGuard, resolver: Arc<Script>) -> HttpCarrier {
    HttpCarrier::new(guard, resolver, tls(), SystemClock::new(), Duration::from_secs(1))
}

/// Allows the receivers of these tests.
fn lenient() -> UrlGuard {
    let networks = vec!["127.0.0.1/32".parse().expect("a network")];
    UrlGuard { allow_http: true, networks, ..UrlGuard::default() }
}

fn news() -> OperationEvent {
    OperationEvent {
        name: Name::parse("projects/p/operations/o").expect("a name"),
        uid: Uuid::from_u128(7),
        sequence: 3,
        time: Timestamp::from_micros(1_700_000_000_000_000),
        facts: Facts::default(),
        state: State::Succeeded,
        fraction: None,
        status_detail: String::new(),
        trace_parent: "00-1-2-01".to_owned(),
    }
}

fn letter(url: &str) -> Letter {
    let news = news();
    let told = LetterContent { id: "msg_1", news: &news, event: Event::Done, operation: None };
    let own = [("x-tenant", "t"), ("content-length", "9"), ("webhook-id", "x"), ("ce-id", "x")];
    let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let letter = Letter::new(&told, Format::StandardWebhook, own, &Registry::builtin());
    let keys = vec![SigningKey::Shared(vec![1; 32]), SigningKey::pair([2; 32])];
    Letter { url: url.to_owned(), keys, ..letter }
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";

#[test]
fn no_form_of_an_address_that_is_not_public_is_called() {
    let guard = UrlGuard { allow_http: true, ..UrlGuard::default() };
    for url in [
        "http://127.0.0.1/",
        "https://127.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0x7f.1/",
        "http://017700000001/",
        "http://0177.0.0.1/",
        "http://127.0.0.1./",
        "http://%31%32%37.0.0.1/",
        "http://\u{ff11}27.0.0.1/",
        "http://127\u{3002}0\u{3002}0\u{3002}1/",
        "http://0/",
        "http://0.0.0.0/",
        "http://10.1.2.3/",
        "http://100.64.0.1/",
        "http://100.127.255.255/",
        "http://169.254.169.254/latest/meta-data/",
        "http://2852039166/",
        "http://172.16.0.1/",
        "http://172.31.255.255/",
        "http://192.0.0.192/",
        "http://192.0.2.1/",
        "http://192.88.99.1/",
        "http://192.168.0.1/",
        "http://198.18.0.1/",
        "http://198.51.100.1/",
        "http://203.0.113.1/",
        "http://224.0.0.1/",
        "http://240.0.0.1/",
        "http://255.255.255.255/",
        "http://[::]/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
        "http://[::ffff:a9fe:a9fe]/",
        "http://[::127.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[64:ff9b::169.254.169.254]/",
        "http://[64:ff9b:1::1]/",
        "http://[100::1]/",
        "http://[2001::1]/",
        "http://[2001:db8::1]/",
        "http://[2002:7f00:1::]/",
        "http://[3fff::1]/",
        "http://[fc00::1]/",
        "http://[fd00:ec2::254]/",
        "http://[fe80::1]/",
        "http://[fec0::1]/",
        "http://[ff02::1]/",
    ] {
        let refused = guard.url(url).expect_err(url);
        assert!(matches!(refused, Refused::Private { .. }), "{url}: {refused}");
    }
    for url in ["http://8.8.8.8/", "http://[2606:4700::1111]/", "http://[64:ff9b::808:808]/"] {
        assert!(guard.url(url).is_ok(), "{url}");
    }
}

#[test]
fn urls_that_are_more_than_host_port_and_path_are_refused() {
    let strict =
        UrlGuard { ports: vec![443], hosts: vec!["*.a.test".to_owned()], ..UrlGuard::default() };
    for (url, part) in [
        ("http://x.a.test/", "use https"),
        ("ftp://x.a.test/", "use https"),
        ("file:///etc/passwd", "use https"),
        ("gopher://x.a.test/", "use https"),
        ("https://user@x.a.test/", "user or a password"),
        ("https://user:password@x.a.test/", "user or a password"),
        ("https://:@x.a.test/", "user or a password"),
        ("https://@x.a.test/", "user or a password"),
        ("https://x.a.test:8443/", "port 8443"),
        ("https://x.a.test:0/", "port 0"),
        ("https://a.test/", "host"),
        ("https://xa.test/", "host"),
        ("https://x.b.test/", "host"),
        ("https://8.8.8.8/", "host"),
        ("https://", "not a valid URL"),
        ("x.a.test", "not a valid URL"),
        ("", "not a valid URL"),
        ("https://[::1/", "not a valid URL"),
    ] {
        let refused = strict.url(url).expect_err(url).to_string();
        assert!(refused.contains(part), "{url}: {refused}");
        assert!(!refused.contains("password@"), "{refused}");
    }
    for url in ["https://x.a.test/", "https://X.A.test./p?q#f", "https://x.a.test:443/@"] {
        assert!(strict.url(url).is_ok(), "{url}");
    }
    let split = strict.url("https://x.a.test\\@127.0.0.1/").expect("a path, not a user");
    assert_eq!(split.host_str(), Some("x.a.test"));
}

#[test]
fn a_url_that_is_not_valid_is_refused_without_its_secrets() {
    let guard = UrlGuard::default();
    for url in [
        "https://u:hunter2@[::1/x",
        "https://u:hunter2/@a.test/",
        "https://hunter2@a.test:99999/",
        "https://[::1/?key=hunter2",
        "https://a.test:99999/hunter2",
        "https://a.test:99999#hunter2",
        "hunter2",
        "a.test/?key=hunter2",
        "u:hunter2@a.test",
    ] {
        let refused = guard.url(url).expect_err(url).to_string();
        assert!(!refused.contains("hunter2"), "{url}: {refused}");
    }
    let refused = guard.url("https://a.test:99999/x?key=y").expect_err("a port").to_string();
    assert_eq!(refused, "it is not a valid URL (host \"a.test:99999\"): invalid port number");
}

#[tokio::test]
async fn a_name_is_called_only_if_all_its_addresses_are_allowed() {
    let listener = Listener::saying(OK);
    for private in ["127.0.0.2", "10.0.0.1", "::1", "::ffff:10.0.0.1", "64:ff9b::a00:1"] {
        let script = Script::new([&["127.0.0.1", private]]);
        let receipt = carrier(lenient(), script).carry(&letter(&listener.url())).await;
        let Err(Unanswered::Refused(why)) = receipt.reply else { panic!("{private}: {receipt:?}") };
        assert!(why.contains("\"receiver.test\" is not public") && !why.contains(private), "{why}");
    }
    let none = carrier(lenient(), Script::new([&[]])).carry(&letter(&listener.url())).await;
    assert!(matches!(none.reply, Err(Unanswered::Refused(_))), "{none:?}");
    assert!(listener.requests.try_recv().is_err(), "it was called");
}

#[tokio::test]
async fn a_name_that_rebinds_is_checked_again_with_each_connection_and_the_checked_address_is_called()
 {
    let listener = Listener::saying(OK);
    let script = Script::new([&["127.0.0.1"], &["127.0.0.2"]]);
    let carrier = carrier(lenient(), Arc::clone(&script));
    let first = carrier.carry(&letter(&listener.url())).await;
    assert_eq!(first.verdict(), ReplyVerdict::Delivered, "{first:?}");
    assert_eq!(script.asked.load(Ordering::Relaxed), 1, "one look-up decides and connects");
    let second = carrier.carry(&letter(&listener.url())).await;
    assert!(matches!(second.reply, Err(Unanswered::Refused(_))), "{second:?}");
    assert_eq!(script.asked.load(Ordering::Relaxed), 2);
    assert_eq!(listener.requests.try_iter().count(), 1);
}

#[tokio::test]
async fn redirects_are_failures_and_are_not_followed() {
    let other = Listener::saying(OK);
    let to = other.url();
    let listener = Listener::answering(move |stream| {
        write!(stream, "HTTP/1.1 307 T\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n")
    });
    let carrier = carrier(lenient(), Script::new([&["127.0.0.1"]]));
    let receipt = carrier.carry(&letter(&listener.url())).await;
    assert_eq!(receipt.verdict(), ReplyVerdict::Again(Duration::ZERO));
    assert_eq!(receipt.reply.expect("a reply").status, 307);
    assert!(other.requests.try_recv().is_err(), "it was followed");
}

#[tokio::test]
async fn endless_replies_slow_drips_and_silence_are_bounded() {
    let carrier = carrier(lenient(), Script::new([&["127.0.0.1"]]));
    let endless = Listener::answering(|stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
        loop {
            stream.write_all(b"400\r\n")?;
            stream.write_all(&[b'a'; 0x400])?;
            stream.write_all(b"\r\n")?;
        }
    });
    let receipt = carrier.carry(&letter(&endless.url())).await;
    let body = vec![b'a'; 1024];
    let expected = ReceiverReply { status: 200, retry_after: None, body };
    assert_eq!(receipt.reply, Ok(expected));

    let head = Listener::answering(|stream| {
        loop {
            stream.write_all(b"H")?;
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let drip = Listener::answering(|stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nx: ")?;
        loop {
            stream.write_all(b"y")?;
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let silent = Listener::answering(|_| {
        std::thread::sleep(Duration::from_mins(1));
        Ok(())
    });
    for listener in [head, drip, silent] {
        let receipt = carrier.carry(&letter(&listener.url())).await;
        let bounded = matches!(receipt.reply, Err(Unanswered::Late(_) | Unanswered::Broken(_)));
        assert!(bounded, "{receipt:?}");
    }
    let huge = Listener::answering(|stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
        loop {
            stream.write_all(b"x-header: 0123456789012345678901234567890123456789\r\n")?;
        }
    });
    let receipt = carrier.carry(&letter(&huge.url())).await;
    assert!(matches!(receipt.reply, Err(Unanswered::Broken(_))), "{receipt:?}");
}

#[tokio::test]
async fn a_letter_has_both_families_of_headers_and_signatures_over_the_bytes_that_are_sent() {
    let listener = Listener::saying(OK);
    let carrier = carrier(lenient(), Script::new([&["127.0.0.1"]]));
    let letter = letter(&listener.url());
    let receipt = carrier.carry(&letter).await;
    let reply = receipt.reply.expect("a reply");
    assert_eq!((reply.status, &reply.body[..]), (200, &b"ok"[..]));
    let request = listener.requests.recv().expect("a request");
    let (head, body) = request.split_once("\r\n\r\n").expect("a whole request");
    let header = |name: &str| {
        let found = head.lines().filter_map(|line| line.split_once(": "));
        let found: Vec<&str> =
            found.filter(|(it, _)| *it == name).map(|(_, value)| value).collect();
        assert!(found.len() <= 1, "{name}: {found:?}");
        found.first().copied().unwrap_or_default()
    };
    assert!(head.starts_with("POST /hook?x=1 HTTP/1.1\r\n"), "{head}");
    for (name, value) in [
        ("content-type", "application/json"),
        ("x-tenant", "t"),
        ("webhook-id", "msg_1"),
        ("ce-specversion", "1.0"),
        ("ce-id", "msg_1"),
        ("ce-source", "//longhaul.dev/projects/p"),
        ("ce-type", "dev.longhaul.operation.done"),
        ("ce-subject", "projects/p/operations/o"),
        ("ce-time", "2023-11-14T22:13:20Z"),
        ("ce-sequence", "00000000000000000003"),
        ("ce-traceparent", "00-1-2-01"),
        ("ce-datacontenttype", ""),
    ] {
        assert_eq!(header(name), value, "{name}");
    }
    let signed = SignedHead::parse(header).expect("the signed headers");
    for key in [letter.keys[0].reveal(), letter.keys[1].public_text().expect("a public key")] {
        let checking = VerifyingKey::parse(&key).expect("a key");
        assert_eq!(signed.check(&checking, body.as_bytes()), Ok(()), "{key}");
    }
    assert_eq!(
        body,
        r#"{"data":{"done":true,"name":"projects/p/operations/o","sequence":3,"state":"SUCCEEDED","uid":"00000000-0000-0000-0000-000000000007"},"timestamp":"2023-11-14T22:13:20Z","type":"operation.done"}"#
    );
}

#[test]
fn bodies_have_the_wanted_form() {
    let (news, types) = (news(), Registry::builtin());
    let value =
        prost_types::Value { kind: Some(prost_types::value::Kind::StringValue("x".to_owned())) };
    let board = prost_types::Struct { fields: [("board".to_owned(), value)].into() };
    let packed = |url: &str, value: Vec<u8>| Any {
        type_url: format!("type.googleapis.com/{url}"),
        value: Bytes::from(value),
    };
    let response = packed("google.protobuf.Struct", prost::Message::encode_to_vec(&board));
    let operation = Published {
        name: news.name.as_str().to_owned(),
        done: true,
        result: Some(Outcome::Response(response)),
        ..Published::default()
    };
    let told = LetterContent {
        id: "m",
        news: &news,
        event: Event::Succeeded,
        operation: Some(&operation),
    };
    let text = |told: &LetterContent<'_>, format| {
        let (body, content_type) = told.body(format, &types);
        (String::from_utf8(body.to_vec()).expect("text"), content_type)
    };
    let bare = text(&told, Format::ResponseBody);
    assert_eq!(bare, (r#"{"board":"x"}"#.to_owned(), "application/json"));
    let (full, _) = text(&told, Format::StandardWebhook);
    let full: serde_json::Value = serde_json::from_str(&full).expect("JSON");
    assert_eq!(full["data"]["operation"]["response"]["value"]["board"], "x");
    let (event, content_type) = text(&told, Format::CloudeventsStructured);
    let event: serde_json::Value = serde_json::from_str(&event).expect("JSON");
    assert_eq!(content_type, "application/cloudevents+json");
    assert_eq!(event["id"], "m");
    assert_eq!(event["specversion"], "1.0");
    assert_eq!(event["data"]["state"], "SUCCEEDED");

    let unfinished = Published { done: false, result: None, ..operation.clone() };
    let told = LetterContent { operation: Some(&unfinished), ..told };
    assert_eq!(text(&told, Format::ResponseBody).0, "{}");
}

#[tokio::test]
async fn a_receiver_agrees_to_deliveries_by_a_header_and_never_by_its_status() {
    let carrier = carrier(lenient(), Script::new([&["127.0.0.1"]]));
    for (reply, agrees) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", false),
        (
            "HTTP/1.1 405 No\r\nwebhook-allowed-origin: api.test\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\nwebhook-allowed-origin: *\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\nwebhook-allowed-origin: other.test\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            false,
        ),
    ] {
        let listener = Listener::saying(reply);
        let agreed = carrier.ask(&listener.url(), "api.test").await;
        assert_eq!(agreed.is_ok(), agrees, "{reply}: {agreed:?}");
        let request = listener.requests.recv().expect("a request");
        assert!(request.starts_with("OPTIONS /hook?x=1 "), "{request}");
        assert!(request.contains("webhook-request-origin: api.test"), "{request}");
    }
}
