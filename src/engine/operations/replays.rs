//! Finds the operation that an earlier start of the same request made.

use std::sync::Arc;

use super::attempt::Begun;
use super::identity::Identity;
use crate::engine::context::Context;
use crate::engine::error::Result;
use crate::engine::reading::reader::Reader;
use crate::engine::reading::view::View;
use crate::operation::{Record, Rejection};
use crate::store::Key;

/// Recognises starts that are sent again.
pub(super) struct Replays {
    context: Arc<Context>,
    reader: Arc<Reader>,
}

impl Replays {
    pub(super) const fn new(context: Arc<Context>, reader: Arc<Reader>) -> Self {
        Self { context, reader }
    }

    /// The operation that the same request started before its deadline passed; else `why`.
    pub(super) async fn in_time(
        &self,
        key: Key,
        wanted: &Identity,
        why: Rejection,
    ) -> Result<Begun> {
        self.find(key, wanted).await?.ok_or_else(|| why.into())
    }

    /// The operation that has the name already, as [`Self::recognise`] does; `None` if the name is free.
    pub(super) async fn find(&self, key: Key, wanted: &Identity) -> Result<Option<Begun>> {
        match self.reader.read::<Record>(key).await? {
            Some(before) => self.recognise(key, wanted, before.record).await.map(Some),
            None => Ok(None),
        }
    }

    /// The operation that has the name already, if this start or an earlier one of the same request made it.
    pub(super) async fn recognise(
        &self,
        key: Key,
        wanted: &Identity,
        record: Record,
    ) -> Result<Begun> {
        let gone = record.gone(self.context.now(key));
        let operation = wanted.recognise(record, gone)?;
        let ours = operation.uid == wanted.uid;
        if ours {
            self.context.metrics.started();
        }
        let name = operation.name.clone();
        let view = View::load(&*self.context.store, key, *operation).await?;
        let view = match view {
            Some(view) => view,
            None => self.reader.view(&name).await?,
        };
        Ok(Begun { view, replayed: !ours })
    }
}
