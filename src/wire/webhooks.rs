//! Conversions for `longhaul.v1.Webhooks`.

use std::collections::BTreeMap;

use super::callbacks::{events, format, headers, receiver, uri};
use super::fields::{Fingerprinter, duration};
use super::operations::{self, page_size};
use super::starts::{in_field, request_id};
use crate::engine::{
    EndpointPage, EndpointQuery, EndpointRotation, EndpointTarget, Engine, Error, NewEndpoint,
    Result,
};
use crate::limits::{DEFAULT_SECRET_OVERLAP, MAX_SECRET_OVERLAP};
use crate::operation::name::{EndpointName, Id, Parent, ParentPattern};
use crate::post::SigningKey;
use crate::proto::longhaul::v1 as pb;
use crate::record::endpoint::etag;
use crate::webhook::endpoint::{Endpoint, EndpointSecret, EndpointSettings, SecretAlgorithm};

/// Reads a create.
pub async fn create(
    engine: &Engine,
    request: pb::CreateWebhookEndpointRequest,
) -> Result<NewEndpoint> {
    let parent = Parent::parse(EndpointName::parent_of_list(&request.parent));
    let parent = parent.map_err(in_field("parent"))?;
    let id = match request.webhook_endpoint_id.as_str() {
        "" => None,
        id => Some(Id::parse(id).map_err(in_field("webhook_endpoint_id"))?),
    };
    let endpoint = request.webhook_endpoint.unwrap_or_default();
    let none = EndpointSettings::default();
    let settings = EndpointChanges { endpoint, fields: FIELDS.to_vec() }.apply(&none)?;
    receiver(engine.carrier(), "webhook_endpoint.uri", &settings.uri)?;
    check_filter(engine, parent.as_str(), &settings.filter).await?;
    let algorithm = algorithm(request.algorithm)?;
    let mut fingerprint = Fingerprinter::default();
    fingerprint.message(&set_by_owner(&settings));
    if let Some(algorithm) = algorithm {
        fingerprint.part(&[algorithm as u8]);
    }
    Ok(NewEndpoint {
        parent,
        id,
        settings,
        algorithm: algorithm.unwrap_or_default(),
        request_id: request_id(request.request_id)?,
        fingerprint: fingerprint.finish(),
        validate_only: request.validate_only,
    })
}

/// Reads a get.
pub fn get(request: &pb::GetWebhookEndpointRequest) -> Result<EndpointName> {
    name("name", &request.name)
}

/// Reads a list; the parent may name the collection.
pub fn list(request: pb::ListWebhookEndpointsRequest) -> Result<EndpointQuery> {
    let parent = ParentPattern::parse(EndpointName::parent_of_list(&request.parent));
    Ok(EndpointQuery {
        parent: parent.map_err(in_field("parent"))?,
        page_size: page_size(request.page_size)?,
        page_token: request.page_token,
    })
}

/// Reads an update.
pub async fn update(
    engine: &Engine,
    request: pb::UpdateWebhookEndpointRequest,
) -> Result<(EndpointTarget, EndpointChanges)> {
    let endpoint = request.webhook_endpoint.unwrap_or_default();
    let name = name("webhook_endpoint.name", &endpoint.name)?;
    let fields = masked(request.update_mask.as_ref(), &endpoint)?;
    let etag = endpoint.etag.clone();
    let changes = EndpointChanges { endpoint, fields };
    if changes.fields.contains(&"uri") {
        uri("webhook_endpoint.uri", &changes.endpoint.uri)?;
        receiver(engine.carrier(), "webhook_endpoint.uri", &changes.endpoint.uri)?;
    }
    if changes.fields.contains(&"filter") {
        check_filter(engine, name.parent.as_str(), &changes.endpoint.filter).await?;
    }
    Ok((EndpointTarget { name, etag, validate_only: request.validate_only }, changes))
}

/// Reads a deletion, and whether it is no error if there is none.
pub fn delete(request: pb::DeleteWebhookEndpointRequest) -> Result<(EndpointTarget, bool)> {
    let pb::DeleteWebhookEndpointRequest { etag, allow_missing, validate_only, .. } = request;
    let name = name("name", &request.name)?;
    Ok((EndpointTarget { name, etag, validate_only }, allow_missing))
}

/// Reads a rotation.
pub fn rotate(request: pb::RotateWebhookEndpointRequest) -> Result<EndpointRotation> {
    let overlap = duration("overlap", request.overlap)?.unwrap_or(DEFAULT_SECRET_OVERLAP);
    if overlap > MAX_SECRET_OVERLAP {
        let most = MAX_SECRET_OVERLAP.as_secs();
        let message = format!("overlap is {} s; the most are {most} s", overlap.as_secs());
        return Err(Error::field("overlap", message).with("limit", most));
    }
    let name = name("name", &request.name)?;
    let target = EndpointTarget { name, etag: request.etag, validate_only: false };
    let (algorithm, request_id) = (algorithm(request.algorithm)?, request_id(request.request_id)?);
    Ok(EndpointRotation { target, overlap, algorithm, request_id })
}

/// How a secret is to sign; `None` if the request does not say.
fn algorithm(number: i32) -> Result<Option<SecretAlgorithm>> {
    let known = u32::try_from(number).ok().and_then(SecretAlgorithm::from_number);
    if number == 0 || known.is_some() {
        return Ok(known);
    }
    let message = format!("algorithm is {number}, which is no algorithm of signatures");
    Err(Error::field("algorithm", message))
}

/// Reads a test.
pub fn test(request: &pb::TestWebhookEndpointRequest) -> Result<EndpointName> {
    name("name", &request.name)
}

/// Reads a resume.
pub fn resume(request: pb::ResumeWebhookEndpointRequest) -> Result<EndpointTarget> {
    let name = name("name", &request.name)?;
    Ok(EndpointTarget { name, etag: request.etag, validate_only: false })
}

/// The fields of an endpoint that a request sets.
pub struct EndpointChanges {
    endpoint: pb::WebhookEndpoint,
    fields: Vec<&'static str>,
}

impl EndpointChanges {
    /// The settings with these changes.
    pub fn apply(&self, former: &EndpointSettings) -> Result<EndpointSettings> {
        let Self { endpoint, fields } = self;
        let mut settings = former.clone();
        for field in fields {
            match *field {
                "uri" => {
                    uri("webhook_endpoint.uri", &endpoint.uri)?;
                    settings.uri.clone_from(&endpoint.uri);
                }
                "events" => settings.events = events("webhook_endpoint.events", &endpoint.events)?,
                "filter" => settings.filter.clone_from(&endpoint.filter),
                "format" => settings.format = format("webhook_endpoint.format", endpoint.format)?,
                "include_result" => settings.include_result = endpoint.include_result,
                "headers" => settings.headers = kept_headers(&endpoint.headers, &former.headers)?,
                _ => settings.handshake = endpoint.handshake,
            }
        }
        Ok(settings)
    }
}

/// Since values of headers are not returned, an empty one stands for the value that is there.
fn kept_headers(
    given: &BTreeMap<String, String>,
    former: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>> {
    let kept = |(name, value): (&String, &String)| {
        let value = if value.is_empty() { former.get(name).unwrap_or(value) } else { value };
        (name.clone(), value.clone())
    };
    let kept = given.iter().map(kept).collect();
    headers("webhook_endpoint.headers", &kept)?;
    Ok(kept)
}

/// The fields that an update changes: those of the mask, or those that are set.
fn masked(
    mask: Option<&prost_types::FieldMask>,
    endpoint: &pb::WebhookEndpoint,
) -> Result<Vec<&'static str>> {
    let Some(mask) = mask.filter(|mask| !mask.paths.is_empty()) else {
        let is_set = [
            !endpoint.uri.is_empty(),
            !endpoint.events.is_empty(),
            !endpoint.filter.is_empty(),
            endpoint.format != 0,
            endpoint.include_result,
            !endpoint.headers.is_empty(),
            endpoint.handshake,
        ];
        let set = FIELDS.iter().zip(is_set).filter(|(_, is_set)| *is_set);
        return Ok(set.map(|(field, _)| *field).collect());
    };
    if mask.paths.iter().any(|path| path == "*") {
        return Ok(FIELDS.to_vec());
    }
    let unknown =
        |path: &&String| !FIELDS.contains(&path.as_str()) && !OUTPUT_ONLY.contains(&path.as_str());
    if let Some(path) = mask.paths.iter().find(unknown) {
        let known = FIELDS.join(", ");
        let message =
            format!("update_mask has {path:?}, which cannot be changed; these can: {known}");
        return Err(Error::field("update_mask", message));
    }
    let named = |field: &&&str| mask.paths.iter().any(|path| path == **field);
    Ok(FIELDS.iter().filter(named).copied().collect())
}

async fn check_filter(engine: &Engine, parent: &str, filter: &str) -> Result<()> {
    let types = operations::types(engine, parent, filter).await?;
    operations::filter(filter, &types).map(drop)
}

fn name(field: &str, text: &str) -> Result<EndpointName> {
    EndpointName::parse(text).map_err(|error| Box::<Error>::from(error).with("field", field))
}

/// An endpoint without its secrets.
pub fn shown(endpoint: &Endpoint) -> pb::WebhookEndpoint {
    shown_with(endpoint, |_| false)
}

/// An endpoint with the secret that it was created with; without one if the create was only checked.
pub fn created(endpoint: &Endpoint, validated: bool) -> pb::WebhookEndpoint {
    let first = endpoint.secrets.last().filter(|it| it.create_time == endpoint.create_time);
    let first = first.filter(|_| !validated).map(|secret| &secret.id);
    shown_with(endpoint, |secret| first == Some(&secret.id))
}

/// An endpoint with the secret that a rotation made.
pub fn rotated(endpoint: &Endpoint, request_id: &str) -> pb::WebhookEndpoint {
    let newest = endpoint.secrets.first().map(|secret| &secret.id);
    shown_with(endpoint, |secret| {
        let is_newest = newest == Some(&secret.id);
        if request_id.is_empty() { is_newest } else { secret.request_id == request_id }
    })
}

fn shown_with(
    endpoint: &Endpoint,
    is_shown: impl Fn(&EndpointSecret) -> bool,
) -> pb::WebhookEndpoint {
    let secret = |secret: &EndpointSecret| pb::webhook_endpoint::Secret {
        id: secret.id.clone(),
        secret: if is_shown(secret) { secret_text(secret) } else { String::new() },
        create_time: Some(secret.create_time.into()),
        expire_time: secret.expire_time.map(Into::into),
        algorithm: secret.algorithm as i32,
        public_key: SigningKey::from(secret).public_text().unwrap_or_default(),
    };
    let mut shown = set_by_owner(&endpoint.settings);
    shown.headers.values_mut().for_each(String::clear);
    pb::WebhookEndpoint {
        name: endpoint.name.to_string(),
        uid: endpoint.uid.to_string(),
        state: endpoint.state as i32,
        state_detail: endpoint.state_detail.clone(),
        fail_time: endpoint.failing_since.map(Into::into),
        secrets: endpoint.secrets.iter().map(secret).collect(),
        etag: etag(endpoint),
        create_time: Some(endpoint.create_time.into()),
        update_time: Some(endpoint.update_time.into()),
        ..shown
    }
}

fn set_by_owner(settings: &EndpointSettings) -> pb::WebhookEndpoint {
    pb::WebhookEndpoint {
        uri: settings.uri.clone(),
        events: settings.events.iter().map(|event| *event as i32).collect(),
        filter: settings.filter.clone(),
        format: settings.format.into(),
        include_result: settings.include_result,
        headers: settings.headers.clone(),
        handshake: settings.handshake,
        ..pb::WebhookEndpoint::default()
    }
}

/// What the receiver must know and the public key does not say.
fn secret_text(secret: &EndpointSecret) -> String {
    match secret.algorithm {
        SecretAlgorithm::HmacSha256 => SigningKey::from(secret).reveal(),
        SecretAlgorithm::Ed25519 => String::new(),
    }
}

/// A page of a list.
pub fn list_reply(page: EndpointPage) -> pb::ListWebhookEndpointsResponse {
    let webhook_endpoints = page.endpoints.iter().map(shown).collect();
    let next_page_token = page.next_page_token;
    pb::ListWebhookEndpointsResponse { webhook_endpoints, next_page_token }
}

/// The fields that an owner sets.
const FIELDS: [&str; 7] =
    ["uri", "events", "filter", "format", "include_result", "headers", "handshake"];
/// The fields that only the server sets, which a mask may name.
const OUTPUT_ONLY: [&str; 9] = [
    "name",
    "uid",
    "state",
    "state_detail",
    "fail_time",
    "secrets",
    "etag",
    "create_time",
    "update_time",
];
