//! Every kind of secret, used once with a server that logs all it can: none is in the log, in an error, in a list or in the metrics.

use std::fs;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::authorities::{Authority, Certified};
use super::binary::Longhaul;
use super::bounds::soon;
use super::redis::Redis;
use super::tls::encrypted;
use crate::support::issuer::{SigningPair, claims};

const PASSWORD: &str = "p4ss-of-redis";
const PAYLOAD: &str = "payload-that-is-private";
const USERINFO: &str = "p4ss-in-a-callback";
const ISSUER: &str = "https://id.example.com";

/// What was said where it could be read, and what must not be in it.
#[derive(Default)]
struct Told {
    said: String,
    secrets: Vec<(&'static str, String)>,
}

impl Told {
    fn secret(&mut self, what: &'static str, text: &str) {
        assert!(text.len() > 8, "{what}: {text:?}");
        self.secrets.push((what, text.to_owned()));
    }

    fn leaked(&self) -> Vec<&'static str> {
        let leaked = self.secrets.iter().filter(|(_, text)| self.said.contains(text));
        leaked.map(|(what, _)| *what).collect()
    }
}

#[test]
fn a_secret_that_was_said_is_noticed() {
    let mut told = Told::default();
    told.secret("a token", "lht_secret");
    told.said.push_str("DEBUG authorization=lht_secre");
    assert!(told.leaked().is_empty());
    told.said.push_str("t\n");
    assert_eq!(told.leaked(), ["a token"]);
}

/// A command with a token, and its output.
struct Console {
    address: String,
    ca: String,
    shown: Certified,
}

impl Console {
    /// Runs a command that ends with this code.
    async fn run(&self, token: &str, args: &[&str], code: i32) -> String {
        let flags = [
            "--server",
            &self.address,
            "--tls-ca",
            &self.ca,
            "--tls-cert",
            &self.shown.cert,
            "--tls-key",
            &self.shown.key,
        ];
        let (command, rest) = args.split_at(1);
        let all = [command, &flags, rest].concat();
        let environment = [("LONGHAUL_TOKEN", token), ("LONGHAUL_LOG", "trace")];
        let environment = if token.is_empty() { &environment[1..] } else { &environment };
        let ended = Longhaul::refusal_with(&all, environment).await;
        assert_eq!(ended.code, Some(code), "{args:?}: {}", ended.output);
        ended.output
    }
}

#[tokio::test]
async fn no_secret_is_told_whatever_is_logged() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().expect("a folder"));
    let mut told = Told::default();
    let redis =
        Redis::with(&["--user", "longhaul", "on", &format!(">{PASSWORD}"), "~*", "&*", "+@all"]);
    told.secret("the password of Redis", PASSWORD);
    let store = redis.url_as("longhaul", PASSWORD);
    let key = BASE64_STANDARD.encode([7; 32]);
    told.secret("the key of the encryption", &key);
    let signing = SigningPair::new("one");
    let settings = folder.path().join("longhaul.toml");
    let keys = folder.path().join("keys.json");
    fs::write(&keys, json!({ "keys": [signing.public()] }).to_string()).expect("written");
    let identity = format!(
        "[identity]\ntokens = true\n\
         [[identity.issuers]]\nname = \"corp\"\nissuer = \"{ISSUER}\"\naudience = \"longhaul\"\n\
         algorithms = [\"EdDSA\"]\nkeys = \"{}\"\n\
         [[identity.bindings]]\nmember = \"jwt:corp:sub=alice\"\nroles = [\"viewer\"]\n",
        keys.display()
    );
    fs::write(&settings, identity).expect("written");

    let environment = [("LONGHAUL_LOG", "trace"), ("LONGHAUL_ENCRYPTION__KEYS", &*key)];
    let args = ["token", "create", "root", "--role", "admin", "--store", &store];
    let made = Longhaul::refusal_with(&args, &environment).await;
    assert_eq!(made.code, Some(0), "{made:?}");
    let root = made.output.lines().find(|line| line.starts_with("lht_")).expect("a token");
    let rest = made.output.replace(root, "");
    told.said.push_str(&rest);
    told.secret("a token", root.rsplit_once('_').expect("a secret").1);

    let ca = authority.ca();
    let certified = authority.server();
    let file = settings.display().to_string();
    let more = [&certified.of_server()[..], &["--config", &file, "--tls-client-ca", &ca]].concat();
    let mut server = Longhaul::serve_in(&store, &more, &environment).await;
    let address = server.address().to_string();
    let console = Console { address, ca: authority.ca(), shown: authority.client("console") };
    for (what, file) in
        [("the key of the server", &certified.key), ("the key of a client", &console.shown.key)]
    {
        let pem = fs::read_to_string(file).expect("a key");
        told.secret(what, pem.lines().nth(1).expect("a line of the key"));
    }

    use_them(&mut told, &console, root, &signing).await;
    lease_and_report(&mut told, (&server, &authority, &console.shown), root).await;
    told.said.push_str(&console.run(root, &["worker", "list"], 0).await);
    let link = make_link(&mut told, &console, root).await;
    for path in
        ["/metrics", "/healthz", &link, "/v1/operations/x:complete?access_token=lhl_not-a-link"]
    {
        let answer = ask((&server, &authority, &console.shown), path).await;
        // The answer to a link contains it again, in the addresses that the client follows.
        told.said.push_str(if path == link { "" } else { &answer });
    }
    server.signal("-TERM");
    server.ended().await;
    let log = server.output().clone();
    assert!(log.contains("TRACE") && log.contains("DEBUG"), "the log is not whole");
    told.said.push_str(&log);
    assert!(told.leaked().is_empty(), "{:?}\n{}", told.leaked(), told.said);
}

/// Starts, works, fails and lists with each kind of credentials.
async fn use_them(told: &mut Told, console: &Console, root: &str, signing: &SigningPair) {
    told.secret("a payload", PAYLOAD);
    let request = json!({ "text": PAYLOAD }).to_string();
    let callback = "https://hooks.invalid/hook?key=query-secret-of-a-callback";
    told.secret("the query of a callback", "query-secret-of-a-callback");
    let start = ["start", "--operation-id", "x", "--request", &request];
    let started = console.run(root, &start, 0).await;
    told.said.push_str(&started);
    console.run(root, &["start", "--operation-id", "told", "--callback", callback], 0).await;
    console.run(root, &["cancel", "operations/told"], 0).await;
    told.secret("a password in the address of a callback", USERINFO);
    let userinfo = format!("https://user:{USERINFO}@example.com/hook");
    told.said.push_str(&console.run(root, &["start", "--callback", &userinfo], 1).await);

    let jwt = signing.token(ISSUER, "alice");
    told.secret("a JWT", jwt.rsplit_once('.').expect("a signature").1);
    told.said.push_str(&console.run(&jwt, &["list"], 0).await);
    told.said.push_str(&console.run(&jwt, &["cancel", "operations/x"], 1).await);
    let forged = signing.sign(&json!({ "alg": "none" }), &claims(ISSUER, "alice"));
    told.said.push_str(&console.run(&forged, &["list"], 1).await);
    let unknown = format!("lht_root_{}", "a".repeat(43));
    told.said.push_str(&console.run(&unknown, &["list"], 1).await);
    told.said.push_str(&console.run("", &["list"], 1).await);

    let webhook = ["webhook", "create", "https://hooks.example.com/", "--output", "json"];
    let made: Value = json_of(&console.run(root, &webhook, 0).await);
    let secret = made["secrets"][0]["secret"].as_str().expect("a secret");
    told.secret("the secret of a webhook", secret.trim_start_matches("whsec_"));
    let name = made["name"].as_str().expect("a name");
    let rotate = ["webhook", "rotate", name, "--overlap", "1h", "--output", "json"];
    let rotated: Value = json_of(&console.run(root, &rotate, 0).await);
    let secrets = rotated["secrets"].as_array().expect("secrets").iter();
    let new: Vec<&str> = secrets.filter_map(|it| it["secret"].as_str()).collect();
    assert!(matches!(new[..], [one] if one != secret), "{new:?}");
    told.secret("the new secret of a webhook", new[0].trim_start_matches("whsec_"));
    for list in [&["webhook", "list"][..], &["token", "list"], &["list"]] {
        told.said.push_str(&console.run(root, list, 0).await);
    }
}

/// A link, used as Bearer, and its address.
async fn make_link(told: &mut Told, console: &Console, root: &str) -> String {
    let made = console.run(root, &["link", "operations/x", "--verbs", "get,watch"], 0).await;
    let path = made.lines().find(|line| line.starts_with("/v1/")).expect("an address").to_owned();
    let link = path.rsplit_once('=').expect("a link").1;
    told.secret("a link", link.trim_start_matches("lhl_"));
    console.run(link, &["get", "operations/x"], 0).await;
    told.said.push_str(&console.run(link, &["cancel", "operations/x"], 1).await);
    path
}

/// The server, and with which certificates it is called.
type Face<'a> = (&'a Longhaul, &'a Authority, &'a Certified);

/// The answer to a GET over HTTP/1.1.
async fn ask(face: Face<'_>, path: &str) -> String {
    send(face, &format!("GET {path} HTTP/1.1\r\n\r\n")).await
}

/// The answer to a POST over HTTP/1.1.
async fn post(face: Face<'_>, token: &str, path: &str, body: &Value) -> String {
    let body = body.to_string();
    let head = format!(
        "POST {path} HTTP/1.1\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    send(face, &[head, body].concat()).await
}

async fn send((server, authority, shown): Face<'_>, request: &str) -> String {
    let mut stream = encrypted(server, authority, Some(shown)).await;
    let request = request.replacen("\r\n", "\r\nhost: localhost\r\nconnection: close\r\n", 1);
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    soon("an answer", stream.read_to_string(&mut answer)).await.expect("an answer");
    answer
}

/// Leases the operation, reports with the token of the lease, with a wrong one, and with one that is none.
async fn lease_and_report(told: &mut Told, face: Face<'_>, root: &str) {
    let path = "/v1/queues/default/operations:lease";
    let leased = post(face, root, path, &json!({ "worker": "w", "maxOperations": 1 })).await;
    let (_, body) = leased.split_once("\r\n\r\n").expect("a body");
    let leased: Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(leased["leases"][0]["operation"], "operations/x", "{leased}");
    let token = leased["leases"][0]["leaseToken"].as_str().expect("a token");
    // As it is written, and as its bytes may be.
    let bytes: Vec<u8> = token
        .as_bytes()
        .chunks(2)
        .map(|digits| std::str::from_utf8(digits).expect("digits"))
        .map(|digits| u8::from_str_radix(digits, 16).expect("a byte"))
        .collect();
    told.secret("a lease token", token);
    told.secret("a lease token in base64", &BASE64_STANDARD.encode(&bytes));
    told.secret("the bytes of a lease token", format!("{bytes:?}").trim_matches(['[', ']']));
    told.secret(
        "a lease token as a number",
        &u128::from_str_radix(token, 16).expect("hex").to_string(),
    );

    let report = "/v1/operations/x:reportProgress";
    let with = |token: &str| json!({ "leaseToken": token, "progress": { "fraction": 0.5 } });
    let answer = post(face, root, report, &with(token)).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    told.said.push_str(&answer);
    let other: String = token.chars().rev().collect();
    told.secret("a lease token of nothing", &other);
    told.secret("a lease token that is too long", &format!("{other}00"));
    for wrong in [other.clone(), format!("{other}00"), token.to_uppercase() + "x"] {
        let answer = post(face, root, report, &with(&wrong)).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
        told.said.push_str(&answer);
    }
    told.secret("a lease token in capitals", &token.to_uppercase());
}

/// The JSON in an output that has lines of the log around it.
fn json_of(output: &str) -> Value {
    let begin = output.lines().position(|line| line.starts_with('{')).expect("an object");
    // Lines of the log begin with the year.
    let lines = output.lines().skip(begin).filter(|line| !line.starts_with("20"));
    let lines: Vec<&str> = lines.collect();
    let text = lines.join("\n");
    let mut values = serde_json::Deserializer::from_str(&text).into_iter();
    values.next().expect("a value").expect("JSON")
}
