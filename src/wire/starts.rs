//! What producers send.

use prost::Message;
use prost_types::{Any, ListValue, Struct, Value};

use super::fields::{any, duration, not_yet, positive_duration, text, timestamp, type_name};
use crate::engine::{Error, Reason, Result, StartRequest};
use crate::limits::{
    MAX_ATTEMPTS, MAX_BACKOFF_MULTIPLIER, MAX_BATCH, MAX_BATCH_BYTES, MAX_LABEL_NAME_BYTES,
    MAX_LABEL_VALUE_BYTES, MAX_LABELS, MAX_METADATA_BYTES, MAX_PAYLOAD_BYTES, MAX_PRIORITY,
    MAX_REQUEST_ID_LENGTH, MAX_TEXT_BYTES,
};
use crate::operation::lease::Fingerprint;
use crate::operation::name::{Id, NameError, Parent, Queue};
use crate::operation::payload;
use crate::proto::longhaul::v1 as pb;

/// Reads a start; `trace_parent` came beside it.
pub fn start(request: pb::StartOperationRequest, trace_parent: &str) -> Result<StartRequest> {
    let id = match request.operation_id.as_str() {
        "" => None,
        id => Some(Id::parse(id).map_err(in_field("operation_id"))?),
    };
    let options = options(request.options.unwrap_or_default())?;
    let metadata_type = type_name("metadata_type", &request.metadata_type)?;
    if metadata_type == "google.protobuf.Value" {
        // An unset Value has no JSON, and declared metadata is an empty message until the first report.
        return Err(Error::field(
            "metadata_type",
            "metadata_type cannot be google.protobuf.Value; google.protobuf.Struct can",
        ));
    }
    let server_metadata = server_metadata(&metadata_type, options.metadata_policy())?;
    let mut start = StartRequest {
        parent: Parent::parse(&request.parent).map_err(in_field("parent"))?,
        id,
        queue: Queue::parse(&request.queue).map_err(in_field("queue"))?,
        method: text("method", request.method, MAX_LABEL_NAME_BYTES)?,
        request: any("request", request.request, MAX_PAYLOAD_BYTES)?,
        metadata_type,
        response_type: type_name("response_type", &request.response_type)?,
        initial_metadata: any("initial_metadata", request.initial_metadata, MAX_METADATA_BYTES)?,
        options,
        server_metadata,
        validate_only: request.validate_only,
        request_id: request_id(request.request_id)?,
        fingerprint: [0; 16],
        trace_parent: trace_parent.to_owned(),
    };
    start.fingerprint = fingerprint(&start);
    Ok(start)
}

/// Reads a batch: the whole must be right, each item is read on its own.
pub fn batch(
    batch: pb::BatchStartOperationsRequest,
    trace_parent: &str,
) -> Result<Vec<Result<StartRequest>>> {
    let Ok(parent) = Parent::parse(&batch.parent) else {
        return Err(Parent::parse(&batch.parent)
            .map_err(in_field("parent"))
            .err()
            .unwrap_or_else(|| Error::field("parent", "parent is none")));
    };
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
        start(request, trace_parent)
    };
    Ok(batch.requests.into_iter().map(read).collect())
}

fn in_field(field: &'static str) -> impl Fn(NameError) -> Box<Error> {
    move |error| Error::field(field, error.to_string())
}

fn request_id(id: String) -> Result<String> {
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

fn server_metadata(
    metadata_type: &str,
    policy: pb::operation_options::MetadataPolicy,
) -> Result<bool> {
    use pb::operation_options::MetadataPolicy;
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

fn options(options: pb::OperationOptions) -> Result<pb::OperationOptions> {
    use pb::operation_options::{Expiration, MetadataPolicy};
    if options.priority.unsigned_abs() > MAX_PRIORITY.unsigned_abs() {
        let message = format!(
            "options.priority is {}; it must be between -{MAX_PRIORITY} and {MAX_PRIORITY}",
            options.priority
        );
        return Err(Error::field("options.priority", message));
    }
    timestamp("options.schedule_time", options.schedule_time)?;
    timestamp("options.deadline_time", options.deadline_time)?;
    positive_duration("options.attempt_timeout", options.attempt_timeout)?;
    positive_duration("options.queue_timeout", options.queue_timeout)?;
    duration("options.cancel_grace", options.cancel_grace)?;
    match &options.expiration {
        Some(Expiration::ExpireTime(time)) => drop(timestamp("options.expire_time", Some(*time))?),
        Some(Expiration::Ttl(ttl)) => drop(duration("options.ttl", Some(*ttl))?),
        None => {}
    }
    if let Some(policy) = &options.retry_policy {
        retry_policy(policy)?;
    }
    if MetadataPolicy::try_from(options.metadata_policy).is_err() {
        return Err(Error::field(
            "options.metadata_policy",
            format!("options.metadata_policy {} is not known", options.metadata_policy),
        ));
    }
    not_yet("options.concurrency", options.concurrency.is_some())?;
    not_yet("options.callbacks", !options.callbacks.is_empty())?;
    labels(&options)?;
    text("options.target", options.target.clone(), MAX_TEXT_BYTES)?;
    Ok(options)
}

fn retry_policy(policy: &pb::RetryPolicy) -> Result<()> {
    if !(0..=MAX_ATTEMPTS as i32).contains(&policy.max_attempts) {
        let message = format!(
            "options.retry_policy.max_attempts is {}; it must be between 0 (the default) and {MAX_ATTEMPTS}",
            policy.max_attempts
        );
        return Err(Error::field("options.retry_policy.max_attempts", message));
    }
    positive_duration("options.retry_policy.initial_backoff", policy.initial_backoff)?;
    positive_duration("options.retry_policy.max_backoff", policy.max_backoff)?;
    let multiplier = policy.backoff_multiplier;
    if multiplier != 0.0 && !(1.0..=MAX_BACKOFF_MULTIPLIER).contains(&multiplier) {
        let message = format!(
            "options.retry_policy.backoff_multiplier is {multiplier}; it must be between 1 and {MAX_BACKOFF_MULTIPLIER}"
        );
        return Err(Error::field("options.retry_policy.backoff_multiplier", message));
    }
    match policy.retryable_codes.iter().find(|code| !(1..=16).contains(*code)) {
        Some(code) => Err(Error::field(
            "options.retry_policy.retryable_codes",
            format!("{code} is no code of an error; they go from 1 to 16"),
        )),
        None => Ok(()),
    }
}

fn labels(options: &pb::OperationOptions) -> Result<()> {
    if options.labels.len() > MAX_LABELS {
        let message = format!(
            "options.labels has {} entries, at most {MAX_LABELS} are allowed",
            options.labels.len()
        );
        return Err(Error::field("options.labels", message).with("limit", MAX_LABELS));
    }
    for (key, value) in &options.labels {
        if key.is_empty() || key.len() > MAX_LABEL_NAME_BYTES || value.len() > MAX_LABEL_VALUE_BYTES
        {
            let message = format!(
                "options.labels: a key has 1 to {MAX_LABEL_NAME_BYTES} bytes and a value at most {MAX_LABEL_VALUE_BYTES}; {} and {} were found",
                key.len(),
                value.len()
            );
            return Err(Error::field("options.labels", message));
        }
    }
    Ok(())
}

/// What a replay must repeat: queue, method, target, types and the request.
fn fingerprint(start: &StartRequest) -> Fingerprint {
    let mut hasher = blake3::Hasher::new();
    let request = start.request.as_ref().map(canonical).unwrap_or_default();
    let request_type = start.request.as_ref().map_or("", |any| payload::type_name(&any.type_url));
    let texts = [
        start.queue.as_str(),
        &start.method,
        &start.options.target,
        &start.metadata_type,
        &start.response_type,
        request_type,
    ];
    for part in texts.map(str::as_bytes).into_iter().chain([&request[..]]) {
        hasher.update(&(part.len() as u64).to_be_bytes()).update(part);
    }
    hasher.finalize().as_bytes().first_chunk().copied().unwrap_or_default()
}

/// Maps have no order on the wire: what holds one is encoded anew, its keys sorted.
fn canonical(any: &Any) -> Vec<u8> {
    fn again<M: Message + Default>(bytes: &[u8]) -> Option<Vec<u8>> {
        M::decode(bytes).ok().map(|message| message.encode_to_vec())
    }
    let encoded = match payload::type_name(&any.type_url) {
        "google.protobuf.Struct" => again::<Struct>(&any.value),
        "google.protobuf.Value" => again::<Value>(&any.value),
        "google.protobuf.ListValue" => again::<ListValue>(&any.value),
        _ => None,
    };
    encoded.unwrap_or_else(|| any.value.clone())
}

/// A trace context that is well formed; anything else is no trace (W3C Trace Context section 3.2).
pub fn trace_parent(header: Option<&str>) -> &str {
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
    use super::*;

    fn refused(change: impl FnOnce(&mut pb::StartOperationRequest)) -> String {
        let mut request = pb::StartOperationRequest::default();
        change(&mut request);
        let error = start(request, "").expect_err("refused");
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
        let large = Any { type_url: "a.B".into(), value: vec![0; MAX_PAYLOAD_BYTES + 1] };
        assert_eq!(refused(|r| r.request = Some(large)), "request");
        let with = |change: fn(&mut pb::OperationOptions)| {
            refused(|request| {
                let mut options = pb::OperationOptions::default();
                change(&mut options);
                request.options = Some(options);
            })
        };
        assert_eq!(with(|o| o.priority = 101), "options.priority");
        assert_eq!(with(|o| o.callbacks = vec![pb::Callback::default()]), "options.callbacks");
        assert_eq!(
            with(|o| o.concurrency = Some(pb::Concurrency::default())),
            "options.concurrency"
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
            let value = [field(first), field(second)].concat();
            let any = Any { type_url: payload::type_url("google.protobuf.Struct"), value };
            start(pb::StartOperationRequest { request: Some(any), ..Default::default() }, "")
                .expect("start")
                .fingerprint
        };
        assert_eq!(of("a", "b"), of("b", "a"));
        assert_ne!(of("a", "b"), of("a", "c"));
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
