//! Events become deliveries, and deliveries reach their receivers, in order, on every store.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;

use super::baskets::{
    Basket, EVERYTHING, Fixture, Said, callback, endpoint, engine, lock, said, settle,
};
use super::{caller, name};
use crate::engine::{Courier, Janitor};
use crate::limits::{DELIVERY_KEPT, MAX_DELIVERY_AGE};
use crate::operation::payload::type_url;
use crate::post::SigningKey;
use crate::proto::google::protobuf::Any;
use crate::proto::longhaul::v1 as pb;
use crate::proto::longhaul::v1::callback::{Event, Format};
use crate::record::delivery::{DeliveryStage, LANES, LINES};
use crate::webhook::endpoint::EndpointState;

#[tokio::test]
async fn each_event_reaches_each_callback_that_wants_it_once_and_in_order() {
    for fixture in Fixture::each().await {
        let name = fixture.store_name;
        let callbacks = vec![
            callback("all.test", &EVERYTHING),
            callback("end.test", &[]),
            callback("failed.test", &[Event::Failed]),
            callback("all.test", &[Event::Done]),
        ];
        fixture.start("a", callbacks).await;
        fixture.settle().await;
        let token = fixture.lease().await;
        fixture.settle().await;
        fixture.report("a", token, "half way").await;
        fixture.settle().await;
        fixture.complete("a", token, None).await;
        fixture.settle().await;
        let all = fixture.said("all.test");
        let events: Vec<(&str, u64)> = all.iter().map(|(_, event, at)| (&**event, *at)).collect();
        let expected =
            [("operation.started", 1), ("operation.progress", 2), ("operation.succeeded", 3)];
        assert_eq!(events, expected, "{name}");
        let ids: std::collections::HashSet<&String> = all.iter().map(|(id, ..)| id).collect();
        assert_eq!(ids.len(), 3, "{name}: {all:?}");
        assert_eq!(fixture.events("end.test"), ["operation.done"], "{name}");
        assert_eq!(fixture.events("failed.test"), [""; 0], "{name}");
        assert!(fixture.scan(LINES).await.is_empty() && fixture.scan(LANES).await.is_empty());
    }
}

#[tokio::test]
async fn an_operation_without_callbacks_leaves_no_event_and_notes_none() {
    for fixture in Fixture::each().await {
        fixture.run("a", Vec::new()).await;
        assert!(fixture.scan("due/callback").await.is_empty(), "{}", fixture.store_name);
        let view = fixture.engine.get(&caller(), &name("a")).await.expect("a view");
        assert_eq!(view.operation.events, 0, "{}", fixture.store_name);
        // Nor does one whose callbacks want something else.
        fixture.run("b", vec![callback("a.test", &[Event::Cancelled])]).await;
        assert!(fixture.scan("due/callback").await.is_empty(), "{}", fixture.store_name);
    }
}

#[tokio::test]
async fn a_delivery_that_fails_is_tried_on_schedule_with_one_id_and_then_given_up() {
    for fixture in Fixture::each().await {
        fixture.answer("a.test", 500);
        fixture.run("a", vec![callback("a.test", &[])]).await;
        fixture.settle().await;
        let first = fixture.said("a.test");
        assert_eq!(first.len(), 1, "{}", fixture.store_name);
        fixture.advance(Duration::from_secs(4));
        fixture.settle().await;
        assert_eq!(fixture.said("a.test"), [], "{}", fixture.store_name);
        for attempt in 1..10 {
            fixture.advance(Duration::from_hours(29));
            fixture.settle().await;
            // The last ones come too late: five days are over.
            let expected = if attempt < 5 { &first[..] } else { &[] };
            assert_eq!(fixture.said("a.test"), expected, "{} {attempt}", fixture.store_name);
        }
        let kept = fixture.deliveries().await;
        let [(_, kept)] = &kept[..] else { panic!("{kept:?}") };
        assert!(matches!(kept.stage, DeliveryStage::GivenUp(_)), "{kept:?}");
        assert_eq!((kept.attempts[0].status, &kept.reply[..]), (500, &b""[..]));
        assert_eq!(kept.attempts[0].latency, Duration::from_millis(7));
        fixture.advance(DELIVERY_KEPT);
        Janitor.run_once(&fixture.engine).await.expect("a sweep");
        assert_eq!(fixture.deliveries().await, [], "{}", fixture.store_name);
    }
}

#[tokio::test]
async fn later_events_wait_behind_one_that_fails_and_follow_it_in_order() {
    for fixture in Fixture::each().await {
        let name = fixture.store_name;
        fixture.answer("a.test", 503);
        let both = vec![callback("a.test", &EVERYTHING), callback("b.test", &EVERYTHING)];
        fixture.start("a", both).await;
        let token = fixture.lease().await;
        fixture.settle().await;
        fixture.complete("a", token, None).await;
        fixture.settle().await;
        assert_eq!(fixture.events("a.test"), ["operation.started"], "{name}");
        let others = ["operation.started", "operation.succeeded"];
        assert_eq!(fixture.events("b.test"), others, "{name}: another receiver does not wait");
        fixture.answer("a.test", 200);
        fixture.advance(Duration::from_secs(6));
        fixture.settle().await;
        assert_eq!(fixture.events("a.test"), others, "{name}");
    }
}

#[tokio::test]
async fn progress_that_waits_is_replaced_by_later_news() {
    for fixture in Fixture::each().await {
        let name = fixture.store_name;
        fixture.answer("a.test", 503);
        fixture.start("a", vec![callback("a.test", &EVERYTHING)]).await;
        let token = fixture.lease().await;
        fixture.settle().await;
        for message in ["one", "two", "three"] {
            fixture.report("a", token, message).await;
            fixture.settle().await;
        }
        assert_eq!(fixture.deliveries().await.len(), 2, "{name}: one tried, one waits");
        fixture.said("a.test");
        fixture.answer("a.test", 200);
        fixture.advance(Duration::from_secs(6));
        fixture.settle().await;
        let letters = lock(&fixture.basket.letters).split_off(0);
        let bodies: Vec<serde_json::Value> = letters
            .iter()
            .map(|letter| serde_json::from_slice(&letter.body).expect("JSON"))
            .collect();
        assert_eq!(bodies.len(), 2, "{name}: {bodies:?}");
        assert_eq!(bodies[1]["data"]["statusDetail"], "three", "{name}");

        // Progress that was tried and failed gives way, too, and its successor keeps the pace.
        fixture.answer("a.test", 503);
        for message in ["four", "five"] {
            fixture.report("a", token, message).await;
            fixture.settle().await;
        }
        assert_eq!(fixture.said("a.test").len(), 1, "{name}");
        fixture.advance(Duration::from_secs(6));
        fixture.settle().await;
        assert_eq!(fixture.said("a.test").len(), 1, "{name}: four fails again, five waits");
        fixture.answer("a.test", 200);
        fixture.advance(Duration::from_mins(1));
        fixture.settle().await;
        assert_eq!(fixture.said("a.test"), [], "{name}: not before its time");
        fixture.advance(Duration::from_mins(6));
        fixture.settle().await;
        let letters = lock(&fixture.basket.letters).split_off(0);
        let text = String::from_utf8_lossy(&letters[0].body).into_owned();
        assert!(letters.len() == 1 && text.contains("five"), "{name}: {text}");
    }
}

#[tokio::test]
async fn a_receiver_that_is_gone_delays_no_other_and_is_only_probed() {
    for fixture in Fixture::each().await {
        let store = fixture.store_name;
        fixture.answer("dead.test", 0);
        for number in 0..40 {
            fixture.run(&format!("d-{number}"), vec![callback("dead.test", &[])]).await;
        }
        for number in 0..10 {
            fixture.run(&format!("a-{number}"), vec![callback("alive.test", &[])]).await;
        }
        fixture.settle().await;
        assert_eq!(fixture.said("alive.test").len(), 10, "{store}");
        let tried = fixture.said("dead.test").len();
        assert!((5..=8).contains(&tried), "{store}: {tried}");
        fixture.advance(Duration::from_secs(6));
        fixture.settle().await;
        assert_eq!(fixture.said("dead.test").len(), 1, "{store}: a probe");
        fixture.answer("dead.test", 200);
        fixture.advance(Duration::from_mins(1));
        fixture.settle().await;
        fixture.advance(Duration::from_mins(10));
        fixture.settle().await;
        let ids: std::collections::HashSet<String> =
            fixture.said("dead.test").into_iter().map(|(id, ..)| id).collect();
        assert_eq!(ids.len(), 40, "{store}: all arrive once it is back");
    }
}

#[tokio::test]
async fn what_no_attempt_reaches_for_five_days_is_given_up() {
    for fixture in Fixture::each().await {
        fixture.answer("dead.test", 0);
        for number in 0..20 {
            fixture.run(&format!("d-{number}"), vec![callback("dead.test", &[])]).await;
        }
        fixture.settle().await;
        fixture.advance(MAX_DELIVERY_AGE + Duration::from_mins(1));
        fixture.settle().await;
        let over = fixture.deliveries().await;
        assert_eq!(over.len(), 20, "{}", fixture.store_name);
        assert!(
            over.iter().all(|(_, it)| matches!(it.stage, DeliveryStage::GivenUp(_))),
            "{over:?}"
        );
    }
}

#[tokio::test]
async fn receivers_end_deliveries_with_410_and_postpone_them_with_retry_after() {
    for fixture in Fixture::each().await {
        fixture.answer("gone.test", 410);
        fixture.run("a", vec![callback("gone.test", &[])]).await;
        fixture.answer("busy.test", 429);
        fixture.run("b", vec![callback("busy.test", &[])]).await;
        fixture.settle().await;
        assert_eq!(fixture.said("gone.test").len() + fixture.said("busy.test").len(), 2);
        fixture.answer("busy.test", 200);
        fixture.advance(Duration::from_mins(9));
        fixture.settle().await;
        assert_eq!(fixture.said("busy.test"), [], "{}", fixture.store_name);
        // The store's time is some microseconds ahead after many commits.
        fixture.advance(Duration::from_secs(61));
        fixture.settle().await;
        assert_eq!(fixture.said("busy.test").len(), 1, "{}", fixture.store_name);
        assert_eq!(fixture.said("gone.test"), [], "{}", fixture.store_name);
    }
}

#[tokio::test]
async fn a_server_that_ends_at_any_step_loses_nothing_and_another_sends_the_same_id() {
    for fixture in Fixture::each().await {
        let store = fixture.store_name;
        // After the commit.
        fixture.run("a", vec![callback("a.test", &EVERYTHING)]).await;
        // After the event was resolved, while a delivery is claimed, and after it was sent.
        let hung: Arc<Basket> = Arc::default();
        let first = engine(&fixture.harness, &hung);
        Courier.run_once(&first).await.expect("a sweep");
        first.rooms.courier.claim_due(true).await.expect("claimed");
        let claimed = first.rooms.courier.begin();
        assert_eq!(claimed.len(), 1, "{store}");
        let letter = first.rooms.courier.deliver(claimed[0].clone());
        // It is dropped at the first wait after the request, as if the process had ended.
        let _ended = letter.now_or_never();
        // A commit that was sent before the end is applied before the next one.
        fixture.start("z", Vec::new()).await;
        let sent: Vec<Said> = lock(&hung.letters).iter().map(said).collect();

        fixture.settle().await;
        let early = fixture.said("a.test");
        fixture.advance(Duration::from_secs(31));
        fixture.settle().await;
        let all = [early, fixture.said("a.test")].concat();
        let events: Vec<&str> = all.iter().map(|(_, event, _)| &**event).collect();
        let whole = ["operation.started", "operation.succeeded"];
        let rest = &whole[whole.len() - events.len()..];
        assert!(events == rest && events.len() + sent.len() >= 2, "{store}: {sent:?} {all:?}");
        for (id, event, _) in &sent {
            let again = all.iter().find(|(_, other, _)| other == event);
            assert!(again.is_none_or(|(other, ..)| other == id), "{store}: {sent:?} {all:?}");
        }
    }
}

#[tokio::test]
async fn two_servers_send_each_event_in_order_and_once() {
    for fixture in Fixture::each().await {
        let other = engine(&fixture.harness, &fixture.basket);
        for number in 0..20 {
            let id = format!("o-{number}");
            fixture.start(&id, vec![callback("a.test", &EVERYTHING)]).await;
            let token = fixture.lease().await;
            fixture.report(&id, token, "on it").await;
            fixture.complete(&id, token, None).await;
        }
        tokio::join!(fixture.settle(), settle(&other));
        fixture.settle().await;
        let letters = lock(&fixture.basket.letters).split_off(0);
        let mut last: HashMap<String, u64> = HashMap::new();
        let mut ids = std::collections::HashSet::new();
        for letter in &letters {
            let body: serde_json::Value = serde_json::from_slice(&letter.body).expect("JSON");
            let at = body["data"]["sequence"].as_u64().expect("a sequence");
            let name = body["data"]["name"].as_str().expect("a name").to_owned();
            assert!(last.insert(name, at).is_none_or(|before| before < at), "{}", body);
            assert!(ids.insert(letter.id.clone()), "{}: sent twice", fixture.store_name);
        }
        assert!(last.len() == 20 && last.values().all(|at| *at == 3), "{last:?}");
    }
}

#[tokio::test]
async fn the_result_is_sent_where_it_is_wanted_and_in_the_form_that_is_wanted() {
    for fixture in Fixture::each().await {
        let text = prost_types::Value {
            kind: Some(prost_types::value::Kind::StringValue("x".repeat(2_000))),
        };
        let board = prost_types::Struct { fields: [("board".to_owned(), text)].into() };
        let value = prost::Message::encode_to_vec(&board).into();
        let response = Any { type_url: type_url("google.protobuf.Struct"), value };
        let full = pb::Callback { include_result: true, ..callback("full.test", &[]) };
        let bare =
            pb::Callback { format: Format::ResponseBody.into(), ..callback("bare.test", &[]) };
        fixture.start("a", vec![full, bare, callback("thin.test", &[])]).await;
        let token = fixture.lease().await;
        fixture.complete("a", token, Some(response)).await;
        fixture.settle().await;
        let mut bodies: HashMap<String, serde_json::Value> = HashMap::new();
        for letter in lock(&fixture.basket.letters).split_off(0) {
            assert_eq!(letter.keys.len(), 1, "{letter:?}");
            let body = serde_json::from_slice(&letter.body).expect("JSON");
            bodies.insert(letter.url.clone(), body);
        }
        let long = "x".repeat(2_000);
        let full = &bodies["https://full.test/hook"]["data"]["operation"];
        assert_eq!(full["response"]["value"]["board"], *long, "{}", fixture.store_name);
        assert_eq!(bodies["https://bare.test/hook"], serde_json::json!({ "board": long }));
        assert!(bodies["https://thin.test/hook"]["data"].get("operation").is_none());
    }
}

#[tokio::test]
async fn an_operation_that_is_deleted_at_once_still_reports_its_end() {
    for fixture in Fixture::each().await {
        let full = pb::Callback { include_result: true, ..callback("a.test", &[]) };
        fixture.run("a", vec![full]).await;
        fixture.engine.delete(&caller(), &name("a")).await.expect("deleted");
        fixture.settle().await;
        assert_eq!(fixture.events("a.test"), ["operation.done"], "{}", fixture.store_name);
    }
}

#[tokio::test]
async fn endpoints_of_a_parent_and_those_above_it_get_the_events_that_they_want() {
    for fixture in Fixture::each().await {
        let store = fixture.store_name;
        fixture.create(endpoint("", "root", &[Event::Succeeded], "")).await;
        let other = endpoint("projects/p", "other", &[Event::Done], "");
        fixture.create(other).await;
        fixture.create(endpoint("", "fits", &[Event::Done], "queue() = q")).await;
        fixture.create(endpoint("", "unfit", &[Event::Done], "queue() = x")).await;
        fixture.run("a", vec![callback("own.test", &[])]).await;
        fixture.settle().await;
        assert_eq!(fixture.events("own.test"), ["operation.done"], "{store}");
        assert_eq!(fixture.events("root.test"), ["operation.succeeded"], "{store}");
        assert_eq!(fixture.events("fits.test"), ["operation.done"], "{store}");
        assert_eq!(fixture.events("unfit.test"), [""; 0], "{store}");
        assert_eq!(fixture.events("other.test"), [""; 0], "{store}");
        let kept = fixture.deliveries().await;
        assert!(kept.len() == 3, "{store}: deliveries are kept: {kept:?}");
    }
}

#[tokio::test]
async fn an_endpoint_that_is_created_later_gets_the_events_of_then_and_none_before() {
    for fixture in Fixture::each().await {
        fixture.engine.rooms.listening.refresh().await.expect("a look");
        fixture.run("a", Vec::new()).await;
        fixture.settle().await;
        fixture.create(endpoint("", "late", &[Event::Done], "")).await;
        fixture.run("b", Vec::new()).await;
        fixture.settle().await;
        assert_eq!(fixture.said("late.test").len(), 1, "{}", fixture.store_name);
    }
}

#[tokio::test]
async fn deliveries_to_an_endpoint_are_signed_with_its_secrets_and_note_its_health() {
    for fixture in Fixture::each().await {
        let store = fixture.store_name;
        let created = fixture.create(endpoint("", "e", &[Event::Done], "")).await;
        fixture.answer("e.test", 500);
        fixture.run("a", Vec::new()).await;
        fixture.settle().await;
        let failing = fixture.endpoint(&created).await;
        assert!(failing.failing_since.is_some(), "{store}: {failing:?}");
        assert_eq!(failing.state_detail, "the receiver answered 500", "{store}");
        let key = SigningKey::Shared(created.secrets[0].key.to_vec());
        assert_eq!(lock(&fixture.basket.letters)[0].keys, [key], "{store}");
        fixture.answer("e.test", 200);
        fixture.advance(Duration::from_secs(6));
        fixture.settle().await;
        assert_eq!(fixture.endpoint(&created).await.failing_since, None, "{store}");

        fixture.answer("e.test", 410);
        fixture.run("b", Vec::new()).await;
        fixture.settle().await;
        let gone = fixture.endpoint(&created).await;
        assert_eq!(gone.state, EndpointState::Disabled, "{store}");
        fixture.said("e.test");
        fixture.advance(Duration::from_secs(2));
        fixture.run("c", Vec::new()).await;
        fixture.settle().await;
        assert_eq!(fixture.said("e.test"), [], "{store}: it is not called any more");
    }
}
