//! Writes the letter of a delivery.

use std::sync::Arc;

use crate::engine::context::Context;
use crate::engine::error::{Reason, Result};
use crate::engine::parent_types::ParentTypes;
use crate::engine::reading::reader::Reader;
use crate::engine::reading::view::View;
use crate::post::{Letter, LetterContent, SigningKey};
use crate::proto::longhaul::v1::callback::Format;
use crate::record::delivery::{Delivery, Target};
use crate::store::{Key, Keyspace};

/// Writes letters.
pub(super) struct Letters {
    reader: Arc<Reader>,
    types: Arc<ParentTypes>,
    /// Signs deliveries to callbacks, which have no secret of their own.
    own_key: SigningKey,
}

/// A delivery's letter, or why there is none.
pub(super) type Written = std::result::Result<Letter, &'static str>;

impl Letters {
    pub(super) fn new(context: &Context, reader: Arc<Reader>, types: Arc<ParentTypes>) -> Self {
        Self { reader, types, own_key: callback_key(context.store.keyspace()) }
    }

    /// The letter of a delivery.
    pub(super) async fn write(&self, key: Key, delivery: &Delivery) -> Result<Written> {
        let Target::Callback(callback) = &delivery.target else {
            return Ok(Err("endpoints are not called"));
        };
        let format = Format::try_from(callback.format).unwrap_or_default();
        let view = match callback.include_result || format == Format::ResponseBody {
            true => self.view(delivery).await?,
            false => None,
        };
        let types = self.types.at(delivery.news.name.parent()).await?;
        let told = LetterContent {
            id: &Delivery::message_id(key),
            news: &delivery.news,
            event: delivery.event,
            operation: view.as_ref().map(|view| &view.published),
        };
        let own = callback.headers.iter().map(|(name, value)| (name.clone(), value.clone()));
        let letter = Letter::new(&told, format, own, &types);
        let keys = vec![self.own_key.clone()];
        Ok(Ok(Letter { url: callback.uri.clone(), keys, ..letter }))
    }

    /// The operation, unless it is gone or another has its name.
    async fn view(&self, delivery: &Delivery) -> Result<Option<Arc<View>>> {
        match self.reader.view(&delivery.news.name).await {
            Ok(view) => Ok(Some(view).filter(|view| view.operation.uid == delivery.news.uid)),
            Err(error) if error.reason == Reason::StoreUnavailable => Err(error),
            Err(_) => Ok(None),
        }
    }
}

/// The key that signs deliveries to callbacks, the same on all servers of a keyspace.
pub fn callback_key(keyspace: &Keyspace) -> SigningKey {
    SigningKey::Pair(keyspace.hash("signing key of callbacks", b""))
}
