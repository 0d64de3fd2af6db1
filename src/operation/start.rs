//! Starting an operation.

use uuid::Uuid;

use super::callbacks;
use super::change::{Change, visible};
use super::command::Take;
use super::gate::{Admittance, SLOT_WINDOW};
use super::lease::Lease;
use super::name::{Id, Name, Parent};
use super::options::{Expiration, Options};
use super::payload::{Payload, type_name};
use super::published::fraction;
use super::record::{Operation, Pending, Places, Stamps, State, Suspension};
use super::rejection::Rejection;
use super::spec::{SharedSpec, Spec};
use crate::clock::Timestamp;
use crate::proto::google::protobuf::Any;

/// A checked request to start an operation. It is moved from the face into the record.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// Its parent.
    pub parent: Parent,
    /// Its id; the server makes one if there is none.
    pub id: Option<Id>,
    /// The start.
    pub spec: Spec,
    /// Metadata before the first report.
    pub initial_metadata: Option<Any>,
    /// Only check the request.
    pub validate_only: bool,
}

/// The values that the server gives a new operation.
#[derive(Clone, Debug)]
pub struct Birth {
    /// Its name.
    pub name: Name,
    /// Unique id. Also identifies a retried commit.
    pub uid: Uuid,
    /// The lease that it begins with.
    pub lease: Option<Take>,
    /// Where it stands at the gate of its concurrency key, if it has one.
    pub admission: Option<Admittance>,
    /// Until when it may be written: later, what its gate said does not hold any more.
    pub not_after: Option<Timestamp>,
}

/// Makes the record of a new operation.
///
/// # Errors
/// [`Rejection::TypeMismatch`] if the initial metadata is not of the declared type, [`Rejection::DeadlinePassed`] if no
/// time is left to work on it.
pub fn start(start: Start, birth: Birth, now: Timestamp) -> Result<Change, Rejection> {
    let Start { mut spec, initial_metadata, .. } = start;
    let Birth { name, uid, lease, admission, not_after } = birth;
    callbacks::name_all(&mut spec.options.callbacks, name.as_str());
    check_initial_metadata(&name, &spec, initial_metadata.as_ref())?;
    let ready_time = spec.options.schedule_time.unwrap_or(now).max(now);
    check_deadline(&name, &spec.options, ready_time, now)?;
    let is_queued = spec.of_job.as_ref().is_some_and(|run| run.queued);
    let operation = Operation {
        uid,
        state: if is_queued {
            State::Suspended(Suspension { by_worker: false, resume_time: None })
        } else {
            State::Pending(Pending { ready_time, retrying: false })
        },
        create_time: now,
        start_time: None,
        end_time: None,
        update_time: now,
        expire_time: match spec.options.expiration {
            Some(Expiration::At(time)) => Some(time),
            Some(Expiration::After(_)) | None => None,
        },
        metadata: initial_metadata.map(Payload::Inline),
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
        suspend_reason: if is_queued { WAITS_FOR_JOB.to_owned() } else { String::new() },
        checkpoint: None,
        resume_input: None,
        control_nonce: None,
        last_error: None,
        ended_leases: Vec::new(),
        deletion: None,
        admission,
        events: 0,
        further_blocks: 0,
        places: Places::default(),
        stamps: Stamps::default(),
        name,
        spec: SharedSpec::from(spec),
    };
    let leased_until = lease.as_ref().and_then(|take| take.slot).map(|slot| slot + SLOT_WINDOW);
    let not_after = not_after.into_iter().chain(leased_until).min();
    let change = match lease {
        Some(take) => visible(operation.leased(&take, now), now).leasing(),
        None => visible(operation, now),
    };
    Ok(change.until(not_after))
}

/// Why the operation of a queued run is suspended.
const WAITS_FOR_JOB: &str = "waits for another execution of its job";

fn check_deadline(
    name: &Name,
    options: &Options,
    ready_time: Timestamp,
    now: Timestamp,
) -> Result<(), Rejection> {
    let Some(deadline) = options.deadline_time else { return Ok(()) };
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

fn check_initial_metadata(
    name: &Name,
    spec: &Spec,
    metadata: Option<&Any>,
) -> Result<(), Rejection> {
    match metadata.map(|metadata| type_name(&metadata.type_url)) {
        Some(found) if found != spec.metadata_type => Err(Rejection::TypeMismatch {
            name: name.clone(),
            field: "initial_metadata",
            declared: spec.metadata_type.clone(),
            found: found.to_owned(),
        }),
        _ => Ok(()),
    }
}

impl Operation {
    /// Checks again that there is time to work on it, before a start is committed that took a while.
    ///
    /// # Errors
    /// [`Rejection::DeadlinePassed`] if no time is left to work on it.
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
            slot: take.slot,
        });
        self
    }

    /// When an operation that ends at `end_time` expires.
    pub(super) fn expiry(&self, end_time: Timestamp) -> Timestamp {
        use crate::limits::{DEFAULT_TTL, MIN_TTL};
        match self.spec.options.expiration {
            Some(Expiration::At(time)) => time.max(end_time + MIN_TTL),
            Some(Expiration::After(ttl)) => end_time + ttl.max(MIN_TTL),
            None => end_time + DEFAULT_TTL,
        }
    }
}
