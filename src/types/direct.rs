//! The JSON text of an Operation. Metadata of longhaul's own is written from its type: most operations have it, and a dynamic
//! message takes several times as long. The text is the same either way.

use prost::Message;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::registry::Registry;
use crate::operation::payload::type_name;
use crate::proto::google::longrunning::{Operation, operation};
use crate::proto::google::protobuf::Any;
use crate::proto::longhaul::v1::operation_record::State;
use crate::proto::longhaul::v1::{OperationMetadata, Progress};

impl Registry {
    /// An Operation as text, with nothing but its own fields.
    pub fn operation_text(&self, operation: &Operation) -> String {
        let (mut error, mut response) = (None, None);
        match &operation.result {
            Some(operation::Result::Error(status)) => error = Some(self.status(status)),
            Some(operation::Result::Response(any)) => response = Some(self.any(any)),
            None => {}
        }
        let own = operation.metadata.as_ref().and_then(own_metadata);
        let metadata = operation.metadata.as_ref().map(|metadata| match &own {
            Some(own) => MetadataText::Own(OwnMetadata::of(&metadata.type_url, own)),
            None => MetadataText::Other(self.any(metadata)),
        });
        let text = OperationText {
            done: operation.done.then_some(true),
            error,
            metadata,
            name: &operation.name,
            response,
        };
        // Keys are texts, so that it can be written.
        serde_json::to_string(&text).unwrap_or_default()
    }
}

/// Metadata that [`OwnMetadata`] has all the fields of.
fn own_metadata(any: &Any) -> Option<OperationMetadata> {
    if type_name(&any.type_url) != "longhaul.v1.OperationMetadata" {
        return None;
    }
    let own = OperationMetadata::decode(any.value.clone()).ok()?;
    let is_known = State::try_from(own.state).is_ok()
        && own.partial_errors.is_empty()
        && own.cancel_trail.is_none();
    is_known.then_some(own)
}

// Fields are in the order of their names, as everywhere in our JSON.

#[derive(Serialize)]
struct OperationText<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    done: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<MetadataText<'a>>,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<Value>,
}

#[derive(Serialize)]
#[serde(untagged)]
#[expect(clippy::large_enum_variant, reason = "it is written at once and goes nowhere")]
enum MetadataText<'a> {
    Own(OwnMetadata<'a>),
    Other(Value),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OwnMetadata<'a> {
    #[serde(rename = "@type")]
    type_url: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    api_version: &'a str,
    #[serde(skip_serializing_if = "is_default")]
    attempt_count: i32,
    #[serde(skip_serializing_if = "is_default")]
    cancel_requested: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    create_time: Option<Time<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_time: Option<Time<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    estimated_end_time: Option<Time<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expire_time: Option<Time<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<ProgressText<'a>>,
    #[serde(skip_serializing_if = "is_default")]
    stalled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_time: Option<Time<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    state: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    status_detail: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    suspend_reason: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    target: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    update_time: Option<Time<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    verb: &'a str,
}

impl<'a> OwnMetadata<'a> {
    fn of(type_url: &'a str, own: &'a OperationMetadata) -> Self {
        let state = own.state();
        Self {
            type_url,
            api_version: &own.api_version,
            attempt_count: own.attempt_count,
            cancel_requested: own.cancel_requested,
            create_time: own.create_time.as_ref().map(Time),
            end_time: own.end_time.as_ref().map(Time),
            estimated_end_time: own.estimated_end_time.as_ref().map(Time),
            expire_time: own.expire_time.as_ref().map(Time),
            progress: own.progress.as_ref().map(ProgressText::of),
            stalled: own.stalled,
            start_time: own.start_time.as_ref().map(Time),
            state: if state == State::Unspecified { "" } else { state.as_str_name() },
            status_detail: &own.status_detail,
            suspend_reason: &own.suspend_reason,
            target: &own.target,
            update_time: own.update_time.as_ref().map(Time),
            verb: &own.verb,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProgressText<'a> {
    #[serde(skip_serializing_if = "is_default")]
    completed_units: Units,
    #[serde(skip_serializing_if = "Option::is_none")]
    fraction: Option<Fraction>,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
    #[serde(skip_serializing_if = "is_default")]
    total_units: Units,
    #[serde(skip_serializing_if = "str::is_empty")]
    unit: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    update_time: Option<Time<'a>>,
}

impl<'a> ProgressText<'a> {
    fn of(progress: &'a Progress) -> Self {
        Self {
            completed_units: Units(progress.completed_units),
            fraction: progress.fraction.map(Fraction),
            message: &progress.message,
            total_units: Units(progress.total_units),
            unit: &progress.unit,
            update_time: progress.update_time.as_ref().map(Time),
        }
    }
}

struct Time<'a>(&'a prost_types::Timestamp);

impl Serialize for Time<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self.0)
    }
}

#[derive(Default, PartialEq)]
struct Units(i64);

impl Serialize for Units {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// From 0 to 1, so that the whole numbers are these two.
struct Fraction(f64);

impl Serialize for Fraction {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.fract() == 0.0 {
            serializer.serialize_i64(self.0 as i64)
        } else {
            serializer.serialize_f64(self.0)
        }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::google::rpc::Status;
    use crate::proto::longhaul::v1::CancelTrail;

    fn time(seconds: i64, nanos: i32) -> prost_types::Timestamp {
        prost_types::Timestamp { seconds, nanos }
    }

    /// Every field has a value.
    fn full() -> OperationMetadata {
        let text = |text: &str| text.to_owned();
        OperationMetadata {
            create_time: Some(time(1_800_000_000, 123_456_000)),
            end_time: Some(time(1_800_000_001, 0)),
            target: text("projects/p"),
            verb: text("copy"),
            status_detail: text("half \"done\"\n\u{e9}"),
            cancel_requested: true,
            api_version: text("v1"),
            state: State::Running.into(),
            progress: Some(Progress {
                fraction: Some(0.25),
                completed_units: 1 << 60,
                total_units: 7,
                unit: text("rows"),
                message: text("copying"),
                update_time: Some(time(-1, 500_000_000)),
            }),
            attempt_count: 3,
            start_time: Some(time(0, 1_000)),
            update_time: Some(time(0, 999_999_000)),
            expire_time: Some(time(4_000_000_000, 120_000_000)),
            estimated_end_time: Some(time(5, 10_000_000)),
            partial_errors: Vec::new(),
            cancel_trail: None,
            suspend_reason: text("approval"),
            stalled: true,
        }
    }

    #[test]
    fn an_operation_is_the_same_text_as_by_its_descriptors() {
        let types = Registry::builtin();
        let error = Status { code: 5, message: "gone".to_owned(), details: Vec::new() };
        let whole = |fraction| OperationMetadata {
            progress: Some(Progress { fraction: Some(fraction), ..Progress::default() }),
            ..OperationMetadata::default()
        };
        let any = |own: &OperationMetadata| Any {
            type_url: "type.googleapis.com/longhaul.v1.OperationMetadata".to_owned(),
            value: own.encode_to_vec().into(),
        };
        let all = [
            full(),
            OperationMetadata::default(),
            whole(0.0),
            whole(1.0),
            OperationMetadata { state: 99, ..full() },
            OperationMetadata { partial_errors: vec![error.clone()], ..full() },
            OperationMetadata { cancel_trail: Some(CancelTrail::default()), ..full() },
        ];
        let foreign = Any {
            type_url: "type.googleapis.com/google.protobuf.Duration".to_owned(),
            value: vec![8, 5].into(),
        };
        let damaged = Any { value: vec![0xff].into(), ..any(&full()) };
        let metadata = all.iter().map(any).chain([foreign.clone(), damaged]).map(Some);
        let results = [
            None,
            Some(operation::Result::Error(error)),
            Some(operation::Result::Response(foreign)),
        ];
        for metadata in metadata.chain([None]) {
            for result in &results {
                let operation = Operation {
                    name: "projects/p/operations/x".to_owned(),
                    metadata: metadata.clone(),
                    done: result.is_some(),
                    result: result.clone(),
                };
                let dynamic = types.operation(&operation).to_string();
                assert_eq!(types.operation_text(&operation), dynamic);
            }
        }
    }
}
