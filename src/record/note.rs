//! The note of a hint, besides the changed record.

use bytes::Bytes;

/// The note of a hint. A reader that does not know a note treats it as [`Note::Changed`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The record changed.
    Changed,
    /// It waits for its time: the scheduler checks when the next one is due.
    Scheduled,
    /// The type sets of a parent changed.
    TypeSets,
    /// The settings of a queue changed.
    Queues,
    /// Workers of that queue may take it now.
    Ready(String),
}

impl Note {
    /// The bytes that the store passes on.
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Changed => Bytes::new(),
            Self::Scheduled => Bytes::from_static(&[SCHEDULED]),
            Self::TypeSets => Bytes::from_static(&[TYPE_SETS]),
            Self::Queues => Bytes::from_static(&[QUEUES]),
            Self::Ready(queue) => [&[READY], queue.as_bytes()].concat().into(),
        }
    }

    /// Parses the note of another server.
    pub fn decode(bytes: &[u8]) -> Self {
        match bytes {
            [SCHEDULED] => Self::Scheduled,
            [TYPE_SETS] => Self::TypeSets,
            [QUEUES] => Self::Queues,
            [READY, queue @ ..] => std::str::from_utf8(queue)
                .map_or(Self::Changed, |queue| Self::Ready(queue.to_owned())),
            _ => Self::Changed,
        }
    }
}

const SCHEDULED: u8 = 1;
const READY: u8 = 2;
const TYPE_SETS: u8 = 3;
const QUEUES: u8 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_reads_back_and_an_unknown_one_says_that_something_changed() {
        let ready = Note::Ready("mail".to_owned());
        for note in [Note::Changed, Note::Scheduled, Note::TypeSets, Note::Queues, ready] {
            assert_eq!(Note::decode(&note.encode()), note);
        }
        for unknown in [&[9, 9][..], &[SCHEDULED, 0], &[READY, 0xff]] {
            assert_eq!(Note::decode(unknown), Note::Changed, "{unknown:?}");
        }
    }
}
