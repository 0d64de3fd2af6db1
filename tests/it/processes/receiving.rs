//! `longhaul webhook verify` and `longhaul webhook listen`.

use std::sync::mpsc::{Receiver, channel};

use longhaul::clock::{Clock, SystemClock};
use longhaul::post::SigningKey;
use longhaul::proto::longhaul::v1::Callback;
use serde_json::{Value, json};

use super::binary::Longhaul;
use super::bounds::{LONG, eventually};
use super::receiver::{Arrived, IMPATIENT, LOOPBACK, listen};
use super::typed::{Ended, Typist};
use crate::support::http::ask_with;

/// The headers and the body of a delivery that was sent that many seconds ago.
fn delivery(key: &SigningKey, age: u64) -> String {
    let time = SystemClock::new().now().as_micros() / 1_000_000 - age;
    let (id, body) = ("msg_1", r#"{"type":"operation.done"}"#);
    let signature = key.sign(id, time, body.as_bytes());
    format!(
        "webhook-id: {id}\r\nwebhook-timestamp: {time}\r\nwebhook-signature: {signature}\r\n\r\n{body}"
    )
}

async fn verify(key: &str, more: &[&str], input: &str) -> Ended {
    let args = [&["webhook", "verify", "--key", key], more].concat();
    // No server is there, nor is one needed.
    Typist::at("127.0.0.1:1").runs(&args, input).await
}

#[tokio::test]
async fn verify_accepts_a_delivery_of_its_key_and_says_what_is_wrong_with_any_other() {
    let (shared, pair) = (SigningKey::Shared(vec![7; 32]), SigningKey::pair([9; 32]));
    let (secret, public) = (shared.reveal(), pair.public_text().expect("a public key"));
    let good = delivery(&shared, 0);
    for (key, delivery) in [(&secret, &good), (&public, &delivery(&pair, 0))] {
        let valid = verify(key, &[], delivery).await;
        assert_eq!((valid.code, &*valid.stderr), (0, ""), "{valid:?}");
        assert!(valid.stdout.starts_with("valid: msg_1, sent "), "{valid:?}");
    }
    let from_file = verify(&secret, &[], &format!("{good}\n")).await;
    assert_eq!(from_file.code, 0, "a line feed that an editor added: {from_file:?}");
    let printed = verify(&secret, &["--output", "json"], &good).await;
    let printed: Value = serde_json::from_str(&printed.stdout).expect("JSON");
    assert_eq!((&printed["valid"], &printed["webhookId"]), (&json!(true), &json!("msg_1")));

    let other = SigningKey::Shared(vec![8; 32]).reveal();
    let old = delivery(&shared, 3_600);
    for (key, delivery, why) in [
        (&secret, good.replace("done", "Done"), "no entry v1 of webhook-signature fits the key"),
        (&other, good.clone(), "no entry v1 of webhook-signature fits the key"),
        (&public, good.clone(), "webhook-signature has no entry v1a"),
        (&secret, good.replace("webhook-id", "x-id"), "the header webhook-id is missing"),
        (&secret, good.replace("webhook-timestamp: ", "webhook-timestamp: x"), "must be a number"),
        (&secret, old.clone(), "more than 5m"),
        (&secret, String::new(), "the header webhook-id is missing"),
    ] {
        let refused = verify(key, &[], &delivery).await;
        assert_eq!((refused.code, &*refused.stdout), (1, ""), "{why}: {refused:?}");
        assert!(refused.stderr.contains(why), "{why}: {refused:?}");
    }
    assert_eq!(verify(&secret, &["--tolerance", "2h"], &old).await.code, 0);
    for (key, more, input) in [
        ("whsec_short", &[][..], &*good),
        (&secret, &["/nowhere/at/all"], ""),
        (&secret, &["--body", "/nowhere/at/all"], &good),
        (&secret, &[], "no header"),
    ] {
        assert_eq!(verify(key, more, input).await.code, 2, "{key} {more:?}");
    }
}

#[tokio::test]
async fn verify_reads_headers_and_body_from_files_of_their_own() {
    let key = SigningKey::Shared(vec![7; 32]);
    let whole = delivery(&key, 0);
    let (head, body) = whole.split_once("\r\n\r\n").expect("a head");
    let folder = tempfile::tempdir().expect("a folder");
    let place = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).expect("written");
        path.to_str().expect("a path").to_owned()
    };
    let (head, body) = (place("head", head), place("body", body));
    let valid = verify(&key.reveal(), &[&head, "--body", &body], "").await;
    assert_eq!(valid.code, 0, "{valid:?}");
    // A file of its own is taken as it is.
    let longer = place("longer", &format!("{}\n", whole.split_once("\r\n\r\n").expect("a body").1));
    assert_eq!(verify(&key.reveal(), &[&head, "--body", &longer], "").await.code, 1);
}

#[tokio::test]
async fn verify_accepts_what_a_server_delivers_to_a_callback() {
    let (url, arrived) = recording();
    let (server, _folder) = serve().await;
    end_told(&server, &url, "one").await;
    let arrived = arrived.recv_timeout(LONG).expect("a delivery");
    let key = server.logged("callback_key");
    let valid = verify(&key, &[], &arrived.text()).await;
    assert_eq!(valid.code, 0, "{valid:?} of {arrived:?}");
    let altered = arrived.text().replace("SUCCEEDED", "FAILED");
    assert_eq!(verify(&key, &[], &altered).await.code, 1);
}

#[tokio::test]
async fn listen_prints_deliveries_and_refuses_those_that_its_key_does_not_fit() {
    let (server, _folder) = serve().await;
    let key = server.logged("callback_key");
    let listener = listening(&["--key", &key]).await;
    end_told(&server, &url_of(&listener), "one").await;
    listener.says("204: valid").await;
    let printed = listener.output().clone();
    for text in
        ["POST /hook HTTP/1.1\n", "\nwebhook-id: ", "\nce-type: ", r#""name":"operations/one""#]
    {
        assert!(printed.contains(text), "{text}: {printed}");
    }
    let address = url_of(&listener).trim_start_matches("http://").parse().expect("an address");
    let forged =
        [("webhook-id", "x"), ("webhook-timestamp", "5"), ("webhook-signature", "v1a,AAAA")];
    let answer = ask_with(address, "POST", "/", &forged, "{}").await;
    assert_eq!(answer.status, 400, "{answer:?}");
    listener.says("400: refused: no entry v1a of webhook-signature fits").await;
    let asked = [("webhook-request-origin", "longhaul")];
    let agreed = ask_with(address, "OPTIONS", "/", &asked, "").await;
    assert_eq!((agreed.status, agreed.header("webhook-allowed-origin")), (200, "*"));
}

#[tokio::test]
async fn listen_replies_as_it_is_told_to_and_the_delivery_is_tried_again() {
    let (server, _folder) = serve().await;
    let listener = listening(&["--status", "503", "--output", "json"]).await;
    end_told(&server, &url_of(&listener), "one").await;
    let twice = || async {
        let output = listener.output();
        let lines = output.lines().filter(|line| line.starts_with('{'));
        let lines: Vec<Value> =
            lines.map(|line| serde_json::from_str(line).expect("JSON")).collect();
        (lines.len() >= 2).then_some(lines)
    };
    let lines = eventually("two attempts", twice).await;
    assert_eq!(lines[0]["headers"]["webhook-id"], lines[1]["headers"]["webhook-id"]);
    for line in lines {
        assert_eq!((&line["status"], &line["valid"]), (&json!(503), &Value::Null), "{line}");
        let body: Value =
            serde_json::from_str(line["body"].as_str().expect("a text")).expect("JSON");
        assert_eq!(body["type"], "operation.done");
    }
}

/// A receiver that accepts everything.
fn recording() -> (String, Receiver<Arrived>) {
    let (sender, arrived) = channel();
    let url = listen(move |arrived| {
        // The test may be over.
        let _ = sender.send(arrived);
        Some(204)
    });
    (url, arrived)
}

/// A server that calls this machine.
async fn serve() -> (Longhaul, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = format!("embedded:{}", folder.path().display());
    (Longhaul::serve_in(&store, &[], &[LOOPBACK, IMPATIENT].concat()).await, folder)
}

/// `longhaul webhook listen`, once it listens.
async fn listening(more: &[&str]) -> Longhaul {
    let args = [&["webhook", "listen", "--address", "127.0.0.1:0"], more].concat();
    let listener = Longhaul::launch(&args);
    listener.says("Ctrl-C ends it").await;
    listener
}

fn url_of(listener: &Longhaul) -> String {
    let output = listener.output();
    let (_, rest) = output.split_once("listening at ").expect("it says where");
    rest.split_once(';').expect("an address").0.to_owned()
}

/// An operation that ends, and a callback about it.
async fn end_told(server: &Longhaul, url: &str, id: &str) {
    let client = server.client();
    let callback = Callback { uri: format!("{url}/hook"), ..Callback::default() };
    client.start_told(id, vec![callback]).await.expect("a start");
    let leases = client.lease("callbacks", 1, LONG, LONG).await.expect("a lease");
    client.complete(&leases[0]).await.expect("a completion");
}
