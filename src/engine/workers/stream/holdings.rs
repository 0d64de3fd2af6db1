//! The leases of a stream. When dropped, leases that the worker never received return to the queue, and the others live on
//! for the grace period.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::messages::Signal;
use super::rooms::StreamRooms;
use crate::clock::Timestamp;
use crate::engine::commands::apply::KeyedCommand;
use crate::engine::dispatch::registration::Registration;
use crate::engine::due::operations::expire_leases;
use crate::engine::error::Reason;
use crate::engine::leases::grant::Grant;
use crate::engine::leases::news::Standing;
use crate::operation::Operation;
use crate::operation::command::{Command, Disown, Proof, Release};
use crate::operation::lease::{Holder, Token};
use crate::operation::name::Name;
use crate::record::server::{HeldOperation, MAX_SHOWN_HELD};
use crate::store::Key;

/// The leases of a stream, by key.
pub(super) struct Holdings {
    rooms: Arc<StreamRooms>,
    pub(super) registration: Registration,
    holder: Holder,
    grace: Duration,
    /// How many the worker wants to hold.
    slots: i64,
    held: HashMap<Key, Holding>,
    /// Leases that the worker claims, until the store confirms or refuses them.
    claims: VecDeque<(Key, Token)>,
    /// The newest response that the worker has read.
    pub(super) seen: i64,
}

/// One lease.
pub(super) struct Holding {
    pub(super) name: Name,
    pub(super) token: Token,
    /// The revision as of which the stream holds it: older news is not of this lease.
    pub(super) since: u64,
    /// The attempt, and when it began.
    attempt: u32,
    start_time: Timestamp,
    /// When the stored lease expires.
    pub(super) expire_time: Timestamp,
    /// The response that it went out with; 0: the worker had it before; `None`: not sent yet.
    sent_in: Option<i64>,
    cancel_requested: bool,
    pause_requested: bool,
}

/// The meaning of a change for the worker.
pub(super) enum NewsEffect {
    /// Nothing that the worker needs to know.
    Nothing,
    /// A request to the worker.
    Signal(Signal),
    /// The lease is no more.
    Lost(Name),
}

impl Holdings {
    pub(super) fn new(
        rooms: Arc<StreamRooms>,
        registration: Registration,
        holder: Holder,
        grace: Duration,
    ) -> Self {
        let (held, claims) = (HashMap::new(), VecDeque::new());
        Self { rooms, registration, holder, grace, slots: 0, held, claims, seen: 0 }
    }

    /// How many leases the worker wants to hold from now on.
    pub(super) fn set_slots(&mut self, slots: i64) {
        self.registration.add_room(slots - self.slots);
        self.slots = slots;
    }

    /// A lease that was just given, its room already counted. Returns an earlier one of the same operation, which has ended.
    pub(super) fn add_granted(&mut self, grant: &Grant) -> Option<Holding> {
        self.add(grant.key, Holding::of(&grant.operation, None)?)
    }

    /// The worker claims this lease. From now on its stream receives changes of it; the record changes only with the commit that
    /// proves the claim.
    pub(super) fn claim(&mut self, key: Key, token: Token) {
        self.rooms.holders.enter(key, &self.registration.waiter);
        self.claims.push_back((key, token));
    }

    /// The oldest claim has proved true.
    pub(super) fn add_adopted(&mut self, key: Key, operation: &Operation) {
        let Some(holding) = Holding::of(operation, Some(0)) else { return self.reject(key) };
        self.claims.pop_front();
        self.registration.add_room(-1);
        // One that Hello names twice is held once.
        self.add(key, holding);
    }

    /// The oldest claim was refused: remove it.
    pub(super) fn reject(&mut self, key: Key) {
        self.claims.pop_front();
        self.rooms.holders.leave(key, &self.registration.waiter);
    }

    fn add(&mut self, key: Key, holding: Holding) -> Option<Holding> {
        let earlier = self.held.insert(key, holding)?;
        self.rooms.holders.leave(key, &self.registration.waiter);
        self.registration.add_room(1);
        Some(earlier)
    }

    /// It went out with that response; `false` where it is held no more.
    pub(super) fn sent(&mut self, key: Key, token: Option<Token>, sequence: i64) -> bool {
        let Some(holding) = self.held.get_mut(&key).filter(|holding| Some(holding.token) == token)
        else {
            return false;
        };
        holding.sent_in = Some(sequence);
        true
    }

    /// The lease of that token has ended.
    pub(super) fn remove(&mut self, key: Key, token: Token) -> Option<Holding> {
        self.held.get(&key).filter(|holding| holding.token == token)?;
        self.rooms.holders.leave(key, &self.registration.waiter);
        self.registration.add_room(1);
        self.held.remove(&key)
    }

    /// How many operations the worker wants to hold and holds, and those that it has held longest.
    pub(super) fn shown(&self) -> (u32, u32, Vec<HeldOperation>) {
        let mut held: Vec<&Holding> = self.held.values().collect();
        if held.len() > MAX_SHOWN_HELD {
            held.select_nth_unstable_by_key(MAX_SHOWN_HELD, |held| held.start_time);
            held.truncate(MAX_SHOWN_HELD);
        }
        held.sort_by_key(|held| held.start_time);
        let shown = |held: &&Holding| HeldOperation {
            name: held.name.to_string(),
            attempt: held.attempt,
            start_time: held.start_time,
        };
        let operations = held.iter().map(shown).collect();
        (self.slots.max(0) as u32, self.held.len() as u32, operations)
    }

    /// Compares a lease with the new standing.
    pub(super) fn judge(&mut self, key: Key, standing: &Standing) -> NewsEffect {
        let Some(holding) =
            self.held.get_mut(&key).filter(|holding| holding.since <= standing.revision)
        else {
            return NewsEffect::Nothing;
        };
        let token = holding.token;
        match standing.terms.filter(|terms| terms.token == token) {
            None => self
                .remove(key, token)
                .map_or(NewsEffect::Nothing, |lost| NewsEffect::Lost(lost.name)),
            // Another stream of the same worker has taken over.
            Some(terms) if terms.holder != Some(self.holder) => {
                self.remove(key, token);
                NewsEffect::Nothing
            }
            Some(terms) => {
                let asked = (terms.cancel_requested, terms.pause_requested);
                if asked == (holding.cancel_requested, holding.pause_requested) {
                    return NewsEffect::Nothing;
                }
                (holding.cancel_requested, holding.pause_requested) = asked;
                NewsEffect::Signal(holding.signal())
            }
        }
    }

    /// Whether the store responds for none of the leases; without leases, for no partition.
    pub(super) fn is_cut_off(&self) -> bool {
        let store = &self.rooms.context.store;
        let is_away = |partition| store.answering_since(partition).is_none();
        if self.held.is_empty() {
            return store.keyspace().all().all(is_away);
        }
        self.held.keys().any(|key| is_away(self.rooms.context.partition(*key)))
    }

    pub(super) const fn holder(&self) -> Holder {
        self.holder
    }

    /// The leases to renew for a worker that has been silent for this long: less than half is left of them.
    pub(super) fn renewals(&self, duration: Duration, silent: Duration) -> Vec<Key> {
        let store = &self.rooms.context.store;
        let due = |(key, holding): (&Key, &Holding)| {
            let now = store.now(self.rooms.context.partition(*key));
            let earned = now + duration.saturating_sub(silent);
            let due = holding.expire_time.since(now) < duration / 2 && holding.expire_time < earned;
            due.then_some(*key)
        };
        self.held.iter().filter_map(due).collect()
    }

    /// The stored lease was renewed.
    pub(super) fn renewed(&mut self, key: Key, operation: &Operation) {
        if let (Some(holding), Some(lease)) = (self.held.get_mut(&key), operation.state.lease())
            && lease.token == holding.token
        {
            holding.expire_time = lease.expire_time;
        }
    }

    pub(super) fn get(&self, key: Key) -> Option<&Holding> {
        self.held.get(&key)
    }

    /// All leases, for a worker that returns them itself.
    pub(super) fn releases(&mut self) -> Vec<KeyedCommand> {
        let (seen, holder) = (self.seen, self.holder);
        self.take_all()
            .into_iter()
            .map(|(key, holding)| KeyedCommand {
                key,
                command: holding.release(holding.is_seen(seen), holder),
            })
            .collect()
    }

    fn take_all(&mut self) -> HashMap<Key, Holding> {
        for key in self.held.keys() {
            self.rooms.holders.leave(*key, &self.registration.waiter);
        }
        std::mem::take(&mut self.held)
    }
}

impl Holding {
    fn of(operation: &Operation, sent_in: Option<i64>) -> Option<Self> {
        let lease = operation.state.lease()?;
        Some(Self {
            name: operation.name.clone(),
            token: lease.token,
            since: operation.stamps.revision,
            attempt: lease.attempt,
            start_time: lease.start_time,
            expire_time: lease.expire_time,
            sent_in,
            cancel_requested: false,
            pause_requested: false,
        })
    }

    fn is_seen(&self, seen: i64) -> bool {
        self.sent_in.is_some_and(|sent_in| sent_in <= seen)
    }

    fn signal(&self) -> Signal {
        Signal {
            name: self.name.clone(),
            cancel_requested: self.cancel_requested,
            pause_requested: self.pause_requested,
        }
    }

    fn release(&self, seen: bool, holder: Holder) -> Command {
        let proof = Proof { token: self.token, fingerprint: [0; 16] };
        let (checkpoint, delay) = (None, Duration::ZERO);
        Command::Release(Box::new(Release { proof, checkpoint, delay, seen, holder: Some(holder) }))
    }
}

impl Drop for Holdings {
    fn drop(&mut self) {
        let (seen, holder, grace) = (self.seen, self.holder, self.grace);
        let (held, claims) = (self.take_all(), std::mem::take(&mut self.claims));
        if held.is_empty() && claims.is_empty() {
            return;
        }
        let mut disowned = Vec::new();
        let disown = |token| Command::Disown(Disown { token, holder, grace });
        let mut commands = Vec::with_capacity(held.len() + claims.len());
        for (key, holding) in held {
            let command = if holding.is_seen(seen) {
                disowned.push(key);
                disown(holding.token)
            } else {
                holding.release(false, holder)
            };
            commands.push(KeyedCommand { key, command });
        }
        // Claims without a verdict: this touches only leases whose holder is this stream.
        for (key, token) in claims {
            self.rooms.holders.leave(key, &self.registration.waiter);
            disowned.push(key);
            commands.push(KeyedCommand { key, command: disown(token) });
        }
        let rooms = Arc::clone(&self.rooms);
        self.rooms.context.tasks.finish("disown", async move {
            for outcome in rooms.commands.apply_all(commands).await {
                // Leases that have ended need no release.
                if let Err(error) = outcome.map(drop)
                    && error.reason == Reason::StoreUnavailable
                {
                    rooms.context.log_failure(
                        "cannot shorten a lease of a broken stream; it will expire",
                        &error,
                    );
                }
            }
            if disowned.is_empty() {
                return;
            }
            let reaping = Arc::clone(&rooms);
            rooms.context.tasks.spawn("grace", async move {
                reaping.context.sleep(grace).await;
                expire_leases(&reaping.commands, disowned).await;
            });
        });
    }
}
