//! What the path and the query of a request say, put into the JSON of its body.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value};

use crate::engine::{Error, Result};
use crate::wire::transcode::read;

/// Puts the parameters of a query into `object`, except those that are for the HTTP system, such as `$alt`.
pub(super) fn bind(
    object: &mut Map<String, Value>,
    message: &MessageDescriptor,
    query: &str,
) -> Result<()> {
    for (key, text) in form_urlencoded::parse(query.as_bytes()) {
        if is_for_the_system(message, &key) {
            continue;
        }
        put(object, message, &key, &text, Given::Query)?;
    }
    Ok(())
}

/// Puts a field that the path gives into `object`.
pub(super) fn bind_path(
    object: &mut Map<String, Value>,
    message: &MessageDescriptor,
    field: &str,
    text: &str,
) -> Result<()> {
    put(object, message, field, text, Given::Path)
}

/// Puts a field that a header gives into `object`.
pub(super) fn bind_header(
    object: &mut Map<String, Value>,
    message: &MessageDescriptor,
    field: &str,
    text: &str,
) -> Result<()> {
    put(object, message, field, text, Given::Header)
}

/// The value of a parameter of the query.
pub(super) fn parameter(query: &str, names: &[&str]) -> Option<String> {
    form_urlencoded::parse(query.as_bytes())
        .find(|(key, _)| names.contains(&&**key))
        .map(|(_, value)| value.into_owned())
}

#[derive(Clone, Copy, PartialEq)]
enum Given {
    Path,
    Query,
    Header,
}

/// Google's clients send these whatever is asked for; none of them is about the request itself.
fn is_for_the_system(message: &MessageDescriptor, key: &str) -> bool {
    key.is_empty()
        || key.starts_with('$')
        || SYSTEM.contains(&key) && read::field(message, key).is_none()
}

fn put(
    object: &mut Map<String, Value>,
    message: &MessageDescriptor,
    key: &str,
    text: &str,
    given: Given,
) -> Result<()> {
    let (first, rest) =
        key.split_once('.').map_or((key, None), |(first, rest)| (first, Some(rest)));
    let Some(field) = read::field(message, first) else {
        let known = match given {
            Given::Query => "query",
            Given::Path => "path",
            Given::Header => "header",
        };
        return Err(Error::field(
            key,
            format!("{} has no field {key}, which the {known} names", message.name()),
        ));
    };
    // The body may have either spelling.
    let spelling =
        [field.name(), field.json_name()].into_iter().find(|name| object.contains_key(*name));
    let name = spelling.unwrap_or(field.json_name()).to_owned();
    if let Some(rest) = rest {
        let Kind::Message(inner) = field.kind() else {
            return Err(Error::field(key, format!("{first} has no fields, {key} names one")));
        };
        let slot = object.entry(name).or_insert(Value::Null);
        if slot.is_null() {
            *slot = Value::Object(Map::new());
        }
        let Value::Object(inside) = slot else {
            return Err(Error::field(first, format!("{first} must be an object")));
        };
        return put(inside, &inner, rest, text, given);
    }
    let Some(value) = value(&field, text, key)? else { return Ok(()) };
    let slot = object.entry(name).or_insert(Value::Null);
    match slot {
        Value::Null => *slot = if field.is_list() { Value::Array(vec![value]) } else { value },
        Value::Array(values) if field.is_list() && given == Given::Query => values.push(value),
        Value::String(empty) if empty.is_empty() => *slot = value,
        same if *same == value => {}
        other => {
            let message = match given {
                Given::Path => {
                    format!("{key} is {text} in the path and {other} beside it; leave it out there")
                }
                Given::Header => {
                    format!("{key} is {text} in a header and {other} beside it; give it once")
                }
                Given::Query => format!("{key} is given as {text} and as {other}; give it once"),
            };
            return Err(Error::field(key, message));
        }
    }
    Ok(())
}

/// The JSON of a parameter. Empty ones are unset: clients send `filter=&pageSize=0`, or just the names.
fn value(field: &FieldDescriptor, text: &str, key: &str) -> Result<Option<Value>> {
    let wrong = |wanted: &str| Error::field(key, format!("{key} is {text}; it must be {wanted}"));
    if text.is_empty() {
        return Ok(None);
    }
    Ok(Some(match field.kind() {
        _ if field.is_map() => return Err(wrong("in the body, as it is a map")),
        Kind::Bool => match text {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            _ => return Err(wrong("true or false")),
        },
        Kind::Enum(_) => text.parse::<i32>().map_or_else(|_| text.into(), Value::from),
        Kind::Message(message) if !is_text(message.full_name()) => {
            return Err(wrong("in the body, or its fields as parameters, as it is a message"));
        }
        _ => text.into(),
    }))
}

/// Whether the JSON of a message is a string, or may be.
pub(super) fn is_text(name: &str) -> bool {
    TEXTS.iter().any(|text| name.strip_prefix("google.protobuf.") == Some(*text))
}

const TEXTS: [&str; 9] = [
    "Duration",
    "FieldMask",
    "Timestamp",
    "StringValue",
    "BytesValue",
    "Int32Value",
    "Int64Value",
    "UInt32Value",
    "UInt64Value",
];

/// Parameters that Google's APIs take without a dollar sign, too; and the version that Azure's clients always send.
const SYSTEM: [&str; 13] = [
    "access_token",
    "alt",
    "api-version",
    "callback",
    "fields",
    "key",
    "oauth_token",
    "prettyPrint",
    "quotaUser",
    "uploadType",
    "upload_protocol",
    "userIp",
    "xgafv",
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::http::routes::pool;

    fn bound(message: &str, body: Value, path: &[(&str, &str)], query: &str) -> Result<Value> {
        let message = pool().get_message_by_name(message).expect(message);
        let Value::Object(mut object) = body else { panic!("an object") };
        for (field, text) in path {
            bind_path(&mut object, &message, field, text)?;
        }
        bind(&mut object, &message, query)?;
        Ok(object.into())
    }

    #[test]
    fn parameters_become_fields() {
        const LIST: &str = "google.longrunning.ListOperationsRequest";
        const START: &str = "longhaul.v1.StartOperationRequest";
        const WATCH: &str = "longhaul.v1.WatchOperationRequest";
        const POLICY: &str =
            "options.retry_policy.retryable_codes=ABORTED&options.retryPolicy.retryableCodes=4";
        const UNSET: &str = "filter=&pageSize=0&pageToken=&returnPartialSuccess=false";
        const SYSTEM: &str = "$alt=json;enum-encoding%3Dint&%24fields=a&prettyPrint=0&alt=json";
        for (message, body, parent, query, expected) in [
            (
                LIST,
                "{}",
                "",
                "pageSize=7&pageToken=a%20b",
                r#"{"pageSize": "7", "pageToken": "a b"}"#,
            ),
            (LIST, "{}", "", "page_size=7", r#"{"pageSize": "7"}"#),
            (LIST, "{}", "", UNSET, r#"{"pageSize": "0", "returnPartialSuccess": false}"#),
            (LIST, "{}", "", "filter&pageSize=7&pageToken", r#"{"pageSize": "7"}"#),
            (LIST, "{}", "", SYSTEM, "{}"),
            (WATCH, "{}", "", "minInterval=1.5s", r#"{"minInterval": "1.5s"}"#),
            (WATCH, "{}", "", "view=OPERATION_VIEW_FULL", r#"{"view": "OPERATION_VIEW_FULL"}"#),
            (WATCH, "{}", "", "view=2", r#"{"view": 2}"#),
            (START, r#"{"queue": "q"}"#, "p/q", "", r#"{"queue": "q", "parent": "p/q"}"#),
            (START, r#"{"parent": "p/q"}"#, "p/q", "", r#"{"parent": "p/q"}"#),
            (START, r#"{"parent": ""}"#, "p/q", "", r#"{"parent": "p/q"}"#),
            (START, r#"{"operation_id": "x"}"#, "", "operationId=x", r#"{"operation_id": "x"}"#),
            (START, "{}", "", "options.priority=3", r#"{"options": {"priority": "3"}}"#),
            (
                START,
                r#"{"options": {"target": "t"}}"#,
                "",
                POLICY,
                r#"{"options": {"target": "t", "retryPolicy": {"retryableCodes": ["ABORTED", 4]}}}"#,
            ),
        ] {
            let path = [("parent", parent)];
            let path = if parent.is_empty() { &[][..] } else { &path };
            let json = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
            let found = bound(message, json(body), path, query)
                .unwrap_or_else(|error| panic!("{query}: {error}"));
            assert_eq!(found, json(expected), "{query}");
        }
    }

    #[test]
    fn parameters_that_fit_nothing_are_refused_by_name() {
        for (body, path, query, field) in [
            (json!({}), &[][..], "nothing=1", "nothing"),
            (json!({}), &[], "options.nothing=1", "nothing"),
            (json!({}), &[], "parent.x=1", "parent.x"),
            (json!({}), &[], "validateOnly=1", "validateOnly"),
            (json!({}), &[], "request=1", "request"),
            (json!({}), &[], "options=1", "options"),
            (json!({}), &[], "options.labels=1", "labels"),
            (json!({}), &[], "parent=a&parent=b", "parent"),
            (json!({ "options": 1 }), &[], "options.priority=1", "options"),
            (json!({ "parent": "a/b" }), &[("parent", "c/d")], "", "parent"),
            (json!({}), &[("parent", "c/d")], "parent=a/b", "parent"),
        ] {
            let error =
                bound("longhaul.v1.StartOperationRequest", body, path, query).expect_err(query);
            assert_eq!(error.metadata.get("field").map(String::as_str), Some(field), "{error}");
        }
    }
}
