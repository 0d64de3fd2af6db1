//! The one script, and what it answers.

use std::sync::LazyLock;

use redis::Value;

/// Has no `#!lua` line on purpose. Redis refuses a script with that line before it runs when memory is short; without it the
/// first write that needs memory is refused instead, and a set that begins by removing something is applied whole.
pub(super) const TEXT: &str = include_str!("commit.lua");

/// The SHA-1 digest that Redis knows the script by.
pub(super) static DIGEST: LazyLock<String> =
    LazyLock::new(|| redis::Script::new(TEXT).get_hash().to_owned());

/// How a call names the script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// By its SHA-1 digest.
    Digest,
    /// By its text, which the server then remembers.
    Text,
}

/// What came of one write set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Applied.
    Revision(u64),
    /// A check did not hold.
    Conflict,
    /// The store's time is not there yet.
    Early,
    /// The partition is not this keyspace's.
    Foreign,
    /// Redis refused to write.
    Refused(String),
}

/// What the script returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    /// The store's time in microseconds.
    pub(super) time: u64,
    /// The last hint of each partition of the call; 0 for one that is foreign.
    pub(super) sequences: Vec<u64>,
    /// For each write set, in the order of the call.
    pub(super) outcomes: Vec<Outcome>,
}

impl Reply {
    /// Reads what came of a call with so many partitions and sets; `None` if it is not what the script returns.
    pub(super) fn decode(value: Value, partitions: usize, sets: usize) -> Option<Self> {
        let Value::Array(values) = value else { return None };
        if values.len() != 1 + partitions + sets {
            return None;
        }
        let number =
            |value| if let Value::Int(number) = value { Some(number as u64) } else { None };
        let outcome = |value| match value {
            Value::Int(revision) => Some(Outcome::Revision(revision as u64)),
            Value::BulkString(name) => Some(match &name[..] {
                b"conflict" => Outcome::Conflict,
                b"early" => Outcome::Early,
                b"foreign" => Outcome::Foreign,
                other => Outcome::Refused(String::from_utf8_lossy(other).into_owned()),
            }),
            _ => None,
        };
        let mut values = values.into_iter();
        let time = number(values.next()?)?;
        let sequences = values.by_ref().take(partitions).map(number).collect::<Option<_>>()?;
        let outcomes = values.map(outcome).collect::<Option<_>>()?;
        Some(Self { time, sequences, outcomes })
    }
}
