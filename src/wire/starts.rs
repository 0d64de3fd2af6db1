//! Conversions for `longhaul.v1.Producers`, and for starts by workers.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use prost_types::{ListValue, Struct, Value};

use super::fields::{Fingerprinter, any, name, not_yet, text, type_name};
use super::operations::{filter, parent};
use super::options;
use super::start_callbacks::{self, StartCarrier};
use super::status::to_message;
use super::work::{lease_duration, lease_message};
use crate::engine::{BulkRerun, Error, Leased, Reason, Rerun, Result, Started};
use crate::limits::{
    DEFAULT_LEASE, MAX_BATCH, MAX_BATCH_BYTES, MAX_BULK_RERUNS, MAX_LABEL_NAME_BYTES,
    MAX_METADATA_BYTES, MAX_PAYLOAD_BYTES, MAX_REPLY_BYTES, MAX_REQUEST_ID_LENGTH,
};
use crate::operation::lease::Fingerprint;
use crate::operation::name::{Id, NameError, Parent, ParentPattern, Queue};
use crate::operation::options::Options;
use crate::operation::payload::{self, Payload};
use crate::operation::{Spec, Start};
use crate::proto::google::longrunning::Operation;
use crate::proto::google::protobuf::Any;
use crate::proto::longhaul::v1 as pb;
use crate::proto::longhaul::v1::batch_start_operations_response as batch_response;
use crate::proto::longhaul::v1::operation_options::MetadataPolicy;
use crate::types::Registry;

/// Reads a start.
pub fn start(mut request: pb::StartOperationRequest, carrier: &StartCarrier<'_>) -> Result<Start> {
    let id = match request.operation_id.as_str() {
        "" => None,
        id => Some(Id::parse(id).map_err(in_field("operation_id"))?),
    };
    let callbacks = start_callbacks::read(&mut request, carrier)?;
    let options = options::read(request.options.unwrap_or_default())?;
    let options = Options { callbacks, ..options };
    let metadata_type = type_name("metadata_type", &request.metadata_type)?;
    if metadata_type == "google.protobuf.Value" {
        // An unset Value has no JSON, and declared metadata is an empty message until the first report.
        return Err(Error::field(
            "metadata_type",
            "metadata_type cannot be google.protobuf.Value; google.protobuf.Struct can",
        ));
    }
    let server_metadata = server_metadata(&metadata_type, options.metadata_policy)?;
    let parent = Parent::parse(&request.parent).map_err(in_field("parent"))?;
    let mut spec = Spec {
        queue: Queue::parse(&request.queue).map_err(in_field("queue"))?,
        method: text("method", request.method, MAX_LABEL_NAME_BYTES)?,
        request: any("request", request.request, MAX_PAYLOAD_BYTES)?.map(Payload::Inline),
        metadata_type,
        response_type: type_name("response_type", &request.response_type)?,
        options,
        server_metadata,
        request_id: String::new(),
        fingerprint: Fingerprint::default(),
        trace_parent: trace_parent(carrier.header("traceparent")).to_owned(),
        of_job: None,
        rerun_of: None,
        aging_interval: None,
        caller: String::new(),
    };
    let initial_metadata = any("initial_metadata", request.initial_metadata, MAX_METADATA_BYTES)?;
    spec.request_id = request_id(request.request_id)?;
    if !spec.request_id.is_empty() {
        spec.fingerprint = fingerprint(&spec);
    }
    Ok(Start { parent, id, spec, initial_metadata, validate_only: request.validate_only })
}

/// Reads a rerun.
pub fn rerun(request: pb::RerunOperationRequest) -> Result<Rerun> {
    let request_id = request_id(request.request_id)?;
    let mut hasher = Fingerprinter::default();
    hasher.part(b"rerun");
    hasher.part(request.name.as_bytes());
    hasher.any(request.request.as_ref());
    Ok(Rerun {
        name: name(&request.name)?,
        id: None,
        request: any("request", request.request, MAX_PAYLOAD_BYTES)?,
        fingerprint: if request_id.is_empty() { [0; 16] } else { hasher.finish() },
        request_id,
    })
}

/// Reads a rerun of many; `types` are those of the parent.
pub fn rerun_all(request: pb::RerunOperationsRequest, types: &Registry) -> Result<BulkRerun> {
    let parent = parent(&request.parent).to_owned();
    ParentPattern::parse(&parent).map_err(in_field("parent"))?;
    if request.filter.trim().is_empty() {
        let message = "filter must be set, so that not everything is started again by mistake; done = true matches all that is finished";
        return Err(Error::field("filter", message));
    }
    filter(&request.filter, types)?;
    if !(0..=MAX_BULK_RERUNS).contains(&i64::from(request.max_count)) {
        let message = format!(
            "max_count is {}; it must be between 0 and {MAX_BULK_RERUNS}",
            request.max_count
        );
        return Err(Error::field("max_count", message).with("limit", MAX_BULK_RERUNS));
    }
    let request_id = request_id(request.request_id)?;
    let mut hasher = Fingerprinter::default();
    let request = pb::RerunOperationsRequest { parent, request_id: String::new(), ..request };
    hasher.message(&request);
    let fingerprint = if request_id.is_empty() { [0; 16] } else { hasher.finish() };
    Ok(BulkRerun { request: pb::RerunOperationsRequest { request_id, ..request }, fingerprint })
}

/// A start by the worker that leases the operation.
#[derive(Clone, Debug)]
pub struct LeasedStart {
    /// What to start.
    pub start: Start,
    /// The name of the worker.
    pub worker: String,
    /// How long the lease lasts.
    pub duration: Duration,
}

/// Reads a start by a worker.
pub fn start_leased(
    request: pb::StartLeasedOperationRequest,
    carrier: &StartCarrier<'_>,
) -> Result<LeasedStart> {
    let wanted = request.start.ok_or_else(|| Error::field("start", "start must be set"))?;
    not_yet("start.validate_only", wanted.validate_only)?;
    if wanted.options.as_ref().is_some_and(|options| options.schedule_time.is_some()) {
        let message = "start.options.schedule_time cannot be set: an operation that is started leased is worked on now";
        return Err(Error::field("start.options.schedule_time", message));
    }
    Ok(LeasedStart {
        start: start(wanted, carrier)?,
        worker: text("worker", request.worker, MAX_LABEL_NAME_BYTES)?,
        duration: lease_duration("lease_duration", request.lease_duration)?
            .unwrap_or(DEFAULT_LEASE),
    })
}

/// The reply to a start by a worker, with the lease if the worker still holds it.
pub fn leased_reply(started: Started, leased: Option<Leased>) -> pb::StartLeasedOperationResponse {
    let lease = leased.map(lease_message);
    pb::StartLeasedOperationResponse { operation: Some(started.published), lease }
}

/// Reads a batch. An error in an item is an error of that item alone.
pub fn batch(
    batch: pb::BatchStartOperationsRequest,
    carrier: &StartCarrier<'_>,
) -> Result<Vec<Result<Start>>> {
    let parent = Parent::parse(&batch.parent).map_err(in_field("parent"))?;
    if batch.requests.is_empty() || batch.requests.len() > MAX_BATCH {
        let message = format!(
            "requests has {} items; between 1 and {MAX_BATCH} are allowed",
            batch.requests.len()
        );
        return Err(Error::field("requests", message).with("limit", MAX_BATCH));
    }
    let bytes: usize = batch.requests.iter().map(Message::encoded_len).sum();
    if bytes > MAX_BATCH_BYTES {
        let message = format!(
            "requests have {bytes} bytes together, at most {MAX_BATCH_BYTES} are allowed; send several batches"
        );
        return Err(Error::new(Reason::PayloadTooLarge, message)
            .with("field", "requests")
            .with("limit", MAX_BATCH_BYTES));
    }
    let read = |mut request: pb::StartOperationRequest| {
        if !batch.parent.is_empty()
            && !request.parent.is_empty()
            && request.parent != parent.as_str()
        {
            return Err(Error::field(
                "parent",
                format!(
                    "parent is {:?}, but the batch is for {:?}",
                    request.parent,
                    parent.as_str()
                ),
            ));
        }
        if request.parent.is_empty() {
            parent.as_str().clone_into(&mut request.parent);
        }
        not_yet("validate_only", request.validate_only)?;
        start(request, carrier)
    };
    Ok(batch.requests.into_iter().map(read).collect())
}

/// The reply to a batch: one result for each start. Where it grows too large, the last ones have only their name.
pub fn batch_reply(started: Vec<Result<Started>>) -> pb::BatchStartOperationsResponse {
    use batch_response::result::Outcome;
    let mut bytes = 0;
    let result = |started: Result<Started>| match started {
        Ok(Started { published, replayed, .. }) => {
            bytes += published.encoded_len();
            let operation = if bytes > MAX_REPLY_BYTES {
                Operation { name: published.name, ..Operation::default() }
            } else {
                published
            };
            batch_response::Result { outcome: Some(Outcome::Operation(operation)), replayed }
        }
        Err(error) => batch_response::Result {
            outcome: Some(Outcome::Error(to_message(&error))),
            replayed: false,
        },
    };
    pb::BatchStartOperationsResponse { results: started.into_iter().map(result).collect() }
}

pub(super) fn in_field(field: &'static str) -> impl Fn(NameError) -> Box<Error> {
    move |error| Error::field(field, error.to_string())
}

pub(super) fn request_id(id: String) -> Result<String> {
    if id.len() > MAX_REQUEST_ID_LENGTH || !id.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Err(Error::field(
            "request_id",
            format!(
                "request_id must be 1 to {MAX_REQUEST_ID_LENGTH} printable ASCII characters, a UUID by custom"
            ),
        ));
    }
    Ok(id)
}

fn server_metadata(metadata_type: &str, policy: MetadataPolicy) -> Result<bool> {
    match policy {
        MetadataPolicy::Server if !metadata_type.is_empty() => Err(Error::field(
            "options.metadata_policy",
            format!(
                "options.metadata_policy is SERVER, but metadata_type declares {metadata_type}; choose one"
            ),
        )),
        MetadataPolicy::None => Ok(false),
        MetadataPolicy::Unspecified | MetadataPolicy::Server => Ok(metadata_type.is_empty()),
    }
}

/// Hashes what a replay must repeat: queue, method, target, types and the request.
fn fingerprint(spec: &Spec) -> Fingerprint {
    let request = spec.request.as_ref().and_then(Payload::inline);
    let request_type = request.map_or("", |any| payload::type_name(&any.type_url));
    let mut hasher = Fingerprinter::default();
    for part in [
        spec.queue.as_str(),
        &spec.method,
        &spec.options.target,
        &spec.metadata_type,
        &spec.response_type,
        request_type,
    ] {
        hasher.part(part.as_bytes());
    }
    hasher.part(&request.map(canonical).unwrap_or_default());
    hasher.finish()
}

/// Maps have no order on the wire: a value that holds one is encoded again, its keys sorted.
fn canonical(any: &Any) -> Bytes {
    fn again<M: Message + Default>(bytes: &Bytes) -> Option<Bytes> {
        M::decode(bytes.clone()).ok().map(|message| message.encode_to_vec().into())
    }
    let encoded = match payload::type_name(&any.type_url) {
        "google.protobuf.Struct" => again::<Struct>(&any.value),
        "google.protobuf.Value" => again::<Value>(&any.value),
        "google.protobuf.ListValue" => again::<ListValue>(&any.value),
        _ => None,
    };
    encoded.unwrap_or_else(|| any.value.clone())
}

/// The trace context if it is well formed, else an empty text (W3C Trace Context section 3.2).
fn trace_parent(header: Option<&str>) -> &str {
    let well_formed = |text: &&str| {
        let parts: Vec<&str> = text.split('-').collect();
        let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
        lengths == [2, 32, 16, 2]
            && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-'))
            && parts[0] != "ff"
            && parts[1].bytes().any(|byte| byte != b'0')
            && parts[2].bytes().any(|byte| byte != b'0')
    };
    header.filter(well_formed).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use http::HeaderMap;

    use super::super::start_callbacks::StartUrl;
    use super::*;
    use crate::types::Registry;

    fn start(request: pb::StartOperationRequest) -> Result<Start> {
        let carrier = StartCarrier {
            headers: &HeaderMap::new(),
            url: StartUrl::Method("/longhaul.v1.Producers/StartOperation"),
            readable: &[],
            types: Cow::Owned(Registry::builtin()),
            receivers: None,
        };
        super::start(request, &carrier)
    }

    fn refused(change: impl FnOnce(&mut pb::StartOperationRequest)) -> String {
        let mut request = pb::StartOperationRequest::default();
        change(&mut request);
        let error = start(request).expect_err("refused");
        error.metadata.get("field").cloned().unwrap_or_default()
    }

    #[test]
    fn every_field_that_cannot_be_is_refused_by_its_name() {
        assert_eq!(refused(|r| r.parent = "projects".into()), "parent");
        assert_eq!(refused(|r| r.operation_id = "A".into()), "operation_id");
        assert_eq!(refused(|r| r.queue = "a/b".into()), "queue");
        assert_eq!(refused(|r| r.method = "m".repeat(129)), "method");
        assert_eq!(refused(|r| r.metadata_type = "google.protobuf.Value".into()), "metadata_type");
        assert_eq!(refused(|r| r.request_id = "\n".into()), "request_id");
        assert_eq!(refused(|r| r.request_id = "x".repeat(129)), "request_id");
        let large = Any { type_url: "a.B".into(), value: vec![0; MAX_PAYLOAD_BYTES + 1].into() };
        assert_eq!(refused(|r| r.request = Some(large)), "request");
        let with = |change: fn(&mut pb::OperationOptions)| {
            refused(|request| {
                let mut options = pb::OperationOptions::default();
                change(&mut options);
                request.options = Some(options);
            })
        };
        assert_eq!(with(|o| o.priority = 101), "options.priority");
        assert_eq!(
            with(|o| o.callbacks = vec![pb::Callback::default()]),
            "options.callbacks[0].uri"
        );
        assert_eq!(
            with(|o| o.concurrency = Some(pb::Concurrency::default())),
            "options.concurrency.key"
        );
        assert_eq!(
            with(|o| o.attempt_timeout = Some(prost_types::Duration::default())),
            "options.attempt_timeout"
        );
        assert_eq!(with(|o| o.metadata_policy = 9), "options.metadata_policy");
        assert_eq!(with(|o| drop(o.labels.insert(String::new(), String::new()))), "options.labels");
        let policy = |policy: pb::RetryPolicy| {
            refused(|r| {
                r.options =
                    Some(pb::OperationOptions { retry_policy: Some(policy), ..Default::default() });
            })
        };
        assert_eq!(
            policy(pb::RetryPolicy { max_attempts: -1, ..Default::default() }),
            "options.retry_policy.max_attempts"
        );
        assert_eq!(
            policy(pb::RetryPolicy { backoff_multiplier: f64::NAN, ..Default::default() }),
            "options.retry_policy.backoff_multiplier"
        );
        assert_eq!(
            policy(pb::RetryPolicy { retryable_codes: vec![0], ..Default::default() }),
            "options.retry_policy.retryable_codes"
        );
    }

    #[test]
    fn a_struct_has_the_same_fingerprint_whatever_the_order_of_its_keys() {
        let field = |key: &str| {
            let entry = Struct { fields: [(key.to_owned(), Value::default())].into() };
            entry.encode_to_vec()
        };
        let of = |first: &str, second: &str| {
            let value = [field(first), field(second)].concat().into();
            let any = Any { type_url: payload::type_url("google.protobuf.Struct"), value };
            let request_id = "r".to_owned();
            let request =
                pb::StartOperationRequest { request: Some(any), request_id, ..Default::default() };
            start(request).expect("start").spec.fingerprint
        };
        assert_eq!(of("a", "b"), of("b", "a"));
        assert_ne!(of("a", "b"), of("a", "c"));
    }

    #[test]
    fn a_large_request_is_moved_into_the_start_not_copied() {
        let value = Bytes::from(vec![7; MAX_PAYLOAD_BYTES]);
        let type_url = payload::type_url("a.B");
        let request = pb::StartOperationRequest {
            request: Some(Any { type_url, value: value.clone() }),
            request_id: "r".to_owned(),
            ..Default::default()
        };
        let spec = start(request).expect("start").spec;
        let moved = spec.request.as_ref().and_then(Payload::inline).expect("a request");
        assert_eq!(moved.value.as_ptr(), value.as_ptr());
        assert_ne!(spec.fingerprint, Fingerprint::default());
    }

    #[test]
    fn a_trace_context_that_is_not_well_formed_is_none() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(trace_parent(Some(good)), good);
        for bad in [
            "",
            "x",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        ] {
            assert_eq!(trace_parent(Some(bad)), "");
        }
    }
}
