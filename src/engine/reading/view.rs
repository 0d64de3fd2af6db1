//! An operation with everything that callers see of it, large payloads included.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::operation::payload::Payload;
use crate::operation::{Operation, State};
use crate::proto::google::longrunning::{Operation as Published, operation::Result as Outcome};
use crate::proto::google::protobuf::Any;
use crate::record::operation::{Slot, attach, body_key};
use crate::store::{BodyKey, Key, Store, StoreError};

/// The published form.
#[derive(Clone, Debug)]
pub struct View {
    /// The operation.
    pub operation: Operation,
    /// The message for callers.
    pub published: Published,
    /// The view as it goes to watchers, in each form.
    encoded: [OnceLock<Bytes>; 4],
}

/// A message that contains a view, encoded once for all its receivers.
#[derive(Clone, Copy, Debug)]
pub enum EncodedForm {
    /// An event of the operation.
    Event,
    /// The same with the record.
    FullEvent,
    /// An event of a set.
    SetEvent,
    /// The same with the request.
    FullSetEvent,
}

impl View {
    fn new(operation: Operation, published: Published) -> Arc<Self> {
        Arc::new(Self { operation, published, encoded: Default::default() })
    }

    /// Its encoded form, which `encode` makes the first time.
    pub fn encoded(&self, form: EncodedForm, encode: impl FnOnce(&Self) -> Bytes) -> Bytes {
        self.encoded[form as usize].get_or_init(|| encode(self)).clone()
    }

    /// The view of an operation whose payloads are all loaded.
    pub(in crate::engine) fn of_inline(operation: &Operation) -> Option<Arc<Self>> {
        missing(operation).is_empty().then(|| Self::new(operation.clone(), operation.published()))
    }

    /// The same of an operation that is of no more use without its view.
    pub(in crate::engine) fn inline(operation: Operation) -> Option<Arc<Self>> {
        let published = missing(&operation).is_empty().then(|| operation.published())?;
        Some(Self::new(operation, published))
    }

    /// The view of an operation, its detached payloads loaded; `None` if the record has changed since it was read.
    pub(in crate::engine) async fn load(
        store: &dyn Store,
        key: Key,
        operation: Operation,
    ) -> Result<Option<Arc<Self>>, StoreError> {
        let missing = missing(&operation);
        let keys: Vec<BodyKey> =
            missing.iter().map(|(slot, detached)| body_key(key, *slot, detached)).collect();
        let bodies = if keys.is_empty() { Vec::new() } else { store.bodies(&keys).await? };
        let mut published = operation.published();
        for ((slot, detached), body) in missing.iter().zip(bodies) {
            let Some(body) = body else { return Ok(None) };
            let any = attach(&detached.type_url, &body);
            match slot {
                Slot::Metadata => published.metadata = Some(any),
                _ => published.result = Some(Outcome::Response(any)),
            }
        }
        Ok(Some(Self::new(operation, published)))
    }
}

/// Any payload of an operation, loaded if need be; the outer `None` if the record has changed since it was read.
pub(in crate::engine) async fn payload(
    store: &dyn Store,
    key: Key,
    slot: Slot,
    payload: Option<&Payload>,
) -> Result<Option<Option<Any>>, StoreError> {
    match payload {
        None => Ok(Some(None)),
        Some(Payload::Inline(any)) => Ok(Some(Some(any.clone()))),
        Some(Payload::Detached(detached)) => {
            let body =
                store.bodies(&[body_key(key, slot, detached)]).await?.into_iter().next().flatten();
            Ok(body.map(|body| Some(attach(&detached.type_url, &body))))
        }
    }
}

fn missing(operation: &Operation) -> Vec<(Slot, crate::operation::payload::Detached)> {
    let response = match &operation.state {
        State::Succeeded(response) => Some(response),
        _ => None,
    };
    [(Slot::Metadata, operation.metadata.as_ref()), (Slot::Response, response)]
        .into_iter()
        .filter_map(|(slot, payload)| match payload {
            Some(Payload::Detached(detached)) => Some((slot, detached.clone())),
            _ => None,
        })
        .collect()
}
