//! `longhaul token` and `longhaul link`, as someone who has nothing but the commands.

use serde_json::Value;

use super::binary::Longhaul;
use super::bounds::eventually;
use crate::support::http::{ask, ask_with};

/// Runs a command with a token; its code and its output.
async fn run(token: &str, args: &[&str]) -> (Option<i32>, String) {
    let environment = [("LONGHAUL_TOKEN", token)];
    let environment = if token.is_empty() { &[][..] } else { &environment };
    let ended = Longhaul::refusal_with(args, environment).await;
    (ended.code, ended.output)
}

/// The secret that a command printed.
fn secret(output: &str) -> String {
    let line = output.lines().find(|line| line.starts_with("lht_"));
    line.unwrap_or_else(|| panic!("no secret in {output}")).to_owned()
}

#[tokio::test]
async fn tokens_are_created_listed_rotated_and_revoked_from_the_command_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = format!("embedded:{}", folder.path().display());
    let (code, made) =
        run("", &["token", "create", "root", "--role", "admin", "--store", &store]).await;
    assert_eq!(code, Some(0), "{made}");
    let root = secret(&made);
    let server = Longhaul::serve_with(&store, &["--tokens"]).await;
    let address = server.address().to_string();
    let at = ["--server", address.as_str()];
    let token = async |args: &[&str]| run(&root, &[&["token"], &at[..], args].concat()).await;

    let (code, made) = token(&[
        "create",
        "mailer",
        "--role",
        "caller",
        "--role",
        "viewer",
        "--parent",
        "projects/p",
        "--queue",
        "mail-*",
        "--ttl",
        "90d",
    ])
    .await;
    assert_eq!(code, Some(0), "{made}");
    let first = secret(&made);
    let start = ["start", "--server", &address, "--parent", "projects/p", "--queue", "mail-1"];
    let (code, said) = run(&first, &start).await;
    assert_eq!(code, Some(0), "{said}");
    let other = ["start", "--server", &address, "--parent", "projects/p", "--queue", "other"];
    let (code, said) = run(&first, &other).await;
    assert!(code == Some(1) && said.contains("not permitted"), "{said}");

    let (code, listed) = token(&["list"]).await;
    assert_eq!(code, Some(0), "{listed}");
    let row = listed.lines().find(|line| line.starts_with("tokens/mailer")).expect("a row");
    assert!(row.contains("caller below projects/p in mail-*"), "{row}");
    assert!(!listed.contains("lht_"), "{listed}");
    let (_, listed) = token(&["list", "--output", "json"]).await;
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!(listed["tokens"].as_array().map(Vec::len), Some(2), "{listed}");

    let (code, rotated) = token(&["rotate", "mailer", "--grace", "1h"]).await;
    assert_eq!(code, Some(0), "{rotated}");
    let second = secret(&rotated);
    assert_ne!(first, second);
    for secret in [&first, &second] {
        let (code, said) = run(secret, &start).await;
        assert_eq!(code, Some(0), "{said}");
    }
    let (code, said) = token(&["revoke", "mailer"]).await;
    assert!(code == Some(0) && said.contains("tokens/mailer is revoked"), "{said}");
    eventually("the token to be refused", || async {
        let (code, said) = run(&second, &start).await;
        (code == Some(1) && said.contains("not accepted")).then_some(())
    })
    .await;
    let (code, said) = token(&["revoke", "mailer"]).await;
    assert!(code != Some(0) && said.contains("mailer"), "{said}");
    let (code, said) = run("", &["token", "--server", &address, "list"]).await;
    assert!(code == Some(1) && said.contains("asks for credentials"), "{said}");
}

#[tokio::test]
async fn a_link_opens_its_operation_to_whoever_has_its_address() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = format!("embedded:{}", folder.path().display());
    let (_, made) =
        run("", &["token", "create", "root", "--role", "admin", "--store", &store]).await;
    let root = secret(&made);
    let server = Longhaul::serve_with(&store, &["--tokens"]).await;
    let address = server.address().to_string();
    for id in ["own", "other"] {
        let (code, said) = run(&root, &["start", "--server", &address, "--operation-id", id]).await;
        assert_eq!(code, Some(0), "{said}");
    }
    let link =
        ["link", "operations/own", "--verbs", "get,cancel", "--ttl", "1h", "--server", &address];
    let (code, made) = run(&root, &link).await;
    assert_eq!(code, Some(0), "{made}");
    let path = made.lines().find(|line| line.starts_with("/v1/operations/own?access_token=lhl_"));
    let path = path.unwrap_or_else(|| panic!("no address in {made}"));
    assert_eq!(ask(server.address(), "GET", path).await.status, 200);
    let elsewhere = path.replace("/own", "/other");
    ask(server.address(), "GET", &elsewhere).await.refused(403, "PERMISSION_DENIED");
    let watch = path.replace("/own", "/own:watch");
    ask(server.address(), "GET", &watch).await.refused(403, "PERMISSION_DENIED");
    let cancel = path.replace("/own", "/own:cancel");
    let bearer = path.rsplit_once('=').expect("a link").1;
    assert_eq!(ask(server.address(), "POST", &cancel).await.status, 200);
    let authorization = format!("Bearer {bearer}");
    let headers = [("authorization", authorization.as_str())];
    let got = ask_with(server.address(), "GET", "/v1/operations/own", &headers, "").await;
    assert_eq!(got.status, 200, "{got:?}");
    // For the commands it is a token as others are.
    let (code, said) = run(bearer, &["get", "operations/own", "--server", &address]).await;
    assert!(code == Some(0), "{said}");
    let (code, said) = run(bearer, &["get", "operations/other", "--server", &address]).await;
    assert!(code == Some(1) && said.contains("not permitted"), "{said}");
    let (code, said) = run(&root, &["link", "operations/none", "--server", &address]).await;
    assert!(code != Some(0) && said.contains("no operation"), "{said}");
}
