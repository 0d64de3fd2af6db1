//! Deliveries are kept, listed and sent again, without breaking the order of an operation, on every store.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::{join, join_all};

use super::courier::{EVERYTHING, Fixture, Said, callback, endpoint, settle};
use super::{caller, name};
use crate::engine::{Courier, DeliveryQuery, Engine, Janitor, Reason, Settings};
use crate::limits::{
    DEFAULT_DELIVERY_TIMEOUT, DELIVERY_KEPT, ENDPOINT_PATIENCE, MAX_TESTS_AT_ONCE,
};
use crate::operation::name::EndpointName;
use crate::post::{Carrier, Letter, Receipt, Refused, SigningKey, Unanswered};
use crate::proto::longhaul::v1::callback::Event;
use crate::record::delivery::{Delivery, DeliveryState};
use crate::store::Key;
use crate::webhook::endpoint::{EndpointState, SecretAlgorithm};
use crate::webhook::name::{DeliveryName, DeliveryOwner};

const FIRST_PAUSE: Duration = Duration::from_secs(7);

fn of(id: &str) -> DeliveryOwner {
    DeliveryOwner::Operation(name(id))
}

fn to(endpoint: &EndpointName) -> DeliveryOwner {
    DeliveryOwner::Endpoint(endpoint.clone())
}

fn query(owner: &DeliveryOwner, state: Option<DeliveryState>) -> DeliveryQuery {
    let page_token = String::new();
    DeliveryQuery { owner: owner.clone(), state, page_size: 1_000, page_token }
}

impl Fixture {
    async fn listed(
        &self,
        owner: &DeliveryOwner,
        state: Option<DeliveryState>,
    ) -> Vec<(Key, Delivery)> {
        let page = self.engine.list_deliveries(&caller(), &query(owner, state)).await;
        page.expect("a page").deliveries
    }

    /// The states of the deliveries of an owner, and the sequence of each, the last one first.
    async fn states(&self, owner: &DeliveryOwner) -> Vec<(DeliveryState, u64)> {
        let listed = self.listed(owner, None).await;
        let states = listed.iter().map(|(_, it)| (it.state(), it.news.sequence));
        let mut states: Vec<_> = states.collect();
        states.sort_by_key(|(_, sequence)| std::cmp::Reverse(*sequence));
        states
    }

    async fn replay(&self, owner: &DeliveryOwner, sequence: u64) -> Result<Delivery, Reason> {
        let listed = self.listed(owner, None).await;
        let found = listed.into_iter().find(|(_, it)| it.news.sequence == sequence);
        let (key, delivery) = found.expect("a delivery");
        let name = DeliveryName::parse(&delivery.full_name(key)).expect("a name");
        self.engine.replay_delivery(&caller(), &name).await.map_err(|error| error.reason)
    }
}

/// Never answers.
#[derive(Debug, Default)]
struct Silent {
    asked: AtomicUsize,
}

#[async_trait]
impl Carrier for Silent {
    fn check(&self, _: &str) -> Result<(), Refused> {
        Ok(())
    }

    async fn carry(&self, _: &Letter) -> Receipt {
        self.asked.fetch_add(1, Ordering::Relaxed);
        std::future::pending().await
    }

    async fn ask(&self, _: &str, _: &str) -> Result<(), Unanswered> {
        Ok(())
    }
}

fn sequences(said: &[Said]) -> Vec<u64> {
    said.iter().map(|(_, _, sequence)| *sequence).collect()
}

use DeliveryState::{Delivered, Failed, GivenUp, Waiting};

#[tokio::test]
async fn what_has_ended_is_kept_for_three_days_and_a_replay_sends_the_same_id_again() {
    for fixture in Fixture::each().await {
        let store = fixture.store_name;
        fixture.run("a", vec![callback("a.test", &[])]).await;
        fixture.settle().await;
        let first = fixture.said("a.test");
        assert_eq!(fixture.states(&of("a")).await, [(Delivered, 1)], "{store}");
        let replayed = fixture.replay(&of("a"), 1).await.expect("a replay");
        assert_eq!(replayed.state(), Waiting, "{store}: its schedule begins anew");
        assert_eq!(fixture.replay(&of("a"), 1).await, Err(Reason::InvalidState), "{store}");
        fixture.settle().await;
        assert_eq!(fixture.said("a.test"), first, "{store}");
        let again = fixture.listed(&of("a"), None).await.remove(0).1;
        assert_eq!((again.state(), again.attempt_count), (Delivered, 2), "{store}");
        assert!(again.replay.is_some() && again.attempts.len() == 2, "{store}: {again:?}");

        // The store's time is some microseconds ahead after many commits.
        fixture.advance(DELIVERY_KEPT + Duration::from_secs(1));
        Janitor.run_once(&fixture.engine).await.expect("a sweep");
        assert_eq!(fixture.states(&of("a")).await, [], "{store}");
        let id = DeliveryName::id_of([7; 16]);
        let unknown = DeliveryName { owner: of("a"), id };
        let refused = fixture.engine.replay_delivery(&caller(), &unknown).await;
        assert_eq!(refused.expect_err("unknown").reason, Reason::WebhookDeliveryNotFound);
    }
}

#[tokio::test]
async fn a_replay_of_a_late_delivery_is_tried_on_a_whole_schedule() {
    for fixture in Fixture::each().await {
        let store = fixture.store_name;
        fixture.answer("a.test", 410);
        fixture.run("a", vec![callback("a.test", &[])]).await;
        fixture.settle().await;
        assert_eq!(fixture.states(&of("a")).await, [(GivenUp, 1)], "{store}");
        // Two and a half days later the event is old, but the replay is not.
        fixture.advance(Duration::from_hours(60));
        fixture.answer("a.test", 500);
        fixture.replay(&of("a"), 1).await.expect("a replay");
        fixture.settle().await;
        assert_eq!(fixture.states(&of("a")).await, [(Failed, 1)], "{store}");
        fixture.advance(Duration::from_hours(70));
        fixture.answer("a.test", 200);
        fixture.settle().await;
        assert_eq!(fixture.states(&of("a")).await, [(Delivered, 1)], "{store}");
        assert_eq!(fixture.said("a.test").len(), 3, "{store}");
    }
}

#[tokio::test]
async fn progress_that_was_told_is_not_kept() {
    for fixture in Fixture::each().await {
        fixture.start("a", vec![callback("a.test", &EVERYTHING)]).await;
        let token = fixture.lease().await;
        fixture.settle().await;
        for number in 0..3 {
            fixture.report("a", token, &number.to_string()).await;
            fixture.settle().await;
        }
        fixture.complete("a", token, None).await;
        fixture.settle().await;
        assert_eq!(fixture.said("a.test").len(), 5, "{}", fixture.store_name);
        let kept = fixture.states(&of("a")).await;
        assert_eq!(kept, [(Delivered, 5), (Delivered, 1)], "{}", fixture.store_name);
    }
}

/// An operation whose first event was given up, while the later ones wait or fail.
async fn stuck(fixture: &Fixture) {
    fixture.answer("a.test", 410);
    fixture.start("a", vec![callback("a.test", &EVERYTHING)]).await;
    let token = fixture.lease().await;
    fixture.settle().await;
    fixture.answer("a.test", 503);
    fixture.report("a", token, "half way").await;
    fixture.settle().await;
    fixture.complete("a", token, None).await;
    fixture.settle().await;
    fixture.said("a.test");
}

#[tokio::test]
async fn a_replayed_event_goes_before_the_later_ones_that_wait() {
    for fixture in Fixture::each().await {
        let store = fixture.store_name;
        stuck(&fixture).await;
        fixture.replay(&of("a"), 1).await.expect("a replay");
        fixture.settle().await;
        assert_eq!(sequences(&fixture.said("a.test")), [1], "{store}: it fails, the others wait");
        // A new attempt, and then all others in order; progress gives way to the end.
        fixture.answer("a.test", 200);
        fixture.advance(FIRST_PAUSE);
        fixture.settle().await;
        assert_eq!(sequences(&fixture.said("a.test")), [1, 2, 3], "{store}");
        fixture.advance(Duration::from_hours(48));
        fixture.settle().await;
        assert_eq!(fixture.said("a.test"), [], "{store}");
    }
}

#[tokio::test]
async fn a_replayed_event_goes_after_the_earlier_ones_that_wait_and_new_ones_after_it() {
    for fixture in Fixture::each().await {
        let store = fixture.store_name;
        fixture.start("a", vec![callback("a.test", &EVERYTHING)]).await;
        let token = fixture.lease().await;
        fixture.report("a", token, "half way").await;
        fixture.settle().await;
        // Both events were told; the first one is sent again, and its receiver fails now.
        fixture.said("a.test");
        fixture.answer("a.test", 503);
        fixture.replay(&of("a"), 1).await.expect("a replay");
        fixture.settle().await;
        fixture.complete("a", token, None).await;
        fixture.settle().await;
        assert_eq!(sequences(&fixture.said("a.test")), [1], "{store}: the end waits for it");
        assert_eq!(fixture.states(&of("a")).await, [(Waiting, 3), (Failed, 1)], "{store}");
        fixture.answer("a.test", 200);
        fixture.advance(FIRST_PAUSE);
        fixture.settle().await;
        assert_eq!(sequences(&fixture.said("a.test")), [1, 3], "{store}");

        // Of two replays the earlier event goes first, in whichever order they were asked for.
        fixture.replay(&of("a"), 3).await.expect("a replay");
        fixture.replay(&of("a"), 1).await.expect("a replay");
        fixture.settle().await;
        assert_eq!(sequences(&fixture.said("a.test")), [1, 3], "{store}");
        fixture.replay(&of("a"), 1).await.expect("a replay");
        fixture.replay(&of("a"), 3).await.expect("a replay");
        fixture.settle().await;
        assert_eq!(sequences(&fixture.said("a.test")), [1, 3], "{store}");
    }
}

#[tokio::test]
async fn a_replay_that_overtakes_a_running_attempt_loses_nothing_of_the_line() {
    for (status, ends) in [(200, Delivered), (500, Delivered), (410, GivenUp)] {
        for fixture in Fixture::each().await {
            let store = fixture.store_name;
            stuck(&fixture).await;
            fixture.advance(FIRST_PAUSE);
            // An attempt of the second event begins, and while it runs the first one is replayed.
            let courier = &fixture.engine.rooms.courier;
            courier.claim_due(true).await.expect("claimed");
            let claimed = courier.begin();
            assert_eq!(claimed.len(), 1, "{store}");
            fixture.replay(&of("a"), 1).await.expect("a replay");
            fixture.answer("a.test", status);
            courier.deliver(claimed[0].clone()).await;
            assert_eq!(sequences(&fixture.said("a.test")), [2], "{store} {status}");
            fixture.answer("a.test", 200);
            fixture.settle().await;
            fixture.advance(Duration::from_mins(10));
            fixture.settle().await;
            let rest = sequences(&fixture.said("a.test"));
            let expected: &[u64] = if status == 500 { &[1, 2, 3] } else { &[1, 3] };
            assert_eq!(rest, expected, "{store} {status}");
            let states = fixture.states(&of("a")).await;
            let second = states.iter().find(|(_, sequence)| *sequence == 2);
            // Progress that was told is not kept.
            let kept = (ends == GivenUp).then_some(&(GivenUp, 2));
            assert_eq!(second, kept, "{store} {status}");
            assert!(states.contains(&(Delivered, 1)) && states.contains(&(Delivered, 3)));
        }
    }
}

#[tokio::test]
async fn two_servers_that_replay_and_deliver_at_once_send_what_is_there_in_order() {
    for fixture in Fixture::each().await {
        let other = fixture.other();
        for number in 0..10 {
            fixture.run(&format!("o-{number}"), vec![callback("a.test", &EVERYTHING)]).await;
        }
        fixture.settle().await;
        fixture.said("a.test");
        for number in 0..10 {
            let owner = of(&format!("o-{number}"));
            for sequence in [2, 1] {
                fixture.replay(&owner, sequence).await.expect("a replay");
            }
        }
        tokio::join!(fixture.settle(), settle(&other));
        fixture.settle().await;
        let said = fixture.said("a.test");
        assert_eq!(said.len(), 20, "{}", fixture.store_name);
        let mut ids = std::collections::HashSet::new();
        for (id, _, _) in &said {
            assert!(ids.insert(id.clone()), "{}: sent twice", fixture.store_name);
        }
        for number in 0..10 {
            let states = fixture.states(&of(&format!("o-{number}"))).await;
            assert_eq!(states, [(Delivered, 2), (Delivered, 1)], "{}", fixture.store_name);
        }
    }
}

#[tokio::test]
async fn lists_show_the_newest_first_by_state_and_page_while_the_courier_works() {
    for fixture in Fixture::each().await {
        let store = fixture.store_name;
        let one = fixture.create(endpoint("", "one", &[Event::Done], "")).await.name;
        let two = fixture.create(endpoint("", "two", &[Event::Done], "")).await.name;
        fixture.answer("two.test", 500);
        for number in 0..7 {
            fixture.run(&format!("o-{number}"), vec![callback("own.test", &[])]).await;
            fixture.settle().await;
            fixture.advance(Duration::from_secs(1));
        }
        let all = fixture.listed(&to(&one), None).await;
        assert_eq!(all.len(), 7, "{store}");
        assert!(all.is_sorted_by(|(_, a), (_, b)| a.create_time >= b.create_time), "{store}");
        assert!(all.iter().all(|(_, it)| it.state() == Delivered), "{store}");
        assert_eq!(fixture.listed(&to(&one), Some(Failed)).await, [], "{store}");
        let failed = fixture.listed(&to(&two), Some(Failed)).await.len();
        let waiting = fixture.listed(&to(&two), Some(Waiting)).await.len();
        assert!(failed > 0 && failed + waiting == 7, "{store}: {failed} {waiting}");
        assert_eq!(fixture.listed(&of("o-3"), None).await.len(), 1, "{store}: its callback alone");

        let mut request = DeliveryQuery { page_size: 3, ..query(&to(&one), None) };
        let mut pages = Vec::new();
        loop {
            let page = fixture.engine.list_deliveries(&caller(), &request).await.expect("a page");
            pages.extend(page.deliveries);
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
            // What is made after the first page is on none of the others.
            fixture.run(&format!("new-{}", pages.len()), Vec::new()).await;
            fixture.settle().await;
        }
        assert_eq!(pages, all, "{store}");
        let nothing = fixture.engine.list_deliveries(&caller(), &query(&of("none"), None)).await;
        assert_eq!(nothing.expect_err("no operation").reason, Reason::OperationNotFound);
        let none = EndpointName::parse("webhookEndpoints/none").expect("a name");
        let nothing = fixture.engine.list_deliveries(&caller(), &query(&to(&none), None)).await;
        assert_eq!(nothing.expect_err("no endpoint").reason, Reason::WebhookEndpointNotFound);
    }
}

#[tokio::test]
async fn an_endpoint_that_fails_for_five_days_is_suspended_and_an_accepted_test_resumes_it() {
    for fixture in Fixture::each().await {
        let store = fixture.store_name;
        let created = fixture.create(endpoint("", "e", &[Event::Done], "")).await;
        fixture.answer("e.test", 500);
        let steps = ENDPOINT_PATIENCE.as_secs() / 3600 / 20;
        for number in 0..steps {
            fixture.run(&format!("o-{number}"), Vec::new()).await;
            fixture.settle().await;
            let state = fixture.endpoint(&created).await.state;
            assert_eq!(state, EndpointState::Active, "{store} {number}");
            fixture.advance(Duration::from_hours(20));
        }
        fixture.advance(Duration::from_mins(1));
        fixture.settle().await;
        assert_eq!(fixture.endpoint(&created).await.state, EndpointState::Suspended, "{store}");
        // What waited for it is given up, and what happens now is not kept for it.
        fixture.advance(Duration::from_hours(30));
        fixture.run("late", Vec::new()).await;
        fixture.settle().await;
        let listed = fixture.listed(&to(&created.name), None).await;
        assert!(listed.iter().all(|(_, it)| it.state() == GivenUp), "{store}: {listed:?}");
        let refused = fixture.replay(&to(&created.name), listed[0].1.news.sequence).await;
        assert_eq!(refused, Err(Reason::InvalidState), "{store}: nothing is sent to it");

        fixture.said("e.test");
        let failed = fixture.engine.test_endpoint(&caller(), &created.name).await.expect("a test");
        assert!(!failed.delivered && failed.attempt.status == 500, "{store}: {failed:?}");
        assert_eq!(failed.endpoint.state, EndpointState::Suspended, "{store}");
        fixture.answer("e.test", 200);
        let passed = fixture.engine.test_endpoint(&caller(), &created.name).await.expect("a test");
        assert!(passed.delivered && &passed.reply[..] == b"a reply", "{store}: {passed:?}");
        assert_eq!(passed.endpoint.state, EndpointState::Active, "{store}");
        let bodies = fixture.bodies("e.test");
        assert_eq!(bodies.len(), 2, "{store}");
        assert!(bodies.iter().all(|body| body["type"] == "webhook.test"), "{store}: {bodies:?}");
        let sequence = listed[0].1.news.sequence;
        fixture.replay(&to(&created.name), sequence).await.expect("a replay");
        fixture.settle().await;
        assert_eq!(fixture.said("e.test").len(), 1, "{store}");

        // One that said that it is gone is resumed by hand alone.
        fixture.answer("e.test", 410);
        fixture.advance(Duration::from_secs(2));
        fixture.run("gone", Vec::new()).await;
        fixture.settle().await;
        assert_eq!(fixture.endpoint(&created).await.state, EndpointState::Disabled, "{store}");
        fixture.answer("e.test", 200);
        let passed = fixture.engine.test_endpoint(&caller(), &created.name).await.expect("a test");
        assert!(passed.delivered, "{store}");
        assert_eq!(passed.endpoint.state, EndpointState::Disabled, "{store}");
    }
}

#[tokio::test]
async fn tests_end_in_time_whatever_the_receiver_does_and_a_server_runs_a_bounded_number() {
    for fixture in Fixture::each().await {
        let store = fixture.store_name;
        let name = fixture.create(endpoint("", "e", &[Event::Done], "")).await.name;
        let silent = Arc::new(Silent::default());
        let settings = Settings { carrier: Some(silent.clone()), ..Settings::default() };
        let (clock, on) = (fixture.harness.clock.clone(), fixture.harness.store.clone());
        let engine = Engine::with(on, clock.clone(), settings);
        let caller = caller();
        let tests = (0..MAX_TESTS_AT_ONCE).map(|_| engine.test_endpoint(&caller, &name));
        let one_more = async {
            while silent.asked.load(Ordering::Relaxed) < MAX_TESTS_AT_ONCE {
                tokio::task::yield_now().await;
            }
            let refused = engine.test_endpoint(&caller, &name).await.expect_err("too many");
            clock.advance(DEFAULT_DELIVERY_TIMEOUT);
            refused
        };
        let (ended, refused) = join(join_all(tests), one_more).await;
        assert_eq!(refused.reason, Reason::Overloaded, "{store}");
        for ended in ended {
            let attempt = ended.expect("an end").attempt;
            assert!(attempt.error.contains("no reply within 20s"), "{store}: {attempt:?}");
        }
    }
}

#[tokio::test]
async fn deliveries_are_signed_with_both_kinds_of_secrets_while_they_overlap() {
    for fixture in Fixture::each().await {
        let mut new = endpoint("", "e", &[Event::Done], "");
        new.algorithm = SecretAlgorithm::Ed25519;
        let created = fixture.create(new).await;
        let pair = SigningKey::from(&created.secrets[0]);
        assert!(matches!(pair, SigningKey::Pair(_)), "{}", fixture.store_name);
        let rotated = fixture.rotate(&created, None).await;
        assert_eq!(rotated.secrets[0].algorithm, SecretAlgorithm::Ed25519, "as the one before");
        let rotated = fixture.rotate(&created, Some(SecretAlgorithm::HmacSha256)).await;
        let expected: Vec<SigningKey> = rotated.secrets.iter().map(SigningKey::from).collect();
        assert!(matches!(expected[..], [SigningKey::Shared(_), SigningKey::Pair(_), _]));
        fixture.run("a", Vec::new()).await;
        fixture.settle().await;
        assert_eq!(fixture.keys(), expected, "{}", fixture.store_name);
    }
}

#[tokio::test]
async fn deliveries_that_a_server_replayed_before_it_ended_are_sent_by_another_one() {
    for fixture in Fixture::each().await {
        fixture.run("a", vec![callback("a.test", &[])]).await;
        fixture.settle().await;
        let first = fixture.said("a.test");
        fixture.replay(&of("a"), 1).await.expect("a replay");
        let other = fixture.other();
        Courier.run_once(&other).await.expect("a sweep");
        settle(&other).await;
        assert_eq!(fixture.said("a.test"), first, "{}", fixture.store_name);
    }
}
