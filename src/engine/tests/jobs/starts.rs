//! Runs have everything that operations have which callers start.

use std::sync::Arc;

use super::*;
use crate::engine::QueueUpdate;
use crate::operation::callbacks::{NAME_MARK, named};
use crate::operation::entries::ready_index;
use crate::operation::options::{Expiration, Options, RetryPolicy};
use crate::operation::{Operation, Start};
use crate::proto::longhaul::v1 as pb;
use crate::store::{Index, Scan};

fn options() -> Options {
    let second = Duration::from_secs(1);
    let callback =
        pb::Callback { uri: format!("https://example.com/{NAME_MARK}"), ..Default::default() };
    Options {
        priority: 7,
        attempt_timeout: Some(second),
        queue_timeout: Some(second * 2),
        cancel_grace: Some(second * 3),
        retry_policy: Some(RetryPolicy { max_attempts: Some(4), ..RetryPolicy::default() }),
        expiration: Some(Expiration::After(Duration::from_hours(5))),
        callbacks: vec![callback],
        labels: [("team".to_owned(), "film".to_owned())].into(),
        target: "projects/p".to_owned(),
        ..Options::default()
    }
}

/// The spec without what tells one operation from another.
fn comparable(operation: &Operation) -> Spec {
    let mut spec = Spec { of_job: None, ..(*operation.spec).clone() };
    for callback in &mut spec.options.callbacks {
        callback.uri = callback.uri.replace(operation.name.as_str(), NAME_MARK);
    }
    spec
}

#[tokio::test]
async fn a_run_has_what_a_start_with_the_same_options_has() {
    for fixture in Fixture::each().await {
        let queue = Queue::parse("q").expect("a queue");
        let aging_interval = Some(Duration::from_secs(10));
        let update = QueueUpdate { queue, aging_interval, ..QueueUpdate::default() };
        fixture.engine.update_queue(&caller(), update).await.expect("updated");
        let mut config = config(Overlap::Skip);
        config.spec.make_mut().options = options();
        let spec = (*config.spec).clone();
        let name = fixture.create("j", config).await;
        let run = fixture.run(&name, "").await;
        let parent = Parent::parse("projects/p").expect("a parent");
        let start = Start { parent, spec, ..Start::default() };
        let started = fixture.engine.start_operation(&caller(), start).await.expect("started");
        let started = super::super::name_of(&started);

        let get = async |name: &Name| -> Arc<_> {
            fixture.engine.get(&caller(), name).await.expect("there")
        };
        let (run, started) = (get(&run).await, get(&started).await);
        let (run, started) = (&run.operation, &started.operation);
        assert_eq!(run.spec.aging_interval, aging_interval, "{}", fixture.store_name);
        assert_eq!(comparable(run), comparable(started), "{}", fixture.store_name);
        let uri = named(&format!("https://example.com/{NAME_MARK}"), run.name.as_str());
        assert_eq!(run.spec.options.callbacks[0].uri, uri);
        let rank = |operation: &Operation| {
            let created = operation.create_time.as_micros() as i64;
            operation.places.ready.expect("ready") - created
        };
        assert_eq!(rank(run), rank(started), "{}", fixture.store_name);
        let ready = Scan::first(Index::new(ready_index("q")), 10);
        assert_eq!(fixture.engine.store().scan(ready).await.expect("entries").len(), 2);
    }
}
