//! `longhaul top` without a terminal.

use std::time::Duration;

use super::binary::Longhaul;

#[tokio::test]
async fn top_prints_plain_text_once_where_there_is_no_terminal() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Longhaul::serve(&format!("embedded:{}", folder.path().display())).await;
    let (address, client) = (server.address().to_string(), server.client());
    for id in ["hostile", "failing", "waiting"] {
        client.start(id, "q").await.expect("a start");
    }
    let mut leases = Vec::new();
    for _ in 0..2 {
        let lease = client.lease("q", 1, LEASE, MINUTE).await.expect("an answer");
        leases.extend(lease);
    }
    client.report_saying(&leases[0], "\x1b[2Jhalf").await.expect("a report");
    client.fail(&leases[1], "no more room\x07").await.expect("a failure");
    for once in [&["--once"][..], &[]] {
        let mut top = Longhaul::launch(&[&["top", "--server", &address][..], once].concat());
        assert!(top.ended().await.success(), "{}", top.output());
        let output = top.output().clone();
        for line in [
            "3 operations\n",
            "1 PENDING  1 RUNNING  1 FAILED\n",
            "\nqueue    pending    running  workers     oldest\nq              1          1        1  ",
            "\n1 running\n  operations/hostile ",
            "\\u001b[2Jhalf",
            "\nlast failures\n  operations/failing ",
            "no more room\\u0007 (",
        ] {
            assert!(output.contains(line), "{line:?} is missing in\n{output}");
        }
        assert!(!output.contains('\x1b'), "{output:?}");
    }
}

#[tokio::test]
async fn top_refuses_what_it_cannot_show() {
    let refusal = Longhaul::refusal(&["top", "--server", "127.0.0.1:1"]).await;
    assert_eq!(refusal.code, Some(6), "{}", refusal.output);
    let folder = tempfile::tempdir().expect("a folder");
    let server = Longhaul::serve(&format!("embedded:{}", folder.path().display())).await;
    let address = server.address().to_string();
    let refusal = Longhaul::refusal(&["top", "--server", &address, "a//b"]).await;
    assert_eq!(refusal.code, Some(1), "{}", refusal.output);
}

const LEASE: Duration = Duration::from_mins(10);
const MINUTE: Duration = Duration::from_mins(1);
