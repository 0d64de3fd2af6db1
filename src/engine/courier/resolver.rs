//! Makes deliveries of events, one for each receiver, in the order of the events of an operation.

use std::collections::HashMap;

use super::lines::{DeliveryLines, Found};
use super::receivers::Receivers;
use super::writes::{PreparedWrite, write_all};
use crate::clock::Timestamp;
use crate::engine::error::Result;
use crate::proto::longhaul::v1 as pb;
use crate::record::delivery::{Delivery, DeliveryStage, LaneId, Target};
use crate::record::event::OutboxEvent;
use crate::record::{Also, Before, Change};
use crate::store::Key;

/// Finds the receivers of events.
pub(super) struct Resolver {
    lines: DeliveryLines,
    receivers: Receivers,
}

/// An event with its key and that of its operation.
struct Unresolved {
    key: Key,
    operation: Key,
    before: Before<OutboxEvent>,
}

/// The receivers that deliveries were made for, and when those are due.
pub(super) type Expected = Vec<(LaneId, Timestamp)>;

impl Resolver {
    pub(super) const fn new(lines: DeliveryLines, receivers: Receivers) -> Self {
        Self { lines, receivers }
    }

    /// Makes the deliveries of events; returns how many events are done with, and what is due by it.
    pub(super) async fn resolve(
        &self,
        found: Vec<(Key, Before<OutboxEvent>)>,
    ) -> Result<(usize, Expected)> {
        let mut events: HashMap<Key, Vec<Unresolved>> = HashMap::new();
        for (key, before) in found {
            let operation = self.lines.context.key(&before.record.news.name);
            events.entry(operation).or_default().push(Unresolved { key, operation, before });
        }
        let mut lines: Vec<Vec<Unresolved>> = events.into_values().collect();
        for line in &mut lines {
            // The last one is taken first.
            line.sort_by_key(|due| std::cmp::Reverse(due.before.record.news.sequence));
        }
        let (mut resolved, mut expected) = (0, Vec::new());
        while !lines.is_empty() {
            let round: Vec<Unresolved> = lines.iter_mut().filter_map(Vec::pop).collect();
            let done = self.round(round, &mut expected).await?;
            resolved += done.iter().filter(|done| **done).count();
            // Those behind an event that was not resolved wait.
            let mut done = done.into_iter();
            lines.retain(|line| done.next().unwrap_or(false) && !line.is_empty());
        }
        Ok((resolved, expected))
    }

    /// Resolves events of different operations; tells which are done with.
    async fn round(&self, round: Vec<Unresolved>, expected: &mut Expected) -> Result<Vec<bool>> {
        let earlier: Vec<Key> = round.iter().map(Unresolved::earlier).collect();
        let waits = self.lines.reader.read_each::<OutboxEvent>(&earlier).await?;
        // One that cannot be read does not hold up the others for ever.
        let waits: Vec<bool> = waits.iter().map(|found| matches!(found, Ok(Some(_)))).collect();
        let tails = round.iter().map(|due| self.tails(due));
        let tails = futures_util::future::try_join_all(tails).await?;
        let (mut prepared, mut dues) = (Vec::new(), Vec::new());
        for ((due, tails), waits) in round.into_iter().zip(tails).zip(&waits) {
            if !waits {
                let now = self.lines.context.now(due.operation);
                let (also, due_now) = due.deliveries(tails, now);
                let change = Change { also, ..Change::of(None) };
                prepared.push(PreparedWrite::new(due.key, due.before, change));
                dues.push((due_now, now));
            }
        }
        let mut written = write_all(&self.lines.transactor, prepared).await.into_iter().zip(dues);
        let mut done = Vec::with_capacity(waits.len());
        for waits in waits {
            let Some((written, (lanes, now))) = (if waits { None } else { written.next() }) else {
                done.push(false);
                continue;
            };
            let written = written?;
            if written {
                expected.extend(lanes.into_iter().map(|lane| (lane, now)));
            }
            done.push(written);
        }
        Ok(done)
    }

    /// The receivers of an event, each with the last delivery of its line.
    async fn tails(&self, due: &Unresolved) -> Result<Vec<(Target, pb::callback::Event, Tail)>> {
        let event = &due.before.record;
        let mut wanting = Vec::new();
        for callback in &event.callbacks {
            let called = event.news.facts.for_subscription(&callback.events);
            wanting.extend(called.map(|called| (Target::of(callback.clone()), called)));
        }
        if event.has_endpoints {
            wanting.extend(self.receivers.of(&event.news).await?);
        }
        let mut targets: Vec<(Target, pb::callback::Event)> = Vec::new();
        for (target, called) in wanting {
            let line = target.line(&event.news.uid);
            if targets.iter().all(|(other, _)| other.line(&event.news.uid) != line) {
                targets.push((target, called));
            }
        }
        let tails = targets.iter().map(|(target, _)| self.tail(due, target));
        let tails = futures_util::future::try_join_all(tails).await?;
        let all = targets.into_iter().zip(tails);
        Ok(all.map(|((target, called), tail)| (target, called, tail)).collect())
    }

    async fn tail(&self, due: &Unresolved, target: &Target) -> Result<Tail> {
        let line = target.line(&due.before.record.news.uid);
        self.lines.last(due.operation, &line).await
    }
}

/// The last delivery of a line, if there is one.
type Tail = Option<Found>;

impl Unresolved {
    fn earlier(&self) -> Key {
        OutboxEvent::key(self.operation, self.before.record.news.sequence.wrapping_sub(1))
    }

    /// The records to write, and the receivers that have something due now.
    fn deliveries(
        &self,
        targets: Vec<(Target, pb::callback::Event, Tail)>,
        now: Timestamp,
    ) -> (Vec<Also>, Vec<LaneId>) {
        let (mut also, mut lanes) = (Vec::new(), Vec::new());
        let news = &self.before.record.news;
        for (target, event, tail) in targets {
            let new = Delivery {
                news: news.clone(),
                number: news.sequence,
                event,
                stage: if tail.is_some() {
                    DeliveryStage::Waiting
                } else {
                    DeliveryStage::Due(now)
                },
                attempts: Vec::new(),
                attempt_count: 0,
                reply: bytes::Bytes::new(),
                next: None,
                create_time: now,
                replay: None,
                target,
            };
            let key = new.key(self.operation);
            match tail {
                None => {
                    lanes.push(new.target.lane());
                    also.push(Also::create(key, new));
                }
                Some((tail_key, before)) if before.record.may_be_replaced() => {
                    let after = Delivery { news: new.news, event, ..before.record.clone() };
                    also.push(Also::replace(tail_key, before, Some(after)));
                }
                Some((tail_key, before)) => {
                    let after = Delivery { next: Some(key), ..before.record.clone() };
                    also.push(Also::replace(tail_key, before, Some(after)));
                    also.push(Also::create(key, new));
                }
            }
        }
        (also, lanes)
    }
}
