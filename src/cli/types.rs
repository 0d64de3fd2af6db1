//! The message types that payloads are shown by: those of `--descriptor-set`, and, where a payload is of another type, the type
//! sets that the server has for the operation's parent.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Mutex;

use crate::client::Client;
use crate::limits::MAX_TYPE_SETS_BYTES;
use crate::operation::name::ancestry;
use crate::operation::payload::type_name;
use crate::proto::google::longrunning::{Operation, operation::Result as Outcome};
use crate::proto::google::protobuf::Any;
use crate::proto::longhaul::v1::OperationRecord;
use crate::types::Registry;

/// The types that one command knows.
pub(super) struct PayloadTypes {
    local: Registry,
    client: Client,
    fetched: Mutex<FetchedTypes>,
}

/// What was fetched from the server.
#[derive(Default)]
struct FetchedTypes {
    /// Descriptors, by parent.
    sets: BTreeMap<String, Arc<[Bytes]>>,
    /// The types of all operations of a parent.
    types: BTreeMap<String, Registry>,
}

impl PayloadTypes {
    /// `local` are the types that are known without the server.
    pub(super) fn new(client: &Client, local: Registry) -> Self {
        Self { local, client: client.clone(), fetched: Mutex::default() }
    }

    /// The types for an operation.
    pub(super) async fn of(&self, operation: &Operation) -> Registry {
        self.fetch(&operation.name, payloads(operation)).await
    }

    /// The types for a record.
    pub(super) async fn of_record(&self, record: &OperationRecord) -> Registry {
        let payloads = record.operation.iter().flat_map(payloads).chain(&record.request);
        self.fetch(&record.name, payloads).await
    }

    /// The types for payloads of an operation. Asks the server only about a type that is not known, and once for each parent. A
    /// server that does not tell leaves it at the types that are known.
    async fn fetch<'a>(&self, name: &str, payloads: impl Iterator<Item = &'a Any>) -> Registry {
        if payloads.into_iter().all(|any| self.local.knows(type_name(&any.type_url))) {
            return self.local.clone();
        }
        let chain = ancestry(name);
        let parent = chain[0].to_owned();
        let mut fetched = self.fetched.lock().await;
        if let Some(types) = fetched.types.get(&parent) {
            return types.clone();
        }
        let mut types = self.local.clone();
        for ancestor in chain {
            if !fetched.sets.contains_key(ancestor) && fetched.sets.len() < MAX_PARENTS {
                let found = self.client.descriptors_of(ancestor, MAX_TYPE_SETS_BYTES).await;
                fetched.sets.insert(ancestor.to_owned(), found.unwrap_or_default().into());
            }
            if let Some(sets) = fetched.sets.get(ancestor) {
                types = types.with_each(sets.iter());
            }
        }
        fetched.types.insert(parent, types.clone());
        types
    }
}

/// The payloads of an operation.
fn payloads(operation: &Operation) -> impl Iterator<Item = &Any> {
    let (response, details) = match &operation.result {
        Some(Outcome::Response(response)) => (Some(response), &[][..]),
        Some(Outcome::Error(error)) => (None, &error.details[..]),
        None => (None, &[][..]),
    };
    operation.metadata.iter().chain(response).chain(details)
}

/// Parents whose types one command fetches, at most.
const MAX_PARENTS: usize = 32;
