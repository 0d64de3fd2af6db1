//! Operations in every state, and commands of every kind.

use std::time::Duration;

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::operation::command::{
    Adopt, Cancel, Command, Complete, Delete, Disown, Due, Fail, Pause, Proof, Release, Renew,
    Report, Resume, Suspend, Take,
};
use crate::operation::entries::DueClass;
use crate::operation::gate::Admittance;
use crate::operation::lease::{Holder, Token};
use crate::operation::name::{Name, Queue};
use crate::operation::options::Options;
use crate::operation::{Applied, Birth, Record, Spec, Start, apply, start};
use crate::proto::google::protobuf::Any;
use crate::proto::google::rpc::Status;
use crate::proto::longhaul::v1 as pb;

pub(super) const TOKEN: Token = Token([7; 16]);
pub(super) const START: Timestamp = Timestamp::from_micros(1_000_000_000_000);
pub(super) const LEASE: Duration = Duration::from_secs(30);

/// A start with these options and defaults otherwise.
pub(super) fn started(options: Options) -> Record {
    standing(options, None)
}

/// The same, where it stands at the gate of its concurrency key.
fn standing(options: Options, admission: Option<Admittance>) -> Record {
    let spec = Spec {
        queue: Queue::parse("q").expect("queue"),
        method: "m".to_owned(),
        options,
        server_metadata: true,
        ..Spec::default()
    };
    let name = Name::parse("projects/p/operations/x").expect("name");
    let birth =
        Birth { name, uid: Uuid::from_bytes([3; 16]), lease: None, admission, not_after: None };
    let wanted = Start { spec, ..Start::default() };
    start(wanted, birth, START).expect("start").record.expect("record")
}

/// The new record; the given one if nothing changes.
pub(super) fn after(record: &Record, command: &Command, now: Timestamp) -> Record {
    match apply(record, command, now).expect("accepted") {
        Applied::Changed(change) => change.record.expect("still there"),
        Applied::Unchanged(_) => record.clone(),
    }
}

pub(super) fn take(token: Token) -> Command {
    Command::Lease(Take {
        token,
        worker: "w".to_owned(),
        duration: LEASE,
        holder: Some([1; 8]),
        stall_timeout: LEASE * 2,
        slot: None,
    })
}

pub(super) const fn proof(token: Token) -> Proof {
    Proof { token, fingerprint: [1; 16] }
}

pub(super) fn complete(token: Token) -> Command {
    let complete = Complete {
        proof: proof(token),
        response: None,
        metadata: None,
        related_resources: Vec::new(),
        progress: None,
    };
    Command::Complete(Box::new(complete))
}

pub(super) fn fail(token: Token, code: i32, retry: Option<bool>) -> Command {
    let error = Status { code, message: "broken".to_owned(), details: Vec::new() };
    let fail = Fail {
        proof: proof(token),
        error,
        retry,
        retry_delay: None,
        metadata: None,
        checkpoint: None,
    };
    Command::Fail(Box::new(fail))
}

pub(super) fn release(token: Token, seen: bool) -> Command {
    let release = Release {
        proof: proof(token),
        checkpoint: None,
        delay: Duration::ZERO,
        seen,
        holder: None,
    };
    Command::Release(Box::new(release))
}

/// The release of a lease that the worker of a stream never received.
pub(super) fn release_of_stream(token: Token, holder: Holder) -> Command {
    match release(token, false) {
        Command::Release(release) => {
            Command::Release(Box::new(Release { holder: Some(holder), ..*release }))
        }
        other => other,
    }
}

pub(super) fn suspend(token: Token, resume_time: Option<Timestamp>) -> Command {
    let suspend = Suspend {
        proof: proof(token),
        reason: "asks".to_owned(),
        metadata: None,
        checkpoint: None,
        resume_time,
    };
    Command::Suspend(Box::new(suspend))
}

pub(super) fn renew(token: Token) -> Renew {
    Renew { token, duration: None, cancel_acknowledged: false }
}

pub(super) const fn adopt(token: Token) -> Command {
    Command::Adopt(Adopt { token, holder: [2; 8], duration: LEASE })
}

pub(super) const fn disown(token: Token, holder: Holder) -> Command {
    Command::Disown(Disown { token, holder, grace: Duration::from_secs(3) })
}

pub(super) fn report(token: Token, number: i64) -> Command {
    numbered(token, number, pb::Progress { fraction: Some(0.5), ..pb::Progress::default() })
}

/// A report whose repeats are not recognised.
pub(super) fn report_of(token: Token, progress: pb::Progress) -> Command {
    numbered(token, 0, progress)
}

fn numbered(token: Token, number: i64, progress: pb::Progress) -> Command {
    let report = Report {
        renew: renew(token),
        number,
        progress: Some(progress),
        metadata: None,
        checkpoint: None,
        partial_errors: Vec::new(),
        related_resources: Vec::new(),
        status_detail: String::new(),
    };
    Command::Report(Box::new(report))
}

pub(super) fn pause() -> Command {
    Command::Pause(Pause { etag: String::new(), reason: "lunch".to_owned(), nonce: [1; 8] })
}

pub(super) fn resume(nonce: u8) -> Command {
    let resume = Resume { etag: String::new(), input: None, nonce: [nonce; 8], by_job: false };
    Command::Resume(Box::new(resume))
}

pub(super) fn resume_with(nonce: u8, input: &str) -> Command {
    let input = Some(Any { type_url: "a.B".to_owned(), value: input.to_owned().into() });
    let resume = Resume { etag: String::new(), input, nonce: [nonce; 8], by_job: false };
    Command::Resume(Box::new(resume))
}

pub(super) const fn delete(nonce: u8) -> Command {
    Command::Delete(Delete { nonce: [nonce; 8], etag: String::new() })
}

pub(super) const fn due(class: DueClass) -> Command {
    Command::Due(Due { class, answering_since: Timestamp::EPOCH })
}

/// An operation of each state, by the name that the table gives it.
pub(super) fn states() -> Vec<(&'static str, Record)> {
    let pending = started(options());
    let running = after(&pending, &take(TOKEN), START);
    let cancelling = after(&running, &Command::Cancel(Cancel::default()), START);
    vec![
        ("PENDING", pending.clone()),
        ("PENDING, at its gate", at_gate()),
        ("PENDING, retrying", after(&running, &fail(TOKEN, 14, None), START)),
        ("RUNNING", running.clone()),
        ("RUNNING, pause requested", after(&running, &pause(), START)),
        ("RUNNING, deleted", after(&running, &delete(9), START)),
        ("CANCELLING", cancelling.clone()),
        ("SUSPENDED by caller", after(&pending, &pause(), START)),
        ("SUSPENDED by worker", after(&running, &suspend(TOKEN, Some(END)), START)),
        ("SUCCEEDED", after(&running, &complete(TOKEN), START)),
        ("FAILED", after(&running, &fail(TOKEN, 3, None), START)),
        ("CANCELLED", after(&cancelling, &release(TOKEN, true), START)),
        ("tombstone", after(&after(&running, &complete(TOKEN), START), &delete(9), START)),
    ]
}

/// One that waits for a slot.
fn at_gate() -> Record {
    let concurrency =
        Some(pb::Concurrency { key: "k".to_owned(), limit: 1, ..pb::Concurrency::default() });
    standing(Options { concurrency, ..options() }, Some(Admittance::Waiting))
}

/// Every timeout is set, so that each can come.
fn options() -> Options {
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    Options {
        attempt_timeout: seconds(600),
        queue_timeout: seconds(600),
        deadline_time: Some(START + Duration::from_mins(10)),
        ..Options::default()
    }
}

/// Late enough for everything of a day's reach to be due.
pub(super) const END: Timestamp = Timestamp::from_micros(START.as_micros() + 3_600_000_000);
