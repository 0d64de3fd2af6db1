//! Conversions for the deliveries of `longhaul.v1.Webhooks`.

use super::operations::page_size;
use super::starts::in_field;
use super::webhooks;
use crate::engine::{DeliveryPage, DeliveryQuery, Error, Result, Trial};
use crate::proto::longhaul::v1 as pb;
use crate::proto::longhaul::v1::webhook_delivery::{Attempt, State};
use crate::record::delivery::{Delivery, DeliveryAttempt, DeliveryStage, DeliveryState, Target};
use crate::webhook::name::{DeliveryName, DeliveryOwner};

/// Reads the name of a delivery.
pub fn name(text: &str) -> Result<DeliveryName> {
    DeliveryName::parse(text).map_err(|error| Box::<Error>::from(error).with("field", "name"))
}

/// Reads a list.
pub fn list(request: pb::ListWebhookDeliveriesRequest) -> Result<DeliveryQuery> {
    // The parent may name the collection.
    let owner = request.parent.strip_suffix("/deliveries").unwrap_or(&request.parent);
    Ok(DeliveryQuery {
        owner: DeliveryOwner::parse(owner).map_err(in_field("parent"))?,
        state: state(request.state)?,
        page_size: page_size(request.page_size)?,
        page_token: request.page_token,
    })
}

fn state(number: i32) -> Result<Option<DeliveryState>> {
    match State::try_from(number) {
        Ok(State::Unspecified) => Ok(None),
        Ok(State::Waiting) => Ok(Some(DeliveryState::Waiting)),
        Ok(State::Delivered) => Ok(Some(DeliveryState::Delivered)),
        Ok(State::Failed) => Ok(Some(DeliveryState::Failed)),
        Ok(State::GivenUp) => Ok(Some(DeliveryState::GivenUp)),
        Err(_) => {
            let message = format!("state is {number}, which is no state of a delivery");
            Err(Error::field("state", message))
        }
    }
}

/// A delivery.
pub fn shown(name: &str, delivery: &Delivery) -> pb::WebhookDelivery {
    let news = &delivery.news;
    let (next, end) = match delivery.stage {
        DeliveryStage::Waiting => (None, None),
        DeliveryStage::Due(time) => (Some(time), None),
        DeliveryStage::Delivered(time) | DeliveryStage::GivenUp(time) => (None, Some(time)),
    };
    // A caller who chooses URIs must not read what is there.
    let (uri, reply) = match &delivery.target {
        Target::Callback(callback) => (callback.uri.clone(), String::new()),
        Target::Endpoint(..) => (String::new(), text(&delivery.reply)),
    };
    pb::WebhookDelivery {
        name: name.to_owned(),
        state: delivery.state() as i32,
        event: delivery.event.into(),
        operation: news.name.as_str().to_owned(),
        sequence: news.sequence as i64,
        event_time: Some(news.time.into()),
        uri,
        attempt_count: i32::try_from(delivery.attempt_count).unwrap_or(i32::MAX),
        attempts: delivery.attempts.iter().map(attempt).collect(),
        reply,
        next_attempt_time: next.map(Into::into),
        create_time: Some(delivery.create_time.into()),
        end_time: end.map(Into::into),
        replay_time: delivery.replay.map(|replay| replay.time.into()),
    }
}

/// A page of a list.
pub fn list_reply(page: DeliveryPage) -> pb::ListWebhookDeliveriesResponse {
    let shown = page.deliveries.iter().map(|(key, it)| shown(&it.full_name(*key), it));
    pb::ListWebhookDeliveriesResponse {
        webhook_deliveries: shown.collect(),
        next_page_token: page.next_page_token,
    }
}

/// What happened to a test event.
pub fn tested(trial: &Trial) -> pb::TestWebhookEndpointResponse {
    pb::TestWebhookEndpointResponse {
        delivered: trial.delivered,
        attempt: Some(attempt(&trial.attempt)),
        reply: text(&trial.reply),
        webhook_endpoint: Some(webhooks::shown(&trial.endpoint)),
    }
}

fn attempt(attempt: &DeliveryAttempt) -> Attempt {
    Attempt {
        start_time: Some(attempt.time.into()),
        latency: attempt.latency.try_into().ok(),
        status_code: attempt.status.into(),
        error: attempt.error.clone(),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
