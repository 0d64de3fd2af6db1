//! `grpc.health.v1.Health`: tells the truth about the store, and about draining.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tokio_stream::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::call::Reply;
use crate::engine::{Error, Reason};
use crate::grpc::status::to_status;
use crate::proto::grpc::health::v1::health_check_response::ServingStatus;
use crate::proto::grpc::health::v1::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse, health_server,
};

/// The health of one server. Clones are the same health.
#[derive(Clone, Debug)]
pub struct Health {
    serving: Arc<watch::Sender<bool>>,
    /// Why it is not serving.
    why: Arc<Mutex<String>>,
    end: CancellationToken,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            serving: Arc::new(watch::Sender::new(false)),
            why: Arc::new(Mutex::new("the store was not asked yet".to_owned())),
            end: CancellationToken::new(),
        }
    }
}

impl Health {
    /// The server can do its work, or cannot for that reason.
    pub fn follow(&self, state: Result<(), String>) {
        let serving = state.is_ok();
        if let Err(why) = state {
            *self.why.lock().unwrap_or_else(PoisonError::into_inner) = why;
        }
        self.set_serving(serving);
    }

    fn set_serving(&self, serving: bool) {
        self.serving.send_if_modified(|known| {
            std::mem::replace(known, serving && !self.end.is_cancelled()) != *known
        });
    }

    /// The server is going away: not serving from now on, and watches end.
    pub fn end(&self) {
        self.end.cancel();
        self.set_serving(false);
    }

    /// Why the server cannot do its work now, if so.
    pub fn unready(&self) -> Option<String> {
        if self.end.is_cancelled() {
            return Some("draining".to_owned());
        }
        (!*self.serving.borrow())
            .then(|| self.why.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn status(&self) -> ServingStatus {
        if *self.serving.borrow() { ServingStatus::Serving } else { ServingStatus::NotServing }
    }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(&self, request: Request<HealthCheckRequest>) -> Reply<HealthCheckResponse> {
        let service = &request.get_ref().service;
        if !SERVICES.contains(&service.as_str()) {
            let message = "there is no such service; List names those that there are";
            return Err(to_status(
                Error::new(Reason::ServiceNotFound, message).with("service", service),
            ));
        }
        Ok(Response::new(response(self.status())))
    }

    async fn list(&self, _request: Request<HealthListRequest>) -> Reply<HealthListResponse> {
        let statuses: BTreeMap<_, _> = SERVICES
            .iter()
            .map(|service| ((*service).to_owned(), response(self.status())))
            .collect();
        Ok(Response::new(HealthListResponse { statuses }))
    }

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Reply<Self::WatchStream> {
        let known = SERVICES.contains(&request.get_ref().service.as_str());
        let changes = WatchStream::new(self.serving.subscribe()).map(move |serving| {
            Ok(response(match (known, serving) {
                (false, _) => ServingStatus::ServiceUnknown,
                (true, true) => ServingStatus::Serving,
                (true, false) => ServingStatus::NotServing,
            }))
        });
        // The status of an unknown service is sent once, since it does not change.
        let mut told = false;
        let changes = changes.filter(move |_| known || !std::mem::replace(&mut told, true));
        let end = self.end.clone().cancelled_owned();
        let last = if known { ServingStatus::NotServing } else { ServingStatus::ServiceUnknown };
        let changes = futures_util::StreamExt::take_until(changes, end)
            .chain(tokio_stream::once(Ok(response(last))));
        Ok(Response::new(Box::pin(changes)))
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

/// "" is the whole server.
const SERVICES: [&str; 11] = [
    "",
    "google.longrunning.Operations",
    "longhaul.v1.Admin",
    "longhaul.v1.Callers",
    "longhaul.v1.Jobs",
    "longhaul.v1.Producers",
    "longhaul.v1.Queues",
    "longhaul.v1.Tokens",
    "longhaul.v1.TypeSets",
    "longhaul.v1.Webhooks",
    "longhaul.v1.Workers",
];
