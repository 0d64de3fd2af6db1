//! Attempts: a delivery is sent, and while what follows from the reply is written, the next one of its receiver is on its way.

use std::pin::pin;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::handshakes::Handshakes;
use super::lane::{Claimed, LaneNews};
use super::lanes::{Bells, Lanes};
use super::letters::Letters;
use super::settling::{AttemptEnd, Attempted, Fate, Settling};
use crate::clock::Timestamp;
use crate::engine::context::Context;
use crate::engine::endpoints::alter::AlteredEndpoint;
use crate::engine::endpoints::calls::{EndpointTarget, Endpoints};
use crate::limits::MAX_DELIVERY_AGE;
use crate::post::{Carrier, Receipt, ReplyVerdict};
use crate::record::delivery::Delivery;
use crate::store::Key;
use crate::webhook::endpoint::{DeliveryEnd, Endpoint};

/// Makes attempts.
pub(super) struct Attempts {
    pub(super) context: Arc<Context>,
    pub(super) lanes: Arc<Lanes>,
    pub(super) letters: Letters,
    pub(super) settling: Arc<Settling>,
    pub(super) endpoints: Arc<Endpoints>,
    pub(super) handshakes: Handshakes,
    pub(super) bells: Arc<Bells>,
}

impl Attempts {
    /// Carries deliveries to one receiver, one after the other, as long as this server holds any.
    pub(super) async fn run(&self, claimed: Claimed) {
        let lane = claimed.1.target.lane();
        let (mut current, mut ends) = (Some(claimed), FuturesUnordered::new());
        loop {
            let Some((key, delivery)) = current.take() else {
                if ends.next().await.is_none() {
                    return;
                }
                current = self.lanes.take(lane, self.now(), self.context.clock.elapsed());
                continue;
            };
            let time = self.context.now(key);
            let end = {
                let mut attempt = pin!(self.attempt(key, &delivery));
                loop {
                    tokio::select! {
                        end = &mut attempt => break end,
                        Some(()) = ends.next(), if !ends.is_empty() => {}
                    }
                }
            };
            let news = end.as_ref().map_or(LaneNews::NotTried, AttemptEnd::lane_news);
            if let Some(end) = end {
                ends.push(self.settle(delivery, Attempted { key, time, end }));
            }
            while ends.len() > MAX_ENDS {
                ends.next().await;
            }
            let next = self.lanes.end(lane, news, self.now(), self.context.clock.elapsed());
            self.context.metrics.deliveries.running.set(self.lanes.running() as i64);
            if next.wants_more {
                self.bells.due.notify_one();
            }
            current = next.claimed;
        }
    }

    /// One attempt; `None` if the store does not answer.
    async fn attempt(&self, key: Key, delivery: &Delivery) -> Option<AttemptEnd> {
        let metrics = &self.context.metrics.deliveries;
        let carrier: &Arc<dyn Carrier> = self.context.settings.carrier.as_ref()?;
        let is_old = self.now().since(delivery.begin_time()) >= MAX_DELIVERY_AGE;
        if is_old && delivery.tries() > 0 {
            return Some(AttemptEnd::Nowhere("no attempt reached it for too long"));
        }
        let mut draft = match self.letters.write(key, delivery).await {
            Ok(Ok(draft)) => draft,
            Ok(Err(why)) => return Some(AttemptEnd::Nowhere(why)),
            Err(error) => {
                self.context.log_failure("could not write a delivery; trying again", &error);
                return None;
            }
        };
        metrics.running.set(self.lanes.running() as i64);
        let receipt = self.handshakes.carry(&self.context, &**carrier, &mut draft).await;
        if let Some(endpoint) = &draft.endpoint {
            self.note_endpoint(endpoint, &receipt).await;
        }
        metrics.latency.observe(receipt.latency.as_secs_f64());
        Some(AttemptEnd::Sent(receipt))
    }

    /// Notes in an endpoint that its deliveries fail, or do not any more.
    pub(super) async fn note_endpoint(&self, endpoint: &Endpoint, receipt: &Receipt) {
        let end = match receipt.verdict() {
            ReplyVerdict::Delivered => DeliveryEnd::Accepted,
            ReplyVerdict::Gone => DeliveryEnd::Gone,
            ReplyVerdict::Again(_) => DeliveryEnd::Failed(match &receipt.reply {
                Ok(reply) => format!("the receiver answered {}", reply.status),
                Err(error) => error.to_string(),
            }),
        };
        if endpoint.after(&end, self.now()).is_none() {
            return;
        }
        let target = EndpointTarget {
            name: endpoint.name.clone(),
            etag: String::new(),
            validate_only: false,
        };
        let alteration = |endpoint: &Endpoint, now| {
            let after = endpoint.after(&end, now);
            Ok(after.map_or(AlteredEndpoint::Kept, |it| AlteredEndpoint::Changed(Box::new(it))))
        };
        if let Err(error) = self.endpoints.alter(&target, &alteration).await {
            self.context.log_failure("could not note the state of a webhook endpoint", &error);
        }
    }

    /// Writes the end of an attempt.
    async fn settle(&self, delivery: Delivery, attempted: Attempted) {
        let (metrics, lane) = (&self.context.metrics.deliveries, delivery.target.lane());
        let settled = match self.settling.settle(&attempted).await {
            Ok(settled) => settled,
            Err(error) => {
                let what = "could not note how a delivery ended; it is sent again";
                return self.context.log_failure(what, &error);
            }
        };
        match settled.fate {
            Fate::Delivered => metrics.delivered.inc(),
            Fate::TriedAgain => metrics.failed_attempts.inc(),
            Fate::GivenUp => {
                metrics.failed_attempts.inc();
                metrics.given_up.inc()
            }
            Fate::Settled => 0,
        };
        if settled.fate == Fate::GivenUp {
            let (name, number) = (&delivery.news.name, delivery.number);
            tracing::warn!(%name, number, "gave up a delivery");
        }
        if let Some(due) = settled.due {
            self.lanes.expect(lane, due);
            self.bells.due.notify_one();
        }
        if let Some(next) = settled.next {
            self.lanes.hold(lane, self.settling.held(vec![next]), 0);
            self.bells.claimed.notify_one();
        }
    }

    fn now(&self) -> Timestamp {
        self.context.latest()
    }
}

/// Ends of attempts that a task writes at the same time.
const MAX_ENDS: usize = 64;
