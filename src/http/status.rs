//! The routes of one operation: start it, ask how it is, wait for it, stop it. They have more over HTTP than the messages of
//! their methods: statuses, locations, tags, advice when to ask again, and the documents that others have published.
//!
//! They call the engine's verbs themselves, as the services do, since a message has no room for a record's etag. So they ask
//! the policy themselves, before they look at a name.

use axum::body::Body;
use http::header::{
    CACHE_CONTROL, CONTENT_LOCATION, CONTENT_TYPE, ETAG, HOST, LINK, LOCATION, RETRY_AFTER,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use prost::Message;

use super::accept::JSON;
use super::documents::{self, CurrentView, Document};
use super::error::HttpFailure;
use super::prefer::{Location, Prefer};
use super::shared::{Asked, FaceParts, RequestMessage, not_acceptable};
use super::{etag, idempotency, retry_after, strict};
use crate::engine::{Caller, Error, Reason, Started, View};
use crate::operation::name::Name;
use crate::operation::{Operation, State};
use crate::proto::google::longrunning::{
    CancelOperationRequest, DeleteOperationRequest, GetOperationRequest, WaitOperationRequest,
};
use crate::proto::longhaul::v1::StartOperationRequest;
use crate::types::Registry;
use crate::wire::access::Guarded;
use crate::wire::{fields, starts};

/// What all of these routes look at.
struct Wishes {
    caller: Caller,
    headers: HeaderMap,
    prefer: Prefer,
    document: Document,
    strict: bool,
    /// Scheme and host that the client has used.
    origin: String,
    /// The types of payloads, once it is known where the operation lies.
    types: Registry,
}

impl FaceParts {
    /// Starts an operation.
    pub(super) async fn start(&self, mut asked: Asked<'_>) -> Result<Response<Body>, HttpFailure> {
        asked.given = idempotency::given(&asked.head.headers)?;
        let mut wishes = self.wishes(&asked, Document::Operation)?;
        let mut request: StartOperationRequest = self.request(&mut wishes, asked).await?;
        self.ask(&wishes, &request)?;
        // With the id of its own that a client gave it, a start is safe to repeat.
        let by_id =
            request.request_id.is_empty() && wishes.headers.contains_key(idempotency::OPERATION_ID);
        if by_id {
            request.request_id.clone_from(&request.operation_id);
        }
        let header = wishes.headers.get("traceparent").and_then(|value| value.to_str().ok());
        let wanted = starts::start(request, starts::trace_parent(header).to_owned())?;
        let started = self.engine.start_operation(&wishes.caller, wanted).await;
        let started = started.map_err(|error| match error.reason {
            Reason::RequestIdReused if by_id => {
                HttpFailure::from(error).with_status(StatusCode::CONFLICT)
            }
            _ => error.into(),
        })?;
        let Started { published, operation: Some(operation), replayed } = started else {
            let text = wishes.types.operation_text(&started.published);
            return Ok(respond(StatusCode::OK, JSON, text));
        };
        // It has started: who may not wait for it gets the answer of those who do not wait.
        let may_wait = || self.ask(&wishes, &waiting_for(operation.name.as_str())).is_ok();
        let waits = wishes.prefer.wait.filter(|_| !published.done && may_wait());
        let mut response = if let Some(wait) = waits {
            let wait = self.engine.wait(&wishes.caller, &operation.name, wait);
            let view = Box::pin(wait).await?;
            self.started(&wishes, seen(&view))?
        } else {
            self.started(&wishes, CurrentView { operation: &operation, published: &published })?
        };
        if replayed {
            let headers = response.headers_mut();
            headers.insert("longhaul-replayed", HeaderValue::from_static("true"));
        }
        if wishes.headers.contains_key(idempotency::REPEATABILITY_ID) {
            let headers = response.headers_mut();
            headers.insert("repeatability-result", HeaderValue::from_static("accepted"));
        }
        Ok(response)
    }

    /// The answer to a start: 202, or 200 where the client waited for the end and it has come.
    fn started(
        &self,
        wishes: &Wishes,
        seen: CurrentView<'_>,
    ) -> Result<Response<Body>, HttpFailure> {
        let waited = wishes.prefer.wait.is_some() && seen.published.done;
        let status = if waited { StatusCode::OK } else { StatusCode::ACCEPTED };
        let mut response = self.shown(wishes, seen, status)?;
        let mut applied = Vec::new();
        applied.extend(wishes.prefer.applied_wait().filter(|_| waited));
        if wishes.prefer.respond_async && !waited {
            applied.push("respond-async".to_owned());
        }
        let below = wishes.prefer.location.map_or("", |location| {
            applied.push(location.applied().to_owned());
            match location {
                Location::Monitor => "/monitor",
                Location::Result => "/result",
            }
        });
        let path = documents::path(seen, "");
        let headers = response.headers_mut();
        put(headers, LOCATION, &documents::path(seen, below));
        put(headers, CONTENT_LOCATION, &path);
        put(headers, OPERATION_LOCATION, &format!("{}{path}", wishes.origin));
        put(headers, idempotency::OPERATION_ID, seen.operation.name.id());
        if !applied.is_empty() {
            put(headers, APPLIED, &applied.join(", "));
        }
        Ok(response)
    }

    /// Says how an operation is.
    pub(super) async fn poll(&self, asked: Asked<'_>) -> Result<Response<Body>, HttpFailure> {
        let mut wishes = self.wishes(&asked, Document::Operation)?;
        let name = self.name(&mut wishes, asked).await?;
        match self.look(&wishes, &name, wishes.suffix()).await? {
            Looked::Known(operation) => Ok(self.unchanged(&wishes, &operation)),
            Looked::New(view) => {
                let seen = seen(&view);
                if wishes.prefer.redirect
                    && seen.published.done
                    && wishes.document == Document::JsonApi
                {
                    return Ok(redirect(&documents::outcome(seen)));
                }
                let mut response = self.shown(&wishes, seen, StatusCode::OK)?;
                wishes.note_wait(&mut response);
                Ok(response)
            }
        }
    }

    /// The bare response, once there is one.
    pub(super) async fn result(&self, asked: Asked<'_>) -> Result<Response<Body>, HttpFailure> {
        let mut wishes = self.wishes(&asked, Document::Operation)?;
        let name = self.name(&mut wishes, asked).await?;
        let view = match self.look(&wishes, &name, "r").await? {
            Looked::Known(operation) => return Ok(self.unchanged(&wishes, &operation)),
            Looked::New(view) => view,
        };
        let seen = seen(&view);
        let path = documents::path(seen, "");
        let link = HeaderValue::try_from(path.as_str()).unwrap_or(HeaderValue::from_static("/v1"));
        if let Some(error) = documents::failure(seen) {
            let gone = matches!(seen.operation.state, State::Cancelled(_));
            let status = if gone { StatusCode::GONE } else { StatusCode::UNPROCESSABLE_ENTITY };
            return Err(HttpFailure::of_operation(status, error, wishes.types)
                .with_header(CONTENT_LOCATION, link));
        }
        let mut response = match documents::bare_response(seen, &wishes.types) {
            None => {
                let mut response = self.shown(&wishes, seen, StatusCode::ACCEPTED)?;
                put(response.headers_mut(), LOCATION, &documents::path(seen, "/result"));
                response.headers_mut().insert(CONTENT_LOCATION, link);
                response
            }
            Some(result) => {
                let mut response = respond(StatusCode::OK, JSON, result.to_string());
                self.describe(&wishes, seen, "r", response.headers_mut());
                response
            }
        };
        wishes.note_wait(&mut response);
        Ok(response)
    }

    /// The pattern of two steps: the status while it goes on, then where the result is.
    pub(super) async fn monitor(&self, asked: Asked<'_>) -> Result<Response<Body>, HttpFailure> {
        let mut wishes = self.wishes(&asked, Document::Status)?;
        let name = self.name(&mut wishes, asked).await?;
        let view = match self.look(&wishes, &name, wishes.suffix()).await? {
            Looked::Known(operation) => return Ok(self.unchanged(&wishes, &operation)),
            Looked::New(view) => view,
        };
        let seen = seen(&view);
        let result = documents::path(seen, "/result");
        if !seen.published.done {
            let mut response = self.shown(&wishes, seen, StatusCode::OK)?;
            wishes.note_wait(&mut response);
            return Ok(response);
        }
        if wishes.prefer.redirect {
            return Ok(redirect(&result));
        }
        let mut response = self.shown(&wishes, seen, StatusCode::CREATED)?;
        put(response.headers_mut(), LOCATION, &result);
        Ok(response)
    }

    /// Asks for an operation to stop.
    pub(super) async fn cancel(&self, asked: Asked<'_>) -> Result<Response<Body>, HttpFailure> {
        let mut wishes = self.wishes(&asked, Document::Operation)?;
        let request: CancelOperationRequest = self.request(&mut wishes, asked).await?;
        self.ask(&wishes, &request)?;
        // Stock clients want an empty object; others may have what has become of it.
        let shows = wishes.prefer.wait.is_some() || wishes.document != Document::Operation;
        if shows {
            self.ask_to_see(&wishes, &request.name)?;
        }
        let name = fields::name(&request.name)?;
        self.change(&wishes, &name, StateChange::Cancel).await?;
        if !shows {
            return Ok(respond(StatusCode::OK, JSON, "{}".to_owned()));
        }
        let wait = wishes.prefer.wait.unwrap_or_default();
        let view = self.engine.wait(&wishes.caller, &name, wait).await?;
        let mut response = self.shown(&wishes, seen(&view), StatusCode::OK)?;
        wishes.note_wait(&mut response);
        Ok(response)
    }

    /// Deletes an operation.
    pub(super) async fn delete(&self, asked: Asked<'_>) -> Result<Response<Body>, HttpFailure> {
        let mut wishes = self.wishes(&asked, Document::Operation)?;
        let request: DeleteOperationRequest = self.request(&mut wishes, asked).await?;
        self.ask(&wishes, &request)?;
        let name = fields::name(&request.name)?;
        self.change(&wishes, &name, StateChange::Delete).await?;
        Ok(respond(StatusCode::OK, JSON, "{}".to_owned()))
    }

    /// Cancels or deletes an operation, if `If-Match` holds. The commit compares one etag: of several, the one that the
    /// operation has.
    async fn change(
        &self,
        wishes: &Wishes,
        name: &Name,
        change: StateChange,
    ) -> Result<(), HttpFailure> {
        let required = etag::required(&wishes.headers);
        let mut tries = required.len().min(MOST_TRIES);
        loop {
            let mut etag = required.first().cloned().unwrap_or_default();
            if required.len() > 1 {
                let current = self.engine.head(&wishes.caller, name).await?.etag();
                etag = required.iter().find(|known| **known == current).cloned().unwrap_or(etag);
            }
            let changed = match change {
                StateChange::Cancel => self.engine.cancel_if(&wishes.caller, name, etag).await,
                StateChange::Delete => self.engine.delete_if(&wishes.caller, name, etag).await,
            };
            tries = tries.saturating_sub(1);
            match changed {
                Err(error) if error.reason == Reason::EtagMismatch && tries > 0 => {}
                Err(error) => return Err(HttpFailure::from(error).in_precondition()),
                Ok(_) => return Ok(()),
            }
        }
    }

    /// What the request would like, before its message is read.
    fn wishes(&self, asked: &Asked<'_>, first: Document) -> Result<Wishes, HttpFailure> {
        let headers = &asked.head.headers;
        let document =
            Document::of(asked.accept, first).ok_or_else(|| not_acceptable(first.media_type()))?;
        Ok(Wishes {
            caller: Caller::default(),
            prefer: Prefer::of(headers),
            document,
            strict: strict::is_strict(headers),
            origin: origin(&asked.head),
            headers: headers.clone(),
            types: self.engine.types().clone(),
        })
    }

    /// The request, whose place tells of which types the payloads are.
    async fn request<M: Message + Default>(
        &self,
        wishes: &mut Wishes,
        asked: Asked<'_>,
    ) -> Result<M, HttpFailure> {
        let RequestMessage { bytes, types, .. } = self.message(asked).await?;
        wishes.types = types;
        Ok(M::decode(&bytes[..]).map_err(|error| Error::internal(&error))?)
    }

    async fn name(&self, wishes: &mut Wishes, asked: Asked<'_>) -> Result<Name, HttpFailure> {
        if let Some(name) = asked.bare_name() {
            self.ask_to_see(wishes, name)?;
            wishes.types = self.engine.types_at(name).await?;
            return Ok(fields::name(name)?);
        }
        let request: GetOperationRequest = self.request(wishes, asked).await?;
        self.ask_to_see(wishes, &request.name)?;
        Ok(fields::name(&request.name)?)
    }

    /// Asks the policy about a request.
    fn ask(&self, wishes: &Wishes, request: &impl Guarded) -> Result<(), HttpFailure> {
        Ok(request.ask(&self.engine.guard(&wishes.caller))?)
    }

    /// Asks to read an operation, and to wait for it if the client would like to.
    fn ask_to_see(&self, wishes: &Wishes, name: &str) -> Result<(), HttpFailure> {
        self.ask(wishes, &GetOperationRequest { name: name.to_owned() })?;
        match wishes.prefer.wait {
            Some(_) => self.ask(wishes, &waiting_for(name)),
            None => Ok(()),
        }
    }

    /// Looks at an operation, after the wait that the client would like: until it is done, or until it is another than the
    /// client knows.
    async fn look(
        &self,
        wishes: &Wishes,
        name: &Name,
        suffix: &str,
    ) -> Result<Looked, HttpFailure> {
        let operation = self.head(&wishes.caller, name).await?;
        let is_known = |operation: &Operation| {
            etag::is_known(&wishes.headers, &etag::tag(&operation.etag(), suffix))
        };
        let conditional = etag::is_conditional(&wishes.headers);
        let is_there =
            |view: &View| view.published.done || conditional && !is_known(&view.operation);
        let is_over = operation.state.is_done() || conditional && !is_known(&operation);
        let view = match wishes.prefer.wait.filter(|_| !is_over) {
            // Boxed, since most requests do not wait and its future is large.
            Some(wait) => {
                Box::pin(self.engine.wait_until(&wishes.caller, name, wait, is_there)).await?
            }
            None if is_known(&operation) => return Ok(Looked::Known(operation)),
            None => self.engine.show(*operation).await?,
        };
        if is_known(&view.operation) {
            return Ok(Looked::Known(Box::new(view.operation.clone())));
        }
        Ok(Looked::New(view))
    }

    /// Reads an operation. Retries a short outage of the store, since some clients give up at the first 503.
    async fn head(&self, caller: &Caller, name: &Name) -> Result<Box<Operation>, Box<Error>> {
        for _ in 0..RIDES {
            match self.engine.head(caller, name).await {
                Err(error) if error.reason == Reason::StoreUnavailable => {
                    self.engine.clock().sleep(RIDE).await;
                }
                other => return other,
            }
        }
        self.engine.head(caller, name).await
    }

    fn unchanged(&self, wishes: &Wishes, operation: &Operation) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        let headers = response.headers_mut();
        put(headers, ETAG, &etag::tag(&operation.etag(), wishes.suffix()));
        self.advise(operation, headers);
        response
    }

    /// The document that the client accepts.
    fn shown(
        &self,
        wishes: &Wishes,
        seen: CurrentView<'_>,
        status: StatusCode,
    ) -> Result<Response<Body>, HttpFailure> {
        let text = if wishes.strict && wishes.document == Document::Operation {
            let mut published = seen.published.clone();
            strict::adapt_published(&mut published, &wishes.types)?;
            wishes.types.operation_text(&published)
        } else {
            wishes.document.show(seen, &wishes.types)
        };
        let mut response = respond(status, wishes.document.media_type(), text);
        self.describe(wishes, seen, wishes.suffix(), response.headers_mut());
        Ok(response)
    }

    fn describe(
        &self,
        wishes: &Wishes,
        seen: CurrentView<'_>,
        suffix: &str,
        headers: &mut HeaderMap,
    ) {
        put(headers, ETAG, &etag::tag(&seen.operation.etag(), suffix));
        self.advise(seen.operation, headers);
        put(headers, LINK, &documents::links(seen));
        if wishes.document == Document::Azure {
            put(headers, idempotency::OPERATION_ID, seen.operation.name.id());
        }
    }

    /// How long this may be kept, and when to ask again.
    fn advise(&self, operation: &Operation, headers: &mut HeaderMap) {
        let done = operation.state.is_done();
        let caching = if done { "private, max-age=60" } else { "no-cache" };
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching));
        if !done {
            headers.insert(RETRY_AFTER, retry_after::seconds(&self.engine, operation).into());
        }
    }
}

/// What a request may do under a condition.
#[derive(Clone, Copy)]
enum StateChange {
    Cancel,
    Delete,
}

/// What was seen of an operation.
enum Looked {
    /// Nothing that the client does not know.
    Known(Box<Operation>),
    New(std::sync::Arc<View>),
}

impl Wishes {
    /// What the entity tags of this representation end in.
    const fn suffix(&self) -> &'static str {
        match self.document {
            Document::Operation if self.strict => "x",
            document => document.suffix(),
        }
    }

    fn note_wait(&self, response: &mut Response<Body>) {
        if let Some(applied) = self.prefer.applied_wait() {
            put(response.headers_mut(), APPLIED, &applied);
        }
    }
}

fn waiting_for(name: &str) -> WaitOperationRequest {
    WaitOperationRequest { name: name.to_owned(), timeout: None }
}

fn seen(view: &View) -> CurrentView<'_> {
    CurrentView { operation: &view.operation, published: &view.published }
}

fn respond(status: StatusCode, content_type: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn redirect(location: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    let headers = response.headers_mut();
    put(headers, LOCATION, location);
    headers.insert(APPLIED, HeaderValue::from_static("redirect"));
    response
}

/// Sets a header; a value that none can be is left out.
fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

/// Scheme and host as the client knows them, for addresses that must be whole.
fn origin(head: &Parts) -> String {
    let header = |name: &HeaderName| head.headers.get(name).and_then(|value| value.to_str().ok());
    let authority = head.uri.authority().map(http::uri::Authority::as_str);
    let host = header(&HOST).or(authority).unwrap_or("localhost");
    let scheme = match header(&FORWARDED_PROTO) {
        Some("https") => "https",
        _ => "http",
    };
    format!("{scheme}://{host}")
}

const APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const OPERATION_LOCATION: HeaderName = HeaderName::from_static("operation-location");
/// How often a change is tried that has several etags to fit.
const MOST_TRIES: usize = 3;
/// How often a read is tried again while the store is away, and after how long.
const RIDES: u32 = 10;
const RIDE: std::time::Duration = std::time::Duration::from_millis(250);
