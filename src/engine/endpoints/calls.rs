//! The verbs on one endpoint.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::alter::{
    AlterEndpoint, AlteredEndpoint, EndpointAlteration, about, ended, not_found, unreadable,
};
use crate::clock::Timestamp;
use crate::engine::access::Caller;
use crate::engine::context::Context;
use crate::engine::error::{Error, Reason, Result};
use crate::engine::random::random;
use crate::engine::reading::reader::Reader;
use crate::engine::tenants::room_for_endpoint;
use crate::engine::transact::{Assumed, Decision, Transaction, Transactor, Unobserved};
use crate::limits::{MAX_ENDPOINT_SECRETS, MAX_ENDPOINTS};
use crate::operation::lease::Fingerprint;
use crate::operation::name::{EndpointName, Id, Parent};
use crate::record::endpoint::{ENDPOINTS, PARTITION, key};
use crate::record::{Before, Change};
use crate::store::{Index, Key, Scan};
use crate::webhook::endpoint::{
    Endpoint, EndpointSecret, EndpointSettings, EndpointState, SecretAlgorithm, TooManySecrets,
};

/// An endpoint to create.
#[derive(Clone, Debug)]
pub struct NewEndpoint {
    /// The parent.
    pub parent: Parent,
    /// The id within the parent; without one it gets a UUID.
    pub id: Option<Id>,
    /// The settings.
    pub settings: EndpointSettings,
    /// How its first secret signs.
    pub algorithm: SecretAlgorithm,
    /// What tells a repeated request; empty without one.
    pub request_id: String,
    /// A hash of the request.
    pub fingerprint: Fingerprint,
    /// Only check it.
    pub validate_only: bool,
}

/// Which endpoint to change.
#[derive(Clone, Debug)]
pub struct EndpointTarget {
    /// The endpoint.
    pub name: EndpointName,
    /// Only if it has this etag; an empty one fits all.
    pub etag: String,
    /// Only check it.
    pub validate_only: bool,
}

/// A rotation of the secret of an endpoint.
#[derive(Clone, Debug)]
pub struct EndpointRotation {
    /// Which endpoint.
    pub target: EndpointTarget,
    /// How long the former secrets are used too.
    pub overlap: Duration,
    /// How the new secret signs; as the newest one if unset.
    pub algorithm: Option<SecretAlgorithm>,
    /// What tells a repeated request; empty without one.
    pub request_id: String,
}

/// Creates, reads and changes endpoints.
pub(in crate::engine) struct Endpoints {
    pub(in crate::engine) context: Arc<Context>,
    pub(in crate::engine) reader: Arc<Reader>,
    transactor: Transactor<Unobserved>,
}

impl Endpoints {
    pub(in crate::engine) fn new(context: Arc<Context>, reader: Arc<Reader>) -> Self {
        let transactor = Transactor::new(context.clone(), reader.clone(), Arc::new(Unobserved));
        Self { context, reader, transactor }
    }

    /// Creates an endpoint, or finds the one that the same request created before.
    pub(in crate::engine) async fn create(
        &self,
        caller: &Caller,
        new: NewEndpoint,
    ) -> Result<Endpoint> {
        let name = EndpointName { parent: new.parent.clone(), id: self.id(caller, &new) };
        let key = self.key(&name);
        let endpoint = Self::new_endpoint(name, &new, self.context.now(key));
        if let Some(found) = self.read(&endpoint.name).await? {
            return recognise(found, &new);
        }
        self.check_room(&new.parent).await?;
        room_for_endpoint(&self.context, new.parent.as_str()).await?;
        if new.validate_only {
            return Ok(endpoint);
        }
        let mut create = CreateEndpoint { key, endpoint: &endpoint };
        let end = self.transactor.transact_one(&mut create).await;
        match ended(&endpoint.name, end)? {
            Some(found) if found.uid != endpoint.uid => recognise(found, &new),
            Some(created) => Ok(created),
            None => Err(Error::busy(&endpoint.name)),
        }
    }

    /// An endpoint.
    pub(in crate::engine) async fn get(&self, name: &EndpointName) -> Result<Endpoint> {
        self.read(name).await?.ok_or_else(|| not_found(name))
    }

    /// Changes the settings of an endpoint.
    pub(in crate::engine) async fn update(
        &self,
        target: &EndpointTarget,
        change: &(dyn Fn(&EndpointSettings) -> Result<EndpointSettings> + Sync),
    ) -> Result<Endpoint> {
        self.alter(target, &|endpoint, now| {
            let settings = change(&endpoint.settings)?;
            if settings == endpoint.settings {
                return Ok(AlteredEndpoint::Kept);
            }
            Ok(AlteredEndpoint::Changed(Box::new(endpoint.clone().with_settings(settings, now))))
        })
        .await?
        .ok_or_else(|| not_found(&target.name))
    }

    /// Deletes an endpoint. With `allow_missing` it is no error if there is none.
    pub(in crate::engine) async fn delete(
        &self,
        target: &EndpointTarget,
        allow_missing: bool,
    ) -> Result<()> {
        match self.alter(target, &|_, _| Ok(AlteredEndpoint::Deleted)).await {
            Err(error) if allow_missing && error.reason == Reason::WebhookEndpointNotFound => {
                Ok(())
            }
            other => other.map(drop),
        }
    }

    /// Gives an endpoint a new secret. A repeat of the request finds the secret that it made before.
    pub(in crate::engine) async fn rotate(&self, rotation: &EndpointRotation) -> Result<Endpoint> {
        let name = &rotation.target.name;
        let made: [u8; 32] = random();
        let id = Uuid::new_v4().to_string();
        self.alter(&rotation.target, &|endpoint, now| {
            let is_repeat = |secret: &EndpointSecret| secret.request_id == rotation.request_id;
            if !rotation.request_id.is_empty() && endpoint.secrets.iter().any(is_repeat) {
                return Ok(AlteredEndpoint::Kept);
            }
            let newest = endpoint.secrets.first().map(|secret| secret.algorithm);
            let secret = EndpointSecret {
                id: id.clone(),
                algorithm: rotation.algorithm.or(newest).unwrap_or_default(),
                key: made,
                create_time: now,
                expire_time: None,
                request_id: rotation.request_id.clone(),
            };
            let rotated = endpoint.clone().rotated(secret, rotation.overlap, now);
            Ok(AlteredEndpoint::Changed(Box::new(
                rotated.map_err(|TooManySecrets| too_many(name))?,
            )))
        })
        .await?
        .ok_or_else(|| not_found(name))
    }

    /// Calls an endpoint again.
    pub(in crate::engine) async fn resume(&self, target: &EndpointTarget) -> Result<Endpoint> {
        self.alter(target, &|endpoint, now| {
            let resumed = endpoint.resumed(now);
            Ok(resumed.map_or(AlteredEndpoint::Kept, |resumed| {
                AlteredEndpoint::Changed(Box::new(resumed))
            }))
        })
        .await?
        .ok_or_else(|| not_found(&target.name))
    }

    /// Changes an endpoint that exists; the endpoint as it is now, unless it was deleted.
    pub(in crate::engine) async fn alter(
        &self,
        target: &EndpointTarget,
        alteration: &EndpointAlteration<'_>,
    ) -> Result<Option<Endpoint>> {
        let EndpointTarget { name, etag, validate_only } = target;
        let key = self.key(name);
        let mut alter = AlterEndpoint { key, name, etag, alteration, refusal: None };
        if *validate_only {
            let before = self.before(name).await?;
            return Ok(match alter.after(before.as_ref(), self.context.now(key))? {
                AlteredEndpoint::Kept => before.map(|before| before.record),
                AlteredEndpoint::Changed(after) => Some(*after),
                AlteredEndpoint::Deleted => None,
            });
        }
        let end = self.transactor.transact_one(&mut alter).await;
        match alter.refusal {
            Some(refusal) => Err(refusal),
            None => ended(name, end),
        }
    }

    async fn read(&self, name: &EndpointName) -> Result<Option<Endpoint>> {
        Ok(self.before(name).await?.map(|before| before.record))
    }

    async fn before(&self, name: &EndpointName) -> Result<Option<Before<Endpoint>>> {
        let found = self.reader.read_each::<Endpoint>(&[self.key(name)]).await?.pop();
        found.map_or(Ok(None), |found| found.map_err(|_| unreadable(name)))
    }

    fn key(&self, name: &EndpointName) -> Key {
        key(self.context.store.keyspace(), name)
    }

    fn new_endpoint(name: EndpointName, new: &NewEndpoint, now: Timestamp) -> Endpoint {
        let secret = EndpointSecret {
            id: Uuid::new_v4().to_string(),
            algorithm: new.algorithm,
            key: random(),
            create_time: now,
            expire_time: None,
            request_id: String::new(),
        };
        Endpoint {
            name,
            uid: Uuid::new_v4(),
            settings: new.settings.clone(),
            state: EndpointState::Active,
            state_detail: String::new(),
            failing_since: None,
            secrets: vec![secret],
            create_time: now,
            update_time: now,
            request_id: new.request_id.clone(),
            fingerprint: new.fingerprint,
        }
    }

    /// Refuses a further endpoint of a parent that has many. Two creates at once may both see room.
    async fn check_room(&self, parent: &Parent) -> Result<()> {
        let prefix = [parent.as_str(), "\0"].concat();
        let scan = Scan::first(Index::new(ENDPOINTS), MAX_ENDPOINTS)
            .within(PARTITION)
            .with_prefix(prefix.as_bytes());
        if self.context.store.scan(scan).await?.len() < MAX_ENDPOINTS {
            return Ok(());
        }
        let place = if parent.as_str().is_empty() { "the root" } else { parent.as_str() };
        let message = format!(
            "{place} has {MAX_ENDPOINTS} webhook endpoints, which are the most; delete one"
        );
        Err(Error::new(Reason::LimitExceeded, message).with("limit", MAX_ENDPOINTS))
    }

    /// The id that was given, one that follows from the request id, or a new one.
    fn id(&self, caller: &Caller, new: &NewEndpoint) -> Id {
        let keyspace = self.context.store.keyspace();
        match &new.id {
            Some(id) => id.clone(),
            None if new.request_id.is_empty() => Id::from_uuid(Uuid::new_v4()),
            None => {
                let seed = [caller.id(), new.parent.as_str(), &new.request_id].join("\0");
                let bytes = keyspace.hash("webhook endpoint request id", seed.as_bytes());
                Id::from_uuid(uuid::Builder::from_custom_bytes(bytes).into_uuid())
            }
        }
    }
}

/// Writes a new endpoint, unless there is one of that name.
struct CreateEndpoint<'a> {
    key: Key,
    endpoint: &'a Endpoint,
}

impl Transaction for CreateEndpoint<'_> {
    type Kind = Endpoint;

    fn key(&self) -> Key {
        self.key
    }

    fn assume(&mut self) -> Assumed<Endpoint> {
        Assumed::Absent
    }

    fn decide(
        &mut self,
        before: Option<&Before<Endpoint>>,
        _certain: bool,
        _now: Timestamp,
    ) -> Decision<Endpoint> {
        if before.is_some() {
            return Decision::Keep;
        }
        let change = Change::of(Some(self.endpoint.clone()));
        Decision::Commit(Box::new(Change { visible: true, ..change }))
    }
}

/// The endpoint that has the name already, if an earlier request of the same id created it.
fn recognise(found: Endpoint, new: &NewEndpoint) -> Result<Endpoint> {
    let name = &found.name;
    if new.request_id.is_empty() || found.request_id != new.request_id {
        let message = format!(
            "{name} exists already; choose another webhook_endpoint_id, or send the request_id that it was created with"
        );
        return Err(about(Reason::WebhookEndpointAlreadyExists, name, message));
    }
    if found.fingerprint != new.fingerprint {
        let message = format!(
            "request_id {:?} created {name} with other content before; use a new request_id",
            new.request_id
        );
        return Err(about(Reason::RequestIdReused, name, message).with("field", "request_id"));
    }
    Ok(found)
}

fn too_many(name: &EndpointName) -> Box<Error> {
    let message = format!(
        "{name} has {MAX_ENDPOINT_SECRETS} secrets that are still used; wait until one expires, or set overlap to 0s, which ends them"
    );
    about(Reason::LimitExceeded, name, message).with("limit", MAX_ENDPOINT_SECRETS)
}
