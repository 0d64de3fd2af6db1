//! Writes the letter of a delivery.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::engine::context::Context;
use crate::engine::endpoints::calls::Endpoints;
use crate::engine::error::{Reason, Result};
use crate::engine::parent_types::ParentTypes;
use crate::engine::reading::reader::Reader;
use crate::engine::reading::view::View;
use crate::operation::name::EndpointName;
use crate::post::{Letter, LetterContent, SigningKey};
use crate::proto::longhaul::v1 as pb;
use crate::proto::longhaul::v1::callback::Format;
use crate::record::delivery::{Delivery, Target};
use crate::store::{Key, Keyspace};
use crate::webhook::endpoint::{Endpoint, EndpointState};

/// Writes letters.
pub(super) struct Letters {
    context: Arc<Context>,
    reader: Arc<Reader>,
    types: Arc<ParentTypes>,
    endpoints: Arc<Endpoints>,
    /// Signs deliveries to callbacks, which have no secret of their own.
    own_key: SigningKey,
}

/// A letter, and the endpoint that it goes to if it goes to one.
pub(super) struct Draft {
    pub(super) letter: Letter,
    pub(super) endpoint: Option<Endpoint>,
}

/// A delivery's letter, or why there is none.
pub(super) type Written = std::result::Result<Draft, &'static str>;

/// How a receiver wants to be told.
struct DeliveryWishes {
    url: String,
    format: Format,
    include_result: bool,
    headers: BTreeMap<String, String>,
    keys: Vec<SigningKey>,
}

impl Letters {
    pub(super) fn new(
        context: Arc<Context>,
        reader: Arc<Reader>,
        types: Arc<ParentTypes>,
        endpoints: Arc<Endpoints>,
    ) -> Self {
        let own_key = callback_key(context.store.keyspace());
        Self { context, reader, types, endpoints, own_key }
    }

    /// The letter of a delivery.
    pub(super) async fn write(&self, key: Key, delivery: &Delivery) -> Result<Written> {
        let (wishes, endpoint) = match &delivery.target {
            Target::Callback(callback) => (self.of_callback(callback), None),
            Target::Endpoint(name, callback) => match self.endpoint(name).await? {
                Ok(endpoint) => {
                    (self.of_endpoint(key, &endpoint, callback.as_ref()), Some(endpoint))
                }
                Err(why) => return Ok(Err(why)),
            },
        };
        let wants_more = wishes.include_result || wishes.format == Format::ResponseBody;
        let view = if wants_more { self.view(delivery).await? } else { None };
        let types = self.types.at(delivery.news.name.parent()).await?;
        let told = LetterContent {
            id: &Delivery::message_id(key),
            news: &delivery.news,
            event: delivery.event,
            operation: view.as_ref().map(|view| &view.published),
        };
        let letter = Letter::new(&told, wishes.format, wishes.headers, &types);
        let letter = Letter { url: wishes.url, keys: wishes.keys, ..letter };
        Ok(Ok(Draft { letter, endpoint }))
    }

    async fn endpoint(&self, name: &str) -> Result<std::result::Result<Endpoint, &'static str>> {
        let Ok(name) = EndpointName::parse(name) else { return Ok(Err(NO_ENDPOINT)) };
        match self.endpoints.get(&name).await {
            Ok(endpoint) => Ok(match endpoint.state {
                EndpointState::Active => Ok(endpoint),
                EndpointState::Suspended => Err("the endpoint is suspended"),
                EndpointState::Disabled => Err("the endpoint is disabled"),
            }),
            Err(error) if error.reason == Reason::StoreUnavailable => Err(error),
            Err(_) => Ok(Err(NO_ENDPOINT)),
        }
    }

    fn of_callback(&self, callback: &pb::Callback) -> DeliveryWishes {
        DeliveryWishes {
            url: callback.uri.clone(),
            format: Format::try_from(callback.format).unwrap_or_default(),
            include_result: callback.include_result,
            headers: callback.headers.clone(),
            keys: vec![self.own_key.clone()],
        }
    }

    /// A callback that names the endpoint may ask for more than the endpoint does.
    fn of_endpoint(
        &self,
        key: Key,
        endpoint: &Endpoint,
        callback: Option<&pb::Callback>,
    ) -> DeliveryWishes {
        let settings = &endpoint.settings;
        let asked = callback.and_then(|callback| Format::try_from(callback.format).ok());
        let asked = asked.filter(|format| *format != Format::Unspecified);
        let mut headers = settings.headers.clone();
        headers.extend(callback.into_iter().flat_map(|callback| callback.headers.clone()));
        let secrets = endpoint.signing_secrets(self.context.now(key));
        DeliveryWishes {
            url: settings.uri.clone(),
            format: asked.unwrap_or(settings.format),
            include_result: settings.include_result
                || callback.is_some_and(|callback| callback.include_result),
            headers,
            keys: secrets.map(SigningKey::from).collect(),
        }
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
    SigningKey::pair(keyspace.hash("signing key of callbacks", b""))
}

const NO_ENDPOINT: &str = "the endpoint does not exist";
