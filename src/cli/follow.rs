//! Follows operations to their ends: with live bars on a terminal, with plain lines if the output is piped.

use std::cell::{Cell, RefCell};
use std::io::IsTerminal;
use std::time::Duration;

use futures_util::future::{join_all, pending};
use tonic::Status;

use super::connection::Connection;
use super::exit::{Failure, no_answer};
use super::screen::{Bar, Screen};
use super::table::Ahead;
use super::types::PayloadTypes;
use super::{output, plain, table};
use crate::client::{Client, Step, Watch, cause};
use crate::clock::{Clock, SystemClock};
use crate::proto::google::longrunning::{Operation, operation};
use crate::proto::longhaul::v1::operation_record::State;
use crate::proto::longhaul::v1::watch_operation_response::Type;
use crate::proto::longhaul::v1::{
    OperationMetadata, OperationView, WatchOperationRequest, WatchOperationResponse,
};

/// Follows operations to their ends or until the timeout.
pub(super) struct Follower {
    client: Client,
    types: PayloadTypes,
    screen: Screen,
    names: Vec<String>,
    server: String,
    json: bool,
    /// Print every step as a line, not only the end.
    steps: bool,
    timeout: Option<Timeout>,
    /// Whether the current outage was reported.
    told: Cell<bool>,
}

/// The timeout.
#[derive(Clone, Copy)]
struct Timeout {
    /// The timeout as given.
    whole: Duration,
    left: Duration,
}

/// The outage of one watch; none while the server answers.
type Away = RefCell<Option<String>>;

impl Follower {
    pub(super) fn new(
        client: Client,
        connection: &Connection,
        names: Vec<String>,
    ) -> Result<Self, Failure> {
        let (json, server) = (connection.wants_json(), connection.server().to_owned());
        let screen = if json { Screen::none() } else { Screen::of(&names) };
        let (types, told) = (PayloadTypes::new(&client, connection.types()?), Cell::new(false));
        let (steps, timeout) = (false, None);
        Ok(Self { client, types, screen, names, server, json, steps, timeout, told })
    }

    /// Shows every step: with bars if both outputs are the same terminal, else as lines.
    pub(super) fn with_steps(self, steps: bool) -> Self {
        let bars_do = self.screen.is_live() && std::io::stdout().is_terminal();
        Self { steps: steps && !bars_do, ..self }
    }

    /// Gives up after `timeout`, of which `left` remains.
    pub(super) fn with_timeout(self, timeout: Option<Duration>, left: Option<Duration>) -> Self {
        let timeout = timeout.zip(left).map(|(whole, left)| Timeout { whole, left });
        Self { timeout, ..self }
    }

    /// Follows all operations concurrently and reports each end. The first name that failed decides the exit code.
    pub(super) async fn follow(self) -> Result<(), Failure> {
        let ends = join_all(
            self.names.iter().enumerate().map(|(position, name)| self.follow_one(position, name)),
        );
        if !self.screen.is_live() {
            return ends.await.into_iter().collect();
        }
        // Ctrl-C stops watching; it does not cancel.
        tokio::select! {
            ends = ends => ends.into_iter().collect(),
            _ = tokio::signal::ctrl_c() => Err(Failure::Interrupted),
        }
    }

    async fn follow_one(&self, position: usize, name: &str) -> Result<(), Failure> {
        let (bar, away) = (self.screen.bar(position), Away::default());
        let patience = async {
            match self.timeout {
                Some(timeout) => {
                    SystemClock::new().sleep(timeout.left).await;
                    timeout.whole
                }
                None => pending().await,
            }
        };
        let end = tokio::select! {
            end = self.watch(name, &bar, &away) => end,
            timeout = patience => Err(too_late(name, timeout, &away)),
        };
        drop(bar);
        let told = match end {
            Ok((operation, server)) => self.close(&operation, &server).await,
            Err(failure) => Err(failure),
        };
        told.map_err(|failure| {
            let failure = failure.of(&self.server);
            self.screen.print(|| output::failure(&failure));
            Failure::Told(failure.code())
        })
    }

    /// Watches one operation to its last state.
    async fn watch(
        &self,
        name: &str,
        bar: &Bar<'_>,
        away: &Away,
    ) -> Result<(Operation, OperationMetadata), Failure> {
        let request =
            WatchOperationRequest { name: name.to_owned(), ..WatchOperationRequest::default() };
        let mut watch = self.client.watch(request);
        let mut last = String::new();
        while let Some(event) = self.next(&mut watch, bar, away).await? {
            if event.r#type() == Type::Deleted {
                return Err(Failure::NotFound(format!("{name} was deleted")));
            }
            // A heartbeat has no operation.
            let Some(operation) = event.operation else { continue };
            let server = event.server_metadata.unwrap_or_default();
            let ahead = self.ahead(name, &server).await;
            if self.screen.is_live() {
                bar.show(&server, &ahead);
            }
            let line = self.step(&operation, &server, &ahead).await;
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

    /// The next event. The bar is redrawn meanwhile, since it shows the time. Waits for an unreachable server.
    async fn next(
        &self,
        watch: &mut Watch,
        bar: &Bar<'_>,
        away: &Away,
    ) -> Result<Option<WatchOperationResponse>, Failure> {
        let clock = SystemClock::new();
        loop {
            let step = watch.step();
            tokio::pin!(step);
            let step = loop {
                tokio::select! {
                    step = &mut step => break step?,
                    () = clock.sleep(SECOND) => bar.draw(),
                }
            };
            match step {
                Step::Outage(status) => self.lost(&status, bar, away),
                Step::End => return Ok(None),
                Step::Event(event) => {
                    if away.take().is_some() {
                        self.told.set(false);
                        bar.show_outage("");
                    }
                    return Ok(Some(*event));
                }
            }
        }
    }

    /// Reports an outage: on the bar while it lasts, else once.
    fn lost(&self, status: &Status, bar: &Bar<'_>, away: &Away) {
        let server = &self.server;
        away.replace(Some(no_answer(server, status)));
        bar.show_outage(&format!("reconnecting to {server} ..."));
        if !self.screen.is_live() && !self.told.replace(true) {
            output::note(&format!("longhaul: reconnecting to {server}: {}", cause(status)));
        }
    }

    /// What the operation waits for, which events do not say.
    async fn ahead(&self, name: &str, server: &OperationMetadata) -> Ahead {
        let shown = self.screen.is_live() || (self.steps && !self.json);
        if !shown || server.state() != State::Pending {
            return Ahead::default();
        }
        let record = tokio::select! {
            record = self.client.record(name, OperationView::Basic) => record.ok(),
            // Not worth waiting for an unreachable server.
            () = SystemClock::new().sleep(SECOND) => None,
        };
        record.as_ref().map(Ahead::of).unwrap_or_default()
    }

    async fn step(
        &self,
        operation: &Operation,
        server: &OperationMetadata,
        ahead: &Ahead,
    ) -> String {
        if self.json {
            return self.types.of(operation).await.operation(operation).to_string();
        }
        let step = table::step(server, ahead, SystemClock::new().now());
        if self.names.len() == 1 {
            return step;
        }
        let width = self.names.iter().map(String::len).max().unwrap_or_default();
        format!("{:<width$}  {step}", plain::line(&operation.name))
    }

    /// Reports the end and the result.
    async fn close(
        &self,
        operation: &Operation,
        server: &OperationMetadata,
    ) -> Result<(), Failure> {
        let registry = self.types.of(operation).await;
        match &operation.result {
            // Lines of JSON already end with the last state.
            _ if self.json && self.steps => {}
            _ if self.json => output::json(&registry.operation(operation)),
            Some(operation::Result::Response(response)) => self.screen.print(|| {
                if self.screen.is_live() {
                    output::success(&table::end(operation, server));
                }
                let response = table::response(&registry, response);
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

fn too_late(name: &str, timeout: Duration, away: &Away) -> Failure {
    let timeout = table::span(timeout);
    Failure::NoAnswer(match &*away.borrow() {
        None => format!("{name} is not done after {timeout}; the operation itself continues"),
        Some(outage) => format!(
            "{name} is not known to be done after {timeout}: {outage}; the operation itself continues"
        ),
    })
}

const SECOND: Duration = Duration::from_secs(1);
