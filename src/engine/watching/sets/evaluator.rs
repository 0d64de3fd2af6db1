//! Reads operations that have changed, and tells whether they match.

use std::sync::Arc;
use std::time::Duration;

use super::set::Finding;
use crate::clock::Timestamp;
use crate::engine::context::Context;
use crate::engine::error::{Error, Result};
use crate::engine::reading::matching::Matching;
use crate::engine::reading::reader::{Lookup, Reader};
use crate::engine::reading::view::View;
use crate::filter::{Filter, Verdict};
use crate::operation::name::Name;
use crate::operation::{Operation, Record};
use crate::record::Before;
use crate::store::Key;

/// Reads and evaluates.
pub(super) struct Evaluator {
    context: Arc<Context>,
    reader: Arc<Reader>,
    matching: Matching,
}

/// An operation that has changed.
pub(super) struct Changed {
    pub(super) key: Key,
    /// The revision in its last hint.
    pub(super) revision: u64,
    /// Whether that was its only hint of the batch.
    pub(super) is_single: bool,
}

/// A changed operation as it was read.
pub(super) struct Sight {
    key: Key,
    pub(super) name: Name,
    revision: u64,
    is_exact: bool,
    /// `None` if callers see none.
    operation: Option<Operation>,
    create_time: Option<Timestamp>,
    view: Option<Arc<View>>,
    time: Timestamp,
}

impl Evaluator {
    pub(super) fn new(context: Arc<Context>, reader: Arc<Reader>) -> Self {
        let matching = Matching::new(context.clone(), reader.clone());
        Self { context, reader, matching }
    }

    /// Reads until the store responds.
    pub(super) async fn look_until_read(&self, changed: &[Changed]) -> Vec<Sight> {
        loop {
            match self.look(changed).await {
                Ok(sights) => return sights,
                Err(error) => self.rest_after(&error).await,
            }
        }
    }

    pub(super) async fn evaluate_until_read(&self, filter: &Filter, sight: &mut Sight) -> Finding {
        loop {
            match self.evaluate(filter, sight).await {
                Ok(found) => return found,
                Err(error) => self.rest_after(&error).await,
            }
        }
    }

    async fn rest_after(&self, error: &Error) {
        tracing::debug!(%error, "cannot read a changed operation; trying again");
        self.context.sleep(PAUSE).await;
    }

    /// Reads operations; those that cannot be read are left out, as in lists.
    pub(super) async fn look(&self, changed: &[Changed]) -> Result<Vec<Sight>> {
        let keys: Vec<Key> = changed.iter().map(|changed| changed.key).collect();
        let records = self.reader.read_each::<Record>(&keys).await?;
        let sight = |(changed, record): (&Changed, Lookup<Before<Record>>)| {
            let record = record.ok()??;
            let (key, revision) = (changed.key, record.stamps.visible);
            let time = self.context.now(key);
            let is_gone = record.record.gone(time).is_some();
            let name = record.record.name().clone();
            let operation = match record.record {
                Record::Operation(operation) => Some(*operation),
                Record::Tombstone(_) => None,
            };
            let create_time = operation.as_ref().map(|operation| operation.create_time);
            let operation = operation.filter(|_| !is_gone);
            let is_exact = changed.is_single && revision <= changed.revision;
            Some(Sight { key, name, revision, is_exact, operation, create_time, view: None, time })
        };
        Ok(changed.iter().zip(records).filter_map(sight).collect())
    }

    pub(super) async fn evaluate(&self, filter: &Filter, sight: &mut Sight) -> Result<Finding> {
        let (mut view, mut is_exact) = (None, sight.is_exact);
        let verdict = sight.operation.as_ref().map(|operation| filter.test(operation));
        match (verdict, &sight.operation) {
            (Some(Verdict::Match), _) if sight.view.is_some() => view.clone_from(&sight.view),
            (Some(Verdict::Match | Verdict::Unknown), Some(operation)) => {
                view = self.matching.view(operation.clone(), filter, &mut 0).await?;
                if verdict == Some(Verdict::Match) {
                    sight.view.clone_from(&view);
                }
                // It may have matched and changed since.
                is_exact &= verdict == Some(Verdict::Unknown) || view.is_some();
            }
            _ => {}
        }
        let seen = view.as_ref().map(|view| view.operation.stamps.visible);
        Ok(Finding {
            key: sight.key,
            name: sight.name.clone(),
            revision: seen.unwrap_or(sight.revision),
            create_time: sight.create_time,
            view,
            is_exact,
            time: sight.time,
        })
    }
}

/// Before another try to read.
pub(super) const PAUSE: Duration = Duration::from_millis(100);
