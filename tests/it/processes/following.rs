//! `longhaul list --watch` follows a set of operations, also across a restart of its server.

use super::binary::Longhaul;
use super::bounds::{eventually, retried};
use super::redis::Redis;

async fn says(process: &Longhaul, text: &str) {
    eventually(text, || async { process.output().contains(text).then_some(()) }).await;
}

#[tokio::test]
async fn a_list_that_is_followed_goes_on_after_its_server_was_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = format!("embedded:{}", folder.path().display());
    let mut server = Longhaul::serve(&store).await;
    let (address, client) = (server.address().to_string(), server.client());
    client.start("first", "q").await.expect("a start");
    client.start("other", "r").await.expect("a start");
    let list = ["list", "--server", &address, "--watch", "--filter", "queue() = q done = false"];
    let text = Longhaul::launch(&list);
    let json = Longhaul::launch(&[&list[..], &["--output", "json"]].concat());
    says(&text, "operations/first  PENDING").await;
    says(&json, r#""name":"operations/first""#).await;
    server.kill();
    let again = Longhaul::launch(&["serve", "--listen", &address, "--store", &store]);
    again.says(" serving ").await;
    retried("a start", || client.start("second", "q")).await;
    says(&text, "operations/second  PENDING").await;
    client.cancel("first").await.expect("a cancel");
    says(&text, "operations/first  REMOVED").await;
    says(&json, r#"{"name":"operations/first","type":"REMOVED"}"#).await;
    assert!(!text.output().contains("other"), "{}", text.output());
}

#[tokio::test]
async fn a_list_that_is_followed_begins_anew_when_its_server_does() {
    let redis = Redis::forgetful();
    let mut server = Longhaul::serve(&redis.url()).await;
    let (address, client) = (server.address().to_string(), server.client());
    client.start("first", "q").await.expect("a start");
    let list = Longhaul::launch(&["list", "--server", &address, "--watch"]);
    says(&list, "operations/first  PENDING").await;
    server.kill();
    redis.command::<()>(&["FLUSHALL"]);
    let again = Longhaul::launch(&["serve", "--listen", &address, "--store", &redis.url()]);
    again.says(" serving ").await;
    says(&list, "operations/first  REMOVED").await;
    retried("a start", || client.start("second", "q")).await;
    says(&list, "operations/second  PENDING").await;
}

#[tokio::test]
async fn a_filter_and_a_page_token_may_begin_with_a_minus() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Longhaul::serve(&format!("embedded:{}", folder.path().display())).await;
    let address = server.address().to_string();
    server.client().start("one", "q").await.expect("a start");
    let listed =
        Longhaul::refusal(&["list", "--server", &address, "--filter", "-done = true"]).await;
    assert!(listed.output.contains("operations/one"), "{}", listed.output);
    let refused = Longhaul::refusal(&["list", "--server", &address, "--page-token", "-x"]).await;
    assert!(refused.output.contains("page_token is not one"), "{}", refused.output);
}

#[tokio::test]
async fn a_page_cannot_be_followed() {
    for wrong in [&["--page-size", "3"][..], &["--page-token", "x"], &["--order-by", "name"]] {
        let refusal = Longhaul::refusal(&[&["list", "--watch"], wrong].concat()).await;
        assert_eq!(refusal.code, Some(2), "{}", refusal.output);
    }
}
