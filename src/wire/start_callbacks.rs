//! The callbacks of a start: those of its options, and those that headers ask for.
//!
//! Expressions are evaluated here, with the values of the request that carries the start. Only the name of the operation is not
//! known yet: a mark stands for it.

use std::borrow::Cow;

use http::{HeaderMap, HeaderValue, Uri};
use prost::Message;
use serde_json::{Value, json};

use super::callbacks::{events, format, headers, receiver, uri};
use crate::engine::{Engine, Error, Result};
use crate::expression::{CallValues, Expanded, ExpressionError, UriTemplate};
use crate::limits::MAX_CALLBACKS;
use crate::operation::callbacks::named;
use crate::operation::name::{EndpointName, ancestry};
use crate::post::Carrier;
use crate::proto::longhaul::v1 as pb;
use crate::proto::longhaul::v1::callback::{Event, Format};
use crate::types::Registry;

/// The request that carries a start.
pub struct StartCarrier<'a> {
    /// Its headers, or its metadata.
    pub headers: &'a HeaderMap,
    /// Its URL.
    pub url: StartUrl<'a>,
    /// The headers that expressions may read, in lower case.
    pub readable: &'a [String],
    /// The types of payloads in its body.
    pub types: Cow<'a, Registry>,
    /// What will carry the callbacks, and knows where they may go.
    pub receivers: Option<&'a dyn Carrier>,
}

/// The URL of a request that carries a start.
#[derive(Clone, Copy)]
pub enum StartUrl<'a> {
    /// The path of a method of gRPC.
    Method(&'static str),
    /// Scheme and host, and the address below them.
    Http(&'a str, &'a Uri),
}

impl<'a> StartCarrier<'a> {
    /// A request over HTTP.
    pub fn over_http(
        engine: &'a Engine,
        headers: &'a HeaderMap,
        (origin, uri): (&'a str, &'a Uri),
        types: &'a Registry,
    ) -> Self {
        let (url, readable) = (StartUrl::Http(origin, uri), engine.callback_headers());
        let receivers = engine.carrier();
        Self { headers, url, readable, types: Cow::Borrowed(types), receivers }
    }

    /// The text of a header, if it is one.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// Whether expressions look into the bodies of these starts.
pub fn read_bodies<'a>(options: impl IntoIterator<Item = &'a pb::OperationOptions>) -> bool {
    let mut callbacks = options.into_iter().flat_map(|options| &options.callbacks);
    callbacks.any(|callback| callback.uri.contains(BODY))
}

/// The types of payloads, which only a body that is read needs.
pub async fn types<'a>(
    engine: &'a Engine,
    parent: &str,
    reads_body: bool,
) -> Result<Cow<'a, Registry>> {
    if reads_body {
        return engine.types_at(parent).await.map(Cow::Owned);
    }
    Ok(Cow::Borrowed(engine.types()))
}

/// Reads the callbacks of a start.
pub(super) fn read(
    request: &mut pb::StartOperationRequest,
    carrier: &StartCarrier<'_>,
) -> Result<Vec<pb::Callback>> {
    let given = request.options.as_ref().map(|options| &options.callbacks[..]);
    let given = given.unwrap_or_default();
    let mut callbacks = Vec::new();
    if !given.is_empty() {
        let call = StartCall { carrier, request };
        for (place, callback) in given.iter().enumerate() {
            callbacks.extend(one(&format!("options.callbacks[{place}]"), callback, &call)?);
        }
    }
    for (header, name, event) in BY_HEADER {
        let Some(value) = carrier.headers.get(name) else { continue };
        // A callback of the options that reads the header is all that it asks for.
        let read = format!("$request.header.{name}");
        if !given.iter().any(|it| it.uri.to_ascii_lowercase().contains(&read)) {
            callbacks.push(by_header(header, value, event, carrier.receivers)?);
        }
    }
    if callbacks.len() > MAX_CALLBACKS {
        let message = format!(
            "options.callbacks has {} callbacks, those of headers included; the most are {MAX_CALLBACKS}",
            callbacks.len()
        );
        return Err(Error::field("options.callbacks", message).with("limit", MAX_CALLBACKS));
    }
    if let Some(options) = &mut request.options {
        options.callbacks.clear();
    }
    Ok(callbacks)
}

/// Reads the callbacks that each run of a job has. Expressions see the run as a start without headers.
pub(super) async fn of_runs(
    engine: &Engine,
    parent: &str,
    template: Option<&pb::JobTemplate>,
) -> Result<Vec<pb::Callback>> {
    let Some(pb::JobTemplate { options: Some(options), .. }) = template else {
        return Ok(Vec::new());
    };
    if options.callbacks.is_empty() {
        return Ok(Vec::new());
    }
    let types = types(engine, parent, read_bodies([options])).await?;
    let headers = HeaderMap::new();
    let carrier = StartCarrier {
        headers: &headers,
        url: StartUrl::Method(RUN),
        readable: &[],
        types,
        receivers: engine.carrier(),
    };
    let template = template.cloned().unwrap_or_default();
    let mut start = pb::StartOperationRequest {
        parent: parent.to_owned(),
        queue: template.queue,
        method: template.method,
        request: template.request,
        response_type: template.response_type,
        options: template.options,
        ..pb::StartOperationRequest::default()
    };
    read(&mut start, &carrier)
}

/// Callbacks of a job as they were given: with the expression that stands for the name of each run.
pub(super) fn as_given(callbacks: &mut [pb::Callback]) {
    for callback in callbacks {
        callback.uri = named(&callback.uri, NAME_EXPRESSION);
    }
}

/// A callback with its URI evaluated; `None` if the request does not say where to call.
fn one(field: &str, callback: &pb::Callback, call: &StartCall<'_>) -> Result<Option<pb::Callback>> {
    let mut callback = callback.clone();
    let in_field = |name: &str| format!("{field}.{name}");
    callback.events = numbers(&events(&in_field("events"), &callback.events)?);
    if !callback.endpoint.is_empty() {
        check_endpoint(&in_field("endpoint"), &callback, &call.request.parent)?;
        return Ok(Some(callback));
    }
    let format = format(&in_field("format"), callback.format)?;
    if format == Format::ResponseBody && !callback.events().all(is_end) {
        let message = format!(
            "{field}.format RESPONSE_BODY is for the events DONE, SUCCEEDED, FAILED and CANCELLED, since there is no response before the end"
        );
        return Err(Error::field(&in_field("format"), message));
    }
    callback.format = format.into();
    headers(&in_field("headers"), &callback.headers)?;
    let field = in_field("uri");
    let evaluated = UriTemplate::parse(&callback.uri).and_then(|template| template.expand(call));
    match evaluated.map_err(|error| refused(&field, &callback.uri, &error))? {
        Expanded::Nowhere => Ok(None),
        Expanded::Uri(evaluated) => {
            let sample = named(&evaluated, SAMPLE_NAME);
            uri(&field, &sample)?;
            receiver(call.carrier.receivers, &field, &sample)?;
            Ok(Some(pb::Callback { uri: evaluated, ..callback }))
        }
    }
}

/// An endpoint has a URI, a format and headers of its own, and is called about the operations below its parent.
fn check_endpoint(field: &str, callback: &pb::Callback, parent: &str) -> Result<()> {
    let name = EndpointName::parse(&callback.endpoint)
        .map_err(|error| Box::<Error>::from(error).with("field", field))?;
    let has_more = !callback.uri.is_empty()
        || callback.format != 0
        || callback.include_result
        || !callback.headers.is_empty();
    if has_more {
        let message = format!(
            "{field} excludes uri, format, include_result and headers: the endpoint has its own"
        );
        return Err(Error::field(field, message));
    }
    if ancestry(parent).contains(&name.parent.as_str()) {
        return Ok(());
    }
    let message = format!(
        "{field} is {name}, which is for operations of {:?} and below; this one is started in {parent:?}",
        name.parent.as_str()
    );
    Err(Error::field(field, message))
}

fn by_header(
    header: &str,
    value: &HeaderValue,
    event: Event,
    receivers: Option<&dyn Carrier>,
) -> Result<pb::Callback> {
    let text = value.to_str().unwrap_or("\u{fffd}");
    uri(header, text)?;
    receiver(receivers, header, text)?;
    Ok(pb::Callback {
        uri: text.to_owned(),
        events: numbers(&[event]),
        format: Format::StandardWebhook.into(),
        ..pb::Callback::default()
    })
}

fn refused(field: &str, text: &str, error: &ExpressionError) -> Box<Error> {
    let shown: String = text.chars().take(80).collect();
    Error::field(field, format!("{field} {shown:?} is wrong {error}"))
        .with("position", error.position)
}

fn numbers(events: &[Event]) -> Vec<i32> {
    events.iter().map(|event| (*event).into()).collect()
}

const fn is_end(event: Event) -> bool {
    matches!(event, Event::Done | Event::Succeeded | Event::Failed | Event::Cancelled)
}

/// A start and the request that carries it, as expressions see them.
struct StartCall<'a> {
    carrier: &'a StartCarrier<'a>,
    request: &'a pb::StartOperationRequest,
}

impl CallValues for StartCall<'_> {
    fn url(&self) -> String {
        match self.carrier.url {
            StartUrl::Method(path) => path.to_owned(),
            StartUrl::Http(origin, uri) => format!("{origin}{uri}"),
        }
    }

    fn method(&self) -> &'static str {
        "POST"
    }

    fn status_code(&self) -> u16 {
        match self.carrier.url {
            StartUrl::Method(_) => 200,
            StartUrl::Http(..) => 202,
        }
    }

    fn header(&self, name: &str) -> std::result::Result<Option<String>, String> {
        if !self.carrier.readable.iter().any(|readable| readable == name) {
            return Err(format!(
                "the header {name} must not be read; the setting callback_headers lists those that may"
            ));
        }
        let mut values = self.carrier.headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => match value.to_str() {
                Ok(text) => Ok(Some(text.to_owned())),
                Err(_) => Err(format!("the header {name} is no text")),
            },
            (Some(_), Some(_)) => Err(format!("the header {name} is given several times")),
        }
    }

    fn query(&self, name: &str) -> std::result::Result<Option<String>, String> {
        if CREDENTIALS.contains(&name) {
            return Err(format!("the parameter {name} must not be read"));
        }
        let query = match self.carrier.url {
            StartUrl::Method(_) => "",
            StartUrl::Http(_, uri) => uri.query().unwrap_or_default(),
        };
        let pairs = form_urlencoded::parse(query.as_bytes());
        let mut values = pairs.filter(|(key, _)| key == name).map(|(_, value)| value);
        match (values.next(), values.next()) {
            (value, None) => Ok(value.map(Cow::into_owned)),
            (_, Some(_)) => Err(format!("the parameter {name} is given several times")),
        }
    }

    fn path(&self, name: &str) -> Option<String> {
        (name == "parent").then(|| self.request.parent.clone())
    }

    /// Canonical JSON; a Struct as the plain object that it stands for.
    fn body(&self) -> Cow<'_, Value> {
        let types = &self.carrier.types;
        let bare = pb::StartOperationRequest { request: None, ..self.request.clone() };
        let json = types.json_of("longhaul.v1.StartOperationRequest", &bare.encode_to_vec());
        let mut json = json.unwrap_or_else(|| json!({}));
        if let (Some(object), Some(request)) = (json.as_object_mut(), &self.request.request) {
            object.insert("request".to_owned(), types.bare(request));
        }
        Cow::Owned(json)
    }
}

/// Headers that ask for a callback, the same in lower case, and the event of each.
const BY_HEADER: [(&str, &str, Event); 2] = [
    ("progressUrl", "progressurl", Event::StateChanged),
    ("Callback-Url", "callback-url", Event::Done),
];
/// What an expression that looks into the body has in it.
const BODY: &str = "$request.body";
/// Parameters of queries that are secrets.
const CREDENTIALS: [&str; 4] = ["access_token", "key", "oauth_token", "token"];
/// The method that starts the runs of a job.
const RUN: &str = "/longhaul.v1.Jobs/RunJob";
/// The name of an operation, in a URI.
const NAME_EXPRESSION: &str = "{$response.body#/name}";
/// A name, to check a URI that will hold one.
const SAMPLE_NAME: &str = "operations/o";
