//! Schemas of messages as their canonical JSON.

use std::collections::{BTreeMap, BTreeSet};

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::comments::described;
use crate::http::routes::Routes;

/// The schemas of the messages that were asked for, and of those within them.
pub(super) struct Schemas {
    components: BTreeMap<String, Value>,
    /// Messages that requests are made of: members that they do not have are refused.
    inputs: BTreeSet<String>,
    /// Fields that paths give.
    in_paths: BTreeSet<String>,
}

impl Schemas {
    /// None yet; these routes say which messages are requests.
    pub(super) fn of(routes: &Routes) -> Self {
        let (mut inputs, mut in_paths) = (BTreeSet::new(), BTreeSet::new());
        for route in routes.iter() {
            let input = route.rpc.method.input();
            inputs.insert(input.full_name().to_owned());
            let fields = route.template.fields();
            in_paths.extend(fields.map(|field| format!("{}.{field}", input.full_name())));
        }
        Self { components: BTreeMap::new(), inputs, in_paths }
    }

    /// All that were asked for, by their full names.
    pub(super) fn components(self) -> Map<String, Value> {
        self.components.into_iter().collect()
    }

    /// The schema of a message.
    pub(super) fn of_message(&mut self, message: &MessageDescriptor) -> Value {
        let name = message.full_name();
        if message.package_name() == "google.protobuf" && name != ANY {
            return well_known(message.name());
        }
        if !self.components.contains_key(name) {
            // Messages may hold themselves.
            self.components.insert(name.to_owned(), Value::Null);
            let schema = if name == ANY { any() } else { self.object(message) };
            self.components.insert(name.to_owned(), schema);
        }
        reference(name)
    }

    /// The schema of a field, with its comment.
    pub(super) fn of_field(&mut self, field: &FieldDescriptor) -> Value {
        let value = match field.kind() {
            Kind::Message(entry) if field.is_map() => {
                let values = self.of_kind(&entry.map_entry_value_field().kind());
                json!({ "type": "object", "additionalProperties": values })
            }
            kind => self.of_kind(&kind),
        };
        let mut schema =
            if field.is_list() { json!({ "type": "array", "items": value }) } else { value };
        let comment = described(field.full_name());
        if let (Some(object), false) = (schema.as_object_mut(), comment.is_empty()) {
            object.insert("description".to_owned(), comment.into());
        }
        schema
    }

    fn of_kind(&mut self, kind: &Kind) -> Value {
        match kind {
            Kind::Double | Kind::Float => json!({ "type": "number", "format": "double" }),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
                json!({ "type": "integer", "format": "int32", "minimum": i32::MIN, "maximum": i32::MAX })
            }
            Kind::Uint32 | Kind::Fixed32 => {
                json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX })
            }
            // Doubles, which JSON's numbers often become, cannot hold all of these.
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
                json!({ "type": "string", "format": "int64", "pattern": "^-?[0-9]{1,19}$" })
            }
            Kind::Uint64 | Kind::Fixed64 => {
                json!({ "type": "string", "format": "uint64", "pattern": "^[0-9]{1,20}$" })
            }
            Kind::Bool => json!({ "type": "boolean" }),
            Kind::String => json!({ "type": "string" }),
            Kind::Bytes => json!({ "type": "string", "contentEncoding": "base64" }),
            Kind::Message(message) => self.of_message(message),
            Kind::Enum(values) => self.of_enum(values),
        }
    }

    fn of_enum(&mut self, values: &EnumDescriptor) -> Value {
        let name = values.full_name();
        if name == "google.protobuf.NullValue" {
            return json!({ "type": "null" });
        }
        let names: Vec<String> = values.values().map(|value| value.name().to_owned()).collect();
        let lines = values.values().filter_map(|value| {
            let comment = described(value.full_name());
            (!comment.is_empty()).then(|| format!("- `{}`: {comment}", value.name()))
        });
        let lines: Vec<String> = lines.collect();
        let description = format!("{}\n\n{}", described(name), lines.join("\n"));
        let schema = json!({ "type": "string", "enum": names, "description": description.trim() });
        self.components.insert(name.to_owned(), schema);
        reference(name)
    }

    fn object(&mut self, message: &MessageDescriptor) -> Value {
        let mut properties = Map::new();
        let mut required = Vec::new();
        for field in message.fields() {
            let in_path = format!("{}.{}", message.full_name(), field.name());
            if is_required(&field) && !self.in_paths.contains(&in_path) {
                required.push(field.json_name().to_owned());
            }
            properties.insert(field.json_name().to_owned(), self.of_field(&field));
        }
        let mut schema = json!({ "type": "object", "properties": properties });
        let comment = described(message.full_name());
        if !comment.is_empty() {
            schema["description"] = comment.into();
        }
        if !required.is_empty() {
            schema["required"] = required.into();
        }
        if self.inputs.contains(message.full_name()) {
            schema["additionalProperties"] = false.into();
        }
        schema
    }
}

/// A reference to the schema of that name.
pub(super) fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// Whether a field must be given.
pub(super) fn is_required(field: &FieldDescriptor) -> bool {
    const REQUIRED: i32 = 2;
    let pool = field.parent_pool();
    let Some(behavior) = pool.get_extension_by_name("google.api.field_behavior") else {
        return false;
    };
    let options = field.options();
    let behaviors = options.get_extension(&behavior);
    let mut values = behaviors.as_list().unwrap_or_default().iter();
    values.any(|value| value.as_enum_number() == Some(REQUIRED))
}

/// A payload, in every form that is accepted or sent.
fn any() -> Value {
    json!({
        "description": "A message of any type. With `@type`, its canonical JSON; `@value` holds the bytes of a type that the server does not know. In requests, an object without `@type` is a google.protobuf.Struct, and any other JSON a google.protobuf.Value.",
        "properties": {
            "@type": {
                "type": "string",
                "description": "URL of the type: type.googleapis.com/ and its full name.",
            },
            "@value": { "type": "string", "contentEncoding": "base64" },
        },
    })
}

/// Types of google.protobuf that have JSON of their own.
fn well_known(name: &str) -> Value {
    match name {
        "Timestamp" => json!({ "type": "string", "format": "date-time" }),
        "Duration" => {
            json!({ "type": "string", "pattern": "^-?[0-9]{1,12}([.][0-9]{1,9})?s$", "examples": ["1.5s"] })
        }
        "FieldMask" | "StringValue" => json!({ "type": "string" }),
        "BytesValue" => json!({ "type": "string", "contentEncoding": "base64" }),
        "BoolValue" => json!({ "type": "boolean" }),
        "DoubleValue" | "FloatValue" => json!({ "type": "number" }),
        "Int32Value" | "UInt32Value" => json!({ "type": "integer" }),
        "Int64Value" | "UInt64Value" => json!({ "type": "string", "format": "int64" }),
        "ListValue" => json!({ "type": "array" }),
        "Value" => json!({}),
        _ => json!({ "type": "object" }),
    }
}

const ANY: &str = "google.protobuf.Any";
