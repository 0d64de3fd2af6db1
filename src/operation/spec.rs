//! What was asked for, which never changes.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::lease::Fingerprint;
use super::name::Queue;
use super::options::Options;
use super::payload::Payload;

/// What was asked for at start. A face reads it, and the record holds it as it was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spec {
    /// Where workers find it.
    pub queue: Queue,
    /// What to do.
    pub method: String,
    /// Full name of the metadata's type; empty where none is declared.
    pub metadata_type: String,
    /// Full name of the response's type; empty where any will do.
    pub response_type: String,
    /// What to do it with.
    pub request: Option<Payload>,
    /// Everything else that was asked for.
    pub options: Options,
    /// Whether the published metadata is longhaul's own.
    pub server_metadata: bool,
    /// What replays are known by; empty without one.
    pub request_id: String,
    /// Of everything that a replay must repeat. Without a request id nothing replays the start, and this is zero.
    pub fingerprint: Fingerprint,
    /// The trace that it was started in.
    pub trace_parent: String,
}

/// The same for all states of an operation: copied by reference, its stored form made once.
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

    /// To change how it is kept: what other states share stays as it is.
    pub fn make_mut(&mut self) -> &mut Spec {
        let changing = Arc::make_mut(&mut self.0);
        changing.stored = OnceLock::new();
        &mut changing.spec
    }

    /// One whose stored form is known.
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
