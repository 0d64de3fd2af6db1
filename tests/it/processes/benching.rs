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
        // A machine that is busy with other tests may have no second one in so short a time.
        assert!(result["count"].is_u64(), "{report}");
    }
    let ended = bench(&server, &["callbacks-tls"]).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.contains("callbacks-tls needs --receiver-cert"), "{ended:?}");
}

async fn bench(server: &Longhaul, scenarios: &[&str]) -> Ended {
    let typist = Typist::at(&server.address().to_string());
    let how = ["bench", "--output", "json", "--seconds", "0.3"];
    let little = ["--in-flight", "2", "--workers", "2", "--connections", "1", "--only"];
    typist.runs(&[&how[..], &little, scenarios].concat(), "").await
}
