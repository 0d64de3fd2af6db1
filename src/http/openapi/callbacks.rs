//! The calls that a start asks for, as callbacks of the document.

use serde_json::{Value, json};

use super::schemas::reference;
use crate::http::accept::JSON;

/// The callbacks of a start: where each goes, and what it sends.
pub(super) fn of_start() -> Value {
    let by_header = |name: &str, about: &str| {
        let key = format!("{{$request.header.{name}}}");
        json!({ key: { "post": call(about) } })
    };
    json!({
        "statusCallback": by_header("progressUrl", "The state of the operation has changed."),
        "doneCallback": by_header("Callback-Url", "The operation has ended."),
        "eventCallback": {
            "{$request.body#/options/callbacks/0/uri}": {
                "post": call("One of the events of the callback has occurred."),
            },
        },
    })
}

fn call(about: &str) -> Value {
    json!({
        "summary": about.trim_end_matches('.'),
        "description": format!(
            "{about} A callback with the format RESPONSE_BODY sends the response or the error alone, in the schema of the API."
        ),
        "requestBody": {
            "required": true,
            "content": { JSON: { "schema": reference("WebhookEvent") } },
        },
        "responses": {
            "2XX": { "description": "The receiver has accepted the call." },
            "410": { "description": "The receiver wants no further calls." },
        },
    })
}

/// The body of a call.
pub(super) fn event_schema() -> Value {
    json!({
        "type": "object",
        "required": ["type", "timestamp", "data"],
        "properties": {
            "type": { "type": "string", "description": "The event, such as operation.done." },
            "timestamp": { "type": "string", "format": "date-time" },
            "data": { "type": "object" },
        },
    })
}
