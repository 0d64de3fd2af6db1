//! Hints: word that something changed. A lost hint costs latency, never truth.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::broadcast;

use super::key::{Key, Partition};

/// Word of one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    /// Where it was.
    pub partition: Partition,
    /// Rises by one with every hint of the partition.
    pub sequence: u64,
    /// The commit's revision.
    pub revision: u64,
    /// The changed record.
    pub key: Key,
    /// The note of the writer.
    pub note: Bytes,
}

/// Events of a feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Something changed.
    Hint(Hint),
    /// Hints of these partitions may be missing, or the partitions may have gone back: read their records again.
    Gap(Vec<Partition>),
}

/// The sending side, for a backend. Bounded: a reader that falls behind gets one [`Event::Gap`] over all partitions.
#[derive(Clone, Debug)]
pub struct Publisher {
    sender: broadcast::Sender<Arc<[Event]>>,
    partitions: u16,
}

impl Publisher {
    /// A publisher for a keyspace of so many partitions.
    pub fn new(partitions: u16) -> Self {
        Self { sender: broadcast::Sender::new(CAPACITY), partitions }
    }

    /// Tells every feed.
    pub fn send(&self, event: Event) {
        self.send_all(vec![event]);
    }

    /// Tells every feed of several events, which wakes a reader once.
    pub fn send_all(&self, events: Vec<Event>) {
        if !events.is_empty() {
            // An error only means that there is no listener.
            let _ = self.sender.send(events.into());
        }
    }

    /// A feed of all hints from now on.
    pub fn subscribe(&self) -> Feed {
        let (receiver, partitions) = (self.sender.subscribe(), self.partitions);
        Feed { receiver, partitions, waiting: VecDeque::new() }
    }
}

/// The receiving side.
#[derive(Debug)]
pub struct Feed {
    receiver: broadcast::Receiver<Arc<[Event]>>,
    partitions: u16,
    /// Hints that arrived together with the last event.
    waiting: VecDeque<Event>,
}

impl Feed {
    /// The next event; `None` once the store is closed.
    pub async fn next(&mut self) -> Option<Event> {
        if let Some(event) = self.waiting.pop_front() {
            return Some(event);
        }
        match self.receiver.recv().await {
            Ok(events) => {
                self.waiting.extend(events.iter().cloned());
                self.waiting.pop_front()
            }
            Err(broadcast::error::RecvError::Lagged(_)) => {
                Some(Event::Gap((0..self.partitions).map(Partition).collect()))
            }
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// Groups of hints that a reader may lag behind before it gets a gap.
const CAPACITY: usize = 16_384;
