//! The hints received for each partition, and the gaps in them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use uuid::Uuid;

use super::keys::Meta;
use super::link::Replication;
use crate::store::feed::{Event, Feed, Hint, Publisher};
use crate::store::key::{Key, Partition};

/// Turns messages and metas into events. A jump, a step back, a loss and a return each become a gap.
#[derive(Debug)]
pub(super) struct Hints {
    keyspace: Uuid,
    partitions: u16,
    state: Mutex<FeedState>,
}

#[derive(Debug)]
struct FeedState {
    /// Gone once the store is closed, which ends all feeds.
    publisher: Option<Publisher>,
    seen: Vec<PartitionSeen>,
    replication: Option<Replication>,
}

/// Knowledge about one partition.
#[derive(Clone, Copy, Debug, Default)]
struct PartitionSeen {
    /// The last hint heard on this subscription.
    heard: Option<u64>,
    /// At the last check the partition belonged to another keyspace.
    lost: bool,
    /// The furthest position seen in hints, replies or metas.
    known: PartitionProgress,
}

/// How far a partition has come. Less than before means that it went back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PartitionProgress {
    pub(super) revision: u64,
    pub(super) sequence: u64,
}

impl PartitionProgress {
    fn max(self, other: Self) -> Self {
        let revision = self.revision.max(other.revision);
        Self { revision, sequence: self.sequence.max(other.sequence) }
    }
}

impl Hints {
    /// No hints yet.
    pub(super) fn new(keyspace: Uuid, partitions: u16) -> Self {
        let seen = vec![PartitionSeen::default(); usize::from(partitions)];
        let state =
            FeedState { publisher: Some(Publisher::new(partitions)), seen, replication: None };
        Self { keyspace, partitions, state: Mutex::new(state) }
    }

    /// A feed of events from now on; one that has ended once the store is closed.
    pub(super) fn feed(&self) -> Feed {
        let state = self.lock();
        state
            .publisher
            .as_ref()
            .map_or_else(|| Publisher::new(self.partitions).subscribe(), Publisher::subscribe)
    }

    /// Ends all feeds.
    pub(super) fn close(&self) {
        self.lock().publisher = None;
    }

    /// A message of the channel: the hints of one call of the script.
    pub(super) fn hear(&self, payload: &[u8]) {
        // A server tries whether it may publish.
        if payload.is_empty() {
            return;
        }
        let Some(mut rest) = payload.strip_prefix(self.keyspace.as_bytes()) else {
            tracing::debug!("a message that is none of this keyspace's hints");
            return;
        };
        let (mut state, mut events) = (self.lock(), Vec::new());
        while let Some((hint, others)) = decode(rest) {
            state.hear(hint, &mut events);
            rest = others;
        }
        if !rest.is_empty() {
            tracing::debug!("a message that ends in something else than a hint");
        }
        if let Some(publisher) = &state.publisher {
            publisher.send_all(events);
        }
    }

    /// Commits of this process were acknowledged.
    pub(super) fn committed(&self, progress: &[(Partition, PartitionProgress)]) {
        let mut state = self.lock();
        for (partition, progress) in progress {
            if let Some(seen) = state.seen.get_mut(usize::from(partition.0)) {
                seen.known = seen.known.max(*progress);
            }
        }
    }

    /// A new subscription begins; hints of the old one are no longer awaited.
    pub(super) fn restart(&self) {
        for seen in &mut self.lock().seen {
            seen.heard = None;
        }
    }

    /// The known positions before the metas are read: the metas must not be behind them.
    pub(super) fn known(&self) -> Vec<PartitionProgress> {
        self.lock().seen.iter().map(|seen| seen.known).collect()
    }

    /// The metas, read on the connection that brings the messages, so that every hint up to them was heard or is lost.
    pub(super) fn compare(&self, before: &[PartitionProgress], metas: &[Option<Meta>]) {
        let mut state = self.lock();
        let mut gap = Vec::new();
        for (partition, ((seen, before), meta)) in
            (0..).map(Partition).zip(state.seen.iter_mut().zip(before).zip(metas))
        {
            let Some(meta) = meta else {
                // Readers that wait must receive an error.
                if !std::mem::replace(&mut seen.lost, true) {
                    gap.push(partition);
                }
                continue;
            };
            let at = PartitionProgress { revision: meta.revision, sequence: meta.sequence };
            let back = at.revision < before.revision || at.sequence < before.sequence;
            let missed = seen.heard.is_some_and(|heard| heard < at.sequence);
            if back || missed || seen.lost {
                tracing::debug!(partition = partition.0, back, missed, "hints are missing");
                gap.push(partition);
            }
            seen.known = if back { at } else { seen.known.max(at) };
            seen.heard = if back { Some(at.sequence) } else { seen.heard.max(Some(at.sequence)) };
            seen.lost = false;
        }
        if !gap.is_empty() {
            state.send(Event::Gap(gap));
        }
    }

    /// Another history of writes may hold other hints under the same numbers.
    pub(super) fn follow(&self, replication: Replication) {
        let before = self.lock().replication.replace(replication.clone());
        if before.is_some_and(|before| before != replication) {
            tracing::warn!("the store failed over; the last acknowledged changes may be lost");
            self.missed_everything();
        }
    }

    /// There was no subscription for a while.
    pub(super) fn missed_everything(&self) {
        self.lock().send(Event::Gap((0..self.partitions).map(Partition).collect()));
    }

    fn lock(&self) -> MutexGuard<'_, FeedState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FeedState {
    fn hear(&mut self, hint: Hint, events: &mut Vec<Event>) {
        let partition = hint.partition;
        let Some(seen) = self.seen.get_mut(usize::from(partition.0)) else { return };
        let follows = seen.heard.is_none_or(|heard| heard + 1 == hint.sequence);
        seen.heard = Some(hint.sequence);
        seen.known =
            seen.known.max(PartitionProgress { revision: hint.revision, sequence: hint.sequence });
        if !follows {
            events.push(Event::Gap(vec![partition]));
        }
        events.push(Event::Hint(hint));
    }

    fn send(&self, event: Event) {
        if let Some(publisher) = &self.publisher {
            publisher.send(event);
        }
    }
}

/// Sequence, revision, partition, length of the note, key, note; then further hints. `None` if the message is malformed.
fn decode(bytes: &[u8]) -> Option<(Hint, &[u8])> {
    let (sequence, rest) = bytes.split_first_chunk()?;
    let (revision, rest) = rest.split_first_chunk()?;
    let (partition, rest) = rest.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (key, rest) = rest.split_first_chunk()?;
    let (note, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
    let hint = Hint {
        partition: Partition(u16::from_be_bytes(*partition)),
        sequence: u64::from_be_bytes(*sequence),
        revision: u64::from_be_bytes(*revision),
        key: Key::from_bytes(*key),
        note: Bytes::copy_from_slice(note),
    };
    Some((hint, rest))
}
