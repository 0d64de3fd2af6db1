//! Follows operations to their ends, and shows the way: live bars on a terminal, plain lines where the output is piped.

use std::io::IsTerminal;
use std::time::Duration;

use futures_util::future::{join_all, pending};

use super::exit::Failure;
use super::screen::{Bar, Screen};
use super::table::Ahead;
use super::{output, plain, table};
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

    /// Shows every step: by bars where both outputs are the same terminal, else as a line each.
    pub(super) fn with_steps(self, steps: bool) -> Self {
        let bars_do = self.screen.is_live() && std::io::stdout().is_terminal();
        Self { steps: steps && !bars_do, ..self }
    }

    /// Gives up after so long.
    pub(super) fn with_timeout(self, timeout: Option<Duration>) -> Self {
        Self { timeout, ..self }
    }

    /// Follows all at once. Each end is told when it comes; the first name that did not end well decides how the command
    /// ends.
    pub(super) async fn follow(self) -> Result<(), Failure> {
        let ends = join_all(
            self.names.iter().enumerate().map(|(position, name)| self.follow_one(position, name)),
        );
        if !self.screen.is_live() {
            return ends.await.into_iter().collect();
        }
        // Whoever looks on may turn away; that the work stops is another wish.
        tokio::select! {
            ends = ends => ends.into_iter().collect(),
            _ = tokio::signal::ctrl_c() => Err(Failure::Interrupted),
        }
    }

    async fn follow_one(&self, position: usize, name: &str) -> Result<(), Failure> {
        let bar = self.screen.bar(position);
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
        bar: &Bar<'_>,
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
            let ahead = self.ahead(name, &server).await;
            if self.screen.is_live() {
                bar.show(&server, &ahead);
            }
            let line = self.step(&operation, &server, &ahead);
            if self.steps && line != last {
                output::exact(&line);
            }
            last = line;
            if operation.done {
                return Ok((operation, server));
            }
        }
        Err(Failure::NoAnswer(format!("the watch of {name} ended before the operation did")))
    }

    /// What it waits for, which no event says.
    async fn ahead(&self, name: &str, server: &OperationMetadata) -> Ahead {
        let shown = self.screen.is_live() || (self.steps && !self.json);
        if !shown || server.state() != State::Pending {
            return Ahead::default();
        }
        let record = self.client.record(name, OperationView::Basic).await;
        record.as_ref().map(Ahead::of).unwrap_or_default()
    }

    fn step(&self, operation: &Operation, server: &OperationMetadata, ahead: &Ahead) -> String {
        if self.json {
            return self.registry.operation(operation).to_string();
        }
        let step = table::step(server, ahead, SystemClock::new().now());
        if self.names.len() == 1 {
            return step;
        }
        let width = self.names.iter().map(String::len).max().unwrap_or_default();
        format!("{:<width$}  {step}", plain::line(&operation.name))
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
                    (response, 1) => output::exact(response),
                    (response, _) => output::exact(&format!("{}: {response}", operation.name)),
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
async fn next(watch: &mut Watch, bar: &Bar<'_>) -> Result<Option<WatchOperationResponse>, Failure> {
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
