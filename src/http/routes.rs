//! The route table: which request of HTTP is which method.
//!
//! It is read from the `google.api.http` annotations of the served definitions, so that those stay the one source of truth.
//! Two tables add what no annotation says: the bindings that Google's own services give to Operations by custom, and the
//! routes that exist over HTTP alone.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use http::Method;
use http::uri::PathAndQuery;
use prost_reflect::{DescriptorPool, MethodDescriptor, Value};

use super::template::{BadTemplate, NoText, Path, Template};
use crate::proto::DESCRIPTORS;
use crate::proto::google::api::HttpRule;
use crate::proto::google::api::http_rule::Pattern;

/// All routes. The first that matches counts.
#[derive(Debug)]
pub(super) struct Routes {
    all: Vec<Route>,
    /// Places in `all`, by custom verb.
    by_verb: HashMap<String, Vec<usize>>,
    /// Paths of all methods over gRPC.
    grpc: Vec<String>,
}

/// One route.
#[derive(Debug)]
pub(super) struct Route {
    /// The method of HTTP.
    pub(super) method: Method,
    /// The template of its path.
    pub(super) template: Template,
    /// The same as text.
    pub(super) pattern: String,
    /// What of the request the body holds.
    pub(super) body: Body,
    /// The method that it is.
    pub(super) rpc: Arc<Rpc>,
    /// How it is answered.
    pub(super) answer: RouteKind,
}

impl Route {
    /// Whether its template says how many segments follow the parent.
    fn is_exact(&self) -> bool {
        !self.template.has_rest()
    }
}

/// How a route is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RouteKind {
    /// As the method answers.
    Plain,
    /// With what a start, a poll, a cancel or a delete has over HTTP beside the message.
    Start,
    Poll,
    Wait,
    Cancel,
    Delete,
    /// With the bare response.
    Result,
    /// By the pattern of two steps.
    Monitor,
}

/// What of a request the body holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// Nothing.
    None,
    /// The request.
    Whole,
    /// A field of it.
    Field(String),
}

/// A method of a service.
#[derive(Debug)]
pub(super) struct Rpc {
    /// Its definition.
    pub(super) method: MethodDescriptor,
    /// Where it is over gRPC.
    pub(super) path: PathAndQuery,
}

/// Why a request has no route.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// There is nothing there.
    Nothing,
    /// There is, by other methods of HTTP.
    Methods(Vec<Method>),
    /// It is a method over gRPC alone.
    Grpc,
    /// The path cannot be read.
    NoText,
}

/// A route, and the fields that the path gives.
pub(super) type Found<'a> = (&'a Route, Vec<(&'a str, String)>);

/// Why the table cannot be made; a test rules that out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadTable {
    /// A template.
    #[error(transparent)]
    Template(#[from] BadTemplate),
    /// A definition.
    #[error("{0} cannot be bound: {1}")]
    Method(String, String),
}

/// The definitions of all services.
#[cfg(test)]
pub(super) fn pool() -> &'static DescriptorPool {
    &POOL
}

impl Routes {
    /// The table of all services.
    pub(super) fn of_services() -> Result<Self, BadTable> {
        let mut routes = Self { all: Vec::new(), by_verb: HashMap::new(), grpc: Vec::new() };
        for service in POOL.services() {
            for method in service.methods() {
                routes.add_method(&method)?;
            }
        }
        Ok(routes)
    }

    fn add_method(&mut self, method: &MethodDescriptor) -> Result<(), BadTable> {
        let name = method.full_name().to_owned();
        let bad = |why: &dyn std::fmt::Display| {
            BadTable::Method(method.full_name().to_owned(), why.to_string())
        };
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        self.grpc.push(path.clone());
        let path = path.parse().map_err(|error| bad(&error))?;
        let answer = ANSWERS.iter().find(|(method, _)| *method == name);
        let answer = answer.map_or(RouteKind::Plain, |(_, answer)| *answer);
        let mut bindings: Vec<RouteBinding> = if name == GET {
            ONLY_HTTP
                .iter()
                .map(|(path, answer)| RouteBinding::of("GET", path, "", *answer))
                .collect()
        } else {
            Vec::new()
        };
        bindings.extend(annotated(method, answer).map_err(|error| bad(&error))?);
        let customary = CUSTOMARY.iter().filter(|(method, ..)| *method == name);
        bindings.extend(
            customary.map(|(_, method, path, body)| RouteBinding::of(method, path, body, answer)),
        );
        let rpc = Arc::new(Rpc { method: method.clone(), path });
        for binding in bindings {
            self.add(binding, &rpc).map_err(|error| match error {
                BadTable::Method(_, why) => bad(&why),
                template @ BadTable::Template(_) => template,
            })?;
        }
        Ok(())
    }

    fn add(&mut self, binding: RouteBinding, rpc: &Arc<Rpc>) -> Result<(), BadTable> {
        let no_method =
            |error: http::method::InvalidMethod| BadTable::Method(String::new(), error.to_string());
        let method = Method::from_bytes(binding.method.as_bytes()).map_err(no_method)?;
        let template = Template::parse(&binding.path)?;
        // Parents of one, two and three pairs are the same template here.
        if self.all.iter().any(|route| route.method == method && route.template == template) {
            return Ok(());
        }
        let body = match binding.body.as_str() {
            "" => Body::None,
            "*" => Body::Whole,
            field => Body::Field(field.to_owned()),
        };
        self.by_verb.entry(template.verb().to_owned()).or_default().push(self.all.len());
        let (pattern, rpc, answer) = (binding.path, Arc::clone(rpc), binding.answer);
        self.all.push(Route { method, template, pattern, body, rpc, answer });
        Ok(())
    }

    /// The route of a request.
    pub(super) fn find(&self, method: &Method, path: &str) -> Result<Found<'_>, Lost> {
        let parsed = Path::parse(path).ok_or(Lost::Nothing)?;
        let wanted = if method == Method::HEAD { &Method::GET } else { method };
        let mut others = Vec::new();
        let places = || self.by_verb.get(parsed.verb()).into_iter().flatten();
        let has = |is: fn(&Route) -> bool| {
            places()
                .map(|place| &self.all[*place])
                .any(|route| is(route) && route.template.match_path(&parsed).is_some())
        };
        // `operations/**` matches the path of a monitor, a result or deliveries too, which is no operation.
        let is_exact = has(Route::is_exact);
        // What all parents have can be listed and nothing else.
        let is_pattern = path.contains("/-/") && has(|route| route.method == Method::GET);
        for place in places() {
            let route = &self.all[*place];
            if is_exact && !route.is_exact() || is_pattern && route.method != Method::GET {
                continue;
            }
            let Some(fields) = route.template.match_path(&parsed) else { continue };
            if route.method != wanted {
                others.push(route.method.clone());
                continue;
            }
            return match fields {
                Ok(fields) => Ok((route, fields)),
                Err(NoText) => Err(Lost::NoText),
            };
        }
        if self.grpc.iter().any(|known| known == path) {
            return Err(Lost::Grpc);
        }
        Err(if others.is_empty() { Lost::Nothing } else { Lost::Methods(allowed(others)) })
    }

    /// The whole table.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Route> {
        self.all.iter()
    }
}

/// What a path can be asked for, for `Allow`.
fn allowed(mut methods: Vec<Method>) -> Vec<Method> {
    if methods.contains(&Method::GET) {
        methods.push(Method::HEAD);
    }
    methods.sort_by(|one, other| one.as_str().cmp(other.as_str()));
    methods.dedup();
    methods
}

struct RouteBinding {
    method: String,
    path: String,
    body: String,
    answer: RouteKind,
}

impl RouteBinding {
    fn of(method: &str, path: &str, body: &str, answer: RouteKind) -> Self {
        let (method, path) = (method.to_owned(), path.to_owned());
        Self { method, path, body: body.to_owned(), answer }
    }

    fn read(rule: HttpRule, answer: RouteKind) -> Option<Self> {
        let (method, path) = match rule.pattern? {
            Pattern::Get(path) => ("GET".to_owned(), path),
            Pattern::Put(path) => ("PUT".to_owned(), path),
            Pattern::Post(path) => ("POST".to_owned(), path),
            Pattern::Delete(path) => ("DELETE".to_owned(), path),
            Pattern::Patch(path) => ("PATCH".to_owned(), path),
            Pattern::Custom(custom) => (custom.kind, custom.path),
        };
        Some(Self { method, path, body: rule.body, answer })
    }
}

/// The bindings that a method's own annotation gives.
fn annotated(
    method: &MethodDescriptor,
    answer: RouteKind,
) -> Result<Vec<RouteBinding>, prost::DecodeError> {
    let Some(extension) = POOL.get_extension_by_name("google.api.http") else {
        return Ok(Vec::new());
    };
    let options = method.options();
    let rule = options.get_extension(&extension);
    let Value::Message(rule) = &*rule else { return Ok(Vec::new()) };
    let mut rule = rule.transcode_to::<HttpRule>()?;
    let more = std::mem::take(&mut rule.additional_bindings);
    Ok(std::iter::once(rule)
        .chain(more)
        .filter_map(|rule| RouteBinding::read(rule, answer))
        .collect())
}

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(DESCRIPTORS).expect("the definitions that build.rs has compiled")
});

const GET: &str = "google.longrunning.Operations.GetOperation";
/// Routes that exist over HTTP alone: other answers to a Get. They come before `operations/**`.
const ONLY_HTTP: [(&str, RouteKind); 4] = [
    ("/v1/{name=operations/*}/result", RouteKind::Result),
    ("/v1/{name=*/*/operations/*}/result", RouteKind::Result),
    ("/v1/{name=operations/*}/monitor", RouteKind::Monitor),
    ("/v1/{name=*/*/operations/*}/monitor", RouteKind::Monitor),
];

/// Methods whose answers have more than the message over HTTP.
const ANSWERS: [(&str, RouteKind); 5] = [
    (GET, RouteKind::Poll),
    ("google.longrunning.Operations.WaitOperation", RouteKind::Wait),
    ("google.longrunning.Operations.CancelOperation", RouteKind::Cancel),
    ("google.longrunning.Operations.DeleteOperation", RouteKind::Delete),
    ("longhaul.v1.Producers.StartOperation", RouteKind::Start),
];

/// The bindings of Operations that Google's services have by custom, beside those of the published definition.
const CUSTOMARY: [(&str, &str, &str, &str); 6] = [
    ("google.longrunning.Operations.ListOperations", "GET", "/v1/{name=*/*}/operations", ""),
    ("google.longrunning.Operations.GetOperation", "GET", "/v1/{name=*/*/operations/*}", ""),
    ("google.longrunning.Operations.DeleteOperation", "DELETE", "/v1/{name=*/*/operations/*}", ""),
    (
        "google.longrunning.Operations.CancelOperation",
        "POST",
        "/v1/{name=*/*/operations/*}:cancel",
        "*",
    ),
    ("google.longrunning.Operations.WaitOperation", "POST", "/v1/{name=operations/**}:wait", "*"),
    (
        "google.longrunning.Operations.WaitOperation",
        "POST",
        "/v1/{name=*/*/operations/*}:wait",
        "*",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn routes() -> Routes {
        Routes::of_services().expect("a table")
    }

    fn found(method: &str, path: &str) -> String {
        let routes = routes();
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        match routes.find(&method, path) {
            Ok((route, fields)) => {
                let fields = fields.iter().map(|(field, value)| format!(" {field}={value}"));
                format!("{}{}", route.rpc.method.name(), fields.collect::<String>())
            }
            Err(lost) => format!("{lost:?}"),
        }
    }

    #[test]
    fn every_method_but_those_with_many_requests_has_a_route() {
        let routes = routes();
        for service in POOL.services() {
            if service.package_name() != "longhaul.v1"
                && service.package_name() != "google.longrunning"
            {
                continue;
            }
            for method in service.methods() {
                let bound = routes.iter().any(|route| route.rpc.method == method);
                assert_eq!(bound, !method.is_client_streaming(), "{}", method.full_name());
            }
        }
    }

    #[test]
    fn every_variable_of_a_route_is_a_field_of_its_request() {
        for route in routes().iter() {
            for path in route.template.fields() {
                let mut message = Some(route.rpc.method.input());
                for field in path.split('.') {
                    let found = message.and_then(|message| message.get_field_by_name(field));
                    let found = found.unwrap_or_else(|| panic!("{}: {path}", route.pattern));
                    message = found.kind().as_message().cloned();
                }
            }
        }
    }

    #[test]
    fn a_request_finds_its_method() {
        for (method, path, expected) in [
            ("GET", "/v1/operations", "ListOperations name=operations"),
            ("GET", "/v1/projects/p/operations", "ListOperations name=projects/p"),
            ("GET", "/v1/a/b/c/d/e/f/g/h/operations", "ListOperations name=a/b/c/d/e/f/g/h"),
            ("GET", "/v1/operations/x", "GetOperation name=operations/x"),
            ("HEAD", "/v1/operations/x", "GetOperation name=operations/x"),
            ("GET", "/v1/projects/p/operations/x", "GetOperation name=projects/p/operations/x"),
            ("GET", "/v1/operations/x/result", "GetOperation name=operations/x"),
            ("GET", "/v1/a/b/c/d/operations/x/monitor", "GetOperation name=a/b/c/d/operations/x"),
            ("DELETE", "/v1/operations/x", "DeleteOperation name=operations/x"),
            ("POST", "/v1/operations/x:cancel", "CancelOperation name=operations/x"),
            ("POST", "/v1/operations/x:wait", "WaitOperation name=operations/x"),
            ("POST", "/v1/a/b/operations/x:wait", "WaitOperation name=a/b/operations/x"),
            ("POST", "/v1/operations:start", "StartOperation"),
            ("POST", "/v1/a/b/operations:start", "StartOperation parent=a/b"),
            ("POST", "/v1/a/b/operations:batchStart", "BatchStartOperations parent=a/b"),
            ("GET", "/v1/operations/x:record", "GetOperationRecord name=operations/x"),
            ("GET", "/v1/operations:records", "ListOperationRecords"),
            ("GET", "/v1/a/b/operations:stats", "GetOperationStats parent=a/b"),
            ("GET", "/v1/a/b/operations/x:watch", "WatchOperation name=a/b/operations/x"),
            ("POST", "/v1/queues/q/operations:lease", "LeaseOperations queue=queues/q"),
            ("POST", "/v1/operations:startLeased", "StartLeasedOperation"),
            ("POST", "/v1/a/b/operations/x:complete", "CompleteOperation name=a/b/operations/x"),
            ("POST", "/v1/operations/x", "Methods([DELETE, GET, HEAD])"),
            ("GET", "/v1/operations/x:cancel", "Methods([POST])"),
            ("DELETE", "/v1/operations/x/monitor", "Methods([GET, HEAD])"),
            ("DELETE", "/v1/a/b/operations/x/result", "Methods([GET, HEAD])"),
            ("POST", "/v1/-/typeSets", "Methods([GET, HEAD])"),
            ("GET", "/v1/-/typeSets", "ListTypeSets parent=-"),
            ("POST", "/v1/a/b/typeSets", "CreateTypeSet parent=a/b"),
            (
                "PATCH",
                "/v1/a/b/webhookEndpoints/x",
                "UpdateWebhookEndpoint webhook_endpoint.name=a/b/webhookEndpoints/x",
            ),
            (
                "POST",
                "/v1/webhookEndpoints/x:rotate",
                "RotateWebhookEndpoint name=webhookEndpoints/x",
            ),
            ("GET", "/v1/operations/x:nothing", "Nothing"),
            ("GET", "/v1/operations/", "Nothing"),
            ("GET", "/v1", "Nothing"),
            ("GET", "/", "Nothing"),
            ("OPTIONS", "*", "Nothing"),
            ("GET", "/v1/operations/%ff", "NoText"),
            ("POST", "/longhaul.v1.Workers/ServeQueue", "Grpc"),
        ] {
            assert_eq!(found(method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn deliveries_of_an_operation_are_no_operation() {
        for (method, path, expected) in [
            ("GET", "/v1/operations/x/deliveries", "ListWebhookDeliveries parent=operations/x"),
            ("DELETE", "/v1/operations/x/deliveries", "Methods([GET, HEAD])"),
            (
                "GET",
                "/v1/a/b/webhookEndpoints/x/deliveries/y",
                "GetWebhookDelivery name=a/b/webhookEndpoints/x/deliveries/y",
            ),
            (
                "POST",
                "/v1/a/b/operations/x/deliveries/y:replay",
                "ReplayWebhookDelivery name=a/b/operations/x/deliveries/y",
            ),
        ] {
            assert_eq!(found(method, path), expected, "{method} {path}");
        }
    }
}
