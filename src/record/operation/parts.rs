//! Names, progress, attempts, the cancel trail and related resources, as they are stored.

use std::borrow::Cow;

use uuid::Uuid;

use super::times::Base;
use crate::proto::longhaul::store::v1 as stored;
use crate::proto::longhaul::v1 as pb;

/// The numbers of the kinds in a stored record.
pub(super) const OPERATION: u32 = 1;
pub(super) const TOMBSTONE: u32 = 2;

/// The full name of a finished operation, which is stored whole, or as its parent and the UUID that the id is.
pub(super) fn full_name<'a>(name: &'a str, parent: &str, id: &[u8]) -> Option<Cow<'a, str>> {
    if id.is_empty() {
        return Some(Cow::Borrowed(name));
    }
    let separator = if parent.is_empty() { "" } else { "/" };
    let mut text = Uuid::encode_buffer();
    let id: &str = Uuid::from_slice(id).ok()?.hyphenated().encode_lower(&mut text);
    Some(Cow::Owned([parent, separator, "operations/", id].concat()))
}

pub(super) fn encode_progress(base: Base, progress: &pb::Progress) -> stored::Progress {
    stored::Progress {
        fraction: progress.fraction,
        completed_units: progress.completed_units,
        total_units: progress.total_units,
        unit: progress.unit.clone(),
        message: progress.message.clone(),
        update_after: base.after_published(progress.update_time.as_ref()),
    }
}

pub(super) fn decode_progress(base: Base, stored: stored::Progress) -> pb::Progress {
    pb::Progress {
        fraction: stored.fraction,
        completed_units: stored.completed_units,
        total_units: stored.total_units,
        unit: stored.unit,
        message: stored.message,
        update_time: base.published(stored.update_after),
    }
}

pub(super) fn encode_attempt(base: Base, attempt: &pb::Attempt) -> stored::Attempt {
    stored::Attempt {
        number: attempt.number,
        worker: attempt.worker.clone(),
        fencing_after: attempt.fencing_number.wrapping_sub(base.0.as_micros() as i64),
        start_after: base.after_published(attempt.start_time.as_ref()),
        end_after: base.after_published(attempt.end_time.as_ref()),
        error: attempt.error.clone(),
    }
}

pub(super) fn decode_attempt(base: Base, stored: stored::Attempt) -> pb::Attempt {
    pb::Attempt {
        number: stored.number,
        worker: stored.worker,
        fencing_number: stored.fencing_after.wrapping_add(base.0.as_micros() as i64),
        start_time: base.published(stored.start_after),
        end_time: base.published(stored.end_after),
        error: stored.error,
    }
}

pub(super) fn encode_trail(base: Base, trail: &pb::CancelTrail) -> stored::CancelTrail {
    stored::CancelTrail {
        request_after: base.after_published(trail.request_time.as_ref()),
        deliver_after: base.after_published(trail.deliver_time.as_ref()),
        acknowledge_after: base.after_published(trail.acknowledge_time.as_ref()),
        forced: trail.forced,
    }
}

pub(super) fn decode_trail(base: Base, stored: stored::CancelTrail) -> pb::CancelTrail {
    pb::CancelTrail {
        request_time: base.published(stored.request_after),
        deliver_time: base.published(stored.deliver_after),
        acknowledge_time: base.published(stored.acknowledge_after),
        forced: stored.forced,
    }
}

pub(super) fn encode_resource(
    base: Base,
    resource: &pb::RelatedResource,
) -> stored::RelatedResource {
    stored::RelatedResource {
        name: resource.name.clone(),
        uri: resource.uri.clone(),
        r#type: resource.r#type.clone(),
        relation: resource.relation.clone(),
        create_after: base.after_published(resource.create_time.as_ref()),
    }
}

pub(super) fn decode_resource(base: Base, stored: stored::RelatedResource) -> pb::RelatedResource {
    pb::RelatedResource {
        name: stored.name,
        uri: stored.uri,
        r#type: stored.r#type,
        relation: stored.relation,
        create_time: base.published(stored.create_after),
    }
}
