//! The specification of an operation, which never changes.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;

use super::lease::Fingerprint;
use super::name::{Name, Queue};
use super::options::Options;
use super::payload::Payload;
use crate::clock::Timestamp;

/// The fields of a start. A face parses them from the request, and the record holds the same value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spec {
    /// The queue that workers lease it from.
    pub queue: Queue,
    /// The method, which tells workers what to do.
    pub method: String,
    /// Full name of the declared metadata type, or empty.
    pub metadata_type: String,
    /// Full name of the declared response type, or empty for any type.
    pub response_type: String,
    /// The request payload.
    pub request: Option<Payload>,
    /// The options.
    pub options: Options,
    /// Whether the server writes the published metadata.
    pub server_metadata: bool,
    /// Identifies replays of the start; may be empty.
    pub request_id: String,
    /// Hash of everything that a replay must repeat; zero without a request id.
    pub fingerprint: Fingerprint,
    /// The trace context of the start.
    pub trace_parent: String,
    /// The aging interval of its queue when it was started, unless that is as for every queue.
    pub aging_interval: Option<Duration>,
    /// The identity that a replay must have; empty without a request id, and if callers have no identities.
    pub caller: String,
    /// The run of a job that it is.
    pub of_job: Option<OfJob>,
    /// The operation that it repeats.
    pub rerun_of: Option<Name>,
}

/// What the operation of a run knows of its job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfJob {
    /// Full name of the job.
    pub job: String,
    /// Full name of the execution.
    pub execution: String,
    /// Why the job runs.
    pub trigger: Trigger,
    /// The tick that it runs for.
    pub tick: Option<Timestamp>,
    /// Whether it waits for other runs first.
    pub queued: bool,
}

/// Why a job runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Trigger {
    /// A caller runs it.
    Manual = 1,
    /// Its schedule.
    Schedule = 2,
    /// A backfill.
    Backfill = 3,
}

impl Trigger {
    /// The trigger of that stored number.
    pub fn from_number(number: u32) -> Option<Self> {
        let all = [Self::Manual, Self::Schedule, Self::Backfill];
        all.into_iter().find(|trigger| *trigger as u32 == number)
    }
}

/// A shared [`Spec`]: clones are references, and the stored form is made once.
#[derive(Clone, Debug)]
pub struct SharedSpec(Arc<Shared>);

#[derive(Clone, Debug)]
struct Shared {
    spec: Spec,
    stored: OnceLock<Bytes>,
}

impl SharedSpec {
    /// Its stored form, made by `encode` the first time.
    pub fn stored(&self, encode: impl FnOnce(&Spec) -> Bytes) -> Bytes {
        self.0.stored.get_or_init(|| encode(&self.0.spec)).clone()
    }

    /// Copies the spec if it is shared, and returns it to change where its payload is kept.
    pub fn make_mut(&mut self) -> &mut Spec {
        let changing = Arc::make_mut(&mut self.0);
        changing.stored = OnceLock::new();
        &mut changing.spec
    }

    /// A spec with its stored form.
    pub fn with_stored(spec: Spec, stored: Bytes) -> Self {
        Self(Arc::new(Shared { spec, stored: OnceLock::from(stored) }))
    }
}

impl From<Spec> for SharedSpec {
    fn from(spec: Spec) -> Self {
        Self(Arc::new(Shared { spec, stored: OnceLock::new() }))
    }
}

impl Deref for SharedSpec {
    type Target = Spec;

    fn deref(&self) -> &Spec {
        &self.0.spec
    }
}

impl PartialEq for SharedSpec {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.spec == other.0.spec
    }
}
