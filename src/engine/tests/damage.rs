//! A delivery that cannot be read costs nothing but itself.

use std::time::Duration;

use super::baskets::{EVERYTHING, Fixture, callback};
use crate::limits::MAX_DELIVERY_AGE;
use crate::operation::lease::Token;
use crate::record::AnyRecord;
use crate::record::delivery::{DELIVERIES, DeliveryStage, LANES};
use crate::store::{Check, Entry, Key, Mark, Put, Store, WriteSet};

/// Replaces a record by bytes that are none.
pub(super) async fn damage(store: &dyn Store, key: Key) {
    let revision = store.get(&[key]).await.expect("an answer").remove(0).expect("it").revision;
    let mut set = WriteSet::new(store.keyspace().partition(key), Check::At(key, revision));
    let (visible, fencing) = (Mark::New, Mark::Keep(0));
    set.puts.push(Put { key, visible, fencing, value: "nonsense".into() });
    store.commit(vec![set]).await.remove(0).expect("written");
}

impl Fixture {
    /// Damages the first deliveries that are due; returns how many are due.
    async fn damage_due(&self, count: usize) -> usize {
        let due = self.scan(LANES).await;
        for key in due.iter().filter_map(Entry::key).take(count) {
            damage(&*self.harness.store, key).await;
        }
        due.len()
    }

    /// Starts an operation whose first delivery has failed, and damages the second one, which waits for it.
    async fn damage_second(&self) -> Token {
        self.answer("a.test", 503);
        self.start("a", vec![callback("a.test", &EVERYTHING)]).await;
        let token = self.lease().await;
        self.report("a", token, "on it").await;
        self.settle().await;
        let all = self.deliveries().await;
        let second = all.iter().find(|(_, delivery)| delivery.number == 2).expect("a delivery");
        damage(&*self.harness.store, second.0).await;
        token
    }
}

#[tokio::test]
async fn deliveries_that_cannot_be_read_hold_up_no_other_of_their_receiver() {
    for fixture in Fixture::each().await {
        let store = fixture.store_name;
        fixture.answer("a.test", 503);
        for number in 0..30 {
            fixture.run(&format!("o-{number}"), vec![callback("a.test", &[])]).await;
        }
        fixture.settle().await;
        fixture.said("a.test");
        fixture.answer("a.test", 200);
        assert_eq!(fixture.damage_due(20).await, 30, "{store}");
        // The receiver has failed: at first it gets one attempt at a time.
        for _ in 0..3 {
            fixture.advance(Duration::from_mins(10));
            fixture.settle().await;
        }
        assert_eq!(fixture.said("a.test").len(), 10, "{store}");
        assert_eq!(fixture.scan(LANES).await.len(), 20, "{store}: they stay for who can read them");
    }
}

#[tokio::test]
async fn the_last_delivery_of_a_line_that_cannot_be_read_holds_up_no_event() {
    for fixture in Fixture::each().await {
        let store = fixture.store_name;
        fixture.answer("a.test", 503);
        fixture.start("a", vec![callback("a.test", &EVERYTHING)]).await;
        let token = fixture.lease().await;
        fixture.settle().await;
        fixture.damage_due(1).await;
        fixture.complete("a", token, None).await;
        fixture.run("b", vec![callback("b.test", &EVERYTHING)]).await;
        fixture.answer("a.test", 200);
        fixture.said("a.test");
        fixture.settle().await;
        assert_eq!(
            fixture.events("b.test"),
            ["operation.started", "operation.succeeded"],
            "{store}"
        );
        fixture.advance(Duration::from_secs(6));
        fixture.settle().await;
        assert_eq!(fixture.events("a.test"), ["operation.succeeded"], "{store}");
    }
}

#[tokio::test]
async fn a_line_goes_on_behind_a_delivery_in_its_middle_that_cannot_be_read() {
    for fixture in Fixture::each().await {
        let store = fixture.store_name;
        let token = fixture.damage_second().await;
        fixture.complete("a", token, None).await;
        fixture.settle().await;
        fixture.answer("a.test", 200);
        fixture.said("a.test");
        fixture.advance(Duration::from_secs(6));
        fixture.settle().await;
        let rest = ["operation.started", "operation.succeeded"];
        assert_eq!(fixture.events("a.test"), rest, "{store}");
        assert_eq!(fixture.scan(LANES).await, [], "{store}");
    }
}

#[tokio::test]
async fn a_delivery_before_one_that_cannot_be_read_is_sent_once() {
    for fixture in Fixture::each().await {
        let store = fixture.store_name;
        fixture.damage_second().await;
        fixture.answer("a.test", 200);
        fixture.said("a.test");
        for expected in [&["operation.started"][..], &[]] {
            fixture.advance(Duration::from_mins(1));
            fixture.settle().await;
            assert_eq!(fixture.events("a.test"), expected, "{store}");
        }
    }
}

#[tokio::test]
async fn deliveries_are_given_up_behind_one_that_cannot_be_read() {
    for fixture in Fixture::each().await {
        let store = fixture.store_name;
        fixture.answer("dead.test", 0);
        for number in 0..20 {
            fixture.run(&format!("d-{number}"), vec![callback("dead.test", &[])]).await;
        }
        fixture.settle().await;
        fixture.damage_due(1).await;
        fixture.advance(MAX_DELIVERY_AGE + Duration::from_mins(1));
        fixture.settle().await;
        let entries = fixture.scan(DELIVERIES).await;
        let keys: Vec<Key> = entries.iter().filter_map(Entry::key).collect();
        let all = fixture.engine.rooms.reader.read_any(&keys).await.expect("an answer");
        let given_up = all.iter().filter(|found| match found {
            Ok(Some(AnyRecord::Delivery(it))) => {
                matches!(it.record.stage, DeliveryStage::GivenUp(_))
            }
            _ => false,
        });
        assert_eq!(given_up.count(), 19, "{store}");
    }
}
