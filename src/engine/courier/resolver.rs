//! Makes deliveries of events, one for each receiver, in the order of the events of an operation.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::lane::Claimed;
use super::lanes::Lanes;
use super::lines::{DeliveryLines, Found};
use super::receivers::Receivers;
use super::settling::Settling;
use super::writes::{PreparedWrite, write_all};
use crate::clock::Timestamp;
use crate::engine::context::Context;
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
    claims: NewClaims,
}

/// Claims deliveries as they are made, if their receivers have room.
pub(super) struct NewClaims {
    pub(super) lanes: Arc<Lanes>,
    pub(super) settling: Arc<Settling>,
    pub(super) context: Arc<Context>,
}

/// What is written for an event.
#[derive(Default)]
struct Resolved {
    also: Vec<Also>,
    /// Deliveries that this server has claimed.
    claimed: Vec<Claimed>,
    /// Receivers that the others are due to.
    due: Vec<LaneId>,
}

/// An event with its key and that of its operation.
struct Unresolved {
    key: Key,
    operation: Key,
    before: Before<OutboxEvent>,
}

impl Resolver {
    pub(super) const fn new(lines: DeliveryLines, receivers: Receivers, claims: NewClaims) -> Self {
        Self { lines, receivers, claims }
    }

    /// Makes the deliveries of events; returns how many events are done with.
    pub(super) async fn resolve(&self, found: Vec<(Key, Before<OutboxEvent>)>) -> Result<usize> {
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
        let mut resolved = 0;
        while !lines.is_empty() {
            let round: Vec<Unresolved> = lines.iter_mut().filter_map(Vec::pop).collect();
            let done = self.round(round).await?;
            resolved += done.iter().filter(|done| **done).count();
            // Those behind an event that was not resolved wait.
            let mut done = done.into_iter();
            lines.retain(|line| done.next().unwrap_or(false) && !line.is_empty());
        }
        Ok(resolved)
    }

    /// Resolves events of different operations; tells which are done with.
    async fn round(&self, round: Vec<Unresolved>) -> Result<Vec<bool>> {
        let waiting = self.waiting(&round).await?;
        let lines = round.iter().map(|due| async {
            if waiting.contains(&due.key) { None } else { self.lines_of(due).await }
        });
        let lines = futures_util::future::join_all(lines).await;
        let mut done = vec![false; round.len()];
        let (mut prepared, mut made) = (Vec::new(), Vec::new());
        for ((due, lines), done) in round.into_iter().zip(lines).zip(&mut done) {
            let Some(lines) = lines else { continue };
            let now = self.lines.context.now(due.operation);
            let mut resolved = due.deliveries(lines, now, &self.claims);
            let also = std::mem::take(&mut resolved.also);
            let change = Change { also, ..Change::of(None) };
            prepared.push(PreparedWrite::new(due.key, due.before, change));
            made.push((resolved, now, done));
        }
        let written = write_all(&self.lines.transactor, prepared).await;
        for (written, (resolved, now, done)) in written.into_iter().zip(made) {
            *done = self.carried_out(written).unwrap_or(false);
            self.claims.made(resolved, now, *done);
        }
        Ok(done)
    }

    /// The receivers of an event; none if they cannot be found now. That costs no other event.
    async fn lines_of(&self, due: &Unresolved) -> Option<Vec<WantedLine>> {
        self.carried_out(self.tails(due).await)
    }

    /// The result; none and a line in the log if there is an error.
    fn carried_out<T>(&self, result: Result<T>) -> Option<T> {
        let (context, what) = (&self.lines.context, "could not make the deliveries of an event");
        result.inspect_err(|error| context.log_failure(what, error)).ok()
    }

    /// The events of which an earlier one is not resolved yet.
    async fn waiting(&self, round: &[Unresolved]) -> Result<HashSet<Key>> {
        let later: Vec<&Unresolved> = round.iter().filter(|due| !due.is_first()).collect();
        let earlier: Vec<Key> = later.iter().map(|due| due.earlier()).collect();
        let found = self.lines.reader.read_each::<OutboxEvent>(&earlier).await?;
        // One that cannot be read does not hold up the others for ever.
        let waits = later.iter().zip(found).filter(|(_, found)| matches!(found, Ok(Some(_))));
        Ok(waits.map(|(due, _)| due.key).collect())
    }

    /// The receivers of an event, each with the last delivery of its line.
    async fn tails(&self, due: &Unresolved) -> Result<Vec<WantedLine>> {
        let event = &due.before.record;
        let mut wanting = Vec::new();
        for callback in &event.callbacks {
            let called = event.news.facts.for_subscription(&callback.events);
            wanting.extend(called.map(|called| (Target::of(callback.clone()), called)));
        }
        if event.has_endpoints {
            wanting.extend(self.receivers.of(&event.news).await?);
        }
        let mut lines = HashSet::new();
        let new_line = |(target, called): (Target, pb::callback::Event)| {
            let line = target.line(&event.news.uid);
            lines.insert(line.clone()).then_some((target, called, line))
        };
        let targets: Vec<_> = wanting.into_iter().filter_map(new_line).collect();
        let tails = targets.iter().map(|(_, _, line)| self.tail(due, line));
        let tails = futures_util::future::try_join_all(tails).await?;
        let all = targets.into_iter().zip(tails);
        Ok(all.map(|((target, called, _), tail)| (target, called, tail)).collect())
    }

    async fn tail(&self, due: &Unresolved, line: &[u8]) -> Result<Tail> {
        if due.is_first() { Ok(None) } else { self.lines.last(due.operation, line).await }
    }
}

/// The last delivery of a line, if there is one.
type Tail = Option<Found>;

/// A receiver, what it calls the event, and its line.
type WantedLine = (Target, pb::callback::Event, Tail);

impl Unresolved {
    /// Whether no event of its operation came before.
    const fn is_first(&self) -> bool {
        self.before.record.news.sequence == 1
    }

    fn earlier(&self) -> Key {
        OutboxEvent::key(self.operation, self.before.record.news.sequence.wrapping_sub(1))
    }

    /// The records to write, and what follows from them.
    fn deliveries(&self, lines: Vec<WantedLine>, now: Timestamp, claims: &NewClaims) -> Resolved {
        let mut resolved = Resolved::default();
        let also = &mut resolved.also;
        let news = &self.before.record.news;
        for (target, event, tail) in lines {
            let mut new = Delivery::new(news.clone(), event, target, now);
            if tail.is_some() {
                new.stage = DeliveryStage::Waiting;
            }
            let key = new.key(self.operation);
            match tail {
                None => {
                    if let Some(stage) = claims.claim(new.target.lane(), now) {
                        new.stage = stage;
                        resolved.claimed.push((key, new.clone()));
                    } else {
                        resolved.due.push(new.target.lane());
                    }
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
        resolved
    }
}

impl NewClaims {
    /// The stage of a delivery that is made now and claimed with that, if its receiver has room and nothing older is due to it.
    fn claim(&self, lane: LaneId, now: Timestamp) -> Option<DeliveryStage> {
        let elapsed = self.context.clock.elapsed();
        let claims = self.context.settings.carrier.is_some();
        (claims && self.lanes.reserve_new(lane, now, elapsed)).then(|| self.settling.claimed(now))
    }

    /// Goes on with what was made, if it was written.
    fn made(&self, resolved: Resolved, now: Timestamp, written: bool) {
        for claimed in resolved.claimed {
            let lane = claimed.1.target.lane();
            let held = if written { self.settling.held(vec![claimed]) } else { Vec::new() };
            self.lanes.hold(lane, held, 1);
        }
        if written {
            resolved.due.into_iter().for_each(|lane| self.lanes.expect(lane, now));
        }
    }
}
