//! One poll of a queue: reads ready operations, decides a lease for each waiter in turn, and commits the leases together.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::future::try_join_all;

use crate::clock::Timestamp;
use crate::engine::access::LeaseScope;
use crate::engine::commands::apply::Commands;
use crate::engine::context::Context;
use crate::engine::dispatch::grants::Grants;
use crate::engine::dispatch::turns::{Dealt, QueuePart, QueueRound, Turns};
use crate::engine::dispatch::waiters::Waiters;
use crate::engine::due::operations::end_overdue;
use crate::engine::leases::grant::Grant;
use crate::engine::leases::leased::weight;
use crate::engine::leases::waiter::Offer;
use crate::engine::notify::notifier::OperationTransactor;
use crate::engine::reading::reader::Reader;
use crate::engine::transact::{Assumed, Decision, Ended, Transaction};
use crate::limits::MAX_REPLY_BYTES;
use crate::operation::command::{Command, Take};
use crate::operation::entries::{DueClass, Turn, ready_index, turn_of};
use crate::operation::gate::GateLimit;
use crate::operation::{Applied, Record, apply};
use crate::record::gate::GateSlot;
use crate::record::{Before, Change};
use crate::store::{CommitError, Entry, Index, Key, StoreError};

/// Polls queues.
pub(in crate::engine) struct Poller {
    context: Arc<Context>,
    reader: Arc<Reader>,
    transactor: Arc<OperationTransactor>,
    grants: Arc<Grants>,
    commands: Arc<Commands>,
}

/// The bounds of one poll.
#[derive(Clone, Copy)]
pub(super) struct PollBounds {
    /// Entries that no worker accepted the last time: so many more are read.
    pub(super) unfit: usize,
    /// How many leases are given at most.
    pub(super) most: usize,
    /// How many operations of the queue may run at the same time, if that is limited.
    pub(super) max_running: Option<GateLimit>,
}

/// The result of one poll.
#[derive(Clone, Copy)]
pub(super) struct Polled {
    /// Somebody got something.
    pub(super) served: bool,
    /// How many leases were given.
    pub(super) given: usize,
    /// Something was there that could not be had: another poll makes sense.
    pub(super) raced: bool,
    /// How many ready operations no worker accepts now.
    pub(super) unfit: usize,
    /// Operations of parents were met that these waiters get nothing of: the next poll leaves them out.
    pub(super) learned: bool,
}

/// A candidate: an operation at the head of the queue, with a lease decided for one waiter.
struct Candidate {
    key: Key,
    command: Command,
    before: Option<Before<Record>>,
    change: Option<Box<Change<Record>>>,
    /// Which of the offers it is for.
    offer: usize,
    /// It turned out that it cannot be leased.
    refused: bool,
}

/// The plan of one poll for the head of the queue.
struct Decided {
    candidates: Vec<Candidate>,
    /// How many of its operations no worker accepts.
    unfit: usize,
    /// Operations that timed out while they waited, with the bound that they exceeded.
    overdue: Vec<(DueClass, Key)>,
    /// Entries without a record.
    orphans: Vec<Key>,
    /// Parents of operations that these waiters do not get.
    foreign: Vec<Turn>,
}

/// The result of committing leases.
struct CommittedLeases {
    /// For each offer.
    grants: Vec<Vec<Grant>>,
    /// The operations whose leases were written.
    written: HashSet<Key>,
    raced: bool,
    outage: Option<StoreError>,
}

impl CommittedLeases {
    fn of(offers: usize) -> Self {
        let grants = (0..offers).map(|_| Vec::new()).collect();
        Self { grants, written: HashSet::new(), raced: false, outage: None }
    }
}

impl Poller {
    pub(in crate::engine) const fn new(
        context: Arc<Context>,
        reader: Arc<Reader>,
        transactor: Arc<OperationTransactor>,
        grants: Arc<Grants>,
        commands: Arc<Commands>,
    ) -> Self {
        Self { context, reader, transactor, grants, commands }
    }

    /// Polls the queue once, for all waiters.
    pub(super) async fn poll(
        &self,
        waiters: &Waiters,
        turns: &mut Turns,
        bounds: PollBounds,
    ) -> Result<Polled, StoreError> {
        let PollBounds { unfit, most, max_running } = bounds;
        let mut offers = waiters.offers();
        let room = offers.iter().map(Offer::room).sum::<usize>().min(most);
        let index = Index::new(ready_index(&waiters.queue));
        let Dealt { entries, more } = self.deal(&index, turns, room, unfit).await?;
        let mut keys: Vec<Key> = entries.iter().filter_map(Entry::key).collect();
        let slots = match max_running {
            Some(limit) => self.grants.slots(&waiters.queue, limit, &keys).await,
            None => HashMap::new(),
        };
        if max_running.is_some() {
            keys.retain(|key| slots.contains_key(key));
        }
        waiters.set_quiet(!more && keys.len() == entries.len());
        if keys.is_empty() {
            waiters.end_poll(offers, &[]);
            let (served, raced, learned) = (false, false, false);
            return Ok(Polled { served, given: 0, raced, unfit: 0, learned });
        }
        let Decided { candidates, mut unfit, overdue, orphans, foreign } =
            self.decide(&offers, &keys, most, &slots).await?;
        let learned = turns.bar(&foreign);
        if !learned {
            unfit += foreign.len();
        }
        let taken = self.take_all(&offers, candidates).await;
        if taken.outage.is_none() {
            let unused = slots.into_values().filter(|slot| !taken.written.contains(&slot.key));
            self.grants.free(&waiters.queue, unused.collect());
        }
        let given = taken.grants.iter().map(Vec::len).sum();
        let got: Vec<bool> = taken.grants.iter().map(|grants| !grants.is_empty()).collect();
        let served = got.contains(&true);
        for (offer, grants) in offers.iter_mut().zip(taken.grants) {
            let unheard = offer.fill(grants);
            self.grants.take_back(&offer.waiter, unheard);
        }
        waiters.end_poll(offers, &got);
        end_overdue(&self.commands, overdue).await;
        let orphan = |entry: &Entry| entry.key().is_some_and(|key| orphans.contains(&key));
        let orphans = entries.into_iter().filter(orphan).collect();
        self.reader.drop_orphans(&index, orphans).await;
        let raced = unfit > 0 || taken.raced;
        taken.outage.map_or(Ok(Polled { served, given, raced, unfit, learned }), Err)
    }

    /// Finds ready operations, whose parents have their turns.
    async fn deal(
        &self,
        index: &Index,
        turns: &mut Turns,
        room: usize,
        unfit: usize,
    ) -> Result<Dealt, StoreError> {
        loop {
            let mut round = turns.next(room, unfit);
            while round.take_in(self.scan_parts(index, &round).await?) {}
            let dealt = turns.deal(round);
            if !dealt.entries.is_empty() || !dealt.more {
                return Ok(dealt);
            }
        }
    }

    async fn scan_parts(
        &self,
        index: &Index,
        round: &QueueRound,
    ) -> Result<Vec<Vec<Entry>>, StoreError> {
        let scan =
            |part: &QueuePart| self.context.store.scan(part.scan(index.clone(), round.limit));
        match &round.parts[..] {
            [part] => Ok(vec![scan(part).await?]),
            parts => try_join_all(parts.iter().map(scan)).await,
        }
    }

    /// Reads the head of the queue and offers it to the waiters in order, to each no more than fits in a
    /// reply. Operations that no worker accepts are counted.
    async fn decide(
        &self,
        offers: &[Offer],
        keys: &[Key],
        most: usize,
        slots: &HashMap<Key, GateSlot>,
    ) -> Result<Decided, StoreError> {
        let (mut waiting, mut given, mut bytes, mut unfit) = (0, 0, 0, 0);
        // The same for all waiters of one dispatcher.
        let scope = offers.first().map_or_else(LeaseScope::default, |it| it.waiter.scope.clone());
        let records = self.reader.read_each::<Record>(keys).await?;
        let (mut candidates, mut overdue) = (Vec::with_capacity(keys.len()), Vec::new());
        let (mut orphans, mut foreign) = (Vec::new(), Vec::new());
        for (key, record) in keys.iter().zip(records) {
            // An unreadable record must not block the operations behind it.
            let before = match record {
                Ok(Some(before)) => before,
                nothing => {
                    unfit += 1;
                    orphans.extend(nothing.is_ok().then_some(*key));
                    continue;
                }
            };
            let parent = before.record.operation().map(|operation| operation.name.parent());
            if let Some(parent) = parent.filter(|parent| !scope.covers(parent)) {
                foreign.push(turn_of(parent));
                continue;
            }
            let size = before.record.operation().map_or(0, weight);
            let room = offers.get(waiting).map_or(0, Offer::room);
            if given > 0 && (given >= room || bytes + size > MAX_REPLY_BYTES) {
                (waiting, given, bytes) = (waiting + 1, 0, 0);
            }
            let Some(offer) = offers.get(waiting).filter(|_| candidates.len() < most) else {
                break;
            };
            let slot = slots.get(key).map(|slot| slot.since);
            let command = Command::Lease(Take { slot, ..self.grants.take_for(&offer.waiter) });
            let now = self.context.now(*key);
            if let Ok(Applied::Changed(change)) = apply(&before.record, &command, now) {
                candidates.push(Candidate {
                    key: *key,
                    command,
                    before: Some(before),
                    change: Some(Box::new((*change).into())),
                    offer: waiting,
                    refused: false,
                });
                (given, bytes) = (given + 1, bytes + size);
            } else {
                unfit += 1;
                let late = before.record.operation().and_then(|operation| operation.overdue(now));
                overdue.extend(late.map(|class| (class, *key)));
            }
        }
        Ok(Decided { candidates, unfit, overdue, orphans, foreign })
    }

    /// Commits the leases.
    async fn take_all(&self, offers: &[Offer], mut candidates: Vec<Candidate>) -> CommittedLeases {
        let mut taken = CommittedLeases::of(offers.len());
        for candidate in &candidates {
            self.grants.expect(candidate.key, &offers[candidate.offer].waiter);
        }
        let ends = self.transactor.transact(&mut candidates).await;
        for (candidate, ended) in candidates.into_iter().zip(ends) {
            let (key, offer) = (candidate.key, candidate.offer);
            let grant = self.granted(candidate, ended, &mut taken);
            match &grant {
                Some(_) => self.context.metrics.given.by_dispatcher(),
                None => self.grants.forget(key, &offers[offer].waiter),
            }
            taken.grants[offer].extend(grant);
        }
        taken
    }

    fn granted(
        &self,
        candidate: Candidate,
        ended: Ended<Record>,
        taken: &mut CommittedLeases,
    ) -> Option<Grant> {
        let Candidate { key, change, refused, .. } = candidate;
        let record = match ended {
            Ended::Written { record, .. } => {
                taken.written.insert(key);
                record
            }
            // The store had taken it without saying so.
            Ended::Kept { before: Some(before), .. } if !refused => {
                taken.written.insert(key);
                Some(before.record)
            }
            Ended::Failed(CommitError::Unavailable(error)) => {
                let lost = change.and_then(|change| change.main);
                let lost = lost.and_then(|record| Grant::new(key, record));
                self.grants.release_unseen(lost.into_iter().collect());
                taken.outage = Some(error);
                None
            }
            // Another worker has it.
            Ended::Kept { .. } | Ended::Failed(_) | Ended::Unknown | Ended::Unreadable(_) => {
                taken.raced = true;
                None
            }
        };
        record
            .and_then(|record| Grant::new(key, record))
            .and_then(|grant| self.grants.in_time(grant))
    }
}

impl Transaction for Candidate {
    type Kind = Record;

    fn key(&self) -> Key {
        self.key
    }

    fn assume(&mut self) -> Assumed<Record> {
        self.before.take().map_or(Assumed::Nothing, Assumed::Known)
    }

    fn decide(
        &mut self,
        before: Option<&Before<Record>>,
        certain: bool,
        now: Timestamp,
    ) -> Decision<Record> {
        if !certain && let Some(change) = self.change.take() {
            return Decision::Commit(change);
        }
        // After an unknown outcome the token tells whether the lease was given.
        match before.map(|before| apply(&before.record, &self.command, now)) {
            Some(Ok(Applied::Changed(change))) => Decision::Commit(Box::new((*change).into())),
            Some(Ok(Applied::Unchanged(_))) => Decision::Keep,
            Some(Err(_)) | None => {
                self.refused = true;
                Decision::Keep
            }
        }
    }

    fn withdrawn(&mut self, change: Change<Record>) {
        self.change = Some(Box::new(change));
    }

    fn competes(&self) -> bool {
        false
    }
}
