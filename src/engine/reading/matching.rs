//! Whether an operation belongs on a page, with the payloads that only loading them can tell.

use std::borrow::Cow;
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::engine::context::Context;
use crate::engine::error::{Error, Reason, Result};
use crate::engine::reading::reader::{READS, Reader};
use crate::engine::reading::view::{View, payload};
use crate::filter::{Filter, Lookup, Payload, Seen, Verdict};
use crate::operation::{Operation, Record};
use crate::proto::google::protobuf::Any;
use crate::proto::google::rpc::Status;
use crate::proto::longhaul::v1::operation_record::State;
use crate::record::operation::Slot;
use crate::store::Key;

/// Tells what matches a filter.
pub(in crate::engine) struct Matching {
    context: Arc<Context>,
    reader: Arc<Reader>,
}

impl Matching {
    pub(in crate::engine) const fn new(context: Arc<Context>, reader: Arc<Reader>) -> Self {
        Self { context, reader }
    }

    /// What callers see of an operation; nothing where it does not match, or went away meanwhile. `loaded` counts the bytes
    /// of payloads that were loaded for the filter.
    pub(in crate::engine) async fn view(
        &self,
        operation: Operation,
        filter: &Filter,
        loaded: &mut usize,
    ) -> Result<Option<Arc<View>>> {
        let name = operation.name.clone();
        let key = self.context.key(&name);
        let mut current = operation;
        let mut missed = None;
        for _ in 0..READS {
            let revision = current.stamps.revision;
            match self.matches(key, &current, filter, loaded).await? {
                Some(false) => return Ok(None),
                Some(true) => {
                    if let Some(view) = View::load(&*self.context.store, key, current).await? {
                        return Ok(Some(view));
                    }
                }
                None => {}
            }
            // Read twice, nothing written in between: a payload is lost. It costs only its operation.
            if missed.replace(revision) == Some(revision) {
                self.reader.note_unreadable(key, &format!("a payload of {name} is missing"));
                return Ok(None);
            }
            match self.reader.read::<Record>(key).await {
                Ok(Some(before)) if before.record.gone(self.context.now(key)).is_none() => {
                    let Record::Operation(operation) = before.record else { return Ok(None) };
                    current = *operation;
                }
                Ok(_) => return Ok(None),
                Err(error) if error.reason == Reason::Internal => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Err(Error::busy(&name))
    }

    /// Whether it matches; `None` if the record has changed since it was read.
    async fn matches(
        &self,
        key: Key,
        operation: &Operation,
        filter: &Filter,
        loaded: &mut usize,
    ) -> Result<Option<bool>> {
        let verdict = match filter.test(operation) {
            Verdict::Unknown => match self.load(key, operation, filter, loaded).await? {
                Some(whole) => filter.test(&whole),
                None => return Ok(None),
            },
            verdict => verdict,
        };
        Ok(Some(verdict == Verdict::Match))
    }

    /// The operation with the payloads that the filter looks into.
    async fn load<'a>(
        &self,
        key: Key,
        operation: &'a Operation,
        filter: &Filter,
        loaded: &mut usize,
    ) -> Result<Option<Whole<'a>>> {
        let mut whole = Whole { operation, payloads: [const { None }; 3] };
        for (which, slot) in SLOTS {
            let elsewhere = matches!(Seen::payload(operation, which), Lookup::Elsewhere { .. });
            if !elsewhere || !filter.looks_into(which) {
                continue;
            }
            let (store, stored) = (&*self.context.store, operation.stored_payload(which));
            let Some(any) = payload(store, key, slot, stored).await? else { return Ok(None) };
            *loaded += any.as_ref().map_or(0, |any| any.value.len());
            whole.payloads[which as usize] = any;
        }
        Ok(Some(whole))
    }
}

/// An operation whose payloads are at hand.
struct Whole<'a> {
    operation: &'a Operation,
    payloads: [Option<Any>; 3],
}

impl Seen for Whole<'_> {
    fn name(&self) -> &str {
        Seen::name(self.operation)
    }

    fn state(&self) -> State {
        Seen::state(self.operation)
    }

    fn create_time(&self) -> Timestamp {
        Seen::create_time(self.operation)
    }

    fn method(&self) -> &str {
        Seen::method(self.operation)
    }

    fn queue(&self) -> &str {
        Seen::queue(self.operation)
    }

    fn progress(&self) -> Option<f64> {
        Seen::progress(self.operation)
    }

    fn label(&self, key: &str) -> Option<&str> {
        Seen::label(self.operation, key)
    }

    fn error(&self) -> Option<&Status> {
        Seen::error(self.operation)
    }

    fn payload(&self, which: Payload) -> Lookup<'_> {
        match &self.payloads[which as usize] {
            Some(any) => Lookup::Here(Cow::Borrowed(any)),
            None => Seen::payload(self.operation, which),
        }
    }
}

const SLOTS: [(Payload, Slot); 3] = [
    (Payload::Metadata, Slot::Metadata),
    (Payload::Response, Slot::Response),
    (Payload::Request, Slot::Request),
];
