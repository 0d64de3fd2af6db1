//! The courier: takes the deliveries that are due as receivers have room, and carries them.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};

use super::attempts::Attempts;
use super::handshakes::Handshakes;
use super::lane::Claimed;
use super::lanes::{Bells, Lanes};
use super::letters::Letters;
use super::lines::DeliveryLines;
use super::receivers::Receivers;
use super::replays::DeliveryReplays;
use super::resolver::{NewClaims, Resolver};
use super::settling::{AttemptEnd, Attempted, Settling, noted, replied};
use super::trials::{Trial, Trials};
use super::writes::{PreparedWrite, write_all};
use crate::clock::Timestamp;
use crate::engine::context::Context;
use crate::engine::endpoints::calls::Endpoints;
use crate::engine::error::{Error, Reason, Result};
use crate::engine::membership::ranks::Membership;
use crate::engine::parent_types::ParentTypes;
use crate::engine::reading::reader::Reader;
use crate::engine::transact::{Transactor, Unobserved};
use crate::limits::{MAX_DELIVERY_AGE, MAX_HELD_FOR_ONE};
use crate::operation::name::EndpointName;
use crate::post::ReplyVerdict;
use crate::record::delivery::{
    Delivery, DeliveryStage, LANES, LaneId, Target, lane_member, parse_lane_member,
};
use crate::record::event::OutboxEvent;
use crate::record::{Before, Change};
use crate::store::{Entry, Index, Key, Scan};
use crate::webhook::endpoint::{Endpoint, EndpointState};
use crate::webhook::name::{DeliveryName, DeliveryOwner};

/// Tells receivers what happened.
pub(in crate::engine) struct Courier {
    context: Arc<Context>,
    reader: Arc<Reader>,
    membership: Arc<Membership>,
    transactor: Arc<Transactor<Unobserved>>,
    lanes: Arc<Lanes>,
    resolver: Resolver,
    settling: Arc<Settling>,
    attempts: Arc<Attempts>,
    replays: DeliveryReplays,
    trials: Trials,
    endpoints: Arc<Endpoints>,
    bells: Arc<Bells>,
}

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
        let (lanes, bells) = (Arc::<Lanes>::default(), Arc::<Bells>::default());
        let letters = Letters::new(context.clone(), reader.clone(), types, endpoints.clone());
        let lines = DeliveryLines::new(context.clone(), reader.clone(), transactor.clone());
        let settling = Arc::new(Settling::new(lines.clone(), claim));
        let claims = NewClaims {
            context: context.clone(),
            lanes: lanes.clone(),
            settling: settling.clone(),
        };
        let resolver = Resolver::new(lines.clone(), receivers, claims);
        let replays = DeliveryReplays::new(lines);
        let trials = Trials::new(context.clone());
        let attempts = Arc::new(Attempts {
            context: context.clone(),
            lanes: lanes.clone(),
            letters,
            settling: settling.clone(),
            endpoints: endpoints.clone(),
            handshakes: Handshakes::default(),
            bells: bells.clone(),
        });
        Self {
            context,
            reader,
            membership,
            transactor,
            lanes,
            resolver,
            settling,
            attempts,
            replays,
            trials,
            endpoints,
            bells,
        }
    }

    /// Makes deliveries of due events; returns how many events are done with.
    pub(in crate::engine) async fn resolve(&self, found: Vec<(Key, Before<OutboxEvent>)>) -> usize {
        if found.is_empty() {
            return 0;
        }
        match self.resolver.resolve(found).await {
            Ok(resolved) => {
                self.bells.due.notify_one();
                self.bells.claimed.notify_one();
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
            self.bells.due.notify_one();
        }
        Ok(delivery)
    }

    /// Sends a test event to an endpoint. A receiver that takes it is well again.
    pub(in crate::engine) async fn test(&self, name: &EndpointName) -> Result<Trial> {
        let endpoint = self.endpoints.get(name).await?;
        let (time, receipt) = self.trials.run(&endpoint).await?;
        let delivered = receipt.verdict() == ReplyVerdict::Delivered;
        if delivered {
            self.attempts.note_endpoint(&endpoint, &receipt).await;
            let lane = Target::Endpoint(name.to_string(), None).lane();
            self.lanes.recover(lane, self.context.clock.elapsed());
            self.bells.due.notify_one();
        }
        let endpoint = self.endpoints.get(name).await?;
        let (attempt, reply) = (noted(time, &receipt), replied(&receipt));
        Ok(Trial { delivered, attempt, reply, endpoint })
    }

    /// Delivers until the engine is dropped.
    pub(in crate::engine) async fn run(self: Arc<Self>) {
        futures_util::future::join(self.begin_all(), self.claim_all()).await;
    }

    async fn begin_all(&self) {
        loop {
            for claimed in self.begin() {
                let attempts = self.attempts.clone();
                self.context.tasks.spawn("delivery", async move { attempts.run(claimed).await });
            }
            self.bells.claimed.notified().await;
        }
    }

    async fn claim_all(&self) {
        let mut looked_around = None;
        loop {
            let elapsed = self.context.clock.elapsed();
            let all = looked_around.is_none_or(|at| elapsed.saturating_sub(at) >= LOOK_AROUND);
            match self.claim_due(all).await {
                Ok(()) if all => looked_around = Some(elapsed),
                Ok(()) => {}
                Err(error) => {
                    self.context.log_failure("could not look for due deliveries", &error);
                    self.context.sleep(INTERVAL).await;
                }
            }
            let pause = self.lanes.next(self.now(), self.context.clock.elapsed(), INTERVAL);
            tokio::select! {
                () = self.context.sleep(pause.max(MOMENT)) => {}
                () = self.bells.due.notified() => {}
            }
        }
    }

    /// The deliveries that this server holds and whose attempts may begin.
    pub(in crate::engine) fn begin(&self) -> Vec<Claimed> {
        self.lanes.begin(self.now(), self.context.clock.elapsed())
    }

    /// Carries a delivery that was begun, and others to its receiver that this server holds.
    pub(in crate::engine) async fn deliver(&self, claimed: Claimed) {
        self.attempts.run(claimed).await;
    }

    /// Takes due deliveries, as many as their receivers have room for. `all`: also of receivers that this server does not
    /// know to have any.
    pub(in crate::engine) async fn claim_due(&self, all: bool) -> Result<()> {
        if self.context.settings.carrier.is_none() {
            return Ok(());
        }
        if all {
            self.look_around().await?;
        }
        let due = self.lanes.due(self.now(), self.context.clock.elapsed());
        let claims = stream::iter(due.into_iter().map(|lane| self.claim_from(lane)));
        let claims: Vec<Result<()>> = claims.buffer_unordered(LANES_AT_ONCE).collect().await;
        claims.into_iter().collect()
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
        let limit = AT_ONCE + self.reader.unreadable_count();
        let scan = Scan::first(Index::new(LANES), limit).with_prefix(&lane.0).up_to(latest);
        let keys: Vec<Key> =
            self.context.store.scan(scan).await?.iter().filter_map(Entry::key).collect();
        for key in keys {
            let time = self.context.now(key);
            let end = AttemptEnd::Nowhere("no attempt reached it for too long");
            match self.settling.settle(&Attempted { key, time, end }).await {
                Ok(_) => self.context.metrics.deliveries.given_up.inc(),
                Err(error) if error.reason == Reason::StoreUnavailable => return Err(error),
                // It cannot be read, which costs no other.
                Err(_) => 0,
            };
        }
        Ok(())
    }

    /// Takes due deliveries of one receiver.
    async fn claim_from(&self, lane: LaneId) -> Result<()> {
        let from = self.lanes.look(lane);
        let room = self.lanes.reserve(lane, MAX_HELD_FOR_ONE, self.context.clock.elapsed());
        let claimed = self.claim_some(lane, from, room).await;
        let (claimed, failed) = match claimed {
            Ok(claimed) => (claimed, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        self.lanes.hold(lane, self.settling.held(claimed), room);
        self.bells.claimed.notify_one();
        let Some(error) = failed else { return Ok(()) };
        self.lanes.expect(lane, from);
        Err(error)
    }

    /// Claims up to `room` of a receiver's deliveries, of which none is due before `from`.
    async fn claim_some(&self, lane: LaneId, from: Timestamp, room: usize) -> Result<Vec<Claimed>> {
        // Those that cannot be read stay at the head, and must not hide those behind them.
        let mut unreadable = self.reader.unreadable_count();
        let mut most = room + unreadable;
        loop {
            let found = self.due_of(lane, from, most).await?;
            let readable = self.readable(lane, &found, room).await?;
            let met = self.reader.unreadable_count();
            if readable.len() >= room || met <= unreadable {
                return Ok(self.settling.claim(readable).await);
            }
            (unreadable, most) = (met, most.saturating_mul(2));
        }
    }

    /// Up to `most` of a receiver's deliveries that are due by their index and for this server.
    async fn due_of(
        &self,
        lane: LaneId,
        from: Timestamp,
        most: usize,
    ) -> Result<Vec<(Key, Timestamp)>> {
        let scan = Scan::first(Index::new(LANES), most.saturating_add(1)).with_prefix(&lane.0);
        // Deliveries that have ended left tombstones before it.
        let scan = Scan { from: Bound::Included(lane_member(lane, from).into()), ..scan };
        let entries = self.context.store.scan(scan).await?;
        let mut found = Vec::new();
        for entry in entries {
            let Some((_, due)) = parse_lane_member(&entry.member) else { continue };
            let ours = due <= self.until(&entry);
            match entry.key() {
                Some(key) if ours && found.len() < most => found.push((key, due)),
                // Left to another server, or for later.
                _ if ours => self.lanes.expect(lane, due),
                _ => self.lanes.expect_later(lane, due, self.soon()),
            }
        }
        Ok(found)
    }

    /// Up to `room` of these deliveries that can be read and are due.
    async fn readable(
        &self,
        lane: LaneId,
        found: &[(Key, Timestamp)],
        room: usize,
    ) -> Result<Vec<(Key, Before<Delivery>)>> {
        let keys: Vec<Key> = found.iter().map(|(key, _)| *key).collect();
        let read = self.reader.read_each::<Delivery>(&keys).await?;
        let (now, mut readable) = (self.now(), Vec::new());
        for ((key, due), read) in found.iter().zip(read) {
            let Ok(Some(before)) = read else { continue };
            if before.record.due().is_none_or(|due| due > now) {
                continue;
            }
            if readable.len() < room {
                readable.push((*key, before));
            } else {
                self.lanes.expect(lane, *due);
            }
        }
        Ok(readable)
    }

    fn now(&self) -> Timestamp {
        self.context.latest()
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
/// A claim lasts for this much longer than an attempt: the delivery may wait for it, and its end is to be noted.
const CLAIM_MARGIN: Duration = Duration::from_secs(10);
/// Receivers whose deliveries are looked up at the same time.
const LANES_AT_ONCE: usize = 16;
/// Deliveries that are given up at a time.
const AT_ONCE: usize = 100;
