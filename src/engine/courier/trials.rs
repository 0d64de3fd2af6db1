//! Test events: a letter to an endpoint that is about nothing, sent once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::handshakes::Handshakes;
use super::letters::Draft;
use crate::clock::Timestamp;
use crate::engine::context::Context;
use crate::engine::error::{Error, Reason, Result};
use crate::limits::MAX_TESTS_AT_ONCE;
use crate::post::{Letter, Receipt, SigningKey, TestContent, Unanswered};
use crate::record::delivery::DeliveryAttempt;
use crate::record::endpoint::PARTITION;
use crate::webhook::endpoint::Endpoint;
use crate::webhook::name::DeliveryName;

/// Sends test events.
pub(super) struct Trials {
    context: Arc<Context>,
    room: Semaphore,
}

/// What happened to a test event.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Whether the receiver accepted it.
    pub delivered: bool,
    /// The request.
    pub attempt: DeliveryAttempt,
    /// The beginning of the reply.
    pub reply: Bytes,
    /// The endpoint afterwards.
    pub endpoint: Endpoint,
}

impl Trials {
    pub(super) fn new(context: Arc<Context>) -> Self {
        Self { context, room: Semaphore::new(MAX_TESTS_AT_ONCE) }
    }

    /// Sends one, within the time of an attempt, whatever the state of the endpoint is.
    pub(super) async fn run(&self, endpoint: &Endpoint) -> Result<(Timestamp, Receipt)> {
        let Ok(_room) = self.room.try_acquire() else {
            let message = format!(
                "this server sends {MAX_TESTS_AT_ONCE} test events already, which are the most at the same time; try again"
            );
            return Err(Error::new(Reason::Overloaded, message).retry_after(PAUSE));
        };
        let settings = &self.context.settings;
        let Some(carrier) = &settings.carrier else {
            return Err(Error::new(Reason::NotSupported, "this server sends no deliveries"));
        };
        let time = self.context.store.now(PARTITION);
        let letter = letter(endpoint, time);
        let mut draft = Draft { letter, endpoint: Some(endpoint.clone()) };
        // A test asks the receiver anew, whether or not it agreed before.
        let handshakes = Handshakes::default();
        let begin = self.context.clock.elapsed();
        let receipt = tokio::select! {
            receipt = handshakes.carry(&self.context, &**carrier, &mut draft) => receipt,
            () = self.context.sleep(settings.delivery_timeout) => Receipt {
                latency: self.context.clock.elapsed().saturating_sub(begin),
                reply: Err(Unanswered::Late(settings.delivery_timeout)),
            },
        };
        Ok((time, receipt))
    }
}

fn letter(endpoint: &Endpoint, time: Timestamp) -> Letter {
    let id = DeliveryName::id_of(*Uuid::new_v4().as_bytes());
    let content = TestContent { id: &id, endpoint: &endpoint.name, time };
    let settings = &endpoint.settings;
    let letter = Letter::test(&content, settings.format, settings.headers.clone());
    let keys = endpoint.signing_secrets(time).map(SigningKey::from).collect();
    Letter { url: settings.uri.clone(), keys, ..letter }
}

/// When to try a test again that found no room.
const PAUSE: Duration = Duration::from_secs(1);
