//! The shared parts of all actors of the test process, and their way to make calls.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use longhaul::clock::{Clock, SystemClock};
use longhaul::proto::google::longrunning::Operation;
use longhaul::proto::google::longrunning::operations_client::OperationsClient;
use longhaul::proto::longhaul::v1::OperationRecord;
use longhaul::proto::longhaul::v1::callers_client::CallersClient;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

use super::dice::Dice;
use super::event::{Act, Seen};
use super::journal::{Journal, outcome};
use super::look::{at_operation, at_record};
use super::receiver::Receiver;

/// Where it all happens.
pub(super) struct Stage {
    pub(super) seed: u64,
    /// The folder of the journals.
    pub(super) folder: PathBuf,
    /// The ways to the servers.
    pub(super) doors: Vec<SocketAddr>,
    /// The actors begin nothing new.
    pub(super) over: CancellationToken,
    /// Where callbacks go.
    pub(super) receiver: Receiver,
    /// Operations that have a callback, or may have one.
    told: Mutex<BTreeSet<String>>,
    /// Operations that were started, or may have been.
    names: Mutex<Vec<String>>,
}

impl Stage {
    pub(super) fn new(seed: u64, folder: PathBuf, doors: Vec<SocketAddr>) -> Self {
        let receiver = Receiver::open(seed, &folder);
        let over = CancellationToken::new();
        Self {
            seed,
            folder,
            doors,
            over,
            receiver,
            told: Mutex::default(),
            names: Mutex::default(),
        }
    }

    pub(super) fn add(&self, name: &str, is_told: bool) {
        self.names().push(name.to_owned());
        if is_told {
            self.told().insert(name.to_owned());
        }
    }

    /// Whether its callback is to be called.
    pub(super) fn is_told(&self, name: &str) -> bool {
        self.told().contains(name)
    }

    fn told(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn names(&self) -> MutexGuard<'_, Vec<String>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Mostly one of the last.
    fn some(&self, dice: &mut Dice) -> Option<String> {
        let names = self.names();
        let among = if dice.percent(80) { 24 } else { 200 };
        let back = dice.below(among) as usize;
        names.len().checked_sub(back + 1).map(|place| names[place].clone())
    }
}

/// The result of a read.
pub(super) enum Looked {
    Showed(Seen),
    /// The operation does not exist, or no longer.
    Missed,
    /// No reply.
    Failed,
}

/// An actor that calls the servers.
pub(super) struct Actor {
    pub(super) stage: Arc<Stage>,
    pub(super) journal: Journal,
    pub(super) dice: Dice,
    pub(super) clock: Arc<SystemClock>,
    channels: Vec<Channel>,
}

impl Actor {
    pub(super) fn new(stage: &Arc<Stage>, who: &str) -> Self {
        Self {
            stage: stage.clone(),
            journal: Journal::open(&stage.folder, who),
            dice: Dice::of(stage.seed, who),
            clock: SystemClock::new(),
            channels: stage.doors.iter().map(|door| channel(*door)).collect(),
        }
    }

    /// To one server or another.
    pub(super) fn channel(&mut self) -> Channel {
        self.dice.pick(&self.channels).clone()
    }

    pub(super) fn operations(&mut self) -> OperationsClient<Channel> {
        OperationsClient::new(self.channel())
    }

    pub(super) fn callers(&mut self) -> CallersClient<Channel> {
        CallersClient::new(self.channel())
    }

    /// One of the operations.
    pub(super) fn some(&mut self) -> Option<String> {
        self.stage.some(&mut self.dice)
    }

    /// Lets some milliseconds pass, up to twice as many.
    pub(super) async fn pause(&mut self, millis: u64) {
        let millis = self.dice.between(0, 2 * millis);
        self.clock.sleep(Duration::from_millis(millis)).await;
    }

    /// Makes a call, and writes down its result.
    pub(super) async fn act<T>(
        &self,
        name: &str,
        act: Act,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Status> {
        let event = self.journal.begin(name, act);
        let reply = bounded(call).await;
        self.journal.end(event, outcome(&reply));
        reply
    }

    /// Makes a read, and writes down what it showed.
    pub(super) async fn look<T>(
        &self,
        name: &str,
        call: impl Future<Output = Result<Response<T>, Status>>,
        shown: impl FnOnce(&T) -> Seen,
    ) -> Looked {
        let begin = self.journal.now();
        match bounded(call).await {
            Ok(answer) => {
                let seen = shown(&answer);
                self.journal.note(name, begin, Act::Seen(seen.clone()));
                Looked::Showed(seen)
            }
            Err(status) if status.code() == Code::NotFound => {
                self.journal.note(name, begin, Act::Missing);
                Looked::Missed
            }
            Err(_) => Looked::Failed,
        }
    }

    pub(super) fn note_operations(&self, begin: u64, operations: &[Operation]) {
        for operation in operations {
            self.journal.note(&operation.name, begin, Act::Seen(at_operation(operation)));
        }
    }
}

/// How a record shows an operation.
pub(super) fn shown(record: &OperationRecord) -> Seen {
    at_record(record.operation.as_ref().expect("an operation"), record)
}

/// A connection that reconnects by itself.
pub(super) fn channel(address: SocketAddr) -> Channel {
    let endpoint = Endpoint::try_from(format!("http://{address}")).expect("an endpoint");
    endpoint.connect_timeout(Duration::from_secs(2)).connect_lazy()
}

/// An answer, or none in time.
pub(super) async fn bounded<T>(
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Status> {
    let late = || Status::deadline_exceeded("no answer in time");
    let answer = tokio::time::timeout(ANSWER, Box::pin(call)).await;
    Ok(answer.unwrap_or_else(|_| Err(late()))?.into_inner())
}

const ANSWER: Duration = Duration::from_secs(12);
