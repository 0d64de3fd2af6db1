//! A watch that reconnects: to its reader it is one stream, from the current state to the last one.

use std::time::Duration;

use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::patience::Patience;
use super::retry::{FIRST_PAUSE, rest};
use crate::clock::length;
use crate::proto::longhaul::v1::callers_client::CallersClient;
use crate::proto::longhaul::v1::watch_operation_response::Type;
use crate::proto::longhaul::v1::{WatchOperationRequest, WatchOperationResponse};

/// A watch of one operation.
#[derive(Debug)]
pub struct Watch {
    callers: CallersClient<Channel>,
    request: WatchOperationRequest,
    stream: Option<Streaming<WatchOperationResponse>>,
    patience: Patience,
    /// Pause before the next try.
    pause: Duration,
    ended: bool,
}

/// One step of a watch.
#[derive(Debug)]
pub enum Step {
    /// An event.
    Event(Box<WatchOperationResponse>),
    /// The server is unreachable; the next step retries after a pause.
    Outage(Status),
    /// The watch has ended.
    End,
}

impl Watch {
    pub(super) const fn new(
        callers: CallersClient<Channel>,
        request: WatchOperationRequest,
    ) -> Self {
        let (patience, pause) = (Patience::new(), Duration::ZERO);
        Self { callers, request, stream: None, patience, pause, ended: false }
    }

    /// The next event; `None` after DONE or DELETED. Waits for an unreachable server without a limit, and then returns the
    /// events that were missed. Bound it with a timeout of your own, or see outages with [`Watch::step`].
    ///
    /// # Errors
    /// The server's error, if a retry does not help.
    pub async fn next(&mut self) -> Result<Option<WatchOperationResponse>, Status> {
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
    pub async fn step(&mut self) -> Result<Step, Status> {
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
                Err(status) => return self.mend(status).map(Step::Outage),
            };
            self.patience.reached();
            if !event.resume_token.is_empty() {
                self.request.resume_token.clone_from(&event.resume_token);
            }
            match event.r#type() {
                Type::Reconnect => {
                    self.stream = None;
                    self.pause =
                        event.reconnect_delay.as_ref().and_then(length).unwrap_or_default();
                    continue;
                }
                Type::Done | Type::Deleted => self.ended = true,
                _ => {}
            }
            return Ok(Step::Event(Box::new(event)));
        }
        Ok(Step::End)
    }

    async fn attached_next(&mut self) -> Result<Option<WatchOperationResponse>, Status> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                none.insert(self.callers.watch_operation(self.request.clone()).await?.into_inner())
            }
        };
        stream.message().await
    }

    fn mend(&mut self, status: Status) -> Result<Status, Status> {
        self.stream = None;
        if let Some(pause) = self.patience.after(&status) {
            self.pause = pause;
            return Ok(status);
        }
        self.ended = true;
        Err(status)
    }
}
