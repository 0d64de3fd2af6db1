//! A small kind of record that exists in tests only: shows what every further kind can rely on.

mod tests;

use bytes::Bytes;
use prost::Message;

use super::due::{Agent, DueIndex, due_member};
use super::kind::Kind;
use super::note::Note;
use crate::clock::Timestamp;
use crate::operation::Stamps;
use crate::store::{BodyKey, Counter, Index, IndexEntry, Key, Keyspace};

/// A sticky note. A text of more than four bytes is stored in a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    text: Text,
    pub(crate) due: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Text {
    Here(Bytes),
    Beside([u8; 8]),
}

/// A stored record with a kind that `store.proto` does not know.
#[derive(Clone, PartialEq, Message)]
struct Stored {
    #[prost(message, optional, tag = "1000")]
    sample: Option<StoredSample>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredSample {
    #[prost(bytes = "bytes", tag = "1")]
    here: Bytes,
    #[prost(bytes = "vec", tag = "2")]
    beside: Vec<u8>,
    #[prost(uint64, tag = "3")]
    due: u64,
}

impl Sample {
    pub(crate) fn new(text: &'static str, due: Timestamp) -> Self {
        Self { text: Text::Here(Bytes::from_static(text.as_bytes())), due }
    }

    /// The same, due at another time.
    pub(crate) fn due_at(self, due: Timestamp) -> Self {
        Self { due, ..self }
    }
}

impl Kind for Sample {
    const NAME: &'static str = "a sample";
    const NUMBERS: &'static [u32] = &[1000];
    const DUE: &'static [DueIndex] = &[DueIndex::new(DUE, Agent::Scheduler)];

    fn name(&self) -> String {
        "a sample".to_owned()
    }

    fn lies_under(&self, _key: Key, _keyspace: &Keyspace) -> bool {
        true
    }

    fn decode(value: &Bytes, _stamps: Stamps) -> Option<Self> {
        let StoredSample { here, beside, due } = Stored::decode(value.clone()).ok()?.sample?;
        let text = beside.try_into().map_or(Text::Here(here), Text::Beside);
        Some(Self { text, due: Timestamp::from_micros(due) })
    }

    fn encode(&self) -> Bytes {
        let (here, beside) = match &self.text {
            Text::Here(text) => (text.clone(), Vec::new()),
            Text::Beside(nonce) => (Bytes::new(), nonce.to_vec()),
        };
        let sample = StoredSample { here, beside, due: self.due.as_micros() };
        Stored { sample: Some(sample) }.encode_to_vec().into()
    }

    fn entries(&self, key: Key) -> Vec<IndexEntry> {
        vec![IndexEntry { index: Index::new(DUE), member: due_member(self.due, key).into() }]
    }

    fn counters(before: Option<&Self>, after: Option<&Self>) -> Vec<Counter> {
        let change = i64::from(after.is_some()) - i64::from(before.is_some());
        let counter = Counter { family: FAMILY, name: Bytes::from_static(COUNTER), change };
        if change == 0 { Vec::new() } else { vec![counter] }
    }

    fn bodies(&self, key: Key) -> Vec<BodyKey> {
        match self.text {
            Text::Here(_) => Vec::new(),
            Text::Beside(nonce) => vec![BodyKey { record: key, slot: 1, nonce }],
        }
    }

    fn must_detach(&self) -> bool {
        matches!(&self.text, Text::Here(text) if text.len() > 4)
    }

    fn detach(&mut self, key: Key) -> Vec<(BodyKey, Bytes)> {
        if !self.must_detach() {
            return Vec::new();
        }
        let Text::Here(text) = &self.text else { return Vec::new() };
        let text = text.clone();
        let nonce = blake3::hash(&text).as_bytes().first_chunk().copied().expect("long enough");
        self.text = Text::Beside(nonce);
        vec![(BodyKey { record: key, slot: 1, nonce }, text)]
    }

    fn hint(_before: Option<&Self>, after: Option<&Self>, _visible: bool) -> Option<Note> {
        after.map(|_| Note::Scheduled)
    }
}

pub(crate) const DUE: &str = "due/sample";
pub(crate) const FAMILY: &str = "sample";
pub(crate) const COUNTER: &[u8] = b"samples";
