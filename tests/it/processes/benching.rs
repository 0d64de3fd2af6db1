//! `longhaul bench` of callbacks, whose receivers are in the bench.

use serde_json::Value;

use super::authorities::Authority;
use super::binary::Longhaul;
use super::receiver::LOOPBACK;
use super::typed::{Ended, Typist};

#[tokio::test]
async fn bench_counts_callbacks_over_http_and_tls() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().expect("a folder"));
    let store = format!("embedded:{}", folder.path().display());
    let ca = authority.ca();
    let environment = [&LOOPBACK[..], &[("SSL_CERT_FILE", &ca)]].concat();
    let server = Longhaul::serve_in(&store, &[], &environment).await;
    let certified = authority.server();
    let tls = ["--receiver-cert", &certified.cert, "--receiver-key", &certified.key];
    let args = [&["callbacks", "callbacks-tls", "--callbacks", "3"][..], &tls].concat();
    let ended = bench(&server, &args).await;
    assert_eq!((ended.code, &*ended.stderr), (0, ""), "{ended:?}");
    let report: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    for (place, name) in ["callbacks", "callbacks-tls"].into_iter().enumerate() {
        let result = &report["results"][place];
        assert_eq!(result["name"], name, "{report}");
        assert!(result["count"].as_u64().is_some_and(|count| count > 0), "{report}");
        assert!(result["quantiles"][0]["p99_us"].as_u64().is_some_and(|p99| p99 > 0), "{report}");
    }
    let ended = bench(&server, &["callbacks-tls"]).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.contains("callbacks-tls needs --receiver-cert"), "{ended:?}");
}

#[tokio::test]
async fn bench_says_what_a_server_must_allow_where_no_callback_arrives() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Longhaul::serve(&format!("embedded:{}", folder.path().display())).await;
    let ended = bench(&server, &["callbacks"]).await;
    assert_eq!((ended.code, &*ended.stdout), (1, ""), "{ended:?}");
    assert!(ended.stderr.to_lowercase().contains("webhooks"), "{ended:?}");
}

async fn bench(server: &Longhaul, scenarios: &[&str]) -> Ended {
    let typist = Typist::at(&server.address().to_string());
    let how = ["bench", "--output", "json", "--seconds", "0.3", "--only"];
    typist.runs(&[&how[..], scenarios].concat(), "").await
}
