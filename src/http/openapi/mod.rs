//! The OpenAPI document of the HTTP face, made from the route table and the definitions.
//!
//! A new method is in it as soon as its definition has an annotation; what only HTTP adds to the routes of one operation is
//! in `answers` and `parameters`. Names of parents have any depth, which OpenAPI cannot say: the document shows the root and
//! one pair of collection and id.

mod addresses;
mod answers;
mod comments;
mod documents;
mod operations;
mod parameters;
mod schemas;

use std::collections::{BTreeMap, BTreeSet};

use prost_reflect::ServiceDescriptor;
use serde_json::{Map, Value, json};

use self::comments::described;
use self::schemas::Schemas;
use super::routes::Routes;

/// The document, as the server offers it.
pub(super) fn document(routes: &Routes) -> Value {
    let mut schemas = Schemas::of(routes);
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for (address, method, operation) in operations::all(routes, &mut schemas) {
        paths.entry(address).or_default().insert(method, operation);
    }
    let mut components = schemas.components();
    components.extend(documents::schemas());
    json!({
        "openapi": "3.1.1",
        "info": {
            "title": "longhaul",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "A server for long-running operations.",
            "description": ABOUT,
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "tags": tags(routes),
        "paths": paths,
        "components": {
            "schemas": components,
            "parameters": parameters::components(),
            "headers": answers::headers(),
            "responses": answers::errors(),
        },
    })
}

/// One tag for each service.
fn tags(routes: &Routes) -> Vec<Value> {
    let services = routes.iter().map(|route| route.rpc.method.parent_service().clone());
    let services: BTreeMap<String, ServiceDescriptor> =
        services.map(|service| (service.full_name().to_owned(), service)).collect();
    let names: BTreeSet<&str> = services.values().map(ServiceDescriptor::name).collect();
    let of = |name: &str| services.values().find(|service| service.name() == name).cloned();
    let tag = |name: &str| {
        let comment = of(name).map(|service| described(service.full_name())).unwrap_or_default();
        json!({ "name": name, "description": comment })
    };
    names.into_iter().map(tag).collect()
}

const ABOUT: &str = "Starts, watches, cancels and runs long-running operations. The same methods are served over gRPC.\n\n\
    Names of parents have any depth; this document shows operations without a parent and those with a parent of one pair of \
    collection and id, such as projects/p.\n\n\
    Google's system parameters ($alt, prettyPrint, ...) are accepted and have no effect. Requests with the header \
    x-goog-api-client get no types of payloads that their client may not know.";

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    /// Each operation of the document: address, method of HTTP, and the operation.
    fn operations(document: &Value) -> Vec<(String, Method, Value)> {
        let mut all = Vec::new();
        for (address, item) in document["paths"].as_object().expect("paths") {
            for (method, operation) in item.as_object().expect("an item") {
                let method = Method::from_bytes(method.to_uppercase().as_bytes()).expect("method");
                all.push((address.clone(), method, operation.clone()));
            }
        }
        all
    }

    /// An address with an example for each parameter.
    fn example(address: &str) -> String {
        let mut text = String::new();
        for part in address.split('{') {
            match part.split_once('}') {
                Some((_, rest)) => text.extend(["x", rest]),
                None => text.push_str(part),
            }
        }
        text
    }

    #[test]
    fn every_route_is_in_the_document_and_the_other_way_round() {
        let routes = Routes::of_services().expect("routes");
        let document = document(&routes);
        let mut found = BTreeSet::new();
        for (address, method, operation) in operations(&document) {
            let path = example(&address);
            let (route, _) = routes
                .find(&method, &path)
                .unwrap_or_else(|lost| panic!("{method} {path} has no route: {lost:?}"));
            assert_eq!(operation["x-route"], route.pattern, "{method} {address}");
            let rpc = route.rpc.method.full_name();
            assert_eq!(operation["x-grpc-method"], rpc, "{method} {address}");
            found.insert((route.pattern.clone(), method));
        }
        for route in routes.iter() {
            let key = (route.pattern.clone(), route.method.clone());
            assert!(found.contains(&key), "{key:?} is not in the document");
        }
        assert!(found.len() > 30, "{}", found.len());
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_operation_has_an_id_of_its_own() {
        fn check(value: &Value, document: &Value) {
            match value {
                Value::Object(object) => {
                    if let Some(reference) = object.get("$ref").and_then(Value::as_str) {
                        let pointer = reference.strip_prefix('#').expect("a local reference");
                        assert!(document.pointer(pointer).is_some(), "{reference}");
                    }
                    object.values().for_each(|value| check(value, document));
                }
                Value::Array(values) => values.iter().for_each(|value| check(value, document)),
                _ => {}
            }
        }
        let document = document(&Routes::of_services().expect("routes"));
        check(&document, &document);
        let ids: Vec<String> = operations(&document)
            .iter()
            .map(|(address, _, operation)| {
                operation["operationId"].as_str().expect(address).to_owned()
            })
            .collect();
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{ids:?}");
        for (address, _, operation) in operations(&document) {
            let links = operation["responses"]["202"]["links"].as_object();
            for link in links.into_iter().flat_map(serde_json::Map::values) {
                let id = link["operationId"].as_str().expect(&address).to_owned();
                assert!(ids.contains(&id), "{address}: {id}");
            }
        }
    }

    #[test]
    fn methods_messages_and_fields_are_described_by_the_comments_of_the_definitions() {
        let document = document(&Routes::of_services().expect("routes"));
        let start = &document["paths"]["/v1/operations:start"]["post"];
        assert!(start["description"].as_str().expect("text").starts_with("Starts an operation"));
        assert_eq!(start["callbacks"], json!({}), "a place for callbacks");
        assert_eq!(start["operationId"], "startOperation");
        let schemas = &document["components"]["schemas"];
        let request = &schemas["longhaul.v1.StartOperationRequest"];
        assert_eq!(request["additionalProperties"], false);
        let queue = &request["properties"]["queue"];
        assert!(queue["description"].as_str().expect("text").starts_with("The queue"), "{queue}");
        let state = &schemas["longhaul.v1.OperationRecord.State"];
        assert!(state["enum"].as_array().expect("values").contains(&json!("PENDING")), "{state}");
        let list = &document["paths"]["/v1/-/operations"]["get"]["parameters"];
        let names: Vec<_> = list.as_array().expect("parameters").iter().collect();
        assert!(names.iter().any(|it| it["name"] == "pageSize" && it["in"] == "query"), "{list}");
    }
}
