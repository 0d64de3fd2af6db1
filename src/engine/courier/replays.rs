//! Puts deliveries that have ended back into their lines.

use super::lines::{DeliveryLines, Found};
use super::writes::{PreparedWrite, write};
use crate::clock::Timestamp;
use crate::engine::error::{Error, Reason, Result};
use crate::record::delivery::{Delivery, DeliveryReplay, DeliveryStage};
use crate::record::{Also, AnyRecord, Before, Change};
use crate::store::Key;
use crate::webhook::name::DeliveryName;

/// Replays deliveries.
pub(super) struct DeliveryReplays {
    lines: DeliveryLines,
}

impl DeliveryReplays {
    pub(super) const fn new(lines: DeliveryLines) -> Self {
        Self { lines }
    }

    /// Makes a delivery go again, before the later ones of its line and after the earlier ones.
    pub(super) async fn replay(&self, name: &DeliveryName) -> Result<Delivery> {
        let key = Key::from_bytes(name.number());
        let time = self.lines.context.now(key);
        for tries in 0..TRIES {
            let before = self.find(name, key).await?;
            if !before.record.is_over() {
                // A write of unknown outcome was made after all.
                let replay = before.record.replay.filter(|replay| replay.time == time);
                return if tries > 0 && replay.is_some() {
                    Ok(before.record)
                } else {
                    Err(not_over(name))
                };
            }
            let earlier = self.lines.before(key, &before.record).await?;
            let later = self.lines.after(key, &before.record).await?;
            let (after, also) = queued((key, &before.record), earlier, later, time);
            let change = Change { also, ..Change::of(Some(after.clone())) };
            if write(&self.lines.transactor, PreparedWrite::new(key, before, change)).await? {
                return Ok(after);
            }
        }
        Err(Error::busy(&"the delivery"))
    }

    /// The delivery of that name.
    pub(super) async fn find(&self, name: &DeliveryName, key: Key) -> Result<Before<Delivery>> {
        // A key that a caller made up may lead to a record of any kind.
        let found = match self.lines.reader.read_any(&[key]).await?.pop() {
            Some(Ok(Some(AnyRecord::Delivery(before)))) => Some(*before),
            _ => None,
        };
        found.filter(|found| found.record.belongs_to(&name.owner)).ok_or_else(|| {
            let message =
                format!("there is no delivery {name}; one that has ended is kept for three days");
            Error::on(Reason::WebhookDeliveryNotFound, name.to_string(), message)
        })
    }
}

/// The delivery in its line, and the changes of those before and after it.
fn queued(
    (key, delivery): (Key, &Delivery),
    earlier: Option<Found>,
    later: Option<Found>,
    now: Timestamp,
) -> (Delivery, Vec<Also>) {
    let stage = if earlier.is_some() { DeliveryStage::Waiting } else { DeliveryStage::Due(now) };
    let replay = DeliveryReplay { time: now, attempts_before: delivery.attempt_count };
    let after = Delivery {
        stage,
        next: later.as_ref().map(|(next, _)| *next),
        replay: Some(replay),
        ..delivery.clone()
    };
    let change = match (earlier, later) {
        (Some((other, before)), _) => {
            let after = Delivery { next: Some(key), ..before.record.clone() };
            Some(Also::replace(other, before, Some(after)))
        }
        (None, Some((other, before))) => {
            let after = Delivery { stage: DeliveryStage::Waiting, ..before.record.clone() };
            Some(Also::replace(other, before, Some(after)))
        }
        (None, None) => None,
    };
    (after, change.into_iter().collect())
}

fn not_over(name: &DeliveryName) -> Box<Error> {
    let message = format!(
        "{name} has not ended: it waits, or it is tried again; only a delivery that has ended can be replayed"
    );
    Error::on(Reason::InvalidState, name.to_string(), message).with("verb", "replay")
}

/// The courier changes a line now and then, but hardly this often in a row.
const TRIES: usize = 10;
