//! Schemas of the documents that are no messages: errors, and an operation as others have published it.

use serde_json::{Map, Value, json};

use super::schemas::reference;
use crate::code::Code;

/// All of them, by name.
pub(super) fn schemas() -> Map<String, Value> {
    let all = [
        ("Error", error()),
        ("Problem", problem()),
        ("JsonApiErrors", json_api_errors()),
        ("StatusDocument", status()),
        ("AzureDocument", azure()),
        ("JsonApiDocument", json_api()),
    ];
    all.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect()
}

fn error() -> Value {
    let names: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    json!({
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["code", "message", "status", "details"],
                "properties": {
                    "code": { "type": "integer", "description": "The status of HTTP." },
                    "message": { "type": "string", "description": "For people." },
                    "status": { "type": "string", "enum": names },
                    "details": {
                        "type": "array",
                        "description": "For programs; google.rpc.ErrorInfo with its `reason` comes first.",
                        "items": { "type": "object", "required": ["@type"] },
                    },
                },
            },
        },
    })
}

/// RFC 9457.
fn problem() -> Value {
    json!({
        "type": "object",
        "required": ["type", "title", "status", "detail", "error"],
        "properties": {
            "type": { "type": "string", "format": "uri" },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "detail": { "type": "string" },
            "instance": { "type": "string" },
            "error": { "$ref": "#/components/schemas/Error/properties/error" },
        },
    })
}

fn json_api_errors() -> Value {
    json!({
        "type": "object",
        "required": ["errors"],
        "properties": {
            "errors": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "status": { "type": "string" },
                        "code": { "type": "string" },
                        "title": { "type": "string" },
                        "detail": { "type": "string" },
                        "source": { "type": "object" },
                    },
                },
            },
            "meta": reference("Error"),
        },
    })
}

fn status() -> Value {
    let mut schema = json!({
        "type": "object",
        "required": ["name", "status", "progress", "result", "related", "createTime"],
        "properties": {
            "name": { "type": "string" },
            "status": {
                "enum": ["pending", "running", "suspended", "completed", "failed", "cancelled"],
            },
            "progress": { "type": "integer", "minimum": 0, "maximum": 100 },
            "progressMessage": { "type": "string" },
            "statusDetail": { "type": "string" },
            "result": { "description": "The response; null until there is one." },
            "error": failure(),
            "related": { "type": "array", "items": { "type": "object" } },
        },
    });
    times(
        &mut schema,
        &["createTime", "startTime", "updateTime", "endTime", "expireTime", "estimatedEndTime"],
    );
    schema
}

fn azure() -> Value {
    let mut schema = json!({
        "type": "object",
        "required": ["id", "status"],
        "properties": {
            "id": { "type": "string" },
            "name": { "type": "string" },
            "status": { "enum": ["NotStarted", "Running", "Succeeded", "Failed", "Canceled"] },
            "percentComplete": { "type": "integer", "minimum": 0, "maximum": 100 },
            "error": failure(),
            "result": {},
            "resourceLocation": { "type": "string" },
        },
    });
    times(&mut schema, &["createdDateTime", "lastUpdatedDateTime", "startTime", "endTime"]);
    schema
}

fn json_api() -> Value {
    json!({
        "type": "object",
        "required": ["data"],
        "properties": {
            "data": {
                "type": "object",
                "required": ["type", "id", "attributes"],
                "properties": {
                    "type": { "const": "operations" },
                    "id": { "type": "string" },
                    "attributes": { "type": "object" },
                    "links": { "type": "object" },
                    "relationships": { "type": "object" },
                },
            },
        },
    })
}

/// How an operation failed.
fn failure() -> Value {
    json!({
        "type": "object",
        "required": ["code", "message"],
        "properties": {
            "code": { "type": "string" },
            "message": { "type": "string" },
            "details": { "type": "array", "items": { "type": "object" } },
        },
    })
}

fn times(schema: &mut Value, names: &[&str]) {
    for name in names {
        schema["properties"][name] = json!({ "type": "string", "format": "date-time" });
    }
}
