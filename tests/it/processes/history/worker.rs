//! A worker as a process of its own, to be killed and stopped: this test binary run again, with a role in its
//! environment. What it does with its leases is not always what a worker should do.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use longhaul::clock::Timestamp;
use longhaul::proto::google::rpc::Status;
use longhaul::proto::longhaul::v1 as pb;
use serde::{Deserialize, Serialize};

use super::dice::Dice;
use super::event::{Act, Call, Leased, Said};
use super::look::payload;
use super::{stream_worker, unary_worker};

/// The role of a worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) who: String,
    pub(super) seed: u64,
    /// The path of its journal.
    pub(super) folder: PathBuf,
    pub(super) doors: Vec<SocketAddr>,
    /// On streams rather than with unary calls.
    pub(super) streams: bool,
    /// Without misbehaviour: every lease is completed.
    pub(super) honest: bool,
}

/// One call for a lease, so many milliseconds after the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) after: u64,
    pub(super) call: Call,
    pub(super) content: String,
    pub(super) manner: Manner,
}

/// How a step is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    Plain,
    /// Of a report: with a checkpoint, so that it is not held back.
    Committed,
    /// Of a failure: to be tried again.
    Retry,
    /// Of a failure: the request to cancel was heard.
    Stopped,
}

/// Does something only with a role; as a test of its own it shows that without one it does nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_without_a_part_ends_at_once() {
    let Ok(part) = std::env::var(PART) else { return };
    let part: Part = serde_json::from_str(&part).expect("a part");
    if part.streams { stream_worker::play(part).await } else { unary_worker::play(part).await }
}

/// The plan for a lease.
pub(super) fn plan(dice: &mut Dice, part: &Part, fencing: u64) -> VecDeque<Step> {
    let mut steps = VecDeque::new();
    let mut say = |after, call, manner| {
        let content = format!("{}/{fencing}/{}", part.who, steps.len());
        steps.push_back(Step { after, call, content, manner });
    };
    if part.honest {
        say(0, Call::Complete, Manner::Plain);
        return steps;
    }
    for _ in 0..dice.below(3) {
        let manner = if dice.percent(50) { Manner::Plain } else { Manner::Committed };
        say(dice.between(10, 200), Call::Report, manner);
    }
    let soon = dice.between(5, 200);
    match dice.below(100) {
        0..42 => say(soon, Call::Complete, Manner::Plain),
        42..50 => say(soon, Call::Fail, Manner::Retry),
        50..54 => say(soon, Call::Fail, Manner::Plain),
        54..62 => say(soon, Call::Release, Manner::Plain),
        62..66 => say(soon, Call::Suspend, Manner::Plain),
        66..71 => say(soon, Call::SuspendUntil, Manner::Plain),
        // Sleeps beyond its lease, and goes on as if nothing had happened.
        71..86 => {
            say(dice.between(LEASE, 3 * LEASE), Call::Report, Manner::Committed);
            say(dice.between(5, 600), Call::Complete, Manner::Plain);
        }
        // Is not heard of again.
        86..88 => return steps,
        _ => {
            for _ in 0..dice.between(2, 9) {
                say(LEASE / 3, Call::Renew, Manner::Plain);
            }
            say(soon, Call::Complete, Manner::Plain);
        }
    }
    once_more(dice, &mut steps);
    steps
}

/// The plan for an operation that another worker lost: half hold it for long with regular messages, so that it shows when
/// the other comes back.
pub(super) fn plan_again(dice: &mut Dice, part: &Part, fencing: u64) -> VecDeque<Step> {
    if part.honest || dice.percent(50) {
        return plan(dice, part, fencing);
    }
    let step = |call, after| {
        let content = format!("{}/{fencing}/{after}", part.who);
        Step { after, call, content, manner: Manner::Plain }
    };
    let renewals = (0..dice.between(6, 24)).map(|_| step(Call::Renew, LEASE / 3));
    renewals.chain([step(Call::Complete, 1)]).collect()
}

/// Some repeat the last call, or make another.
fn once_more(dice: &mut Dice, steps: &mut VecDeque<Step>) {
    let Some(last) = steps.back().cloned() else { return };
    let after = dice.between(1, 2 * LEASE);
    match dice.below(100) {
        0..12 => steps.push_back(Step { after, ..last }),
        12..24 => {
            let content = format!("{}+", last.content);
            steps.push_back(Step { after, content, call: Call::Complete, manner: Manner::Plain });
        }
        _ => {}
    }
}

/// The plan after a request to stop.
pub(super) fn stop(dice: &mut Dice, part: &Part, directive: pb::Directive) -> Option<Step> {
    let content = format!("{}/stop/{}", part.who, dice.below(1 << 40));
    let step = |call, manner| Some(Step { after: 1, call, content, manner });
    match (directive.cancel_requested, directive.pause_requested) {
        (true, _) if dice.percent(60) => step(Call::Fail, Manner::Stopped),
        (_, true) if dice.percent(60) => step(Call::Suspend, Manner::Plain),
        _ => None,
    }
}

/// A lease, with the numbers of leases received and requested.
pub(super) fn leased(lease: &pb::Lease, unary: bool, holds: usize, slots: usize) -> Act {
    Act::Leased(Leased {
        holds,
        slots,
        token: lease.lease_token.clone(),
        fencing: lease.fencing_number as u64,
        attempt: lease.attempt,
        expires: micros(lease.expire_time.as_ref()),
        unary,
    })
}

pub(super) fn said(lease: &pb::Lease, step: &Step, sure: bool) -> Said {
    Said {
        fencing: lease.fencing_number as u64,
        call: step.call,
        content: step.content.clone(),
        sure,
        will_retry: false,
        discarded: false,
        expires: 0,
    }
}

pub(super) fn micros(time: Option<&prost_types::Timestamp>) -> u64 {
    time.map_or(0, |time| Timestamp::from(time).as_micros())
}

pub(super) fn duration(millis: u64) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(Duration::from_millis(millis)).ok()
}

pub(super) fn report(lease: &pb::Lease, step: &Step) -> pb::ReportProgressRequest {
    let committed = step.manner == Manner::Committed;
    pb::ReportProgressRequest {
        name: lease.operation.clone(),
        lease_token: lease.lease_token.clone(),
        progress: Some(pb::Progress { message: step.content.clone(), ..pb::Progress::default() }),
        checkpoint: committed.then(|| payload(&step.content)),
        ..pb::ReportProgressRequest::default()
    }
}

pub(super) fn complete(lease: &pb::Lease, step: &Step) -> pb::CompleteOperationRequest {
    pb::CompleteOperationRequest {
        name: lease.operation.clone(),
        lease_token: lease.lease_token.clone(),
        response: Some(payload(&step.content)),
        ..pb::CompleteOperationRequest::default()
    }
}

pub(super) fn fail(lease: &pb::Lease, step: &Step) -> pb::FailOperationRequest {
    // UNAVAILABLE is tried again, FAILED_PRECONDITION is not.
    let code = match step.manner {
        Manner::Retry => 14,
        Manner::Stopped => 1,
        _ => 9,
    };
    let error = Status { code, message: step.content.clone(), details: Vec::new() };
    pb::FailOperationRequest {
        name: lease.operation.clone(),
        lease_token: lease.lease_token.clone(),
        error: Some(error),
        ..pb::FailOperationRequest::default()
    }
}

pub(super) fn release(lease: &pb::Lease) -> pb::ReleaseLeaseRequest {
    let (name, lease_token) = (lease.operation.clone(), lease.lease_token.clone());
    pb::ReleaseLeaseRequest { name, lease_token, ..pb::ReleaseLeaseRequest::default() }
}

/// With a resume time, which is fixed, so that a repeat is the same call.
pub(super) fn suspend(lease: &pb::Lease, step: &Step) -> pb::SuspendOperationRequest {
    let until = lease.fencing_number as u64 + 1_000 * (2 * LEASE + step.after);
    let resume_time =
        (step.call == Call::SuspendUntil).then(|| Timestamp::from_micros(until).into());
    pb::SuspendOperationRequest {
        name: lease.operation.clone(),
        lease_token: lease.lease_token.clone(),
        reason: step.content.clone(),
        resume_time,
        ..pb::SuspendOperationRequest::default()
    }
}

/// The environment variable of the role.
pub(super) const PART: &str = "LONGHAUL_HISTORY_PART";
/// How long a lease lasts, in milliseconds; it cannot be shorter.
pub(super) const LEASE: u64 = 1_000;
