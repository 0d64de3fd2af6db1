//! An event on its way to one receiver, and for a while after that.
//!
//! The deliveries of an operation to a receiver that have not ended are a line in the order of its events. Only the first is
//! due; each names the next, which waits for it. A delivery that is replayed takes its place in the line again, so the next one
//! may have been overtaken and have ended. The due ones of a receiver are together in one index, so that those of another can
//! be found without reading them.

use bytes::Bytes;
use uuid::Uuid;

use super::due::{Agent, DueIndex, due_member};
use super::event::{decode_news, encode_news};
use super::kind::Kind;
use super::note::Note;
use super::operation::{decode_callback, encode_callback};
use super::value::{unwrap, wrap};
use crate::clock::Timestamp;
use crate::limits::{DELIVERY_KEPT, MAX_DELIVERY_ATTEMPTS_KEPT};
use crate::operation::Stamps;
use crate::operation::events::OperationEvent;
use crate::proto::longhaul::store::v1 as stored;
use crate::proto::longhaul::v1 as pb;
use crate::store::{Index, IndexEntry, Key, Keyspace};
use crate::webhook::name::{DeliveryName, DeliveryOwner};
use crate::webhook::origin::origin;

/// One event for one receiver.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// What the receiver is told.
    pub news: OperationEvent,
    /// The sequence of the event that it was made for. Progress that waits is replaced by later news.
    pub number: u64,
    /// What the event is called for the receiver.
    pub event: pb::callback::Event,
    /// The receiver.
    pub target: Target,
    /// How far it is.
    pub stage: DeliveryStage,
    /// The last attempts, oldest first.
    pub attempts: Vec<DeliveryAttempt>,
    /// How many there were.
    pub attempt_count: u32,
    /// The beginning of the last reply.
    pub reply: Bytes,
    /// The next delivery of the line, which waits for this one.
    pub next: Option<Key>,
    /// When it was made.
    pub create_time: Timestamp,
    /// The last time that it was sent again after its end.
    pub replay: Option<DeliveryReplay>,
}

/// The replay of a delivery: its schedule begins anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliveryReplay {
    /// When it was asked for.
    pub time: Timestamp,
    /// How many attempts there were before it.
    pub attempts_before: u32,
}

/// A receiver.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// A callback of the operation.
    Callback(pb::Callback),
    /// An endpoint, by its name; with the callback of the operation that names it, if one does.
    Endpoint(String, Option<pb::Callback>),
}

/// How far a delivery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryStage {
    /// It waits for an earlier one of its line.
    Waiting,
    /// To be tried then. While an attempt runs, this is the time by which it must have ended.
    Due(Timestamp),
    /// It was delivered.
    Delivered(Timestamp),
    /// It was given up.
    GivenUp(Timestamp),
}

/// How far a delivery is, for those who look at it. The numbers are those of `longhaul.v1.WebhookDelivery.State`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// It was not tried yet.
    Waiting = 1,
    /// It was delivered.
    Delivered = 2,
    /// The last attempt failed, and another one follows.
    Failed = 3,
    /// It was given up.
    GivenUp = 4,
}

/// One request to a receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryAttempt {
    /// When it began.
    pub time: Timestamp,
    /// How long it took.
    pub latency: std::time::Duration,
    /// The HTTP status; 0 without a reply.
    pub status: u16,
    /// Why there was no reply.
    pub error: String,
}

/// Identifies a receiver among those that deliveries are due to: an endpoint, or the host of a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(pub [u8; 8]);

impl Delivery {
    /// A delivery that is due now.
    pub const fn new(
        news: OperationEvent,
        event: pb::callback::Event,
        target: Target,
        now: Timestamp,
    ) -> Self {
        Self {
            number: news.sequence,
            news,
            event,
            target,
            stage: DeliveryStage::Due(now),
            attempts: Vec::new(),
            attempt_count: 0,
            reply: Bytes::new(),
            next: None,
            create_time: now,
            replay: None,
        }
    }

    /// The key of its record, beside that of its operation.
    pub fn key(&self, operation: Key) -> Key {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.news.uid.as_bytes()).update(&self.number.to_be_bytes());
        hasher.update(&self.target.id());
        let hash = hasher.finalize();
        let mut number = [0; 8];
        number[..2].copy_from_slice(&BESIDE.to_be_bytes());
        number[2..].copy_from_slice(&hash.as_bytes()[..6]);
        operation.beside(u64::from_be_bytes(number))
    }

    /// The id that the receiver gets, the same with every attempt. Without a dot, which the signature uses.
    pub fn message_id(key: Key) -> String {
        DeliveryName::id_of(*key.as_bytes())
    }

    /// Its full name.
    pub fn full_name(&self, key: Key) -> String {
        let id = Self::message_id(key);
        let operation = self.news.name.as_str();
        let owner = self.target.endpoint().unwrap_or(operation);
        format!("{owner}/deliveries/{id}")
    }

    /// Whether it belongs to that endpoint or operation.
    pub fn belongs_to(&self, owner: &DeliveryOwner) -> bool {
        match (owner, self.target.endpoint()) {
            (DeliveryOwner::Endpoint(name), Some(endpoint)) => name.to_string() == endpoint,
            (DeliveryOwner::Operation(name), None) => *name == self.news.name,
            (DeliveryOwner::Endpoint(_), None) | (DeliveryOwner::Operation(_), Some(_)) => false,
        }
    }

    /// How far it is.
    pub const fn state(&self) -> DeliveryState {
        match self.stage {
            DeliveryStage::Delivered(_) => DeliveryState::Delivered,
            DeliveryStage::GivenUp(_) => DeliveryState::GivenUp,
            DeliveryStage::Waiting | DeliveryStage::Due(_) if self.tries() > 0 => {
                DeliveryState::Failed
            }
            DeliveryStage::Waiting | DeliveryStage::Due(_) => DeliveryState::Waiting,
        }
    }

    /// The attempts of its present schedule.
    pub const fn tries(&self) -> u32 {
        self.attempt_count.saturating_sub(self.attempts_before_replay())
    }

    /// The attempts before its present schedule.
    pub const fn attempts_before_replay(&self) -> u32 {
        match self.replay {
            Some(replay) => replay.attempts_before,
            None => 0,
        }
    }

    /// When its present schedule began.
    pub fn begin_time(&self) -> Timestamp {
        self.replay.map_or(self.news.time, |replay| replay.time)
    }

    /// When it is to be tried.
    pub const fn due(&self) -> Option<Timestamp> {
        match self.stage {
            DeliveryStage::Due(time) => Some(time),
            DeliveryStage::Waiting | DeliveryStage::Delivered(_) | DeliveryStage::GivenUp(_) => {
                None
            }
        }
    }

    /// Whether it has ended.
    pub const fn is_over(&self) -> bool {
        matches!(self.stage, DeliveryStage::Delivered(_) | DeliveryStage::GivenUp(_))
    }

    /// Whether later news make it worthless.
    pub const fn is_progress(&self) -> bool {
        self.news.facts.is_progress_only()
    }

    /// Whether it is progress that no attempt has begun to tell.
    pub fn may_be_replaced(&self) -> bool {
        let is_untold = self.attempt_count == 0 && self.replay.is_none();
        self.stage == DeliveryStage::Waiting && self.is_progress() && is_untold
    }

    /// Notes an attempt.
    pub fn note(&mut self, attempt: DeliveryAttempt, reply: Bytes) {
        if self.attempts.len() >= MAX_DELIVERY_ATTEMPTS_KEPT {
            self.attempts.remove(0);
        }
        self.attempts.push(attempt);
        self.attempt_count += 1;
        self.reply = reply;
    }
}

impl Target {
    /// The receiver of a callback.
    pub fn of(callback: pb::Callback) -> Self {
        if callback.endpoint.is_empty() {
            Self::Callback(callback)
        } else {
            Self::Endpoint(callback.endpoint.clone(), Some(callback))
        }
    }

    /// The endpoint, if it is one.
    pub fn endpoint(&self) -> Option<&str> {
        match self {
            Self::Callback(_) => None,
            Self::Endpoint(name, _) => Some(name),
        }
    }

    /// The callback of the operation, if one names it.
    pub const fn callback(&self) -> Option<&pb::Callback> {
        match self {
            Self::Callback(callback) => Some(callback),
            Self::Endpoint(_, callback) => callback.as_ref(),
        }
    }

    /// Where it is due.
    pub fn lane(&self) -> LaneId {
        match self {
            Self::Endpoint(name, _) => LaneId(hash(b"endpoint", name)),
            Self::Callback(callback) => LaneId(hash(b"host", &origin(&callback.uri))),
        }
    }

    /// The prefix of the members of [`LINES`] of an operation's deliveries to it.
    pub fn line(&self, uid: &Uuid) -> Vec<u8> {
        [&uid.as_bytes()[..], &self.id()].concat()
    }

    /// Tells it from the other receivers of an operation.
    fn id(&self) -> [u8; 8] {
        match self {
            Self::Endpoint(name, _) => hash(b"endpoint", name),
            Self::Callback(callback) => hash(b"callback", &callback.uri),
        }
    }
}

/// Whether [`STATES`] has the deliveries in that state. Those that go well have no entry there, so they cost none.
pub const fn is_indexed(state: DeliveryState) -> bool {
    matches!(state, DeliveryState::Failed | DeliveryState::GivenUp)
}

fn hash(kind: &[u8], text: &str) -> [u8; 8] {
    let hash = blake3::hash(&[kind, b"\0", text.as_bytes()].concat());
    hash.as_bytes().first_chunk().copied().unwrap_or_default()
}

/// The prefix of the members of [`LANES`] of one receiver.
pub fn lane_member(lane: LaneId, time: Timestamp) -> Vec<u8> {
    [&lane.0[..], &time.as_micros().to_be_bytes()].concat()
}

/// The receiver and the time of a member of [`LANES`].
pub fn parse_lane_member(member: &[u8]) -> Option<(LaneId, Timestamp)> {
    let (lane, rest) = member.split_first_chunk()?;
    let micros = u64::from_be_bytes(*rest.first_chunk()?);
    Some((LaneId(*lane), Timestamp::from_micros(micros)))
}

/// The prefix of the members of [`DELIVERIES`] of one endpoint or operation.
pub fn owner_prefix(owner: &DeliveryOwner) -> Vec<u8> {
    let hash = match owner {
        DeliveryOwner::Endpoint(name) => hash(b"endpoint", &name.to_string()),
        DeliveryOwner::Operation(name) => hash(b"operation", name.as_str()),
    };
    hash.to_vec()
}

/// The prefix of the members of [`STATES`] of one endpoint or operation.
pub fn state_prefix(owner: &DeliveryOwner, state: DeliveryState) -> Vec<u8> {
    [owner_prefix(owner), vec![state as u8]].concat()
}

impl Kind for Delivery {
    const NAME: &'static str = "a delivery";
    const NUMBERS: &'static [u32] = &[NUMBER];
    const DUE: &'static [DueIndex] = &[DueIndex::new(KEPT, Agent::Janitor).on_disk()];

    fn name(&self) -> String {
        format!("a delivery of event {} of {}", self.number, self.news.name)
    }

    fn lies_under(&self, key: Key, keyspace: &Keyspace) -> bool {
        Self::key(self, keyspace.key(self.news.name.as_str())) == key
    }

    fn decode(value: &Bytes, _stamps: Stamps) -> Option<Self> {
        let stored::record::Kind::Delivery(stored) = unwrap(value)? else { return None };
        decode(stored)
    }

    fn encode(&self) -> Bytes {
        let (due_time, end_time) = match self.stage {
            DeliveryStage::Waiting => (None, None),
            DeliveryStage::Due(time) => (Some(time.as_micros()), None),
            DeliveryStage::Delivered(time) | DeliveryStage::GivenUp(time) => {
                (None, Some(time.as_micros()))
            }
        };
        let delivery = stored::Delivery {
            news: Some(encode_news(&self.news)),
            number: self.number,
            event: self.event as u32,
            endpoint: self.target.endpoint().unwrap_or_default().to_owned(),
            callback: self.target.callback().map(encode_callback),
            due_time,
            end_time,
            delivered: matches!(self.stage, DeliveryStage::Delivered(_)),
            attempts: self.attempts.iter().map(encode_attempt).collect(),
            attempt_count: self.attempt_count,
            reply: self.reply.clone(),
            next: self.next.map(|next| bytes(next.as_bytes())).unwrap_or_default(),
            create_time: self.create_time.as_micros(),
            replay_time: self.replay.map(|replay| replay.time.as_micros()),
            attempts_before_replay: self.attempts_before_replay(),
        };
        wrap(NUMBER, &delivery)
    }

    fn entries(&self, key: Key) -> Vec<IndexEntry> {
        let entry = |index: &'static str, member: Vec<u8>| IndexEntry {
            index: Index::new(index),
            member: member.into(),
        };
        let mut entries = Vec::with_capacity(4);
        let owner = match self.target.endpoint() {
            Some(endpoint) => hash(b"endpoint", endpoint),
            None => hash(b"operation", self.news.name.as_str()),
        };
        let time = self.create_time.as_micros().to_be_bytes();
        entries.push(entry(DELIVERIES, [&owner[..], &time, key.as_bytes()].concat()));
        let state = self.state();
        if is_indexed(state) {
            let member = [&owner[..], &[state as u8], &time, key.as_bytes()].concat();
            entries.push(entry(STATES, member));
        }
        if !self.is_over() {
            let line = self.target.line(&self.news.uid);
            let number = self.number.to_be_bytes();
            entries.push(entry(LINES, [&line[..], &number, key.as_bytes()].concat()));
        }
        match self.stage {
            DeliveryStage::Waiting => {}
            DeliveryStage::Due(time) => {
                let member = lane_member(self.target.lane(), time);
                entries.push(entry(LANES, [&member[..], key.as_bytes()].concat()));
            }
            DeliveryStage::Delivered(time) | DeliveryStage::GivenUp(time) => {
                entries.push(entry(KEPT, due_member(time + DELIVERY_KEPT, key)));
            }
        }
        entries
    }

    /// Only the courier reads deliveries, and it looks for them.
    fn hint(_: Option<&Self>, _: Option<&Self>, _: bool) -> Option<Note> {
        None
    }
}

fn decode(stored: stored::Delivery) -> Option<Delivery> {
    let callback = stored.callback.map(decode_callback);
    let target = match (stored.endpoint, callback) {
        (endpoint, callback) if !endpoint.is_empty() => Target::Endpoint(endpoint, callback),
        (_, callback) => Target::Callback(callback?),
    };
    let time = |micros| Timestamp::from_micros(micros);
    let stage = match (stored.due_time, stored.end_time) {
        (None, None) => DeliveryStage::Waiting,
        (Some(due), _) => DeliveryStage::Due(time(due)),
        (None, Some(end)) if stored.delivered => DeliveryStage::Delivered(time(end)),
        (None, Some(end)) => DeliveryStage::GivenUp(time(end)),
    };
    let attempts_before = stored.attempts_before_replay;
    let replay = stored.replay_time.map(|at| DeliveryReplay { time: time(at), attempts_before });
    Some(Delivery {
        news: decode_news(stored.news?)?,
        number: stored.number,
        event: (stored.event as i32).try_into().ok()?,
        target,
        stage,
        attempts: stored.attempts.into_iter().map(decode_attempt).collect(),
        attempt_count: stored.attempt_count,
        reply: stored.reply,
        next: <[u8; Key::LENGTH]>::try_from(stored.next.as_ref()).ok().map(Key::from_bytes),
        create_time: time(stored.create_time),
        replay,
    })
}

fn encode_attempt(attempt: &DeliveryAttempt) -> stored::DeliveryAttempt {
    stored::DeliveryAttempt {
        time: attempt.time.as_micros(),
        latency: attempt.latency.as_micros() as u64,
        status: attempt.status.into(),
        error: attempt.error.clone(),
    }
}

fn decode_attempt(stored: stored::DeliveryAttempt) -> DeliveryAttempt {
    DeliveryAttempt {
        time: Timestamp::from_micros(stored.time),
        latency: std::time::Duration::from_micros(stored.latency),
        status: stored.status as u16,
        error: stored.error,
    }
}

fn bytes(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// The deliveries of each receiver that are due, or will be: receiver, time, key.
pub const LANES: &str = "deliveries/due";
/// The deliveries that have not ended, in lines: uid of the operation, receiver, number, key.
pub const LINES: &str = "deliveries/line";
/// The deliveries of each endpoint, and those of each operation to its callbacks: endpoint or operation, time, key.
pub const DELIVERIES: &str = "deliveries/list";
/// The same for the states of [`is_indexed`]: endpoint or operation, state, time, key.
pub const STATES: &str = "deliveries/state";
/// Those that have ended, until they are removed.
const KEPT: &str = "due/delivery";
/// The number of the kind in a stored record.
const NUMBER: u32 = 11;
/// The first bytes of the numbers beside an operation that deliveries have.
const BESIDE: u16 = 0x6502;
