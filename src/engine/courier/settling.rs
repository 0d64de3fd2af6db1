//! What follows from an attempt: the end of a delivery, or its next attempt, and the next delivery of its line.

use std::time::Duration;

use bytes::Bytes;

use super::lane::{Claimed, Held, LaneNews};
use super::lines::{DeliveryLines, Found};
use super::schedule::next_attempt;
use super::writes::{PreparedWrite, write};
use crate::clock::Timestamp;
use crate::engine::error::{Error, Result};
use crate::engine::random::random;
use crate::post::{Receipt, ReplyVerdict};
use crate::record::delivery::{Delivery, DeliveryAttempt, DeliveryStage};
use crate::record::{Also, Before, Change};
use crate::store::Key;

/// Writes the ends of attempts.
pub(super) struct Settling {
    lines: DeliveryLines,
    /// How long an attempt may hold its delivery.
    claim: Duration,
}

/// The end of an attempt.
pub(super) struct Attempted {
    pub(super) key: Key,
    /// When it began.
    pub(super) time: Timestamp,
    pub(super) end: AttemptEnd,
}

/// How an attempt ended.
pub(super) enum AttemptEnd {
    /// A request was sent, or was to be.
    Sent(Receipt),
    /// There is nowhere to send it.
    Nowhere(&'static str),
}

/// What goes on after an attempt.
pub(super) struct Settled {
    /// The next delivery of the line, which this server may try at once.
    pub(super) next: Option<(Key, Delivery)>,
    /// When this receiver has something due again.
    pub(super) due: Option<Timestamp>,
    pub(super) fate: Fate,
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It was delivered.
    Delivered,
    /// It is tried again.
    TriedAgain,
    /// It was given up.
    GivenUp,
    /// Another server has settled it.
    Settled,
}

/// A delivery after an attempt.
struct Outcome {
    /// `None`: it is removed.
    after: Option<Delivery>,
    /// What becomes of the next one.
    next: DeliveryStage,
    fate: Fate,
}

impl Settling {
    pub(super) const fn new(lines: DeliveryLines, claim: Duration) -> Self {
        Self { lines, claim }
    }

    /// The stage of a delivery that is claimed now.
    pub(super) fn claimed(&self, now: Timestamp) -> DeliveryStage {
        DeliveryStage::Due(now + self.claim)
    }

    /// Claimed deliveries, to wait for their attempts.
    pub(super) fn held(&self, claimed: Vec<Claimed>) -> Vec<Held> {
        let begin_by = |claimed: &Claimed| {
            let until = claimed.1.due().unwrap_or_default();
            until - self.claim + MAX_WAIT
        };
        claimed.into_iter().map(|it| Held { begin_by: begin_by(&it), claimed: it }).collect()
    }

    /// Takes deliveries that are due for attempts of this server; returns those that it got.
    pub(super) async fn claim(&self, found: Vec<(Key, Before<Delivery>)>) -> Vec<(Key, Delivery)> {
        let claimed = |(key, before): (Key, Before<Delivery>)| {
            let stage = self.claimed(self.lines.context.now(key));
            let after = Delivery { stage, ..before.record.clone() };
            (key, before, after)
        };
        let claims: Vec<_> = found.into_iter().map(claimed).collect();
        let prepare = |(key, before, after): &(Key, Before<Delivery>, Delivery)| {
            PreparedWrite::new(*key, before.clone(), Change::of(Some(after.clone())))
        };
        let prepared = claims.iter().map(prepare).collect();
        let written = super::writes::write_all(&self.lines.transactor, prepared).await;
        let got = claims.into_iter().zip(written);
        let got = got.filter(|(_, written)| matches!(written, Ok(true)));
        got.map(|((key, _, after), _)| (key, after)).collect()
    }

    /// Settles an attempt.
    pub(super) async fn settle(&self, attempted: &Attempted) -> Result<Settled> {
        for _ in 0..TRIES {
            let Some(before) = self.lines.reader.read::<Delivery>(attempted.key).await? else {
                return Ok(Settled { next: None, due: None, fate: Fate::Settled });
            };
            if before.record.is_over() {
                return Ok(Settled { next: None, due: None, fate: Fate::Settled });
            }
            let next = self.next(attempted.key, &before.record).await?;
            if let Some(settled) = self.try_settle(attempted, before, next).await? {
                return Ok(settled);
            }
        }
        Err(Error::busy(&"a delivery"))
    }

    /// The delivery that waits for this one.
    async fn next(&self, key: Key, delivery: &Delivery) -> Result<Option<Found>> {
        let Some(next) = delivery.next.filter(|_| !is_overtaken(delivery)) else {
            return Ok(None);
        };
        match self.lines.live(next).await? {
            Some(found) => Ok(Some(found)),
            // This one was replayed and has overtaken it, or it cannot be read.
            None => self.lines.after(key, delivery).await,
        }
    }

    /// `None` if another write came in between.
    async fn try_settle(
        &self,
        attempted: &Attempted,
        before: Before<Delivery>,
        next: Option<Found>,
    ) -> Result<Option<Settled>> {
        let now = self.lines.context.now(attempted.key);
        let chance = f64::from(u32::from_be_bytes(random())) / f64::from(u32::MAX);
        let has_next = next.is_some();
        let mut outcome = conclude(
            &before.record,
            attempted,
            has_next,
            |attempts, asked| {
                next_attempt(
                    &self.lines.context.settings.delivery_pauses,
                    attempts,
                    asked,
                    chance,
                    now,
                )
            },
            now,
        );
        let moves_on = outcome.after.as_ref().is_none_or(Delivery::is_over);
        let (mut also, mut claimed) = (Vec::new(), None);
        if let Some((key, next)) = next.filter(|_| moves_on) {
            let mut after = Delivery { stage: outcome.next, ..next.record.clone() };
            match outcome.fate {
                Fate::Delivered => {
                    after.stage = self.claimed(now);
                    claimed = Some((key, after.clone()));
                }
                // It goes on with the schedule of the one that it replaces.
                Fate::TriedAgain => {
                    let tries = before.record.tries() + 1;
                    after.attempt_count = after.attempts_before_replay() + tries;
                }
                Fate::GivenUp | Fate::Settled => {}
            }
            also.push(Also::replace(key, next, Some(after)));
            if let Some(after) = &mut outcome.after {
                after.next = None;
            }
        }
        let due = match (&outcome.after, outcome.next) {
            (Some(Delivery { stage: DeliveryStage::Due(due), .. }), _) => Some(*due),
            (_, DeliveryStage::Due(due)) if !also.is_empty() && claimed.is_none() => Some(due),
            _ => None,
        };
        let fate = outcome.fate;
        let change = Change { also, ..Change::of(outcome.after) };
        let written =
            write(&self.lines.transactor, PreparedWrite::new(attempted.key, before, change))
                .await?;
        Ok(written.then_some(Settled { next: claimed, due, fate }))
    }
}

impl AttemptEnd {
    /// What the receiver is known by from now on.
    pub(super) fn lane_news(&self) -> LaneNews {
        match self {
            Self::Nowhere(_) => LaneNews::NotTried,
            Self::Sent(receipt) => match receipt.verdict() {
                ReplyVerdict::Delivered => LaneNews::Took(receipt.latency),
                ReplyVerdict::Gone => LaneNews::Failed(Duration::ZERO),
                ReplyVerdict::Again(asked) => LaneNews::Failed(asked),
            },
        }
    }
}

/// Whether a replay of an earlier event of its line was put before it while the attempt ran. The rest of the line waits for that
/// one.
fn is_overtaken(delivery: &Delivery) -> bool {
    delivery.stage == DeliveryStage::Waiting
}

/// Decides what becomes of a delivery.
fn conclude(
    delivery: &Delivery,
    attempted: &Attempted,
    has_next: bool,
    next_attempt: impl Fn(u32, Duration) -> Option<Timestamp>,
    now: Timestamp,
) -> Outcome {
    let mut after = delivery.clone();
    after.note(attempted.noted(), attempted.reply());
    let verdict = match &attempted.end {
        AttemptEnd::Nowhere(_) => ReplyVerdict::Gone,
        AttemptEnd::Sent(receipt) => receipt.verdict(),
    };
    let ended = |after: Delivery, stage| Outcome {
        after: Some(Delivery { stage, ..after }),
        next: DeliveryStage::Due(now),
        fate: Fate::GivenUp,
    };
    match verdict {
        ReplyVerdict::Delivered => {
            // Progress may come several times in a second: what was told of it is not kept.
            let kept = !after.is_progress();
            let after = kept.then(|| Delivery { stage: DeliveryStage::Delivered(now), ..after });
            Outcome { after, next: DeliveryStage::Due(now), fate: Fate::Delivered }
        }
        ReplyVerdict::Gone => ended(after, DeliveryStage::GivenUp(now)),
        ReplyVerdict::Again(asked) => match next_attempt(after.tries(), asked) {
            None => ended(after, DeliveryStage::GivenUp(now)),
            // Later news say more; they take over its place in the schedule.
            Some(due) if has_next && delivery.is_progress() => {
                Outcome { after: None, next: DeliveryStage::Due(due), fate: Fate::TriedAgain }
            }
            // It is due once the replay has ended that has overtaken it.
            Some(_) if is_overtaken(delivery) => {
                let after = Some(Delivery { stage: DeliveryStage::Waiting, ..after });
                Outcome { after, next: DeliveryStage::Waiting, fate: Fate::TriedAgain }
            }
            Some(due) => {
                let after = Some(Delivery { stage: DeliveryStage::Due(due), ..after });
                Outcome { after, next: DeliveryStage::Waiting, fate: Fate::TriedAgain }
            }
        },
    }
}

impl Attempted {
    fn noted(&self) -> DeliveryAttempt {
        match &self.end {
            AttemptEnd::Sent(receipt) => noted(self.time, receipt),
            AttemptEnd::Nowhere(why) => {
                let (latency, status, error) = (Duration::ZERO, 0, (*why).to_owned());
                DeliveryAttempt { time: self.time, latency, status, error }
            }
        }
    }

    fn reply(&self) -> Bytes {
        match &self.end {
            AttemptEnd::Sent(receipt) => replied(receipt),
            AttemptEnd::Nowhere(_) => Bytes::new(),
        }
    }
}

/// A request that was sent at `time`, or was to be.
pub(super) fn noted(time: Timestamp, receipt: &Receipt) -> DeliveryAttempt {
    let (status, error) = match &receipt.reply {
        Ok(reply) => (reply.status, String::new()),
        Err(error) => (0, error.to_string()),
    };
    DeliveryAttempt { time, latency: receipt.latency, status, error }
}

/// The beginning of the reply.
pub(super) fn replied(receipt: &Receipt) -> Bytes {
    receipt
        .reply
        .as_ref()
        .map_or_else(|_| Bytes::new(), |reply| Bytes::copy_from_slice(&reply.body))
}

/// How long a claimed delivery may wait for its attempt. The margin of a claim is longer.
const MAX_WAIT: Duration = Duration::from_secs(8);
/// A resolver adds to a line now and then, but hardly this often in a row.
const TRIES: usize = 10;
