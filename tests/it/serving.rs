//! The server itself: health, and shutdown.

use longhaul::proto::grpc::health::v1::health_check_response::ServingStatus;
use longhaul::proto::grpc::health::v1::health_client::HealthClient;
use longhaul::proto::grpc::health::v1::{HealthCheckRequest, HealthListRequest};

use crate::support::*;

scenarios! {
    health_tells_of_the_server_and_each_service,
    health_follows_the_store,
    a_draining_server_refuses_starts_and_ends_waits_and_watches_politely,
    a_server_that_shuts_down_lets_calls_finish_and_then_is_gone,
}

const SERVICES: [&str; 11] = [
    "",
    "google.longrunning.Operations",
    "longhaul.v1.Admin",
    "longhaul.v1.Callers",
    "longhaul.v1.Jobs",
    "longhaul.v1.Producers",
    "longhaul.v1.Queues",
    "longhaul.v1.Tokens",
    "longhaul.v1.TypeSets",
    "longhaul.v1.Webhooks",
    "longhaul.v1.Workers",
];

async fn health_tells_of_the_server_and_each_service(fixture: &Fixture) {
    let mut health = HealthClient::new(fixture.channel.clone());
    let asked = |service: &str| HealthCheckRequest { service: service.to_owned() };
    for service in SERVICES {
        let mut watch = within("health", health.watch(asked(service))).await.granted().into_inner();
        loop {
            let status = within("health", watch.message()).await.granted().expect("a status");
            if status.status() == ServingStatus::Serving {
                break;
            }
        }
        let checked = within("health", health.check(asked(service))).await.granted().into_inner();
        assert_eq!(checked.status(), ServingStatus::Serving, "{service:?}");
    }
    let listed = within("health", health.list(HealthListRequest {})).await.granted().into_inner();
    let mut names: Vec<_> = listed.statuses.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, SERVICES);
    let unknown = within("health", health.check(asked("acme.Service"))).await;
    unknown.refused(Code::NotFound, "SERVICE_NOT_FOUND");
    let unknown = within("health", health.watch(asked("acme.Service"))).await.granted();
    let status = within("health", unknown.into_inner().message()).await.granted();
    assert_eq!(status.expect("a status").status(), ServingStatus::ServiceUnknown);
}

async fn health_follows_the_store(fixture: &Fixture) {
    let mut health = HealthClient::new(fixture.channel.clone());
    let request = HealthCheckRequest::default();
    let mut watch = within("health", health.watch(request)).await.granted().into_inner();
    let mut until = async |wanted: ServingStatus| {
        let seen = async {
            while watch.message().await.granted().expect("a status").status() != wanted {}
        };
        fixture.passing("the other status", seen).await;
    };
    until(ServingStatus::Serving).await;
    fixture.store.set_away(true);
    until(ServingStatus::NotServing).await;
    fixture.store.set_away(false);
    until(ServingStatus::Serving).await;
}

async fn a_draining_server_refuses_starts_and_ends_waits_and_watches_politely(fixture: &Fixture) {
    let lease = fixture.running(start("q")).await;
    fixture.started("q").await;
    let name = &lease.operation;
    let mut watcher = fixture.watch(watch(name)).await;
    let snapshot = watcher.expect(EventType::Snapshot).await;
    let wait = fixture.wait(name, seconds(55));
    fixture.clock.asked_for(Duration::from_secs(55), 1).await;
    let empty = pb::LeaseOperationsRequest { wait_duration: seconds(56), ..leasing("empty") };
    let waiting = fixture.leasing(empty);
    fixture.clock.asked_for(Duration::from_secs(56), 1).await;

    fixture.server.drain();
    assert!(waiting.end().await.granted().is_empty());
    assert_eq!(wait.end().await.granted(), fixture.get(name).await.granted(), "the state, early");
    let reconnect = watcher.expect(EventType::Reconnect).await;
    assert!(reconnect.reconnect_delay.is_some());
    assert_eq!(reconnect.resume_token, snapshot.resume_token);
    watcher.expect_end().await;
    fixture.start(start("q")).await.refused(Code::Unavailable, "SERVER_DRAINING");
    fixture.start_leased(start("q")).await.refused(Code::Unavailable, "SERVER_DRAINING");
    fixture.expect_no_lease("q").await;
    let mut health = HealthClient::new(fixture.channel.clone());
    let checked = within("health", health.check(HealthCheckRequest::default())).await.granted();
    assert_eq!(checked.into_inner().status(), ServingStatus::NotServing);

    // Running calls may end, and their callers get a reply.
    fixture.report(report(&lease)).await.granted();
    fixture.complete(completion(&lease)).await.granted();
    assert!(fixture.get(name).await.granted().done);
    assert_eq!(fixture.list("", 10, "").await.granted().operations.len(), 2);
    // Another server takes over where the watch stopped.
    let other = fixture.with_agents().await;
    let resume_token = reconnect.resume_token;
    let mut watcher = other.watch(pb::WatchOperationRequest { resume_token, ..watch(name) }).await;
    watcher.expect(EventType::Done).await;
}

async fn a_server_that_shuts_down_lets_calls_finish_and_then_is_gone(fixture: &Fixture) {
    let mut other = fixture.with_agents().await;
    let lease = other.running(start("q")).await;
    let wait = other.wait(&lease.operation, seconds(55));
    let mut watcher = other.watch(watch(&lease.operation)).await;
    watcher.expect(EventType::Snapshot).await;
    other.clock.asked_for(Duration::from_secs(55), 1).await;
    other.shut_down();
    assert!(!wait.end().await.granted().done);
    watcher.expect(EventType::Reconnect).await;
    watcher.expect_end().await;
    other.served().await;
    let late = other.get(&lease.operation).await.expect_err("nobody there");
    assert_eq!(late.code(), Code::Unavailable);
}
