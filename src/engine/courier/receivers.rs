//! The endpoints that want an event.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::engine::context::Context;
use crate::engine::endpoints::calls::Endpoints;
use crate::engine::error::{Reason, Result};
use crate::engine::parent_types::ParentTypes;
use crate::engine::reading::matching::Matching;
use crate::engine::reading::reader::Reader;
use crate::filter::Filter;
use crate::limits::MAX_KNOWN_RECEIVERS;
use crate::operation::events::OperationEvent;
use crate::operation::{Operation, Record};
use crate::proto::longhaul::v1::callback::Event;
use crate::record::delivery::Target;
use crate::webhook::endpoint::{Endpoint, EndpointState};

/// Finds the endpoints that want an event.
pub(super) struct Receivers {
    context: Arc<Context>,
    reader: Arc<Reader>,
    endpoints: Arc<Endpoints>,
    types: Arc<ParentTypes>,
    matching: Matching,
    known: Mutex<HashMap<String, KnownListeners>>,
}

/// The endpoints of a parent and of those above it, as they were read a moment ago.
#[derive(Clone)]
struct KnownListeners {
    at: Duration,
    listeners: Arc<[EndpointListener]>,
}

/// An endpoint, and its filter if it has one.
struct EndpointListener {
    endpoint: Endpoint,
    filter: Option<Filter>,
}

impl Receivers {
    pub(super) fn new(
        context: Arc<Context>,
        reader: Arc<Reader>,
        endpoints: Arc<Endpoints>,
        types: Arc<ParentTypes>,
    ) -> Self {
        let matching = Matching::new(context.clone(), reader.clone());
        Self { context, reader, endpoints, types, matching, known: Mutex::default() }
    }

    /// The endpoints that want an event, and what it is called for each.
    pub(super) async fn of(&self, news: &OperationEvent) -> Result<Vec<(Target, Event)>> {
        let listeners = self.listeners(news.name.parent()).await?;
        let mut wanting = Vec::new();
        let mut operation = None;
        for listener in &*listeners {
            let settings = &listener.endpoint.settings;
            let wanted: Vec<i32> = settings.events.iter().map(|event| *event as i32).collect();
            let Some(event) = news.facts.for_subscription(&wanted) else { continue };
            if let Some(filter) = &listener.filter {
                if operation.is_none() {
                    operation = Some(self.operation(news).await?);
                }
                let Some(Some(operation)) = &operation else { continue };
                let seen = self.matching.view(operation.clone(), filter, &mut 0).await?;
                if seen.is_none() {
                    continue;
                }
            }
            wanting.push((Target::Endpoint(listener.endpoint.name.to_string(), None), event));
        }
        Ok(wanting)
    }

    /// The operation now, for filters; none if it is gone.
    async fn operation(&self, news: &OperationEvent) -> Result<Option<Operation>> {
        let key = self.context.key(&news.name);
        let found = match self.reader.read::<Record>(key).await {
            Ok(found) => found,
            Err(error) if error.reason == Reason::StoreUnavailable => return Err(error),
            Err(_) => None,
        };
        let operation = found.and_then(|before| match before.record {
            Record::Operation(operation) => Some(*operation),
            Record::Tombstone(_) => None,
        });
        Ok(operation.filter(|operation| operation.uid == news.uid))
    }

    async fn listeners(&self, parent: &str) -> Result<Arc<[EndpointListener]>> {
        let at = self.context.clock.elapsed();
        let known = self.lock().get(parent).cloned();
        if let Some(known) = known.filter(|known| at.saturating_sub(known.at) < FRESH) {
            return Ok(known.listeners);
        }
        let types = self.types.at(parent).await?;
        let listener = |endpoint: Endpoint| {
            let text = endpoint.settings.filter.as_str();
            // One whose types are gone matches nothing.
            let filter =
                (!text.is_empty()).then(|| Filter::parse(text, &types)).transpose().ok()?;
            Some(EndpointListener { endpoint, filter })
        };
        let endpoints = self.endpoints.of_parent(parent).await?.into_iter();
        let active = endpoints.filter(|endpoint| endpoint.state == EndpointState::Active);
        let listeners: Arc<[EndpointListener]> = active.filter_map(listener).collect();
        let mut all = self.lock();
        if all.len() >= MAX_KNOWN_RECEIVERS {
            all.clear();
        }
        all.insert(parent.to_owned(), KnownListeners { at, listeners: listeners.clone() });
        Ok(listeners)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, KnownListeners>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long endpoints that were read count.
const FRESH: Duration = Duration::from_secs(1);
