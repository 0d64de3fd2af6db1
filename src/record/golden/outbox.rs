//! Events and deliveries beside an operation.

use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::values::{options, time};
use crate::operation::events::{Facts, OperationEvent};
use crate::operation::name::Name;
use crate::proto::longhaul::v1 as pb;
use crate::proto::longhaul::v1::operation_record::State;
use crate::record::delivery::{Delivery, DeliveryAttempt, DeliveryReplay, DeliveryStage, Target};
use crate::record::event::OutboxEvent;
use crate::record::kind::Kind;
use crate::store::Key;

/// The files, and what is in them.
pub(super) fn written() -> Vec<(&'static str, Vec<u8>)> {
    let deliveries = deliveries().into_iter();
    let deliveries = deliveries.map(|(file, delivery)| (file, delivery.encode().to_vec()));
    deliveries.chain([(EVENT, event().encode().to_vec())]).collect()
}

fn news() -> OperationEvent {
    OperationEvent {
        name: Name::parse("projects/p/operations/golden").expect("a name"),
        uid: Uuid::from_u128(0x4142_4344_4546_4748_494a_4b4c_4d4e_4f50),
        sequence: 3,
        time: time(80),
        facts: Facts::from_number(0b1_0010),
        state: State::Succeeded,
        fraction: Some(0.5),
        status_detail: "on its way".to_owned(),
        trace_parent: "00-01-02-01".to_owned(),
    }
}

fn callback() -> pb::Callback {
    options().callbacks.remove(0)
}

pub(super) fn event() -> OutboxEvent {
    OutboxEvent { news: news(), callbacks: vec![callback()], has_endpoints: true }
}

pub(super) fn deliveries() -> [(&'static str, Delivery); 3] {
    let waits = Delivery {
        news: news(),
        number: 2,
        event: pb::callback::Event::Done,
        target: Target::Callback(pb::Callback { endpoint: String::new(), ..callback() }),
        stage: DeliveryStage::Due(time(81)),
        attempts: vec![DeliveryAttempt {
            time: time(82),
            latency: Duration::from_micros(83),
            status: 503,
            error: "no reply".to_owned(),
        }],
        attempt_count: 4,
        reply: Bytes::from_static(b"busy"),
        next: Some(Key::from_bytes([7; 16])),
        create_time: time(85),
        replay: None,
    };
    let over = Delivery {
        target: Target::of(callback()),
        stage: DeliveryStage::Delivered(time(86)),
        next: None,
        ..waits.clone()
    };
    let replayed = Delivery {
        stage: DeliveryStage::GivenUp(time(88)),
        replay: Some(DeliveryReplay { time: time(87), attempts_before: 3 }),
        ..over.clone()
    };
    [("delivery-due", waits), ("delivery-over", over), ("delivery-replayed", replayed)]
}

pub(super) const EVENT: &str = "event";
