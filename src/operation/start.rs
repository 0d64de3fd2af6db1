//! How an operation begins.

use prost_types::Any;
use uuid::Uuid;

use super::command::Take;
use super::lease::{Fingerprint, Lease};
use super::name::{Name, Queue};
use super::payload::{Payload, type_name};
use super::published::fraction;
use super::transition::visible;
use super::{
    Change, Operation, Pending, Places, Rejection, SharedSpec, Spec, Stamps, State, duration,
};
use crate::clock::Timestamp;
use crate::proto::longhaul::v1 as pb;

/// A producer's wish for an operation, checked and canonical.
#[derive(Clone, Debug)]
pub struct Start {
    /// What it shall be called.
    pub name: Name,
    /// What it is told from others by; also what a repeat of this very commit is known by.
    pub uid: Uuid,
    /// Where workers find it.
    pub queue: Queue,
    /// What to do.
    pub method: String,
    /// What to do it with.
    pub request: Option<Any>,
    /// Full name of the metadata's type, or empty.
    pub metadata_type: String,
    /// Full name of the response's type, or empty.
    pub response_type: String,
    /// Metadata before the first report.
    pub initial_metadata: Option<Any>,
    /// Everything else.
    pub options: pb::OperationOptions,
    /// Whether the published metadata is longhaul's own.
    pub server_metadata: bool,
    /// What replays are known by, or empty.
    pub request_id: String,
    /// Of everything that a replay must repeat.
    pub fingerprint: Fingerprint,
    /// The trace that it was started in.
    pub trace_parent: String,
    /// The starter works on it itself.
    pub lease: Option<Take>,
}

/// Makes the operation.
///
/// # Errors
/// [`Rejection::TypeMismatch`] where the initial metadata is not of the declared type, [`Rejection::DeadlinePassed`] where no
/// time is left to work on it.
pub fn start(start: Start, now: Timestamp) -> Result<Change, Rejection> {
    check_initial_metadata(&start)?;
    let ready_time = start.options.schedule_time.as_ref().map_or(now, Timestamp::from).max(now);
    check_deadline(&start.name, &start.options, ready_time, now)?;
    let operation = Operation {
        uid: start.uid,
        state: State::Pending(Pending { ready_time, retrying: false }),
        create_time: now,
        start_time: None,
        end_time: None,
        update_time: now,
        expire_time: match &start.options.expiration {
            Some(pb::operation_options::Expiration::ExpireTime(time)) => Some(time.into()),
            _ => None,
        },
        metadata: start.initial_metadata.map(Payload::Inline),
        progress: None,
        status_detail: String::new(),
        partial_errors: Vec::new(),
        related_resources: Vec::new(),
        attempts: Vec::new(),
        attempts_used: 0,
        unseen_leases: 0,
        lost_leases: 0,
        cancel_trail: None,
        pause_requested: false,
        suspend_reason: String::new(),
        checkpoint: None,
        resume_input: None,
        control_nonce: None,
        last_error: None,
        ended_leases: Vec::new(),
        deletion: None,
        places: Places::default(),
        stamps: Stamps::default(),
        name: start.name,
        spec: SharedSpec::from(Spec {
            queue: start.queue,
            method: start.method,
            metadata_type: start.metadata_type,
            response_type: start.response_type,
            request: start.request.map(Payload::Inline),
            options: start.options,
            server_metadata: start.server_metadata,
            // Without a request id nothing replays the start.
            fingerprint: if start.request_id.is_empty() {
                Fingerprint::default()
            } else {
                start.fingerprint
            },
            request_id: start.request_id,
            trace_parent: start.trace_parent,
        }),
    };
    Ok(match start.lease {
        Some(take) => visible(operation.leased(&take, now), now).leasing(),
        None => visible(operation, now),
    })
}

fn check_deadline(
    name: &Name,
    options: &pb::OperationOptions,
    ready_time: Timestamp,
    now: Timestamp,
) -> Result<(), Rejection> {
    let Some(deadline) = options.deadline_time.as_ref().map(Timestamp::from) else {
        return Ok(());
    };
    if ready_time < deadline {
        return Ok(());
    }
    let why = if deadline <= now {
        format!(
            "options.deadline_time {deadline} has passed, it is {now}; set a later one, or none"
        )
    } else {
        format!(
            "options.deadline_time {deadline} is not after options.schedule_time {ready_time}; set a later one, or none"
        )
    };
    Err(Rejection::DeadlinePassed { name: name.clone(), why })
}

fn check_initial_metadata(start: &Start) -> Result<(), Rejection> {
    match &start.initial_metadata {
        Some(metadata) if type_name(&metadata.type_url) != start.metadata_type => {
            Err(Rejection::TypeMismatch {
                name: start.name.clone(),
                field: "initial_metadata",
                declared: start.metadata_type.clone(),
                found: type_name(&metadata.type_url).to_owned(),
            })
        }
        _ => Ok(()),
    }
}

impl Operation {
    /// Whether it may still be started, where its start took a while.
    ///
    /// # Errors
    /// [`Rejection::DeadlinePassed`] where no time is left to work on it.
    pub fn check_start(&self, now: Timestamp) -> Result<(), Rejection> {
        let ready_time = match &self.state {
            State::Pending(pending) => pending.ready_time.max(now),
            _ => now,
        };
        check_deadline(&self.name, &self.spec.options, ready_time, now)
    }

    /// The operation with a lease on it.
    pub(super) fn leased(mut self, take: &Take, now: Timestamp) -> Self {
        self.start_time.get_or_insert(now);
        self.state = State::Running(Lease {
            token: take.token,
            attempt: self.attempts_used + 1,
            worker: take.worker.clone(),
            start_time: now,
            expire_time: now + take.duration,
            duration: take.duration,
            report_number: 0,
            holder: take.holder,
            first_fraction: self.progress.as_ref().and_then(fraction).unwrap_or(0.0),
            stall_timeout: take.stall_timeout,
            stalled: false,
        });
        self
    }

    /// When what has ended at `end_time` may be forgotten.
    pub(super) fn expiry(&self, end_time: Timestamp) -> Timestamp {
        use crate::limits::{DEFAULT_TTL, MIN_TTL};
        use pb::operation_options::Expiration;
        match &self.spec.options.expiration {
            Some(Expiration::ExpireTime(time)) => Timestamp::from(time).max(end_time + MIN_TTL),
            Some(Expiration::Ttl(ttl)) => {
                end_time + duration(Some(ttl)).unwrap_or(DEFAULT_TTL).max(MIN_TTL)
            }
            None => end_time + DEFAULT_TTL,
        }
    }
}
