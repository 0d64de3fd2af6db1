//! `longhaul webhook` and `longhaul delivery`: their output and exit codes.

use super::bounds::eventually;
use super::callbacks::{Manners, Receiver, serve, work};
use super::typed::Typist;

const LIST: &str = "longhaul.v1.ListWebhookDeliveriesResponse";
const DELIVERY: &str = "longhaul.v1.WebhookDelivery";
const TEST: &str = "longhaul.v1.TestWebhookEndpointResponse";
const NAME: &str = "webhookEndpoints/e";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_are_tested_and_deliveries_shown_and_replayed_on_the_command_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = serve(&format!("embedded:{}", folder.path().display())).await;
    let typist = Typist::at(&server.address().to_string());
    let receiver = Receiver::open(Manners::Well);
    let made = typist.gets(&format!("webhook create {} --id e", receiver.url())).await;
    let [name, secret] = made.lines().collect::<Vec<_>>()[..] else { panic!("{made}") };
    assert!(name == NAME && secret.starts_with("whsec_"), "{made}");
    let rotated = typist.gets("webhook rotate webhookEndpoints/e --algorithm ed25519").await;
    assert!(rotated.starts_with(&format!("{NAME}\nwhpk_")), "{rotated}");
    assert!(typist.gets("webhook get webhookEndpoints/e").await.contains("whpk_"));

    let tested = typist.types("webhook test webhookEndpoints/e").await;
    assert!(tested.code == 0 && tested.stderr.contains("test event: 200 in "), "{tested:?}");
    receiver.behave(Manners::Down);
    let tested = typist.types("webhook test webhookEndpoints/e").await;
    assert!(tested.code == 1 && tested.stderr.contains("test event: 503 in "), "{tested:?}");
    let tested = typist.types("webhook test webhookEndpoints/e --output json").await;
    assert!(tested.code == 1 && tested.stderr.is_empty(), "{tested:?}");
    let json = super::typed::message(&tested.stdout, TEST);
    assert_eq!(json["attempt"]["statusCode"], 503, "{json}");
    assert_eq!(typist.types("webhook test webhookEndpoints/none").await.code, 5);
    receiver.behave(Manners::Well);

    let none = typist.types("delivery list webhookEndpoints/e").await;
    assert_eq!((none.code, &*none.stdout, &*none.stderr), (0, "", "no deliveries\n"));
    // An endpoint gets events from a few seconds after its creation on, so each round makes one.
    let (round, (typist, server)) = (std::sync::atomic::AtomicU32::new(0), (&typist, &server));
    let listed = eventually("a delivery", || async {
        let number = round.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let id = format!("op-{number}");
        server.client().start_told(&id, Vec::new()).await.expect("a start");
        work(server).await;
        let list = "delivery list webhookEndpoints/e --state delivered --limit 1";
        Some(typist.types(list).await.stdout).filter(|said| said.contains("DELIVERED"))
    });
    let listed = listed.await;
    let rows: Vec<&str> = listed.lines().collect();
    assert!(rows.len() == 2 && rows[0].starts_with("STATE"), "{listed}");
    let name = rows[1].split_whitespace().last().expect("a name");
    let json = typist.gets_json("delivery list webhookEndpoints/e --state delivered", LIST).await;
    let deliveries = json["webhookDeliveries"].as_array().expect("deliveries");
    assert!(deliveries.iter().any(|it| it["name"] == *name), "{json}");
    let shown = typist.gets(&format!("delivery get {name}")).await;
    for part in [name, "DELIVERED", "DONE", "operations/op-", "attempt 1 ", "200 in "] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    let replayed = typist.gets(&format!("delivery replay {name}")).await;
    assert_eq!(replayed, format!("{name} is sent again now\n"));
    let again = || async {
        let json = typist.gets_json(&format!("delivery get {name}"), DELIVERY).await;
        (json["attemptCount"] == 2 && json["state"] == "DELIVERED").then_some(())
    };
    eventually("the end of the replay", again).await;
    let id = "0".repeat(32);
    for verb in ["get", "replay"] {
        let missing = typist.types(&format!("delivery {verb} {NAME}/deliveries/msg_{id}")).await;
        assert_eq!(missing.code, 5, "{missing:?}");
    }
}

#[tokio::test]
async fn an_endpoint_that_the_server_does_not_call_is_refused_with_the_setting() {
    let typist = Typist::with_a_server().await;
    for (uri, setting) in [
        ("http://example.com/", "webhooks.allow_http"),
        ("https://127.0.0.1/", "webhooks.networks"),
    ] {
        let refused = typist.types(&format!("webhook create {uri}")).await;
        assert!(refused.code == 1 && refused.stderr.contains(setting), "{refused:?}");
    }
    let none = typist.types("webhook list").await;
    assert_eq!((none.code, &*none.stdout), (0, ""));
}
