//! Operations as a history leaves them, and what its next step asks of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::steps::{METADATA, NAMES, QUEUES, Step};
use crate::clock::{Clock, ManualClock, Timestamp};
use crate::code::Code;
use crate::operation::command::Take;
use crate::operation::lease::Token;
use crate::operation::name::{Name, Queue};
use crate::operation::options::{Expiration, Options, RetryPolicy};
use crate::operation::payload::Payload;
use crate::operation::{Applied, Birth, Change, Record, Spec, Stamps, Start, apply, start};
use crate::record::kind;
use crate::store::{Key, Keyspace};

pub(super) type Before = kind::Before<Record>;

/// The operations, and the time.
pub(super) struct History {
    pub(super) keyspace: Keyspace,
    pub(super) clock: Arc<ManualClock>,
    pub(super) records: BTreeMap<usize, Before>,
    /// The number of the step: ids made in it are unique.
    number: u64,
}

impl History {
    pub(super) fn new() -> Self {
        let clock = ManualClock::new(Timestamp::from_micros(1_700_000_000_000_000));
        let keyspace = Keyspace::new(Uuid::from_u128(7), 4, [7; 32]);
        Self { keyspace, clock, records: BTreeMap::new(), number: 0 }
    }

    /// The change of a step, if any.
    pub(super) fn decide(&mut self, step: &Step) -> Option<(Key, Change)> {
        self.number += 1;
        self.clock.advance(step.passes);
        let name = Name::parse(NAMES[step.name]).expect("a name");
        let key = self.keyspace.key(name.as_str());
        let change = match self.records.get(&step.name) {
            None => start(self.start(step), self.birth(step, name), self.clock.now())
                .expect("nothing against it"),
            Some(Before { record, .. }) => {
                let command = self.command(step, record);
                match apply(record, &command, self.clock.now()) {
                    Ok(Applied::Changed(change)) => *change,
                    Ok(Applied::Unchanged(_)) | Err(_) => return None,
                }
            }
        };
        assert!(change.not_before.is_none_or(|time| time <= self.clock.now()));
        Some((key, change))
    }

    pub(super) fn settle(&mut self, step: &Step, after: Option<Before>) {
        match after {
            Some(after) => drop(self.records.insert(step.name, after)),
            None => drop(self.records.remove(&step.name)),
        }
    }

    pub(super) fn next_stamps(&self) -> Stamps {
        Stamps { revision: self.number + 2, visible: self.number + 1, fencing: self.number }
    }

    fn start(&self, step: &Step) -> Start {
        let typed = step.flag(0);
        let metadata_type = if typed { METADATA } else { "" };
        Start {
            spec: Spec {
                queue: Queue::parse(QUEUES[usize::from(step.flag(1))]).expect("a queue"),
                method: "render".to_owned(),
                request: step.first.clone().map(Payload::Inline),
                metadata_type: metadata_type.to_owned(),
                options: self.options(step),
                server_metadata: !typed && step.flag(2),
                request_id: self.number.to_string(),
                fingerprint: [step.amount; 16],
                ..Spec::default()
            },
            initial_metadata: step.second.clone().filter(|_| typed),
            ..Start::default()
        }
    }

    fn birth(&self, step: &Step, name: Name) -> Birth {
        let uid = Uuid::from_u128(u128::from(self.number));
        Birth {
            name,
            uid,
            lease: step.flag(3).then(|| self.take(step)),
            admission: None,
            not_after: None,
        }
    }

    fn options(&self, step: &Step) -> Options {
        let after = |flag, seconds| {
            step.flag(flag).then(|| self.clock.now() + Duration::from_secs(seconds))
        };
        let lasting = |flag, seconds| step.flag(flag).then_some(Duration::new(seconds, 1_000));
        let attempts = u32::from(step.amount % 4);
        Options {
            priority: i32::from(step.amount) - 100,
            schedule_time: after(4, 30),
            attempt_timeout: lasting(5, 40),
            deadline_time: after(6, 200),
            queue_timeout: lasting(7, 50),
            retry_policy: step.flag(8).then(|| RetryPolicy {
                max_attempts: Some(attempts).filter(|attempts| *attempts > 0),
                retryable_codes: vec![Code::DeadlineExceeded, Code::Internal],
                ..RetryPolicy::default()
            }),
            expiration: lasting(9, 7_200).map(Expiration::After),
            labels: BTreeMap::from([("step".to_owned(), self.number.to_string())]),
            ..Options::default()
        }
    }

    pub(super) fn take(&self, step: &Step) -> Take {
        Take {
            token: Token(u128::from(self.number).to_be_bytes()),
            worker: format!("worker-{}", step.amount),
            duration: step.seconds(),
            holder: step.flag(9).then_some([step.amount; 8]),
            stall_timeout: step.seconds(),
            slot: None,
        }
    }
}
