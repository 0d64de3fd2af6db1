//! An operation as the documents that others have published: the status document, Azure's, and JSON:API's.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::accept::{Accept, JSON, PROBLEM};
use crate::clock::Timestamp;
use crate::code::Code;
use crate::operation::{Operation, State};
use crate::proto::google::longrunning::Operation as Published;
use crate::proto::google::longrunning::operation::Result as Outcome;
use crate::proto::google::rpc::Status;
use crate::proto::longhaul::v1 as pb;
use crate::types::Registry;

/// An operation, and what callers see of it.
#[derive(Clone, Copy)]
pub(super) struct CurrentView<'a> {
    pub(super) operation: &'a Operation,
    pub(super) published: &'a Published,
}

/// How an operation is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Document {
    /// The Operation itself.
    Operation,
    /// Ours: `application/vnd.longhaul.status+json`.
    Status,
    /// Azure's.
    Azure,
    /// JSON:API's resource object.
    JsonApi,
}

impl Document {
    /// What the client accepts best; `first` where all are equally good.
    pub(super) fn of(accept: &Accept, first: Self) -> Option<Self> {
        let mut offers = [Self::Operation, Self::Status, Self::Azure, Self::JsonApi];
        offers.sort_by_key(|offer| *offer != first);
        match accept.choose(&offers.map(Self::media_type)) {
            Some(chosen) => offers.into_iter().find(|offer| offer.media_type() == chosen),
            None => accept.names(PROBLEM).then_some(first),
        }
    }

    /// Its content type.
    pub(super) const fn media_type(self) -> &'static str {
        match self {
            Self::Operation => JSON,
            Self::Status => "application/vnd.longhaul.status+json",
            Self::Azure => "application/vnd.longhaul.azure+json",
            Self::JsonApi => JSON_API,
        }
    }

    /// The suffix of its entity tags.
    pub(super) const fn suffix(self) -> &'static str {
        match self {
            Self::Operation => "",
            Self::Status => "s",
            Self::Azure => "a",
            Self::JsonApi => "j",
        }
    }

    /// The document.
    pub(super) fn show(self, seen: CurrentView<'_>, types: &Registry) -> String {
        match self {
            Self::Operation => types.operation_text(seen.published),
            Self::Status => status(seen, types).to_string(),
            Self::Azure => azure(seen, types).to_string(),
            Self::JsonApi => json_api(seen, types).to_string(),
        }
    }
}

/// The path of an operation, or of what belongs to it.
pub(super) fn path(seen: CurrentView<'_>, below: &str) -> String {
    format!("/v1/{}{below}", seen.operation.name)
}

/// Where the outcome of a finished operation is: what its worker named as the result, or our own route.
pub(super) fn outcome(seen: CurrentView<'_>) -> String {
    let related = seen.operation.related_resources.iter();
    let mut results = related.filter(|it| it.relation == "result" && !it.uri.is_empty());
    results.next().map_or_else(|| path(seen, "/result"), |it| it.uri.clone())
}

/// What an operation has resulted in, without its type.
pub(super) fn bare_response(seen: CurrentView<'_>, types: &Registry) -> Option<Value> {
    let Some(Outcome::Response(response)) = &seen.published.result else { return None };
    Some(types.plain(response))
}

/// How an operation has failed.
pub(super) fn failure(seen: CurrentView<'_>) -> Option<&Status> {
    match &seen.published.result {
        Some(Outcome::Error(error)) => Some(error),
        _ => None,
    }
}

fn status(seen: CurrentView<'_>, types: &Registry) -> Value {
    let operation = seen.operation;
    let metadata = operation.server_metadata();
    let mut document = json!({
        "name": operation.name.as_str(),
        "status": word(&operation.state),
        "progress": percent(seen),
        "result": bare_response(seen, types),
        "related": operation.related_resources.iter().map(related).collect::<Vec<_>>(),
    });
    let message = metadata.progress.map(|progress| progress.message).unwrap_or_default();
    let texts = [("statusDetail", metadata.status_detail), ("progressMessage", message)];
    let times = [
        ("createTime", Some(operation.create_time)),
        ("startTime", operation.start_time),
        ("updateTime", Some(operation.update_time)),
        ("endTime", operation.end_time),
        ("expireTime", operation.expire_time),
    ];
    if let Some(object) = document.as_object_mut() {
        object.extend(failure(seen).map(|error| ("error".to_owned(), error_of(error, types))));
        object.extend(present(texts));
        object.extend(
            times.into_iter().filter_map(|(name, time)| Some((name.to_owned(), text(time?)))),
        );
        if let Some(time) = metadata.estimated_end_time {
            object.insert("estimatedEndTime".to_owned(), text(Timestamp::from(&time)));
        }
    }
    document
}

fn azure(seen: CurrentView<'_>, types: &Registry) -> Value {
    let operation = seen.operation;
    let status = match &operation.state {
        State::Succeeded(_) => "Succeeded",
        State::Failed(_) => "Failed",
        State::Cancelled(_) => "Canceled",
        _ if operation.start_time.is_none() => "NotStarted",
        _ => "Running",
    };
    let mut document = json!({
        "id": seen.operation.name.id(),
        "name": operation.name.as_str(),
        "status": status,
        "percentComplete": percent(seen),
        "createdDateTime": text(operation.create_time),
        "lastUpdatedDateTime": text(operation.update_time),
    });
    if let Some(object) = document.as_object_mut() {
        let times = [("startTime", operation.start_time), ("endTime", operation.end_time)];
        object.extend(
            times.into_iter().filter_map(|(name, time)| Some((name.to_owned(), text(time?)))),
        );
        if matches!(operation.state, State::Failed(_)) {
            object.extend(failure(seen).map(|error| ("error".to_owned(), error_of(error, types))));
        }
        if let Some(result) = bare_response(seen, types) {
            object.insert("result".to_owned(), result);
            object.insert("resourceLocation".to_owned(), outcome(seen).into());
        }
    }
    document
}

fn json_api(seen: CurrentView<'_>, types: &Registry) -> Value {
    let mut attributes = status(seen, types);
    let mut relationships = Map::new();
    if let Some(attributes) = attributes.as_object_mut() {
        attributes.remove("name");
        attributes.remove("related");
    }
    for resource in &seen.operation.related_resources {
        let relation = if resource.relation.is_empty() { "related" } else { &resource.relation };
        let data = json!({ "type": kind(resource), "id": resource.name });
        let known = relationships.entry(relation).or_insert_with(|| json!({ "data": [] }));
        if let Some(all) = known["data"].as_array_mut() {
            all.push(data);
        }
        if !resource.uri.is_empty() {
            known["links"]["related"] = resource.uri.as_str().into();
        }
    }
    json!({
        "data": {
            "type": "operations",
            "id": seen.operation.name.as_str(),
            "attributes": attributes,
            "links": { "self": path(seen, "") },
            "relationships": relationships,
        },
    })
}

fn kind(resource: &pb::RelatedResource) -> &str {
    if resource.r#type.is_empty() { "resources" } else { &resource.r#type }
}

fn related(resource: &pb::RelatedResource) -> Value {
    let texts = [
        ("name", resource.name.clone()),
        ("uri", resource.uri.clone()),
        ("type", resource.r#type.clone()),
        ("relation", resource.relation.clone()),
    ];
    present(texts).collect::<Map<_, _>>().into()
}

fn present<const N: usize>(
    texts: [(&'static str, String); N],
) -> impl Iterator<Item = (String, Value)> {
    let present = texts.into_iter().filter(|(_, text)| !text.is_empty());
    present.map(|(name, text)| (name.to_owned(), text.into()))
}

fn error_of(error: &Status, types: &Registry) -> Value {
    let details: Vec<Value> = error.details.iter().map(|detail| types.any(detail)).collect();
    let code = Code::from_number(error.code).as_str();
    json!({ "code": code, "message": error.message, "details": details })
}

fn word(state: &State) -> &'static str {
    match state {
        State::Pending(_) => "pending",
        State::Running(_) | State::Cancelling(..) => "running",
        State::Suspended(_) => "suspended",
        State::Succeeded(_) => "completed",
        State::Failed(_) => "failed",
        State::Cancelled(_) => "cancelled",
    }
}

/// From 0 to 100; what is not known is 0.
fn percent(seen: CurrentView<'_>) -> u64 {
    if matches!(seen.operation.state, State::Succeeded(_)) {
        return 100;
    }
    let done = seen.operation.fraction_done().unwrap_or_default();
    (done * 100.0).floor() as u64
}

fn text(time: Timestamp) -> Value {
    prost_types::Timestamp::from(time).to_string().into()
}

/// JSON:API.
pub(super) const JSON_API: &str = "application/vnd.api+json";

/// Related addresses: where news come from, what it is one of, how to stop it, and what came into being on the way.
pub(super) fn links(seen: CurrentView<'_>) -> String {
    let (name, parent) = (seen.operation.name.as_str(), seen.operation.name.parent());
    let slash = if parent.is_empty() { "" } else { "/" };
    let mut links = format!(
        "</v1/{name}:watch>; rel=\"monitor\", </v1/{parent}{slash}operations>; rel=\"monitor-group\", \
         </openapi.json>; rel=\"describedby\""
    );
    // Writing to a String cannot fail.
    if !seen.published.done {
        let _ = write!(links, ", </v1/{name}:cancel>; rel=\"https://longhaul.dev/rels/cancel\"");
    }
    let related = seen.operation.related_resources.iter();
    let is_plain = |text: &str| !text.is_empty() && !text.contains(['<', '>', '"', '\\']);
    for it in related.filter(|it| is_plain(&it.uri)) {
        let title = if is_plain(&it.relation) { &it.relation } else { "related" };
        let _ = write!(links, ", <{}>; rel=\"related\"; title=\"{title}\"", it.uri);
    }
    links
}
