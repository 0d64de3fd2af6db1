//! The audit log: a file of its own, which may be moved away and begun anew.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::binary::Longhaul;
use super::bounds::eventually;

#[tokio::test]
async fn denials_and_actions_of_administrators_are_in_a_file_that_can_be_rotated() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = format!("embedded:{}", folder.path().join("data").display());
    let root = create(&["create", "root", "--role", "admin", "--store", &store], "").await;
    let (file, old) = (folder.path().join("audit.log"), folder.path().join("audit.log.1"));
    let path = file.display().to_string();
    let environment = [("LONGHAUL_IDENTITY__AUDIT_LOG", &*path)];
    let server = Longhaul::serve_in(&store, &["--tokens"], &environment).await;
    let address = server.address().to_string();
    let at = ["--server", address.as_str()];
    let reader = ["create", "reader", "--role", "viewer", "--parent", "projects/p"];
    let reader = create(&[&at[..], &reader].concat(), &root).await;
    deny(&address, &reader).await;
    let text = contains(&file, "audit: denied").await;
    assert!(
        text.contains("audit: allowed caller=\"token:root\" verb=\"create\" on=tokens"),
        "{text}"
    );
    assert!(
        text.contains("caller=\"token:reader\" verb=\"list\" on=parent \"projects/q\""),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'), "{text:?}");
    assert_eq!(fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);

    fs::rename(&file, &old).expect("moved");
    server.signal("-HUP");
    eventually("another file", || async { file.exists().then_some(()) }).await;
    deny(&address, &reader).await;
    contains(&file, "audit: denied").await;
    let former = fs::read_to_string(&old).expect("a log");
    assert_eq!(former, text, "nothing more goes to the former file");
    assert!(!server.output().contains("audit: denied"), "{}", server.output());
}

/// Creates a token; its secret.
async fn create(args: &[&str], token: &str) -> String {
    let args = [&["token"], args].concat();
    let environment = [("LONGHAUL_TOKEN", token)];
    let environment = if token.is_empty() { &[][..] } else { &environment };
    let made = Longhaul::refusal_with(&args, environment).await;
    assert_eq!(made.code, Some(0), "{made:?}");
    made.output.lines().find(|line| line.starts_with("lht_")).expect("a token").to_owned()
}

async fn deny(address: &str, token: &str) {
    let args = ["list", "--server", address, "--parent", "projects/q"];
    let denied = Longhaul::refusal_with(&args, &[("LONGHAUL_TOKEN", token)]).await;
    assert!(denied.code == Some(1) && denied.output.contains("not permitted"), "{denied:?}");
}

async fn contains(file: &Path, part: &str) -> String {
    eventually(part, || async { fs::read_to_string(file).ok().filter(|text| text.contains(part)) })
        .await
}
