//! A watch that re-attaches by itself: to its reader it is one stream, from the state now to the last one.

use std::time::Duration;

use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::retry::{FIRST_PAUSE, LONGEST_PAUSE, asked_for, rest};
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
    pause: Duration,
    failures: u32,
    ended: bool,
}

impl Watch {
    pub(super) const fn new(
        callers: CallersClient<Channel>,
        request: WatchOperationRequest,
    ) -> Self {
        Self { callers, request, stream: None, pause: FIRST_PAUSE, failures: 0, ended: false }
    }

    /// The next event; `None` after DONE or DELETED. Breaks in between are mended, and what the break hid comes after it.
    ///
    /// # Errors
    /// What the server answers, where trying again does not help; UNAVAILABLE after five tries in a row.
    pub async fn next(&mut self) -> Result<Option<WatchOperationResponse>, Status> {
        while !self.ended {
            match self.attached_next().await {
                Ok(Some(event)) => {
                    self.failures = 0;
                    self.pause = FIRST_PAUSE;
                    if !event.resume_token.is_empty() {
                        self.request.resume_token.clone_from(&event.resume_token);
                    }
                    match event.r#type() {
                        Type::Reconnect => {
                            self.stream = None;
                            let delay = event.reconnect_delay.as_ref().and_then(length);
                            rest(delay.unwrap_or_default()).await;
                        }
                        Type::Done | Type::Deleted => {
                            self.ended = true;
                            return Ok(Some(event));
                        }
                        _ => return Ok(Some(event)),
                    }
                }
                // The server ended the stream without a last state: attach again.
                Ok(None) => self.stream = None,
                Err(status) => self.mend(status).await?,
            }
        }
        Ok(None)
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

    async fn mend(&mut self, status: Status) -> Result<(), Status> {
        self.stream = None;
        self.failures += 1;
        // A broken connection comes as UNKNOWN or INTERNAL from below the protocol, without details.
        let broken = matches!(status.code(), Code::Unknown | Code::Internal | Code::Cancelled)
            && status.details().is_empty();
        if self.failures >= MAX_FAILURES || !(broken || status.code() == Code::Unavailable) {
            self.ended = true;
            return Err(status);
        }
        rest(self.pause.max(asked_for(&status))).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}

const MAX_FAILURES: u32 = 5;
