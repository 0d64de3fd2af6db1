//! What happened to an operation, from the commit that made it happen until its receivers are known.
//!
//! It lies beside the operation and is written with it, so it exists if and only if the change does. The courier makes a
//! [`Delivery`](super::delivery::Delivery) of it for each receiver.

use bytes::Bytes;

use super::due::{Agent, DueIndex, due_member};
use super::kind::Kind;
use super::operation::{decode_callback, encode_callback};
use super::plan::Also;
use super::value::{unwrap, wrap};
use crate::clock::Timestamp;
use crate::operation::events::{Facts, OperationEvent};
use crate::operation::name::Name;
use crate::operation::{Record, Stamps};
use crate::proto::longhaul::store::v1 as stored;
use crate::proto::longhaul::v1 as pb;
use crate::store::{Index, IndexEntry, Key, Keyspace};

/// An event of an operation whose receivers are not known yet.
#[derive(Clone, Debug, PartialEq)]
pub struct OutboxEvent {
    /// What happened.
    pub news: OperationEvent,
    /// The callbacks of the operation that want it.
    pub callbacks: Vec<pb::Callback>,
    /// Whether its parent may have endpoints that want it.
    pub has_endpoints: bool,
}

impl OutboxEvent {
    /// The key of the event of that number beside an operation.
    pub fn key(operation: Key, sequence: u64) -> Key {
        operation.beside(BESIDE | sequence)
    }

    /// The event of a change of the record under `key`, which notes in the record that there is one. `None` if none of the
    /// operation's callbacks wants it, and there are no endpoints.
    pub fn of(
        key: Key,
        before: Option<&Record>,
        after: &mut Record,
        has_endpoints: bool,
    ) -> Option<Also> {
        let Record::Operation(after) = after else { return None };
        if after.spec.options.callbacks.is_empty() && !has_endpoints {
            return None;
        }
        let news = OperationEvent::of(before.and_then(Record::operation), after)?;
        let wants =
            |callback: &&pb::Callback| news.facts.for_subscription(&callback.events).is_some();
        let callbacks: Vec<_> =
            after.spec.options.callbacks.iter().filter(wants).cloned().collect();
        if callbacks.is_empty() && !has_endpoints {
            return None;
        }
        after.events = news.sequence;
        let key = Self::key(key, news.sequence);
        Some(Also::create(key, Self { news, callbacks, has_endpoints }))
    }
}

impl Kind for OutboxEvent {
    const NAME: &'static str = "an event";
    const NUMBERS: &'static [u32] = &[NUMBER];
    const DUE: &'static [DueIndex] = &[DueIndex::new(DUE, Agent::Courier)];

    fn name(&self) -> String {
        format!("event {} of {}", self.news.sequence, self.news.name)
    }

    fn lies_under(&self, key: Key, keyspace: &Keyspace) -> bool {
        Self::key(keyspace.key(self.news.name.as_str()), self.news.sequence) == key
    }

    fn decode(value: &Bytes, _stamps: Stamps) -> Option<Self> {
        let stored::record::Kind::Event(stored) = unwrap(value)? else { return None };
        Some(Self {
            news: decode_news(stored.news?)?,
            callbacks: stored.callbacks.into_iter().map(decode_callback).collect(),
            has_endpoints: stored.has_endpoints,
        })
    }

    fn encode(&self) -> Bytes {
        let event = stored::Event {
            news: Some(encode_news(&self.news)),
            callbacks: self.callbacks.iter().map(encode_callback).collect(),
            has_endpoints: self.has_endpoints,
        };
        wrap(NUMBER, &event)
    }

    fn entries(&self, key: Key) -> Vec<IndexEntry> {
        let member = due_member(self.news.time, key).into();
        vec![IndexEntry { index: Index::new(DUE), member }]
    }
}

pub(super) fn encode_news(news: &OperationEvent) -> stored::News {
    stored::News {
        name: news.name.as_str().to_owned(),
        uid: Bytes::copy_from_slice(news.uid.as_bytes()),
        sequence: news.sequence,
        time: news.time.as_micros(),
        facts: news.facts.number(),
        state: news.state as u32,
        fraction: news.fraction,
        status_detail: news.status_detail.clone(),
        trace_parent: news.trace_parent.clone(),
    }
}

pub(super) fn decode_news(stored: stored::News) -> Option<OperationEvent> {
    Some(OperationEvent {
        name: Name::parse(&stored.name).ok()?,
        uid: uuid::Uuid::from_slice(&stored.uid).ok()?,
        sequence: stored.sequence,
        time: Timestamp::from_micros(stored.time),
        facts: Facts::from_number(stored.facts),
        state: (stored.state as i32).try_into().ok()?,
        fraction: stored.fraction,
        status_detail: stored.status_detail,
        trace_parent: stored.trace_parent,
    })
}

/// The number of the kind in a stored record.
const NUMBER: u32 = 10;
/// The index of events whose receivers are not known yet.
const DUE: &str = "due/callback";
/// The first of the numbers beside an operation that its events have.
const BESIDE: u64 = 0x6501 << 48;
