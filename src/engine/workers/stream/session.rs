//! One stream, from Hello to its end.

mod greeting;
mod seen;
mod silence;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;

use super::calls::{Handled, Handling, Numbered};
use super::holdings::{Holdings, NewsEffect};
use super::messages::{CallOutcome, Hello, Incoming, Input, StreamRequest, StreamResponse};
use super::outgoing::Ready;
use super::rooms::StreamRooms;
use crate::engine::commands::apply::{CommandOutcome, KeyedCommand};
use crate::engine::dispatch::registration::Registration;
use crate::engine::error::{Error, Result};
use crate::engine::leases::leased::Leased;
use crate::engine::leases::news::{News, Standing};
use crate::engine::leases::waiter::{Inbox, Presented, Waiter};
use crate::engine::random::random;
use crate::engine::roster::registry::Registered;
use crate::limits::{DRAIN, MAX_SLOTS};
use crate::operation::Rejection;
use crate::operation::command::{Command, Renew};
use crate::operation::lease::Holder;
use crate::operation::name::Name;
use crate::store::Key;

type Sender = mpsc::Sender<Result<StreamResponse>>;

/// Events of a stream besides messages of its worker.
enum Came {
    /// Calls were handled.
    Handled(Handled),
    /// A lease with its payloads; `None`: it changed meanwhile.
    Loaded(Key, Option<Leased>),
    /// Standings of operations, as just read.
    Standings(Vec<(Key, Standing)>),
    /// Leases were renewed, or a request to cancel noted as delivered.
    Renewed(Vec<(Key, CommandOutcome)>),
}

#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct StreamSession<'a> {
    rooms: Arc<StreamRooms>,
    incoming: Incoming,
    sender: &'a Sender,
    hello: Hello,
    holdings: Holdings,
    ready: Ready,
    /// How many leases the worker wants to hold.
    slots: i64,
    /// The claims of Hello are settled.
    greeted: bool,
    received: i64,
    sent: i64,
    /// Calls that wait for those before them.
    calls: Vec<Numbered>,
    news: Vec<News>,
    under_way: FuturesUnordered<BoxFuture<'static, Came>>,
    heard: Duration,
    spoke: Duration,
    /// Since when calls wait for the store; no message is read meanwhile.
    handling_since: Option<Duration>,
    /// Since when the store has not responded for the held leases.
    cut_off_since: Option<Duration>,
    half_closed: bool,
    draining: bool,
    /// An operator has drained the worker, and it knows.
    drained: bool,
    /// While the worker can be seen by operators.
    registered: Option<Registered>,
}

impl<'a> StreamSession<'a> {
    /// Runs a stream to its end; an error is how it ends.
    pub(super) async fn run(
        rooms: Arc<StreamRooms>,
        mut incoming: Incoming,
        sender: &'a Sender,
    ) -> Result<()> {
        let first = match incoming.next().await {
            Some(Input::Request(request)) => request?,
            // No message arrived, so there is nothing to undo.
            _ => return Ok(()),
        };
        let hello = first.hello.clone().ok_or_else(|| {
            Error::field("hello", "hello must be set in the first message of a stream")
        })?;
        let mut session = Self::open(rooms, incoming, sender, hello);
        session.take_request(first)?;
        session.greet().await?;
        session.register();
        session.serve().await
    }

    fn open(rooms: Arc<StreamRooms>, incoming: Incoming, sender: &'a Sender, hello: Hello) -> Self {
        let holder: Holder = random();
        let presented = Presented {
            worker: hello.worker.clone(),
            process: hello.process.clone(),
            duration: hello.duration,
            scope: hello.scope.clone(),
            activity: rooms.roster.activity(hello.queue.as_str()),
        };
        let waiter = Waiter::of_stream(presented, holder);
        let registration = Registration::enter(&rooms.dispatch, hello.queue.as_str(), waiter);
        let now = rooms.context.clock.elapsed();
        let holdings = Holdings::new(Arc::clone(&rooms), registration, holder, hello.grace);
        Self {
            rooms,
            incoming,
            sender,
            hello,
            holdings,
            ready: Ready::default(),
            slots: 0,
            greeted: false,
            received: 0,
            sent: 0,
            calls: Vec::new(),
            news: Vec::new(),
            under_way: FuturesUnordered::new(),
            heard: now,
            spoke: now,
            handling_since: None,
            cut_off_since: None,
            half_closed: false,
            draining: false,
            drained: false,
            registered: None,
        }
    }

    async fn serve(&mut self) -> Result<()> {
        let mut tick = self.rooms.context.clock.sleep(self.tick_length());
        loop {
            self.start_handling();
            let handling = self.handling_since.is_some();
            if !handling {
                self.judge_news();
            }
            if self.half_closed && !handling {
                return self.close().await;
            }
            let speaks = self.ready.is_worth_saying();
            // A worker that does not read outcomes sends nothing more.
            let listens = !handling && !self.half_closed && self.ready.outcomes.len() < AT_ONCE;
            tokio::select! {
                biased;
                permit = self.sender.reserve(), if speaks => match permit {
                    Ok(permit) => {
                        let response = self.compose();
                        permit.send(Ok(response));
                    }
                    // The receiver is gone.
                    Err(_) => return Ok(()),
                },
                Some(came) = self.under_way.next() => self.take_in(came),
                input = self.incoming.next(), if listens => {
                    if !self.listen(input)? {
                        return Ok(());
                    }
                }
                () = self.holdings.registration.waiter.told() => self.fetch(),
                () = &mut tick => {
                    self.tick()?;
                    tick = self.rooms.context.clock.sleep(self.tick_length());
                }
                () = self.rooms.context.drained(), if !self.draining => self.drain(),
            }
        }
    }

    /// Handles this message and all others that have arrived; `false`: the stream is broken.
    fn listen(&mut self, input: Option<Input>) -> Result<bool> {
        let mut next = input;
        loop {
            match next {
                Some(Input::Request(request)) => self.take_request(request?)?,
                Some(Input::HalfClosed) => {
                    self.half_closed = true;
                    return Ok(true);
                }
                Some(Input::Broken) | None => return Ok(false),
            }
            if self.calls.len() >= AT_ONCE {
                return Ok(true);
            }
            match self.incoming.next().now_or_never() {
                Some(more) => next = more,
                None => return Ok(true),
            }
        }
    }

    /// Opens slots for leases. The claims of Hello must be settled first, since held leases use slots.
    fn open_slots(&mut self) {
        if self.greeted {
            self.holdings.set_slots(self.slots);
        }
    }

    fn take_request(&mut self, request: StreamRequest) -> Result<()> {
        self.heard = self.rooms.context.clock.elapsed();
        let expected = self.received + 1;
        if request.sequence != expected {
            return Err(wrong(
                "sequence",
                request.sequence,
                &format!("the next one is {expected}"),
            ));
        }
        if request.seen_sequence > self.sent || request.seen_sequence < self.holdings.seen {
            let bounds = format!("it must be between {} and {}", self.holdings.seen, self.sent);
            return Err(wrong("seen_sequence", request.seen_sequence, &bounds));
        }
        if self.received > 0 && request.hello.is_some() {
            return Err(Error::field(
                "hello",
                "hello must be in the first message of a stream only",
            ));
        }
        self.received = expected;
        self.holdings.seen = request.seen_sequence;
        if let Some(slots) = request.slots {
            if !(0..=MAX_SLOTS).contains(&slots) {
                return Err(wrong(
                    "slots",
                    slots.into(),
                    &format!("it must be between 0 and {MAX_SLOTS}"),
                ));
            }
            self.slots = slots.into();
            self.open_slots();
        }
        let sequence = request.sequence;
        self.calls.extend(request.calls.into_iter().map(|call| Numbered { sequence, call }));
        Ok(())
    }

    /// Starts handling the gathered calls, unless others are being handled.
    fn start_handling(&mut self) {
        if self.handling_since.is_some() || self.ready.handled == self.received {
            return;
        }
        let calls = std::mem::take(&mut self.calls);
        if calls.is_empty() {
            // Sent with the next message: a reply to each heartbeat would never end. And no lease is renewed without the store.
            if !self.holdings.is_cut_off() {
                self.ready.handled = self.received;
            }
            return;
        }
        self.handling_since = Some(self.rooms.context.clock.elapsed());
        let handling: Handling = Arc::clone(&self.rooms).handle(calls, self.received).boxed();
        self.under_way.push(handling.map(Came::Handled).boxed());
    }

    fn take_in(&mut self, came: Came) {
        match came {
            Came::Handled(handled) => {
                self.handling_since = None;
                self.heard = self.rooms.context.clock.elapsed();
                for (key, token) in handled.ended {
                    self.holdings.remove(key, token);
                }
                self.ready.outcomes.extend(handled.outcomes);
                self.ready.handled = handled.sequence;
                self.ready.owes = true;
            }
            Came::Loaded(key, Some(leased)) => self.ready.leases.push_back((key, leased)),
            // Another holder has it; a change will report that.
            Came::Loaded(key, None) => self.news.push(News::Changed(key, u64::MAX)),
            Came::Standings(standings) => {
                self.news.extend(
                    standings.into_iter().map(|(key, standing)| News::Stands(key, standing)),
                );
            }
            Came::Renewed(outcomes) => {
                for (key, outcome) in outcomes {
                    if let Ok(Some(done)) = &outcome
                        && let Some(operation) = done.operation()
                    {
                        self.holdings.renewed(key, operation);
                    }
                }
            }
        }
    }

    /// Handles the events of this server for the worker.
    fn fetch(&mut self) {
        let inbox = self.holdings.registration.waiter.fetch();
        self.unpack(inbox);
        self.note_drained();
    }

    fn unpack(&mut self, inbox: Inbox) {
        for grant in inbox.grants {
            if let Some(earlier) = self.holdings.add_granted(&grant) {
                let revision = grant.operation.stamps.revision;
                let standing = Standing::of(Some(&grant.operation), revision);
                self.ready.outcomes.push_back(lost(earlier.name, standing));
            }
            self.rooms.reports.expect_progress(grant.key, &grant.operation);
            // Somebody may have written it since.
            let newest = self.rooms.holders.newest(grant.key);
            self.news.push(News::Changed(grant.key, newest));
            match Leased::inline(grant) {
                Ok((key, leased)) => self.ready.leases.push_back((key, leased)),
                Err(grant) => {
                    let loading = Arc::clone(&self.rooms).load_patiently(grant);
                    let loaded = loading.map(|(key, leased)| Came::Loaded(key, leased));
                    self.under_way.push(loaded.boxed());
                }
            }
        }
        self.news.extend(inbox.news);
        for asked in inbox.asked {
            self.answer(asked);
        }
    }

    /// Turns changes into signals. Only between batches: the end of a lease by the worker's own call is not news to it.
    fn judge_news(&mut self) {
        let mut unknown = Vec::new();
        for news in std::mem::take(&mut self.news) {
            match news {
                News::Changed(key, revision) => {
                    let holding = self.holdings.get(key);
                    unknown.extend(holding.filter(|held| held.since < revision).map(|_| key));
                }
                News::Stands(key, standing) => match self.holdings.judge(key, &standing) {
                    NewsEffect::Nothing => {}
                    NewsEffect::Signal(signal) => self.ready.signals.push_back(signal),
                    NewsEffect::Lost(name) => self.ready.outcomes.push_back(lost(name, standing)),
                },
            }
        }
        if !unknown.is_empty() {
            let rooms = Arc::clone(&self.rooms);
            let reading = async move { Came::Standings(rooms.read_standings(unknown).await) };
            self.under_way.push(reading.boxed());
        }
    }

    fn compose(&mut self) -> StreamResponse {
        self.sent += 1;
        self.spoke = self.rooms.context.clock.elapsed();
        let (sent, holdings) = (self.sent, &mut self.holdings);
        let token = |leased: &Leased| leased.lease().map(|lease| lease.token);
        let response =
            self.ready.compose(sent, |key, leased| holdings.sent(key, token(leased), sent));
        let told = response.signals.iter().filter(|signal| signal.cancel_requested);
        let keys: Vec<Key> = told.map(|signal| self.rooms.context.key(&signal.name)).collect();
        self.renew(keys);
        response
    }

    /// Renews leases in the store, which also notes a request to cancel as delivered.
    fn renew(&mut self, keys: Vec<Key>) {
        let renew = |token| Renew { token, duration: None, cancel_acknowledged: false };
        let commands: Vec<KeyedCommand> = keys
            .into_iter()
            .filter_map(|key| Some((key, self.holdings.get(key)?.token)))
            .map(|(key, token)| KeyedCommand { key, command: Command::Renew(renew(token)) })
            .collect();
        if commands.is_empty() {
            return;
        }
        let rooms = Arc::clone(&self.rooms);
        let renewing = async move {
            let keys: Vec<Key> = commands.iter().map(|keyed| keyed.key).collect();
            let outcomes = rooms.commands.apply_all(commands).await;
            Came::Renewed(keys.into_iter().zip(outcomes).collect())
        };
        self.under_way.push(renewing.boxed());
    }

    /// The server is draining.
    fn drain(&mut self) {
        self.draining = true;
        self.ready.drain_duration = Some(DRAIN);
    }

    /// The worker has closed its side: its leases are released, and it receives the confirmation.
    async fn close(&mut self) -> Result<()> {
        self.registered = None;
        // Leave the queue first, or we may be leased what we are releasing.
        let inbox = self.holdings.registration.waiter.close();
        self.unpack(inbox);
        let commands = self.holdings.releases();
        if !commands.is_empty() {
            self.rooms.apply_patiently(commands, self.hello.duration).await?;
        }
        self.ready.leases.clear();
        self.ready.owes = true;
        while self.ready.is_worth_saying() {
            let Ok(permit) = self.sender.reserve().await else { break };
            let response = self.compose();
            permit.send(Ok(response));
        }
        Ok(())
    }

    fn heartbeat(&self) -> Duration {
        self.hello.duration / 3
    }

    fn tick_length(&self) -> Duration {
        (self.hello.duration / 6).min(Duration::from_secs(1))
    }
}

fn wrong(field: &str, value: i64, must: &str) -> Box<Error> {
    Error::field(field, format!("{field} is {value}; {must}"))
}

/// A lease that ended without a call of its worker.
fn lost(name: Name, standing: Standing) -> CallOutcome {
    let Standing { attempt, fencing_number, .. } = standing;
    let text = name.to_string();
    let error = Rejection::LeaseLost { name, attempt, fencing_number };
    CallOutcome {
        sequence: 0,
        kind: None,
        name: text,
        error: Some(error.into()),
        discarded: false,
        will_retry: false,
        schedule_time: None,
    }
}

/// The most calls in one batch, and the most pending outcomes while messages are still read.
const AT_ONCE: usize = 1_000;
