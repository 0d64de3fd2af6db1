//! A store that is encrypted at rest, on disk and in Redis.

use std::fs;
use std::path::Path;

use super::binary::Longhaul;
use super::redis::Redis;

const OLD: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const NEW: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const SECRET: &str = "a-secret-of-the-test";

#[tokio::test]
async fn an_encrypted_store_shows_no_payload_and_is_read_with_rotated_keys() {
    let folder = tempfile::tempdir().expect("a folder");
    let redis = Redis::forgetful();
    for store in [format!("embedded:{}", folder.path().join("data").display()), redis.url()] {
        let file = folder.path().join("keys");
        fs::write(&file, format!("{OLD}\n")).expect("written");
        let path = file.to_str().expect("a path");
        let environment = [("LONGHAUL_ENCRYPTION__KEY_FILE", path)];
        let mut server = Longhaul::serve_in(&store, &[], &environment).await;
        let large = SECRET.repeat(1_000);
        for (id, text) in [("small", SECRET), ("large", &large)] {
            let address = server.address().to_string();
            let request = format!("{{\"text\": \"{text}\"}}");
            let args = ["start", "--server", &address, "--operation-id", id, "--request", &request];
            let started = Longhaul::refusal(&args).await;
            assert_eq!(started.code, Some(0), "{}", started.output);
        }
        server.signal("-TERM");
        server.ended().await;
        assert!(!holds(folder.path(), SECRET), "{store}");

        fs::write(&file, format!("{NEW}\n{OLD}\n")).expect("written");
        let rotated = Longhaul::serve_in(&store, &[], &environment).await;
        let address = rotated.address().to_string();
        for id in ["operations/small", "operations/large"] {
            let record =
                Longhaul::refusal(&["record", "--server", &address, "--output", "json", id]).await;
            assert!(record.code == Some(0) && record.output.contains(SECRET), "{record:?}");
        }
        reencrypt(rotated, &store, &environment).await;
        fs::write(&file, format!("{NEW}\n")).expect("written");
        let later = Longhaul::serve_in(&store, &[], &environment).await;
        let address = later.address().to_string();
        for id in ["operations/small", "operations/large"] {
            let record =
                Longhaul::refusal(&["record", "--server", &address, "--output", "json", id]).await;
            assert!(record.code == Some(0) && record.output.contains(SECRET), "{record:?}");
        }
    }
}

/// Encrypts a store with the first key: beside its server, unless that has it open.
async fn reencrypt(mut server: Longhaul, store: &str, environment: &[(&str, &str)]) {
    let args = ["reencrypt", "--store", store];
    let first = Longhaul::refusal_with(&args, environment).await;
    if store.starts_with("embedded:") {
        assert!(first.code == Some(1) && first.output.contains("stop it"), "{first:?}");
        server.signal("-TERM");
        server.ended().await;
    } else {
        assert_eq!(first.code, Some(0), "{first:?}");
    }
    let done = Longhaul::refusal_with(&args, environment).await;
    assert!(done.code == Some(0) && done.output.contains("records were encrypted"), "{done:?}");
    let again = Longhaul::refusal_with(&args, environment).await;
    assert!(again.output.starts_with("0 records were encrypted"), "{again:?}");
    let without = Longhaul::refusal(&args).await;
    assert!(without.code == Some(1) && without.output.contains("there is no key"), "{without:?}");
}

#[tokio::test]
async fn a_server_without_the_key_leaves_encrypted_records_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = format!("embedded:{}", folder.path().display());
    let environment = [("LONGHAUL_ENCRYPTION__KEYS", OLD)];
    let mut server = Longhaul::serve_in(&store, &[], &environment).await;
    server.client().start("x", "queue").await.expect("a start");
    server.signal("-TERM");
    server.ended().await;
    let mut plain = Longhaul::serve(&store).await;
    plain.client().get("x").await.expect_err("a record that it cannot read");
    plain.signal("-TERM");
    plain.ended().await;
    let again = Longhaul::serve_in(&store, &[], &environment).await;
    again.client().get("x").await.expect("the record");
}

/// Whether a file below the folder contains that text.
fn holds(folder: &Path, text: &str) -> bool {
    fs::read_dir(folder).expect("a folder").any(|entry| {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            return holds(&path, text);
        }
        let bytes = fs::read(&path).expect("a file");
        bytes.windows(text.len()).any(|part| part == text.as_bytes())
    })
}
