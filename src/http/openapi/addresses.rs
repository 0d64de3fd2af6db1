//! The addresses of a route, as OpenAPI writes them: each parameter is one segment.

use serde_json::{Value, json};

use crate::http::routes::Route;

/// An address of a route.
pub(super) struct Address {
    /// With a name in braces for each parameter.
    pub(super) text: String,
    /// What tells the ids of operations at several addresses of one method apart.
    pub(super) suffix: &'static str,
}

/// All addresses of a route: for lists of a parent also the one of all parents.
pub(super) fn of(route: &Route) -> Vec<Address> {
    let template = &route.template;
    let text = template.address(PAIR);
    // Deliveries are below endpoints, and below operations.
    let of_operation = text.contains("/{operation}/deliveries");
    let suffix = match () {
        () if of_operation && text.contains(PAIR) => "OfOperationInParent",
        () if of_operation => "OfOperation",
        () if text.contains(PAIR) => "InParent",
        () if text.ends_with("/{queue}/workers") => "OfQueue",
        () => "",
    };
    let mut all = vec![Address { text, suffix }];
    if route.method == http::Method::GET && template.is_for_parents() {
        all.push(Address { text: template.address("-"), suffix: "InAllParents" });
    }
    all
}

impl Address {
    /// The names of its parameters.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.text.split('{').skip(1).filter_map(|part| part.split('}').next())
    }

    /// Its parameters.
    pub(super) fn parameters(&self) -> Vec<Value> {
        self.names().map(parameter).collect()
    }
}

fn parameter(name: &str) -> Value {
    let (description, pattern) = match name {
        "collection" => ("Collection of the parent, such as `projects`.".to_owned(), SEGMENT),
        "parent" => ("Id of the parent within its collection.".to_owned(), SEGMENT),
        "operation" => ("Id of the operation.".to_owned(), ID),
        other => (format!("Id of the {other}."), SEGMENT),
    };
    json!({
        "name": name,
        "in": "path",
        "required": true,
        "description": description,
        "schema": { "type": "string", "pattern": pattern },
    })
}

/// A parent of one pair.
const PAIR: &str = "{collection}/{parent}";
const SEGMENT: &str = "^[A-Za-z0-9_~][A-Za-z0-9._~-]{0,127}$";
const ID: &str = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$";
