//! A worker that serves queues on streams, and takes its leases from one stream to the next.

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
    LEASE, Manner, Part, Step, complete, duration, fail, leased, plan, plan_again, release, report,
    said, stop, suspend,
};

struct Worker {
    part: Part,
    journal: Journal,
    clock: Arc<SystemClock>,
    dice: Dice,
    /// By token.
    leases: BTreeMap<String, Work>,
}

/// A lease, and its pending calls.
struct Work {
    lease: pb::Lease,
    /// As far as the worker knows.
    held: bool,
    /// How long it has been held on this stream, with enough messages to keep it.
    kept: Option<Event>,
    /// A call that ends it is on its way.
    ending: bool,
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
    /// Sent, but not acknowledged.
    unsettled: Vec<Unsettled>,
    /// Has a result before the acknowledgement.
    told: Vec<Came>,
    /// Named in Hello.
    adopting: Vec<(String, Event)>,
    /// How long a lease lasts, in microseconds.
    lease: u64,
    slots: usize,
    /// When unacknowledged messages were sent.
    said: VecDeque<(i64, u64)>,
    /// With one server no other can lease it: a standstill of that server is no excuse.
    alone: bool,
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
        stream.lease = 1_000 * self.dice.between(LEASE, 3 * LEASE);
        stream.slots = self.dice.between(2, 9) as usize;
        stream.alone = self.part.doors.len() == 1;
        self.greet(&mut stream).await;
        let mut workers = WorkersClient::new(channel(door));
        let opened = bounded(workers.serve_queue(ReceiverStream::new(said))).await;
        let Ok(replies) = opened else { return self.break_off(stream) };
        let leaves = self.journal.now() + 1_000 * self.dice.between(2_000, 12_000);
        let in_good_order = self.converse(&mut stream, replies, leaves).await;
        if in_good_order {
            // Its remaining leases have been released.
            self.leases.clear();
        }
        self.break_off(stream);
    }

    async fn greet(&mut self, stream: &mut Stream) {
        // Some do not believe that a lease is lost, and name it again.
        let dice = &mut self.dice;
        let named = self.leases.values().filter(|work| work.held || dice.percent(50));
        let leases: Vec<pb::Lease> = named.map(|work| work.lease.clone()).collect();
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
            lease_duration: duration(stream.lease / 1_000),
            reconnect_grace: duration(self.dice.between(200, LEASE)),
            held,
            ..Hello::default()
        };
        let slots = Some(stream.slots as i32);
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

    /// Sends all due calls in one message; `false` if the stream is gone.
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
            if step.call.ends() {
                (work.ending, work.kept) = (true, None);
            }
            let said = said(&work.lease, &step, sure);
            let event = self.journal.begin(&work.lease.operation, Act::Said(said.clone()));
            let sequence = stream.sequence + 1;
            unsettled.push(Unsettled { sequence, token: token.clone(), step, said, event });
        }
        if unsettled.is_empty() && now < stream.spoke + BEAT {
            return true;
        }
        if now > stream.spoke + stream.lease / 2 {
            self.forget_kept();
        }
        if unsettled.is_empty() {
            // Refused and acknowledged at once, so that it shows whether the server listens.
            request.completions.push(pb::CompleteOperationRequest::default());
        }
        stream.unsettled.extend(unsettled);
        stream.send(request, now).await
    }

    /// It is not certain any more that leases live.
    fn forget_kept(&mut self) {
        self.leases.values_mut().for_each(|work| work.kept = None);
    }

    /// The server has received all messages up to that one.
    fn keep(&mut self, stream: &mut Stream, acknowledged: i64) {
        let now = self.journal.now();
        let heard = |said: &VecDeque<(i64, u64)>| {
            said.front().filter(|(number, _)| *number <= acknowledged).map(|(_, said)| *said)
        };
        while let Some(said) = heard(&stream.said) {
            stream.said.pop_front();
            if !stream.alone && now > said + stream.lease / 4 {
                self.forget_kept();
            }
            for work in self.leases.values_mut() {
                if let Some(kept) = work.kept.as_mut().filter(|kept| kept.begin < said) {
                    self.journal.go_on(kept, said);
                }
            }
        }
    }

    fn take_in(&mut self, stream: &mut Stream, reply: pb::ServeQueueResponse) {
        stream.read += 1;
        assert_eq!(reply.sequence, stream.read, "{reply:?}");
        if let Some(welcome) = reply.welcome {
            self.settle_adoptions(stream, &welcome);
        }
        for lease in &reply.leases {
            let fencing = lease.fencing_number as u64;
            let plan = if lease.attempt > 1 { plan_again } else { plan };
            let steps = plan(&mut self.dice, &self.part, fencing);
            let kept = Some(self.journal.span(&lease.operation, Act::Kept(fencing)));
            let lease = lease.clone();
            let mut work =
                Work { lease, held: true, kept, ending: false, steps, due: 0, asked: false };
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
        self.keep(stream, reply.acknowledged_sequence);
        let holds = self.leases.values().filter(|work| work.held && !work.ending).count();
        for lease in &reply.leases {
            let act = leased(lease, false, holds, stream.slots);
            self.journal.note(&lease.operation, stream.begun, act);
        }
        self.leases.retain(|_, work| work.held || !work.steps.is_empty());
    }

    fn settle_adoptions(&mut self, stream: &mut Stream, welcome: &Welcome) {
        for (token, event) in std::mem::take(&mut stream.adopting) {
            let lost = welcome.lost.contains(&event.operation);
            if let Some(work) = self.leases.get_mut(&token) {
                if lost && work.held && self.dice.percent(50) {
                    work.steps = cling(&work.lease);
                }
                work.held = !lost;
                let kept = Act::Kept(work.lease.fencing_number as u64);
                let unsure = lost || work.ending;
                work.kept = (!unsure).then(|| self.journal.span(&event.operation, kept));
            }
            let refused = || Outcome::Refused("lost".to_owned());
            self.journal.end(event, if lost { refused() } else { Outcome::Ok });
        }
    }

    /// The server has handled all messages up to that one.
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
                work.kept = work.kept.take().filter(|_| work.held);
            }
        }
        stream.told.retain(|came| came.sequence > acknowledged);
    }

    /// The server reports a lost lease. Not every worker listens.
    fn lose(&mut self, name: &str) {
        let listens = self.dice.percent(60);
        for work in self.leases.values_mut().filter(|work| work.lease.operation == name) {
            (work.held, work.kept) = (false, None);
            if listens {
                work.steps.clear();
            }
        }
    }

    fn heed(&mut self, name: &str, directive: pb::Directive) {
        let now = self.journal.now();
        let holds = |work: &&Work| work.held && work.lease.operation == name;
        for work in self.leases.values().filter(holds).filter(|_| directive.cancel_requested) {
            let fencing = work.lease.fencing_number as u64;
            self.journal.note(name, now, Act::Asked(fencing));
        }
        let held = |work: &&mut Work| work.held && !work.asked && work.lease.operation == name;
        for work in self.leases.values_mut().filter(held) {
            work.asked = true;
            if let Some(step) = stop(&mut self.dice, &self.part, directive) {
                work.steps = VecDeque::from([step]);
                work.wait(now);
            }
        }
    }

    /// The stream has ended: unacknowledged calls are sent again on the next.
    fn break_off(&mut self, stream: Stream) {
        self.forget_kept();
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
            lease: 0,
            slots: 0,
            said: VecDeque::new(),
            alone: false,
        }
    }

    async fn send(&mut self, request: pb::ServeQueueRequest, now: u64) -> bool {
        self.sequence += 1;
        self.spoke = now;
        self.said.push_back((self.sequence, now));
        let (sequence, seen_sequence) = (self.sequence, self.read);
        let request = pb::ServeQueueRequest { sequence, seen_sequence, ..request };
        let requests = self.requests.as_ref().expect("an open side");
        tokio::time::timeout(STUCK, requests.send(request)).await.is_ok_and(|sent| sent.is_ok())
    }
}

/// Sends nothing about a lost lease for a while, and does not drop it.
fn cling(lease: &pb::Lease) -> VecDeque<Step> {
    let content = format!("clung to {}", lease.fencing_number);
    let step = Step { after: LEASE, call: Call::Renew, content, manner: Manner::Plain };
    std::iter::repeat_n(step, 8).collect()
}

/// Adds a step to a message; `false` if the stream itself already says it.
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
    let info = info.and_then(|info| ErrorInfo::decode(&info.value[..]).ok());
    Outcome::Refused(info.map_or_else(|| error.message.clone(), |info| info.reason))
}

const LOOK: Duration = Duration::from_millis(20);
/// In microseconds.
const BEAT: u64 = 300 * LEASE;
const STUCK: Duration = Duration::from_secs(3);
