//! What a step asks of an operation: a command that fits its state most of the time.

use std::time::Duration;

use super::history::History;
use super::steps::{METADATA, Step, Verb};
use crate::clock::{Clock, Timestamp};
use crate::operation::Record;
use crate::operation::command::{
    Adopt, Cancel, Command, Complete, Delete, Disown, Due, Fail, Pause, Proof, Release, Renew,
    Report, Resume, Suspend,
};
use crate::operation::entries::DueClass;
use crate::operation::lease::Token;
use crate::proto::google::protobuf::Any;
use crate::proto::google::rpc::Status;
use crate::proto::longhaul::v1 as pb;

impl History {
    pub(super) fn command(&self, step: &Step, record: &Record) -> Command {
        let (nonce, etag) = ([step.amount % 4; 8], String::new());
        match step.verb {
            Verb::Lease => Command::Lease(self.take(step)),
            Verb::Renew => Command::Renew(renew(step, record)),
            Verb::Adopt => Command::Adopt(Adopt {
                token: token(record, step),
                holder: [step.amount; 8],
                duration: step.seconds(),
            }),
            Verb::Disown => Command::Disown(Disown {
                token: token(record, step),
                holder: holder(record).unwrap_or([step.amount; 8]),
                grace: step.seconds(),
            }),
            Verb::Report => Command::Report(Box::new(report(step, record))),
            Verb::Complete => Command::Complete(Box::new(complete(step, record))),
            Verb::Fail => Command::Fail(Box::new(fail(step, record))),
            Verb::Release => Command::Release(Box::new(Release {
                proof: proof(step, record),
                checkpoint: step.second.clone(),
                delay: Duration::from_secs(u64::from(step.amount % 3)),
                seen: step.flag(3),
                holder: step.flag(4).then_some([step.amount; 8]),
            })),
            Verb::Suspend => Command::Suspend(Box::new(Suspend {
                proof: proof(step, record),
                reason: "lunch".to_owned(),
                metadata: metadata(step, record),
                checkpoint: step.second.clone(),
                resume_time: step.flag(3).then(|| self.clock.now() + step.seconds()),
            })),
            Verb::Cancel => Command::Cancel(Cancel::default()),
            Verb::Delete => Command::Delete(Delete { nonce, ..Delete::default() }),
            Verb::Pause => Command::Pause(Pause { etag, reason: "wait".to_owned(), nonce }),
            Verb::Resume => Command::Resume(Box::new(Resume {
                etag,
                input: step.second.clone(),
                nonce,
                by_job: false,
            })),
            Verb::Due => self.due(step, record),
        }
    }

    /// Mostly waits until it is due.
    fn due(&self, step: &Step, record: &Record) -> Command {
        let (class, time) = match record {
            Record::Tombstone(tombstone) => (DueClass::Tombstone, tombstone.forget_time),
            Record::Operation(operation) => {
                let due = &operation.places.due;
                let some = due.get(usize::from(step.amount) % due.len().max(1)).copied();
                some.unwrap_or((DueClass::Lease, self.clock.now()))
            }
        };
        if !step.flag(0) || step.flag(1) {
            self.clock.advance(time.since(self.clock.now()));
        }
        let answering_since = if step.flag(2) { self.clock.now() } else { Timestamp::EPOCH };
        Command::Due(Due { class, answering_since })
    }
}

fn renew(step: &Step, record: &Record) -> Renew {
    Renew {
        token: token(record, step),
        duration: step.flag(0).then(|| step.seconds()),
        cancel_acknowledged: step.flag(1),
    }
}

fn report(step: &Step, record: &Record) -> Report {
    Report {
        renew: renew(step, record),
        number: i64::from(step.amount),
        progress: progress(step),
        metadata: metadata(step, record),
        checkpoint: step.second.clone(),
        partial_errors: step.flag(3).then(|| error(step)).into_iter().collect(),
        related_resources: resources(step),
        status_detail: "on its way".to_owned(),
    }
}

fn complete(step: &Step, record: &Record) -> Complete {
    Complete {
        proof: proof(step, record),
        response: step.second.clone(),
        metadata: metadata(step, record),
        related_resources: resources(step),
        progress: progress(step),
    }
}

fn fail(step: &Step, record: &Record) -> Fail {
    Fail {
        proof: proof(step, record),
        error: error(step),
        retry: step.flag(3).then_some(step.flag(4)),
        retry_delay: step.flag(5).then(|| step.seconds()),
        metadata: metadata(step, record),
        checkpoint: step.second.clone(),
    }
}

fn proof(step: &Step, record: &Record) -> Proof {
    Proof { token: token(record, step), fingerprint: [step.amount % 2; 16] }
}

/// A worker sends no metadata if none was declared.
fn metadata(step: &Step, record: &Record) -> Option<Any> {
    let declared = record.operation().map(|operation| operation.spec.metadata_type.as_str());
    step.first.clone().filter(|_| declared == Some(METADATA))
}

fn error(step: &Step) -> Status {
    let code = i32::from(step.amount % 16) + 1;
    Status { code, message: "went wrong".to_owned(), details: Vec::new() }
}

fn resources(step: &Step) -> Vec<pb::RelatedResource> {
    let name = step.amount.to_string();
    let resource = pb::RelatedResource { name, ..pb::RelatedResource::default() };
    step.flag(4).then_some(resource).into_iter().collect()
}

fn progress(step: &Step) -> Option<pb::Progress> {
    step.flag(2).then(|| pb::Progress { completed_units: 1, ..pb::Progress::default() })
}

/// Mostly that of the lease that lives; else of one that has ended, or of none.
fn holder(record: &Record) -> Option<[u8; 8]> {
    record.operation()?.state.lease()?.holder
}

fn token(record: &Record, step: &Step) -> Token {
    let ended = match record {
        Record::Tombstone(tombstone) => tombstone.ended_leases.last(),
        Record::Operation(operation) => operation.ended_leases.last(),
    };
    let lives = record.operation().and_then(|operation| operation.state.lease());
    match (lives, ended) {
        (Some(lease), _) if !step.amount.is_multiple_of(8) => lease.token,
        (_, Some(ended)) => ended.token,
        _ => Token([0xff; 16]),
    }
}
