//! The courier: takes the deliveries that are due as receivers have room, and carries them.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::handshakes::Handshakes;
use super::lanes::{LaneNews, Lanes};
use super::letters::Letters;
use super::lines::DeliveryLines;
use super::receivers::Receivers;
use super::replays::DeliveryReplays;
use super::resolver::Resolver;
use super::settling::{AttemptEnd, Attempted, Fate, Settling, noted, replied};
use super::trials::{Trial, Trials};
use super::writes::{PreparedWrite, write_all};
use crate::clock::Timestamp;
use crate::engine::context::Context;
use crate::engine::endpoints::alter::AlteredEndpoint;
use crate::engine::endpoints::calls::{EndpointTarget, Endpoints};
use crate::engine::error::{Error, Reason, Result};
use crate::engine::membership::ranks::Membership;
use crate::engine::parent_types::ParentTypes;
use crate::engine::reading::reader::Reader;
use crate::engine::transact::{Transactor, Unobserved};
use crate::limits::{MAX_DELIVERIES_TO_ONE, MAX_DELIVERY_AGE};
use crate::operation::name::EndpointName;
use crate::post::{Carrier, Receipt, ReplyVerdict};
use crate::record::delivery::{
    Delivery, DeliveryStage, LANES, LaneId, Target, lane_member, parse_lane_member,
};
use crate::record::event::OutboxEvent;
use crate::record::{Before, Change};
use crate::store::{Entry, Index, Key, Scan};
use crate::webhook::endpoint::{DeliveryEnd, Endpoint, EndpointState};
use crate::webhook::name::{DeliveryName, DeliveryOwner};

/// Tells receivers what happened.
pub(in crate::engine) struct Courier {
    context: Arc<Context>,
    reader: Arc<Reader>,
    membership: Arc<Membership>,
    transactor: Arc<Transactor<Unobserved>>,
    lanes: Lanes,
    letters: Letters,
    resolver: Resolver,
    settling: Settling,
    replays: DeliveryReplays,
    trials: Trials,
    endpoints: Arc<Endpoints>,
    handshakes: Handshakes,
    woken: Notify,
}

/// A delivery that this server may try: it holds the delivery, and room of its receiver.
pub(in crate::engine) type Claimed = (Key, Delivery);

impl Courier {
    pub(in crate::engine) fn new(
        context: Arc<Context>,
        reader: Arc<Reader>,
        membership: Arc<Membership>,
        types: Arc<ParentTypes>,
        endpoints: Arc<Endpoints>,
    ) -> Self {
        let transactor = Transactor::new(context.clone(), reader.clone(), Arc::new(Unobserved));
        let transactor = Arc::new(transactor);
        let claim = context.settings.delivery_timeout + CLAIM_MARGIN;
        let receivers =
            Receivers::new(context.clone(), reader.clone(), endpoints.clone(), types.clone());
        let letters = Letters::new(context.clone(), reader.clone(), types, endpoints.clone());
        let lines = DeliveryLines::new(context.clone(), reader.clone(), transactor.clone());
        let resolver = Resolver::new(lines.clone(), receivers);
        let settling = Settling::new(lines.clone(), claim);
        let replays = DeliveryReplays::new(lines);
        let trials = Trials::new(context.clone());
        let (lanes, woken) = (Lanes::default(), Notify::new());
        let handshakes = Handshakes::default();
        Self {
            context,
            reader,
            membership,
            transactor,
            lanes,
            letters,
            resolver,
            settling,
            replays,
            trials,
            endpoints,
            handshakes,
            woken,
        }
    }

    /// Makes deliveries of due events; returns how many events are done with.
    pub(in crate::engine) async fn resolve(&self, found: Vec<(Key, Before<OutboxEvent>)>) -> usize {
        if found.is_empty() {
            return 0;
        }
        match self.resolver.resolve(found).await {
            Ok((resolved, expected)) => {
                for (lane, due) in expected {
                    self.lanes.expect(lane, due);
                }
                self.woken.notify_one();
                resolved
            }
            Err(error) => {
                self.context.log_failure("could not find the receivers of events", &error);
                0
            }
        }
    }

    /// Removes deliveries that were kept long enough; returns how many.
    pub(in crate::engine) async fn forget(&self, found: Vec<(Key, Before<Delivery>)>) -> usize {
        let over = found.into_iter().filter(|(_, before)| before.record.is_over());
        let remove = |(key, before)| PreparedWrite::new(key, before, Change::of(None));
        let written = write_all(&self.transactor, over.map(remove).collect()).await;
        written.iter().filter(|written| matches!(written, Ok(true))).count()
    }

    /// The delivery of that name.
    pub(in crate::engine) async fn get(&self, name: &DeliveryName) -> Result<Delivery> {
        Ok(self.replays.find(name, Key::from_bytes(name.number())).await?.record)
    }

    /// Sends a delivery again that has ended; it is due by then, if no earlier one of its line is.
    pub(in crate::engine) async fn replay(&self, name: &DeliveryName) -> Result<Delivery> {
        if let DeliveryOwner::Endpoint(name) = &name.owner {
            check_active(&self.endpoints.get(name).await?)?;
        }
        let delivery = self.replays.replay(name).await?;
        if let DeliveryStage::Due(due) = delivery.stage {
            self.lanes.expect(delivery.target.lane(), due);
            self.woken.notify_one();
        }
        Ok(delivery)
    }

    /// Sends a test event to an endpoint. A receiver that takes it is well again.
    pub(in crate::engine) async fn test(&self, name: &EndpointName) -> Result<Trial> {
        let endpoint = self.endpoints.get(name).await?;
        let (time, receipt) = self.trials.run(&endpoint).await?;
        let delivered = receipt.verdict() == ReplyVerdict::Delivered;
        if delivered {
            self.note_endpoint(&endpoint, &receipt).await;
            let lane = Target::Endpoint(name.to_string(), None).lane();
            self.lanes.recover(lane, self.context.clock.elapsed());
            self.woken.notify_one();
        }
        let endpoint = self.endpoints.get(name).await?;
        let (attempt, reply) = (noted(time, &receipt), replied(&receipt));
        Ok(Trial { delivered, attempt, reply, endpoint })
    }

    /// Delivers until the engine is dropped.
    pub(in crate::engine) async fn run(self: Arc<Self>) {
        let mut looked_around = None;
        loop {
            let elapsed = self.context.clock.elapsed();
            let all = looked_around.is_none_or(|at| elapsed.saturating_sub(at) >= LOOK_AROUND);
            match self.take_due(all).await {
                Ok(claimed) => {
                    if all {
                        looked_around = Some(elapsed);
                    }
                    for claimed in claimed {
                        self.context.tasks.spawn("delivery", self.clone().deliver(claimed));
                    }
                }
                Err(error) => {
                    self.context.log_failure("could not look for due deliveries", &error);
                    self.context.sleep(INTERVAL).await;
                }
            }
            let pause = self.lanes.next(self.now(), self.context.clock.elapsed(), INTERVAL);
            tokio::select! {
                () = self.context.sleep(pause.max(MOMENT)) => {}
                () = self.woken.notified() => {}
            }
        }
    }

    /// Takes due deliveries, as many as their receivers have room for. `all`: also of receivers that this server does not
    /// know to have any.
    pub(in crate::engine) async fn take_due(&self, all: bool) -> Result<Vec<Claimed>> {
        if self.context.settings.carrier.is_none() {
            return Ok(Vec::new());
        }
        if all {
            self.look_around().await?;
        }
        let mut claimed = Vec::new();
        for lane in self.lanes.due(self.now(), self.context.clock.elapsed()) {
            claimed.extend(self.take_from(lane).await?);
        }
        Ok(claimed)
    }

    /// Finds the receivers that have deliveries, and gives up those that are too old.
    async fn look_around(&self) -> Result<()> {
        let mut from = Bound::Unbounded;
        loop {
            let scan = Scan { from, ..Scan::first(Index::new(LANES), 1) };
            let found = self.context.store.scan(scan).await?;
            let Some(entry) = found.first() else { return Ok(()) };
            let Some((lane, due)) = parse_lane_member(&entry.member) else { return Ok(()) };
            self.lanes.expect(lane, due);
            if due + MAX_DELIVERY_AGE <= self.now() {
                self.give_up_old(lane).await?;
            }
            let Some(next) = u64::from_be_bytes(lane.0).checked_add(1) else { return Ok(()) };
            from = Bound::Included(next.to_be_bytes().to_vec().into());
        }
    }

    /// Gives up deliveries that no attempt has reached for too long, since their receiver is only probed.
    async fn give_up_old(&self, lane: LaneId) -> Result<()> {
        let latest = lane_member(lane, self.now() - MAX_DELIVERY_AGE);
        let scan = Scan::first(Index::new(LANES), AT_ONCE).with_prefix(&lane.0).up_to(latest);
        let keys: Vec<Key> =
            self.context.store.scan(scan).await?.iter().filter_map(Entry::key).collect();
        for key in keys {
            let time = self.context.now(key);
            let end = AttemptEnd::Nowhere("no attempt reached it for too long");
            self.settling.settle(&Attempted { key, time, end }).await?;
            self.context.metrics.deliveries.given_up.inc();
        }
        Ok(())
    }

    /// Takes due deliveries of one receiver.
    async fn take_from(&self, lane: LaneId) -> Result<Vec<Claimed>> {
        let elapsed = self.context.clock.elapsed();
        self.lanes.looked(lane);
        let room = self.lanes.reserve(lane, MAX_DELIVERIES_TO_ONE, elapsed);
        let claimed = match self.claim_from(lane, room).await {
            Ok(claimed) => claimed,
            Err(error) => {
                self.lanes.expect(lane, self.now());
                (0..room).for_each(|_| self.lanes.release(lane, LaneNews::NotTried, elapsed));
                return Err(error);
            }
        };
        (claimed.len()..room).for_each(|_| self.lanes.release(lane, LaneNews::NotTried, elapsed));
        Ok(claimed)
    }

    async fn claim_from(&self, lane: LaneId, room: usize) -> Result<Vec<Claimed>> {
        let scan = Scan::first(Index::new(LANES), room + 1 + self.reader.unreadable_count());
        let found = self.context.store.scan(scan.with_prefix(&lane.0)).await?;
        let mut keys = Vec::new();
        for entry in found {
            let Some((_, due)) = parse_lane_member(&entry.member) else { continue };
            let ours = due <= self.until(&entry);
            match entry.key() {
                Some(key) if ours && keys.len() < room => keys.push(key),
                // Left to another server, or for later.
                _ => self.lanes.expect(lane, if ours { due } else { due.max(self.soon()) }),
            }
        }
        let read = self.reader.read_each::<Delivery>(&keys).await?;
        let found = keys.into_iter().zip(read).filter_map(|(key, found)| {
            let before = found.ok().flatten()?;
            let is_due =
                matches!(before.record.stage, DeliveryStage::Due(due) if due <= self.now());
            is_due.then_some((key, before))
        });
        Ok(self.settling.claim(found.collect()).await)
    }

    /// Carries a delivery, and those that follow it in its line.
    pub(in crate::engine) async fn deliver(self: Arc<Self>, claimed: Claimed) {
        let mut current = claimed;
        loop {
            let (key, delivery) = current;
            let lane = delivery.target.lane();
            let time = self.context.now(key);
            let end = self.attempt(key, &delivery).await;
            let news = end.as_ref().map_or(LaneNews::NotTried, AttemptEnd::lane_news);
            let settled = match end {
                Some(end) => self.settle(&delivery, Attempted { key, time, end }).await,
                None => None,
            };
            let elapsed = self.context.clock.elapsed();
            let Some(next) = settled else {
                self.lanes.release(lane, news, elapsed);
                let running = self.lanes.running() as i64;
                self.context.metrics.deliveries.running.set(running);
                self.woken.notify_one();
                return;
            };
            self.lanes.note(lane, news, elapsed);
            current = next;
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
    async fn note_endpoint(&self, endpoint: &Endpoint, receipt: &Receipt) {
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

    /// Settles an attempt; returns the next delivery of the line, if it may be tried now.
    async fn settle(&self, delivery: &Delivery, attempted: Attempted) -> Option<Claimed> {
        let metrics = &self.context.metrics.deliveries;
        let settled = match self.settling.settle(&attempted).await {
            Ok(settled) => settled,
            Err(error) => {
                let what = "could not note how a delivery ended; it is sent again";
                self.context.log_failure(what, &error);
                return None;
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
            self.lanes.expect(delivery.target.lane(), due);
        }
        settled.next
    }

    fn now(&self) -> Timestamp {
        let store = &self.context.store;
        let times = store.keyspace().all().map(|partition| store.now(partition));
        times.max().unwrap_or_default()
    }

    fn soon(&self) -> Timestamp {
        self.now() + INTERVAL
    }

    /// Entries up to this time are for this server: up to now where it ranks first, else it leaves time to servers that do.
    fn until(&self, entry: &Entry) -> Timestamp {
        let held_back = HOLD_BACK * self.membership.rank(entry.partition);
        self.context.store.now(entry.partition) - held_back
    }
}

/// Refuses an endpoint that is not called.
fn check_active(endpoint: &Endpoint) -> Result<()> {
    let state = match endpoint.state {
        EndpointState::Active => return Ok(()),
        EndpointState::Suspended => "SUSPENDED",
        EndpointState::Disabled => "DISABLED",
    };
    let name = endpoint.name.to_string();
    let message = format!("{name} is {state}, so nothing is sent to it; resume it first");
    Err(Error::on(Reason::InvalidState, name, message).with("verb", "replay"))
}

/// The longest pause between looks at what is due.
const INTERVAL: Duration = Duration::from_secs(1);
/// The shortest pause.
const MOMENT: Duration = Duration::from_millis(1);
/// How often this server looks for receivers that only others know of.
const LOOK_AROUND: Duration = Duration::from_secs(5);
/// Each server with a better rank adds this to the time before this server takes due deliveries.
const HOLD_BACK: Duration = Duration::from_secs(1);
/// An attempt holds its delivery for this much longer than it may take, so that its end can be noted.
const CLAIM_MARGIN: Duration = Duration::from_secs(10);
/// Deliveries that are given up at a time.
const AT_ONCE: usize = 100;
