//! Operations to filter, and a message type that has fields of every kind.

mod grammar;
mod meaning;
mod paths;
mod plans;
mod random;
mod refusals;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto,
    FileDescriptorProto, FileDescriptorSet, MessageOptions, OneofDescriptorProto,
};

use super::*;
use crate::clock::Timestamp;
use crate::proto::google::protobuf::Any;
use crate::proto::google::rpc::Status;
use crate::proto::longhaul::v1::operation_record::State;
use crate::types::Registry;

/// An operation, of which a filter sees just this.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) name: String,
    pub(super) state: State,
    pub(super) create_time: Timestamp,
    pub(super) method: String,
    pub(super) queue: String,
    pub(super) progress: Option<f64>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) error: Option<Status>,
    pub(super) payloads: [Option<Any>; 3],
    /// Payloads are not at hand.
    pub(super) detached: bool,
}

impl Sample {
    /// One that runs, with a `shop.Job` as its metadata.
    pub(super) fn running() -> Self {
        let labels = [("team", "red"), ("empty", ""), ("a.b", "dotted")];
        Self {
            name: "projects/p/operations/one".to_owned(),
            state: State::Running,
            create_time: Timestamp::from_micros(1_800_000_000_000_000),
            method: "resize".to_owned(),
            queue: "images".to_owned(),
            progress: Some(0.5),
            labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            error: None,
            payloads: [
                Some(payload(JOB)),
                None,
                Some(payload(r#"{"size": 7, "to": {"s3": ["a", "b"]}}"#)),
            ],
            detached: false,
        }
    }

    /// The same, failed.
    pub(super) fn failed() -> Self {
        let detail =
            r#"{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "NO_ROOM"}"#;
        let error =
            Status { code: 8, message: "disk is full".to_owned(), details: vec![payload(detail)] };
        Self { state: State::Failed, error: Some(error), progress: None, ..Self::running() }
    }
}

impl Seen for Sample {
    fn name(&self) -> &str {
        &self.name
    }
    fn state(&self) -> State {
        self.state
    }
    fn create_time(&self) -> Timestamp {
        self.create_time
    }
    fn method(&self) -> &str {
        &self.method
    }
    fn queue(&self) -> &str {
        &self.queue
    }
    fn progress(&self) -> Option<f64> {
        self.progress
    }
    fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key).map(String::as_str)
    }
    fn error(&self) -> Option<&Status> {
        self.error.as_ref()
    }
    fn payload(&self, which: Payload) -> Lookup<'_> {
        match &self.payloads[which as usize] {
            None => Lookup::Absent,
            Some(any) if self.detached => Lookup::Elsewhere { type_url: &any.type_url },
            Some(any) => Lookup::Here(Cow::Borrowed(any)),
        }
    }
}

pub(super) fn payload(json: &str) -> Any {
    TYPES.read_text(json).expect(json)
}

pub(super) fn filter(text: &str) -> Filter {
    Filter::parse(text, &TYPES).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Whether it matches, where nothing is out of reach.
pub(super) fn matches(text: &str, sample: &Sample) -> bool {
    match filter(text).test(sample) {
        Verdict::Match => true,
        Verdict::NoMatch => false,
        Verdict::Unknown => panic!("{text}: unknown"),
    }
}

pub(super) const JOB: &str = r#"{
    "@type": "type.googleapis.com/shop.Job", "title": "big.foo", "count": 42, "ratio": 2.5,
    "active": true, "color": "RED", "tags": ["new", "hot"], "labels": {"zone": "eu", "none": ""},
    "owner": {"name": "Ann"}, "items": [{"sku": "a", "quantity": 1}, {"sku": "b"}],
    "due": "2030-01-31T12:00:00Z", "took": "1.5s", "data": "AQI=",
    "extra": {"deep": {"list": [1, "x", {"k": true}], "nil": null}, "n": 7, "t": "7"},
    "note": "hi", "detail": {"@type": "type.googleapis.com/google.rpc.Status", "code": 3},
    "counts": {"5": 50}
}"#;

/// The built-in types and `shop.Job`.
pub(super) static TYPES: LazyLock<Registry> = LazyLock::new(|| {
    Registry::builtin()
        .with(&FileDescriptorSet { file: vec![shop()] }.encode_to_vec())
        .expect("definitions")
});

fn shop() -> FileDescriptorProto {
    let job = message(
        "Job",
        &[
            "title string",
            "count int64",
            "ratio double",
            "active bool",
            "color Color",
            "tags string *",
            "labels .shop.Job.LabelsEntry *",
            "owner .shop.Owner",
            "items .shop.Item *",
            "due .google.protobuf.Timestamp",
            "took .google.protobuf.Duration",
            "data bytes",
            "extra .google.protobuf.Struct",
            "note .google.protobuf.StringValue",
            "detail .google.protobuf.Any",
            "counts .shop.Job.CountsEntry *",
            "maybe int32 ?",
        ],
    );
    let entry = |name: &str, key: &str, value: &str| DescriptorProto {
        options: Some(MessageOptions { map_entry: Some(true), ..MessageOptions::default() }),
        ..message(name, &[key, value])
    };
    let oneof = OneofDescriptorProto { name: Some("_maybe".to_owned()), options: None };
    let job = DescriptorProto {
        nested_type: vec![
            entry("LabelsEntry", "key string", "value string"),
            entry("CountsEntry", "key int32", "value int64"),
        ],
        oneof_decl: vec![oneof],
        ..job
    };
    let color = ["COLOR_UNSPECIFIED", "RED", "GREEN"].iter().zip(0..).map(|(name, number)| {
        let name = Some((*name).to_owned());
        EnumValueDescriptorProto { name, number: Some(number), options: None }
    });
    let color = EnumDescriptorProto {
        name: Some("Color".to_owned()),
        value: color.collect(),
        ..EnumDescriptorProto::default()
    };
    let imports = ["any", "duration", "struct", "timestamp", "wrappers"];
    FileDescriptorProto {
        name: Some("shop.proto".to_owned()),
        package: Some("shop".to_owned()),
        dependency: imports.map(|name| format!("google/protobuf/{name}.proto")).into(),
        message_type: vec![
            job,
            message("Owner", &["name string", "address .shop.Address"]),
            message("Address", &["city string"]),
            message("Item", &["sku string", "quantity int32"]),
        ],
        enum_type: vec![color],
        syntax: Some("proto3".to_owned()),
        ..FileDescriptorProto::default()
    }
}

/// A message; each field is a name, a type, and `*` where it is repeated or `?` where it is optional.
fn message(name: &str, fields: &[&str]) -> DescriptorProto {
    let fields = fields.iter().zip(1..).map(|(field, number)| {
        let mut words = field.split(' ');
        let (name, kind) = (words.next().expect("a name"), words.next().expect("a type"));
        let (more, kind_name) = (words.next(), kind.starts_with('.').then(|| kind.to_owned()));
        let kind = match kind {
            "string" => Type::String,
            "int32" => Type::Int32,
            "int64" => Type::Int64,
            "double" => Type::Double,
            "bool" => Type::Bool,
            "bytes" => Type::Bytes,
            "Color" => Type::Enum,
            _ => Type::Message,
        };
        let enum_name = (kind == Type::Enum).then(|| ".shop.Color".to_owned());
        FieldDescriptorProto {
            name: Some(name.to_owned()),
            number: Some(number),
            label: Some(if more == Some("*") { Label::Repeated } else { Label::Optional }.into()),
            r#type: Some(kind.into()),
            type_name: kind_name.or(enum_name),
            oneof_index: (more == Some("?")).then_some(0),
            proto3_optional: (more == Some("?")).then_some(true),
            ..FieldDescriptorProto::default()
        }
    });
    DescriptorProto {
        name: Some(name.to_owned()),
        field: fields.collect(),
        ..DescriptorProto::default()
    }
}
