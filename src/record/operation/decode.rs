//! An operation from its stored message. `None` where the message makes no sense.

use prost::Message;
use uuid::Uuid;

use super::encode::usual_retention;
use super::times::Base;
use super::{parts, payload, spec};
use crate::clock::Timestamp;
use crate::operation::entries::DueClass;
use crate::operation::gate::Admittance;
use crate::operation::lease::{Answer, Call, EndedLease, Lease, Token};
use crate::operation::name::Name;
use crate::operation::payload::Payload;
use crate::operation::{
    Deletion, Operation, Pending, Places, SharedSpec, Spec, Stamps, State, Suspension, Tombstone,
};
use crate::proto::longhaul::store::v1 as stored;

pub(super) fn operation(mut stored: stored::Operation, stamps: Stamps) -> Option<Operation> {
    let create_time = Timestamp::from_micros(stored.create_time);
    let base = Base(create_time);
    let time = |after: Option<i64>| after.map(|after| base.time(after));
    let stored_spec = std::mem::take(&mut stored.spec);
    let spec = spec::decode(stored::Spec::decode(stored_spec.clone()).ok()?)?;
    let state = decode_state(&mut stored, base)?;
    let name = decode_name(&stored)?;
    let metadata = decode_metadata(&mut stored, &spec)?;
    let (start_time, end_time) = (time(stored.start_after), time(stored.end_after));
    let expire_time = time(stored.expire_after);
    let admission = decode_admission(&stored);
    let places = decode_places(base, &stored.places.unwrap_or_default(), &state, expire_time);
    let attempts = stored.attempts.into_iter().map(|it| {
        let mut attempt = parts::decode_attempt(base, it);
        attempt.start_time = attempt.start_time.or(start_time.map(Into::into));
        attempt.end_time = attempt.end_time.or(end_time.map(Into::into));
        attempt
    });
    let attempts: Vec<_> = attempts.collect();
    let related_resources = stored.related_resources.into_iter();
    Some(Operation {
        name,
        uid: Uuid::from_slice(&stored.uid).ok()?,
        state,
        spec: SharedSpec::with_stored(spec, stored_spec),
        create_time,
        start_time,
        end_time,
        update_time: time(stored.update_after).or(end_time).unwrap_or(create_time),
        expire_time,
        metadata,
        progress: stored.progress.map(|it| parts::decode_progress(base, it)),
        status_detail: stored.status_detail,
        partial_errors: stored.partial_errors,
        related_resources: related_resources.map(|it| parts::decode_resource(base, it)).collect(),
        attempts_used: u32::try_from(stored.further_attempts.saturating_add(attempts.len() as i32))
            .ok()?,
        attempts,
        unseen_leases: stored.unseen_leases,
        lost_leases: stored.lost_leases,
        cancel_trail: stored.cancel_trail.map(|it| parts::decode_trail(base, it)),
        pause_requested: stored.pause_requested,
        suspend_reason: stored.suspend_reason,
        checkpoint: payload::decode(stored.checkpoint)?,
        resume_input: payload::decode(stored.resume_input)?,
        control_nonce: stored.control_nonce.as_ref().try_into().ok(),
        last_error: stored.last_error,
        ended_leases: stored.ended_leases.iter().map(decode_ended).collect::<Option<_>>()?,
        deletion: time(stored.delete_after).map(|time| Deletion {
            time,
            nonce: stored.delete_nonce.as_ref().try_into().unwrap_or_default(),
        }),
        admission,
        events: stored.events,
        further_blocks: stored.further_blocks,
        places,
        stamps,
    })
}

fn decode_admission(stored: &stored::Operation) -> Option<Admittance> {
    if stored.waits_at_gate {
        return Some(Admittance::Waiting);
    }
    time(stored.slot_time).map(Admittance::Admitted)
}

fn decode_name(stored: &stored::Operation) -> Option<Name> {
    if let Some(published) = &stored.published {
        return Name::parse(&published.name).ok();
    }
    Name::parse(&parts::full_name(&stored.name, &stored.parent, &stored.id)?).ok()
}

/// The outer `None` is damage, the inner one absence.
#[expect(clippy::option_option, reason = "damage and absence are two things")]
fn decode_metadata(stored: &mut stored::Operation, spec: &Spec) -> Option<Option<Payload>> {
    let Some(published) = stored.published.take() else {
        return payload::decode(stored.metadata.take());
    };
    Some(match &stored.detached_metadata {
        Some(detached) => Some(Payload::Detached(payload::decode_detached(detached)?)),
        // The server's own metadata is not a payload, nor is the empty message that means none.
        None if spec.server_metadata => None,
        None => published.metadata.filter(|any| !any.value.is_empty()).map(Payload::Inline),
    })
}

fn decode_state(stored: &mut stored::Operation, base: Base) -> Option<State> {
    use stored::State as Stored;
    Some(match Stored::try_from(stored.state).ok()? {
        Stored::Pending => State::Pending(Pending {
            ready_time: base.time(stored.ready_after?),
            retrying: stored.retrying,
        }),
        Stored::Running => State::Running(decode_lease(stored.lease.as_ref()?)?),
        Stored::Cancelling => State::Cancelling(
            decode_lease(stored.lease.as_ref()?)?,
            base.time(stored.grace_end_after?),
        ),
        Stored::Suspended => State::Suspended(Suspension {
            by_worker: stored.suspended_by_worker,
            resume_time: stored.resume_after.map(|after| base.time(after)),
        }),
        Stored::Succeeded => State::Succeeded(payload::decode(stored.response.take())??),
        Stored::Failed => State::Failed(stored.error.take()?),
        Stored::Cancelled => State::Cancelled(stored.error.take()?),
        Stored::Unspecified => return None,
    })
}

fn decode_lease(stored: &stored::Lease) -> Option<Lease> {
    Some(Lease {
        token: Token(stored.token.as_ref().try_into().ok()?),
        attempt: stored.attempt,
        worker: stored.worker.clone(),
        start_time: Timestamp::from_micros(stored.start_time),
        expire_time: Timestamp::from_micros(stored.expire_time),
        duration: std::time::Duration::from_micros(stored.duration),
        report_number: stored.report_number,
        holder: stored.holder.as_ref().try_into().ok(),
        first_fraction: stored.first_fraction,
        stall_timeout: std::time::Duration::from_micros(stored.stall_timeout),
        stalled: stored.stalled,
        slot: time(stored.slot_time),
    })
}

fn decode_ended(stored: &stored::EndedLease) -> Option<EndedLease> {
    use stored::ended_lease::Call as Stored;
    Some(EndedLease {
        token: Token(stored.token.as_ref().try_into().ok()?),
        call: match Stored::try_from(stored.call).ok()? {
            Stored::Unspecified => Call::Lost,
            Stored::Complete => Call::Complete,
            Stored::Fail => Call::Fail,
            Stored::Release => Call::Release,
            Stored::Suspend => Call::Suspend,
        },
        fingerprint: stored.fingerprint.as_ref().try_into().ok()?,
        answer: Answer {
            discarded: stored.discarded,
            will_retry: stored.will_retry,
            schedule_time: time(stored.schedule_time),
        },
    })
}

fn decode_places(
    base: Base,
    stored: &stored::Places,
    state: &State,
    expire_time: Option<Timestamp>,
) -> Places {
    let (mut due, mut foreign) = (Vec::new(), Vec::new());
    for entry in &stored.due {
        let time = base.time(entry.after);
        match DueClass::from_number(entry.class) {
            Some(class) => due.push((class, time)),
            None => foreign.push((entry.class, time)),
        }
    }
    if due.iter().all(|(class, _)| *class != DueClass::Retention) {
        due.extend(usual_retention(state.is_done(), expire_time));
    }
    let ready = stored.ready.then_some(stored.rank);
    let (listed, failed, waiting) = (stored.listed, stored.failed, stored.waiting_rank);
    Places { listed, failed, ready, waiting, due, foreign }
}

pub(super) fn tombstone(stored: stored::Tombstone) -> Option<Tombstone> {
    Some(Tombstone {
        name: Name::parse(&stored.name).ok()?,
        uid: Uuid::from_slice(&stored.uid).ok()?,
        deleted: stored.deleted,
        end_time: Timestamp::from_micros(stored.end_time),
        forget_time: Timestamp::from_micros(stored.forget_time),
        request_id: stored.request_id,
        fingerprint: stored.fingerprint.as_ref().try_into().ok()?,
        delete_nonce: stored.delete_nonce.as_ref().try_into().ok(),
        ended_leases: stored.ended_leases.iter().map(decode_ended).collect::<Option<_>>()?,
    })
}

fn time(micros: u64) -> Option<Timestamp> {
    (micros > 0).then(|| Timestamp::from_micros(micros))
}
