//! Probes over plain HTTP: health, readiness and metrics.

use longhaul::proto::longhaul::v1 as pb;
use longhaul::store::faulty::Fault;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::support::http::{Http2, ask};
use crate::support::stream::{Hello, Request, held, hello, slots};
use crate::support::*;

scenarios! {
    a_cancel_pushed_on_a_stream_is_counted_with_the_time_that_it_took,
    a_cancel_that_a_renewal_delivers_is_counted_once,
    metrics_tell_how_operations_and_leases_begin_and_end,
    metrics_tell_of_streams_watchers_and_the_store,
    a_server_lives_while_it_is_not_ready,
    a_wall_clock_that_was_stepped_is_remarked_upon_until_it_is_right,
    probes_are_answered_by_every_core,
    whatever_is_no_probe_is_left_to_the_faces,
}

const DELIVERED: &str = "cancel_delivery_seconds_count";
const TOOK: &str = "cancel_delivery_seconds_sum";

async fn a_cancel_pushed_on_a_stream_is_counted_with_the_time_that_it_took(fixture: &Fixture) {
    let name = fixture.started("q").await;
    let mut stream = WorkerStream::serving(fixture, hello("q"), 1).await;
    let lease = stream.leases(1).await.remove(0);
    fixture.cancel(&name).await.granted();
    stream.signal().await;
    counted(fixture, 1).await;
    let at_once = fixture.metrics().await.of(TOOK);
    assert!((0.0..0.01).contains(&at_once), "{at_once}");
    // Sent again to a worker that comes back: it was delivered already.
    stream.cut().await;
    let back = Hello { held: vec![held(&lease)], ..hello("q") };
    let mut stream = WorkerStream::open(fixture).await;
    stream.say(Request { hello: Some(back), ..slots(2) }).await;
    stream.signal().await;
    // Another one, while its worker is away for two seconds.
    let second = fixture.started("q").await;
    let lease = stream.leases(1).await.remove(0);
    stream.settle(Request { reports: vec![report(&lease)], ..Default::default() }).await;
    let before = fixture.clock.count(GRACE);
    stream.cut().await;
    fixture.clock.asked_for(GRACE, before + 1).await;
    fixture.cancel(&second).await.granted();
    fixture.let_pass(Duration::from_secs(2));
    let back = Hello { held: vec![held(&lease)], ..hello("q") };
    let mut stream = WorkerStream::open(fixture).await;
    stream.say(Request { hello: Some(back), ..slots(1) }).await;
    stream.signal().await;
    counted(fixture, 2).await;
    let later = fixture.metrics().await.of(TOOK);
    assert!((1.99..2.02).contains(&later), "{later}");
}

const GRACE: Duration = Duration::from_secs(3);

/// This many deliveries are counted; the count follows the signal.
async fn counted(fixture: &Fixture, deliveries: i64) {
    let counted = async { while fixture.metrics().await.count(DELIVERED) < deliveries {} };
    within("a delivery to be counted", counted).await;
    assert_eq!(fixture.metrics().await.count(DELIVERED), deliveries);
}

async fn a_cancel_that_a_renewal_delivers_is_counted_once(fixture: &Fixture) {
    let lease = fixture.running(start("q")).await;
    fixture.cancel(&lease.operation).await.granted();
    fixture.cancel(&lease.operation).await.granted();
    assert_eq!(fixture.metrics().await.count(DELIVERED), 0);
    fixture.let_pass(Duration::from_secs(4));
    for _ in 0..2 {
        fixture.renew(vec![renewal(&lease)]).await.granted();
        fixture.report(report(&lease)).await.granted();
    }
    let acknowledged = pb::ReportProgressRequest { cancel_acknowledged: true, ..report(&lease) };
    fixture.report(acknowledged).await.granted();
    fixture.fail(failure(&lease, Code::Cancelled)).await.granted();
    counted(fixture, 1).await;
    let metrics = fixture.metrics().await;
    assert!((3.99..4.02).contains(&metrics.of(TOOK)), "{}", metrics.of(TOOK));
    let within =
        |bound: &str| metrics.count(&format!("cancel_delivery_seconds_bucket{{le=\"{bound}\"}}"));
    assert_eq!([within("1.0"), within("5.0")], [0, 1], "{}", metrics.0);
}

async fn metrics_tell_how_operations_and_leases_begin_and_end(fixture: &Fixture) {
    let waiting = fixture
        .leasing(pb::LeaseOperationsRequest { wait_duration: seconds(50), ..leasing("eager") });
    fixture.clock.asked_for(Duration::from_secs(50), 1).await;
    // With the start, or by the dispatcher if it has not polled yet.
    fixture.started("eager").await;
    let eager = waiting.end().await.granted().remove(0);
    fixture.complete(completion(&eager)).await.granted();
    fixture.complete(completion(&eager)).await.granted();
    let own =
        fixture.start_leased(start("own")).await.granted().into_inner().lease.expect("a lease");
    fixture.fail(failure(&own, Code::NotFound)).await.granted();
    let cancelled = fixture.started("q").await;
    fixture.cancel(&cancelled).await.granted();
    let deleted = fixture.running(start("q")).await;
    fixture.delete(&deleted.operation).await.granted();
    fixture.complete(completion(&deleted)).await.granted();
    let lost = fixture.running(start("q")).await;
    fixture.pass(Duration::from_secs(31)).await;
    assert_eq!(fixture.state(&lost.operation).await, State::Pending);
    let metrics = fixture.metrics().await;
    let given = |by: &str| metrics.count(&format!("leases_given_total{{by=\"{by}\"}}"));
    let ended =
        |state: &str| metrics.count(&format!("operations_ended_total{{state=\"{state}\"}}"));
    let found = [
        metrics.count("operations_started_total"),
        given("start") + given("dispatcher"),
        given("starter"),
        ended("succeeded"),
        ended("failed"),
        ended("cancelled"),
        ended("deleted"),
        metrics.count("leases_lost_total"),
        metrics.count("leases_released_unseen_total"),
    ];
    let wanted = [5, 3, 1, 1, 1, 1, 1, 1, 0];
    assert_eq!(found, wanted, "{}", metrics.0);
    assert!(metrics.0.ends_with("# EOF\n"));
}

async fn metrics_tell_of_streams_watchers_and_the_store(fixture: &Fixture) {
    let mut stream = WorkerStream::serving(fixture, hello("q"), 2).await;
    let first = fixture.started("q").await;
    stream.leases(1).await;
    fixture.started("q").await;
    // The worker never acknowledges this one.
    while stream.hear().await.leases.is_empty() {}
    let mut watcher = fixture.watch(watch(&first)).await;
    watcher.expect(EventType::Snapshot).await;
    let metrics = fixture.metrics().await;
    let given = |by: &str| metrics.count(&format!("leases_given_total{{by=\"{by}\"}}"));
    // By the dispatcher where its first look is not over yet.
    assert_eq!(given("start") + given("dispatcher"), 2, "{}", metrics.0);
    let now = |metrics: &http::Metrics| {
        ["streams_open", "stream_leases_held", "watchers", "leases_released_unseen_total"]
            .map(|name| metrics.count(name))
    };
    assert_eq!(now(&metrics), [1, 2, 1, 0], "{}", metrics.0);
    stream.cut().await;
    drop(watcher);
    let gone = async { while now(&fixture.metrics().await) != [0, 0, 0, 1] {} };
    within("stream and watcher to be gone", gone).await;
    // An existing operation is refused once, and returned once.
    let again = pb::StartOperationRequest { operation_id: "twice".to_owned(), ..start("q") };
    fixture.start(again.clone()).await.granted();
    fixture.start(again).await.refused(Code::AlreadyExists, "OPERATION_ALREADY_EXISTS");
    let metrics = fixture.metrics().await;
    assert!(metrics.count("commit_conflicts_total") >= 1, "{}", metrics.0);
    assert_eq!(metrics.count("store_unavailable_total"), 0, "{}", metrics.0);
    fixture.store.inject([Fault::LostUnknown]);
    fixture.started("other").await;
    let before = fixture.metrics().await.count("store_unavailable_total");
    assert!(before >= 1, "{before}");
    fixture.store.set_away(true);
    fixture.get(&first).await.refused(Code::Unavailable, "STORE_UNAVAILABLE");
    assert!(fixture.metrics().await.count("store_unavailable_total") > before);
    fixture.store.set_away(false);
}

async fn a_server_lives_while_it_is_not_ready(fixture: &Fixture) {
    let ready = async |status: u16, line: &str| {
        let seen = async {
            loop {
                let answer = ask(fixture.address, "GET", "/readyz").await;
                if answer.status == status {
                    return answer;
                }
            }
        };
        assert_eq!(fixture.passing("the other readiness", seen).await.body, line);
        assert_eq!(ask(fixture.address, "GET", "/healthz").await.body, "ok\n");
    };
    ready(200, "ok\n").await;
    fixture.store.set_away(true);
    ready(503, "the store does not answer: a fault that a test injected\n").await;
    fixture.store.set_away(false);
    ready(200, "ok\n").await;
    fixture.server.drain();
    ready(503, "draining\n").await;
    assert_eq!(ask(fixture.address, "GET", "/metrics").await.status, 200);
}

async fn a_wall_clock_that_was_stepped_is_remarked_upon_until_it_is_right(fixture: &Fixture) {
    let ready = async |remark: bool| {
        let seen = async {
            loop {
                let answer = ask(fixture.address, "GET", "/readyz").await;
                if answer.status == 200 && (answer.body != "ok\n") == remark {
                    return answer.body;
                }
            }
        };
        fixture.passing("readiness", seen).await
    };
    fixture.started("q").await;
    ready(false).await;
    fixture.clock.step_back(DAY);
    let said = ready(true).await;
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines.len() == 2 && lines[0] == "ok" && lines[1].contains("clock"), "{said}");
    assert!(lines[1].contains("right") && lines[1].contains("restart"), "{said}");
    fixture.clock.step_back(Duration::ZERO);
    ready(false).await;
}

const DAY: Duration = Duration::from_hours(24);

async fn probes_are_answered_by_every_core(fixture: &Fixture) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let (shutdown, told) = oneshot::channel::<()>();
    let serving = fixture.server.serve_on_cores(listener, 2, async move { drop(told.await) });
    let asking = async {
        fixture.started("q").await;
        for _ in 0..4 {
            let answer = ask(address, "GET", "/metrics").await;
            assert_eq!(answer.status, 200, "{answer:?}");
            assert!(answer.body.contains("longhaul_operations_started_total 1\n"), "{answer:?}");
            assert_eq!(ask(address, "GET", "/healthz").await.status, 200);
        }
        let http2 = Http2::to(address).await;
        assert_eq!(http2.ask("GET", "/healthz", &[]).await.status, 200);
        drop((http2, shutdown));
    };
    let (served, ()) = within("the cores", async { tokio::join!(serving, asking) }).await;
    served.expect("an orderly end");
}

async fn whatever_is_no_probe_is_left_to_the_faces(fixture: &Fixture) {
    let http2 = Http2::to(fixture.address).await;
    let open_metrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    for answer in
        [http2.ask("GET", "/metrics", &[]).await, ask(fixture.address, "GET", "/metrics").await]
    {
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.headers.get("content-type").map(String::as_str), Some(open_metrics));
        assert!(answer.body.contains("longhaul_operations_started_total 0\n"), "{answer:?}");
    }
    let head = ask(fixture.address, "HEAD", "/metrics").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    let post = ask(fixture.address, "POST", "/metrics").await;
    assert_eq!(post.status, 405);
    assert_eq!(post.headers.get("allow").map(String::as_str), Some("GET, HEAD"));
    for path in ["/", "/metrics/"] {
        let answer = ask(fixture.address, "GET", path).await;
        assert_eq!(answer.status, 404, "{path}: {answer:?}");
    }
    let grpc = [("content-type", "application/grpc"), ("te", "trailers")];
    for path in ["/", "/metric", "/longhaul.v1.Nobody/Nothing", "/longhaul.v1.Workers/Nothing"] {
        let answer = http2.ask("POST", path, &grpc).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert_eq!(answer.headers.get("grpc-status").map(String::as_str), Some("12"), "{path}");
        assert!(answer.headers.contains_key("grpc-status-details-bin"), "{path}: {answer:?}");
    }
}
