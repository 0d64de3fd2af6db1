//! A worker that serves queues on streams, and takes what it holds from one to the next.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use longhaul::clock::{Clock, SystemClock};
use longhaul::proto::google::rpc::{ErrorInfo, Status as Refusal};
use longhaul::proto::longhaul::v1 as pb;
use longhaul::proto::longhaul::v1::workers_client::WorkersClient;
use pb::serve_queue_request::{Held, Hello};
use pb::serve_queue_response::{Outcome as Came, Signal, Welcome, outcome::Call as Kind};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::callers::QUEUES;
use super::dice::Dice;
use super::event::{Act, Call, Event, Outcome, Said};
use super::journal::Journal;
use super::stage::{bounded, channel};
use super::worker::{
    LEASE, Manner, Part, Step, complete, duration, fail, leased, plan, release, report, said, stop,
    suspend,
};

struct Worker {
    part: Part,
    journal: Journal,
    clock: Arc<SystemClock>,
    dice: Dice,
    /// By token.
    leases: BTreeMap<String, Work>,
}

/// A lease, and what is still to be said about it.
struct Work {
    lease: pb::Lease,
    /// As far as the worker knows.
    held: bool,
    steps: VecDeque<Step>,
    /// When the next is due, in microseconds.
    due: u64,
    asked: bool,
}

/// One stream.
struct Stream {
    requests: Option<mpsc::Sender<pb::ServeQueueRequest>>,
    begun: u64,
    sequence: i64,
    read: i64,
    /// When the worker spoke last.
    spoke: u64,
    /// Said, but not acknowledged.
    unsettled: Vec<Unsettled>,
    /// Told ahead of the acknowledgement.
    told: Vec<Came>,
    /// Named in Hello.
    adopting: Vec<(String, Event)>,
}

struct Unsettled {
    sequence: i64,
    token: String,
    step: Step,
    said: Said,
    event: Event,
}

/// Works until it is killed.
pub(super) async fn play(part: Part) {
    let mut worker = Worker {
        journal: Journal::open(&part.folder, &part.who),
        clock: SystemClock::new(),
        dice: Dice::of(part.seed, &part.who),
        leases: BTreeMap::new(),
        part,
    };
    loop {
        worker.serve().await;
        worker.clock.sleep(Duration::from_millis(worker.dice.between(5, 300))).await;
    }
}

impl Worker {
    /// One stream from its Hello to its end.
    async fn serve(&mut self) {
        let door = *self.dice.pick(&self.part.doors);
        let (requests, said) = mpsc::channel(64);
        let mut stream = Stream::new(requests, self.journal.now());
        self.greet(&mut stream).await;
        let mut workers = WorkersClient::new(channel(door));
        let opened = bounded(workers.serve_queue(ReceiverStream::new(said))).await;
        let Ok(replies) = opened else { return self.break_off(stream) };
        let leaves = self.journal.now() + 1_000 * self.dice.between(2_000, 12_000);
        let in_good_order = self.converse(&mut stream, replies, leaves).await;
        if in_good_order {
            // What it still held has gone back.
            self.leases.clear();
        }
        self.break_off(stream);
    }

    async fn greet(&mut self, stream: &mut Stream) {
        let held = self.leases.values().filter(|work| work.held);
        let leases: Vec<pb::Lease> = held.map(|work| work.lease.clone()).collect();
        let name = |lease: &pb::Lease| Held {
            name: lease.operation.clone(),
            lease_token: lease.lease_token.clone(),
        };
        let held = leases.iter().map(name).collect();
        for lease in leases {
            let adopt =
                Step { after: 0, call: Call::Adopt, content: String::new(), manner: Manner::Plain };
            let event = self.journal.begin(&lease.operation, Act::Said(said(&lease, &adopt, true)));
            stream.adopting.push((lease.lease_token, event));
        }
        let hello = Hello {
            queue: (*self.dice.pick(&QUEUES)).to_owned(),
            worker: self.part.who.clone(),
            lease_duration: duration(self.dice.between(LEASE, 2 * LEASE)),
            reconnect_grace: duration(self.dice.between(200, LEASE)),
            held,
        };
        let slots = Some(self.dice.between(2, 9) as i32);
        let request = pb::ServeQueueRequest { hello: Some(hello), slots, ..Default::default() };
        stream.send(request, self.journal.now()).await;
    }

    /// Whether both sides closed in good order.
    async fn converse(
        &mut self,
        stream: &mut Stream,
        mut replies: Streaming<pb::ServeQueueResponse>,
        leaves: u64,
    ) -> bool {
        loop {
            let clock = self.clock.clone();
            tokio::select! {
                reply = replies.message() => match reply {
                    Ok(Some(reply)) => self.take_in(stream, reply),
                    Ok(None) => return stream.requests.is_none(),
                    Err(_) => return false,
                },
                () = clock.sleep(LOOK) => {}
            }
            if stream.requests.is_none() {
                continue;
            }
            if self.journal.now() > leaves {
                stream.requests = None;
                continue;
            }
            if !self.speak(stream).await {
                return false;
            }
        }
    }

    /// Says what is due, in one message; `false` where nobody takes it.
    async fn speak(&mut self, stream: &mut Stream) -> bool {
        let now = self.journal.now();
        let mut request = pb::ServeQueueRequest::default();
        let mut named = BTreeSet::new();
        let mut unsettled = Vec::new();
        for (token, work) in &mut self.leases {
            if work.due > now || !named.insert(work.lease.operation.clone()) {
                continue;
            }
            let Some(step) = work.next(now) else { continue };
            let sure = step.call != Call::Report || step.manner == Manner::Committed;
            if !put(&mut request, &work.lease, &step) {
                continue;
            }
            let said = said(&work.lease, &step, sure);
            let event = self.journal.begin(&work.lease.operation, Act::Said(said.clone()));
            let sequence = stream.sequence + 1;
            unsettled.push(Unsettled { sequence, token: token.clone(), step, said, event });
        }
        if unsettled.is_empty() && now < stream.spoke + BEAT {
            return true;
        }
        stream.unsettled.extend(unsettled);
        stream.send(request, now).await
    }

    fn take_in(&mut self, stream: &mut Stream, reply: pb::ServeQueueResponse) {
        stream.read += 1;
        assert_eq!(reply.sequence, stream.read, "{reply:?}");
        if let Some(welcome) = reply.welcome {
            self.settle_adoptions(stream, &welcome);
        }
        for lease in reply.leases {
            self.journal.note(&lease.operation, stream.begun, leased(&lease, false));
            let steps = plan(&mut self.dice, &self.part, lease.fencing_number as u64);
            let mut work = Work { lease, held: true, steps, due: 0, asked: false };
            work.wait(self.journal.now());
            self.leases.insert(work.lease.lease_token.clone(), work);
        }
        for Signal { name, directive } in reply.signals {
            self.heed(&name, directive.unwrap_or_default());
        }
        for came in &reply.outcomes {
            if came.sequence == 0 {
                self.lose(&came.name);
            }
        }
        stream.told.extend(reply.outcomes);
        self.settle(stream, reply.acknowledged_sequence);
        self.leases.retain(|_, work| work.held || !work.steps.is_empty());
    }

    fn settle_adoptions(&mut self, stream: &mut Stream, welcome: &Welcome) {
        for (token, event) in std::mem::take(&mut stream.adopting) {
            let lost = welcome.lost.contains(&event.operation);
            if lost && let Some(work) = self.leases.get_mut(&token) {
                work.held = false;
            }
            let refused = || Outcome::Refused("lost".to_owned());
            self.journal.end(event, if lost { refused() } else { Outcome::Ok });
        }
    }

    /// What was said up to that message has been handled.
    fn settle(&mut self, stream: &mut Stream, acknowledged: i64) {
        let (settled, unsettled): (Vec<_>, Vec<_>) = std::mem::take(&mut stream.unsettled)
            .into_iter()
            .partition(|unsettled| unsettled.sequence <= acknowledged);
        stream.unsettled = unsettled;
        for Unsettled { sequence, token, step, said, event } in settled {
            let about = |came: &&Came| {
                let kind = (came.sequence, came.call());
                kind == (sequence, kind_of(step.call)) && came.name == event.operation
            };
            let came = stream.told.iter().find(about);
            let error = came.and_then(|came| came.error.as_ref());
            let said = Said {
                will_retry: came.is_some_and(|came| came.will_retry),
                discarded: came.is_some_and(|came| came.discarded),
                ..said
            };
            let event = Event { act: Act::Said(said), ..event };
            self.journal.end(event, error.map_or(Outcome::Ok, refusal));
            if let Some(work) = self.leases.get_mut(&token) {
                work.held &= error.is_none() && !step.call.ends();
            }
        }
        stream.told.retain(|came| came.sequence > acknowledged);
    }

    /// The server says that a lease is lost. Not everybody listens.
    fn lose(&mut self, name: &str) {
        let listens = self.dice.percent(60);
        for work in self.leases.values_mut().filter(|work| work.lease.operation == name) {
            work.held = false;
            if listens {
                work.steps.clear();
            }
        }
    }

    fn heed(&mut self, name: &str, directive: pb::Directive) {
        let now = self.journal.now();
        let held = |work: &&mut Work| work.held && !work.asked && work.lease.operation == name;
        for work in self.leases.values_mut().filter(held) {
            work.asked = true;
            if let Some(step) = stop(&mut self.dice, &self.part, directive) {
                work.steps = VecDeque::from([step]);
                work.wait(now);
            }
        }
    }

    /// The stream is no more: what was not acknowledged is said again on the next.
    fn break_off(&mut self, stream: Stream) {
        let now = self.journal.now();
        for Unsettled { token, step, event, .. } in stream.unsettled {
            self.journal.end(event, Outcome::Unknown);
            if let Some(work) = self.leases.get_mut(&token).filter(|_| step.call.ends()) {
                work.steps.push_front(Step { after: 0, ..step });
                work.wait(now);
            }
        }
    }
}

impl Work {
    fn wait(&mut self, now: u64) {
        self.due = self.steps.front().map_or(u64::MAX, |step| now + 1_000 * step.after);
    }

    fn next(&mut self, now: u64) -> Option<Step> {
        let step = self.steps.pop_front();
        self.wait(now);
        step
    }
}

impl Stream {
    fn new(requests: mpsc::Sender<pb::ServeQueueRequest>, begun: u64) -> Self {
        Self {
            requests: Some(requests),
            begun,
            sequence: 0,
            read: 0,
            spoke: begun,
            unsettled: Vec::new(),
            told: Vec::new(),
            adopting: Vec::new(),
        }
    }

    async fn send(&mut self, request: pb::ServeQueueRequest, now: u64) -> bool {
        self.sequence += 1;
        self.spoke = now;
        let (sequence, seen_sequence) = (self.sequence, self.read);
        let request = pb::ServeQueueRequest { sequence, seen_sequence, ..request };
        let requests = self.requests.as_ref().expect("an open side");
        tokio::time::timeout(STUCK, requests.send(request)).await.is_ok_and(|sent| sent.is_ok())
    }
}

/// Adds a step to a message; `false` where the stream itself says it already.
fn put(request: &mut pb::ServeQueueRequest, lease: &pb::Lease, step: &Step) -> bool {
    match step.call {
        Call::Adopt | Call::Renew => return false,
        Call::Report => request.reports.push(report(lease, step)),
        Call::Complete => request.completions.push(complete(lease, step)),
        Call::Fail => request.failures.push(fail(lease, step)),
        Call::Release => request.releases.push(release(lease)),
        Call::Suspend | Call::SuspendUntil => request.suspensions.push(suspend(lease, step)),
    }
    true
}

const fn kind_of(call: Call) -> Kind {
    match call {
        Call::Adopt | Call::Renew => Kind::Unspecified,
        Call::Report => Kind::Report,
        Call::Complete => Kind::Completion,
        Call::Fail => Kind::Failure,
        Call::Release => Kind::Release,
        Call::Suspend | Call::SuspendUntil => Kind::Suspension,
    }
}

fn refusal(error: &Refusal) -> Outcome {
    let info = error.details.iter().find(|detail| detail.type_url.ends_with("ErrorInfo"));
    let info = info.and_then(|info| ErrorInfo::decode(info.value.as_slice()).ok());
    Outcome::Refused(info.map_or_else(|| error.message.clone(), |info| info.reason))
}

const LOOK: Duration = Duration::from_millis(20);
/// In microseconds.
const BEAT: u64 = 300 * LEASE;
const STUCK: Duration = Duration::from_secs(3);
