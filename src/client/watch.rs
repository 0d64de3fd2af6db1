//! A watch that reconnects: to its reader it is one stream, of one operation or of a set.

use std::future::Future;
use std::time::Duration;

use tonic::transport::Channel;
use tonic::{Response, Status, Streaming};
use tonic_types::StatusExt;

use super::patience::Patience;
use super::retry::{FIRST_PAUSE, rest};
use crate::clock::length;
use crate::proto::longhaul::v1 as pb;
use crate::proto::longhaul::v1::callers_client::CallersClient;
use crate::proto::longhaul::v1::watch_operation_response::Type;
use crate::proto::longhaul::v1::watch_operations_response::Type as SetType;

/// A watch: of one operation, or with `WatchOperationsResponse` of a set.
#[derive(Debug)]
pub struct Watch<E: WatchMessage = pb::WatchOperationResponse> {
    callers: CallersClient<Channel>,
    request: E::Request,
    stream: Option<Streaming<E>>,
    patience: Patience,
    /// Pause before the next try.
    pause: Duration,
    ended: bool,
}

/// One step of a watch.
#[derive(Debug)]
pub enum Step<E = pb::WatchOperationResponse> {
    /// An event.
    Event(Box<E>),
    /// The server is unreachable; the next step retries after a pause.
    Outage(Status),
    /// The watch has ended.
    End,
}

/// A message of a watch.
pub trait WatchMessage: Sized + Send {
    /// The request that opens the watch.
    type Request: Clone + std::fmt::Debug + Send;

    /// Opens the watch.
    fn open(
        callers: &mut CallersClient<Channel>,
        request: Self::Request,
    ) -> impl Future<Output = Result<Response<Streaming<Self>>, Status>> + Send;

    /// Notes in the request where it goes on after this message.
    fn continue_from(&self, request: &mut Self::Request);

    /// What follows this message.
    fn sequel(&self) -> Sequel;

    /// Lets the request begin anew, and returns the message that tells the reader; nothing if that is of no use.
    fn begin_anew(request: &mut Self::Request) -> Option<Self>;
}

/// What follows a message of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequel {
    /// Perhaps more messages.
    More,
    /// The server asks to watch again after this pause.
    Reconnect(Duration),
    /// Nothing.
    Nothing,
}

impl WatchMessage for pb::WatchOperationResponse {
    type Request = pb::WatchOperationRequest;

    async fn open(
        callers: &mut CallersClient<Channel>,
        request: Self::Request,
    ) -> Result<Response<Streaming<Self>>, Status> {
        callers.watch_operation(request).await
    }

    fn continue_from(&self, request: &mut Self::Request) {
        if !self.resume_token.is_empty() {
            request.resume_token.clone_from(&self.resume_token);
        }
    }

    fn sequel(&self) -> Sequel {
        match self.r#type() {
            Type::Reconnect => Sequel::Reconnect(pause(self.reconnect_delay.as_ref())),
            Type::Done | Type::Deleted => Sequel::Nothing,
            _ => Sequel::More,
        }
    }

    // The token of an operation that is gone is accepted.
    fn begin_anew(_request: &mut Self::Request) -> Option<Self> {
        None
    }
}

impl WatchMessage for pb::WatchOperationsResponse {
    type Request = pb::WatchOperationsRequest;

    async fn open(
        callers: &mut CallersClient<Channel>,
        request: Self::Request,
    ) -> Result<Response<Streaming<Self>>, Status> {
        callers.watch_operations(request).await
    }

    fn continue_from(&self, request: &mut Self::Request) {
        request.resume_token.clone_from(&self.resume_token);
    }

    fn sequel(&self) -> Sequel {
        match self.r#type() {
            SetType::Reconnect => Sequel::Reconnect(pause(self.reconnect_delay.as_ref())),
            _ => Sequel::More,
        }
    }

    fn begin_anew(request: &mut Self::Request) -> Option<Self> {
        request.resume_token.clear();
        Some(Self { r#type: SetType::Resync as i32, ..Self::default() })
    }
}

impl<E: WatchMessage> Watch<E> {
    pub(super) const fn new(callers: CallersClient<Channel>, request: E::Request) -> Self {
        let (patience, pause) = (Patience::new(), Duration::ZERO);
        Self { callers, request, stream: None, patience, pause, ended: false }
    }

    /// The next event; `None` after DONE or DELETED, never for a set. Waits for an unreachable server without a limit, and
    /// then returns the events that were missed. Bound it with a timeout of your own, or see outages with [`Watch::step`].
    ///
    /// # Errors
    /// The server's error, if a retry does not help.
    pub async fn next(&mut self) -> Result<Option<E>, Status> {
        loop {
            match self.step().await? {
                Step::Event(event) => return Ok(Some(*event)),
                Step::Outage(_) => {}
                Step::End => return Ok(None),
            }
        }
    }

    /// The next event or failed try to reach the server.
    ///
    /// # Errors
    /// The server's error, if a retry does not help.
    pub async fn step(&mut self) -> Result<Step<E>, Status> {
        while !self.ended {
            rest(self.pause).await;
            self.pause = Duration::ZERO;
            let event = match self.attached_next().await {
                Ok(Some(event)) => event,
                // The server ended the stream without a last state: reconnect.
                Ok(None) => {
                    (self.stream, self.pause) = (None, FIRST_PAUSE);
                    continue;
                }
                Err(status) => return self.mend(status),
            };
            self.patience.reached();
            event.continue_from(&mut self.request);
            match event.sequel() {
                Sequel::Reconnect(pause) => {
                    (self.stream, self.pause) = (None, pause);
                    continue;
                }
                Sequel::Nothing => self.ended = true,
                Sequel::More => {}
            }
            return Ok(Step::Event(Box::new(event)));
        }
        Ok(Step::End)
    }

    async fn attached_next(&mut self) -> Result<Option<E>, Status> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                none.insert(E::open(&mut self.callers, self.request.clone()).await?.into_inner())
            }
        };
        stream.message().await
    }

    fn mend(&mut self, status: Status) -> Result<Step<E>, Status> {
        self.stream = None;
        if let Some(pause) = self.patience.after(&status) {
            self.pause = pause;
            return Ok(Step::Outage(status));
        }
        // This watch has the token from the server, which has lost its data since and cannot read it any more.
        if self.patience.has_reached()
            && refuses_token(&status)
            && let Some(event) = E::begin_anew(&mut self.request)
        {
            return Ok(Step::Event(Box::new(event)));
        }
        self.ended = true;
        Err(status)
    }
}

fn refuses_token(status: &Status) -> bool {
    let info = status.get_details_error_info();
    info.is_some_and(|info| info.metadata.get("field").is_some_and(|field| field == "resume_token"))
}

fn pause(delay: Option<&prost_types::Duration>) -> Duration {
    delay.and_then(length).unwrap_or_default()
}
