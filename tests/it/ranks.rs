//! How servers on one store share the work.

use longhaul::engine::{Engine, Heartbeat, Reaper};
use longhaul::store::Store;

use crate::support::*;

scenarios! {
    servers_share_the_partitions_and_one_takes_over_those_of_the_other,
}

async fn servers_share_the_partitions_and_one_takes_over_those_of_the_other(fixture: &Fixture) {
    let here = fixture.server.engine();
    let there = Engine::without_agents(fixture.store.clone(), fixture.clock.clone());
    let beat = async |engine: &Engine| Heartbeat.run_once(engine).await.expect("a sign of life");
    let meet = async || {
        for engine in [here, &there, here, &there, here] {
            beat(engine).await;
        }
    };
    meet().await;
    let partitions = || fixture.store.keyspace().all();
    for partition in partitions() {
        assert_eq!(here.rank(partition) + there.rank(partition), 1, "{partition:?}");
    }

    // One of them processes a due record at once, and the other after a second.
    let name = fixture.running(start("q")).await.operation;
    fixture.let_pass(Duration::from_millis(30_001));
    meet().await;
    let key = fixture.store.keyspace().key(&name);
    let first_here = here.rank(fixture.store.keyspace().partition(key)) == 0;
    let (first, second) = if first_here { (here, &there) } else { (&there, here) };
    assert_eq!(Reaper.run_once(second).await.expect("a sweep").due, 0);
    assert_eq!(Reaper.run_once(first).await.expect("a sweep").changed, 1);

    fixture.let_pass(Duration::from_secs(7));
    beat(here).await;
    assert!(partitions().all(|partition| here.rank(partition) == 0));
}
