//! Follows operations to their ends, and shows the way: live bars on a terminal, plain lines where the output is piped.

use std::time::Duration;

use futures_util::future::{join_all, pending};

use super::exit::Failure;
use super::screen::{Bar, Screen};
use super::{output, table};
use crate::client::{Client, Watch};
use crate::clock::{Clock, SystemClock};
use crate::proto::google::longrunning::{Operation, operation};
use crate::proto::longhaul::v1::operation_record::State;
use crate::proto::longhaul::v1::watch_operation_response::Type;
use crate::proto::longhaul::v1::{
    OperationMetadata, OperationView, WatchOperationRequest, WatchOperationResponse,
};
use crate::wire::json::Registry;

/// Follows operations, each until its end or for as long as is asked for.
pub(super) struct Follower {
    client: Client,
    registry: Registry,
    screen: Screen,
    names: Vec<String>,
    json: bool,
    /// Every step as a line, rather than only the end.
    steps: bool,
    timeout: Option<Duration>,
}

impl Follower {
    pub(super) fn new(client: Client, names: Vec<String>, json: bool) -> Result<Self, Failure> {
        let screen = if json { Screen::none() } else { Screen::of(&names) };
        let registry = Registry::builtin()?;
        Ok(Self { client, registry, screen, names, json, steps: false, timeout: None })
    }

    /// Shows every step, also where there is no terminal to draw bars on.
    pub(super) fn with_steps(self, steps: bool) -> Self {
        Self { steps: steps && !self.screen.is_live(), ..self }
    }

    /// Gives up after so long.
    pub(super) fn with_timeout(self, timeout: Option<Duration>) -> Self {
        Self { timeout, ..self }
    }

    /// Follows all at once. Each end is told when it comes; the first name that did not end well decides how the command
    /// ends.
    pub(super) async fn follow(self) -> Result<(), Failure> {
        let ends = join_all(self.names.iter().map(|name| self.follow_one(name)));
        if !self.screen.is_live() {
            return ends.await.into_iter().collect();
        }
        // Whoever looks on may turn away; that the work stops is another wish.
        tokio::select! {
            ends = ends => ends.into_iter().collect(),
            _ = tokio::signal::ctrl_c() => Err(Failure::Interrupted),
        }
    }

    async fn follow_one(&self, name: &str) -> Result<(), Failure> {
        let bar = self.screen.bar(name);
        let patience = async {
            match self.timeout {
                Some(timeout) => SystemClock::new().sleep(timeout).await,
                None => pending().await,
            }
        };
        let end = tokio::select! {
            end = self.watch(name, &bar) => end,
            () = patience => {
                let timeout = self.timeout.unwrap_or_default();
                Err(Failure::NoAnswer(format!("{name} is not done after {}", table::span(timeout))))
            }
        };
        drop(bar);
        let told = end.and_then(|(operation, server)| self.close(&operation, &server));
        told.map_err(|failure| {
            self.screen.print(|| output::failure(&failure));
            Failure::Told(failure.code())
        })
    }

    /// Watches one operation to its last state.
    async fn watch(
        &self,
        name: &str,
        bar: &Bar,
    ) -> Result<(Operation, OperationMetadata), Failure> {
        let request =
            WatchOperationRequest { name: name.to_owned(), ..WatchOperationRequest::default() };
        let mut watch = self.client.watch(request);
        let mut last = String::new();
        while let Some(event) = next(&mut watch, bar).await? {
            if event.r#type() == Type::Deleted {
                return Err(Failure::NotFound(format!("{name} was deleted")));
            }
            // A heartbeat has none.
            let Some(operation) = event.operation else { continue };
            let server = event.server_metadata.unwrap_or_default();
            if self.screen.is_live() {
                bar.show(&server, &self.trouble(name, &server).await);
            }
            let line = self.step(&operation, &server);
            if self.steps && line != last {
                output::text(&line);
            }
            last = line;
            if operation.done {
                return Ok((operation, server));
            }
        }
        Err(Failure::NoAnswer(format!("the watch of {name} ended before the operation did")))
    }

    /// Why it waits to be tried again, which no event says.
    async fn trouble(&self, name: &str, server: &OperationMetadata) -> String {
        if server.state() != State::Pending || server.attempt_count == 0 {
            return String::new();
        }
        let record = self.client.record(name, OperationView::Basic).await.ok();
        let error = record.and_then(|mut record| record.attempts.pop()?.error);
        error.map(|error| table::error(&error)).unwrap_or_default()
    }

    fn step(&self, operation: &Operation, server: &OperationMetadata) -> String {
        if self.json {
            return self.registry.operation(operation).to_string();
        }
        let step = table::step(server);
        if self.names.len() == 1 {
            return step;
        }
        let width = self.names.iter().map(String::len).max().unwrap_or_default();
        format!("{:<width$}  {step}", operation.name)
    }

    /// Says how it ended, and what came of it.
    fn close(&self, operation: &Operation, server: &OperationMetadata) -> Result<(), Failure> {
        match &operation.result {
            // Lines of JSON already end with the last state.
            _ if self.json && self.steps => {}
            _ if self.json => output::json(&self.registry.operation(operation)),
            Some(operation::Result::Response(response)) => self.screen.print(|| {
                if self.screen.is_live() {
                    output::success(&table::end(operation, server));
                }
                let response = table::response(&self.registry, response);
                match (response.as_str(), self.names.len()) {
                    ("", _) => {}
                    (response, 1) => output::text(response),
                    (response, _) => output::text(&format!("{}: {response}", operation.name)),
                }
            }),
            _ => {}
        }
        match &operation.result {
            Some(operation::Result::Error(error)) if table::is_cancelled(error) => {
                Err(Failure::OperationCancelled(table::end(operation, server)))
            }
            Some(operation::Result::Error(_)) => {
                Err(Failure::OperationFailed(table::end(operation, server)))
            }
            _ => Ok(()),
        }
    }
}

/// The next event. The bar goes on while none comes: time passes there too.
async fn next(watch: &mut Watch, bar: &Bar) -> Result<Option<WatchOperationResponse>, Failure> {
    let clock = SystemClock::new();
    let event = watch.next();
    tokio::pin!(event);
    loop {
        tokio::select! {
            event = &mut event => return Ok(event?),
            () = clock.sleep(SECOND) => bar.draw(),
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);
