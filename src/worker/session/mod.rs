//! The leases of a worker, its unsent and unacknowledged calls, and the state of its stream. Does no I/O and reads no
//! clock: the caller passes in received messages, reports of handlers and the time, and asks for the next message.
//!
//! It outlives streams. Calls that one stream did not acknowledge are sent again on the next, unchanged.

mod calls;
mod read;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use self::calls::{MAX_REQUEST_BYTES, PendingCall, RequestBuilder, UnsentReport};
use super::job::{Cancelled, Job, NewJob};
use crate::limits::MAX_NAME_BYTES;
use crate::proto::longhaul::v1 as pb;
use crate::proto::longhaul::v1::serve_queue_request::{Held as HeldLease, Hello};

pub(super) use self::calls::{End, Receipt, Update};

/// The terms that every Hello carries.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) queue: String,
    pub(super) worker: String,
    pub(super) process: Option<pb::WorkerProcess>,
    pub(super) lease: Duration,
    pub(super) grace: Option<Duration>,
    /// How many operations run at the same time.
    pub(super) slots: usize,
}

pub(super) struct Session {
    terms: Terms,
    /// Jobs whose leases this worker holds as far as it knows, by id.
    held: HashMap<u64, HeldJob>,
    /// The newest lease of each operation.
    by_name: HashMap<String, u64>,
    /// Handlers that still run after their lease was lost: they take up slots.
    orphaned: HashSet<u64>,
    last_id: u64,
    /// Calls to send, in this order.
    calls: VecDeque<PendingCall>,
    /// Jobs whose report goes into the next message.
    to_report: VecDeque<u64>,
    /// Jobs whose progress waits, with the time at which it is sent.
    delayed: BTreeSet<(Duration, u64)>,
    stream: Stream,
    /// No more operations are leased.
    draining: bool,
    /// The worker closes its side of the stream, which releases all leases.
    closing: bool,
}

struct HeldJob {
    job: Arc<Job>,
    unsent: UnsentReport,
    schedule: Schedule,
    reports: i64,
    /// A report was sent and is not acknowledged yet: the next one waits.
    reporting: bool,
    /// Earliest time of the next report that carries only progress.
    next_progress: Duration,
    /// The call that ends the lease was made.
    ended: bool,
}

/// When a job's report is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Schedule {
    None,
    Queued,
    Delayed(Duration),
}

/// The state of one stream.
#[derive(Default)]
struct Stream {
    side: Side,
    /// Sequence of the last message sent.
    sequence: i64,
    /// Sequence of the last message received.
    received: i64,
    slots: usize,
    /// A message is due, if only as a heartbeat.
    must_send: bool,
    sent_at: Duration,
    received_at: Duration,
    heartbeat: Option<Duration>,
    /// Calls sent and not acknowledged, by sequence.
    sent: VecDeque<(i64, Vec<PendingCall>)>,
    /// Received jobs, which start once the server is told that they were seen.
    unseen: Vec<NewJob>,
    /// The server is shutting down.
    draining: bool,
}

/// The worker's side of a stream.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Side {
    #[default]
    Absent,
    Open,
    Closed,
}

/// The next thing to do with the stream.
pub(super) enum Next {
    /// Send this message, then start these jobs.
    Send(Box<pb::ServeQueueRequest>, Vec<NewJob>),
    /// Close the worker's side.
    Close,
    Nothing,
}

impl Session {
    pub(super) fn new(terms: Terms) -> Self {
        Self {
            terms,
            held: HashMap::new(),
            by_name: HashMap::new(),
            orphaned: HashSet::new(),
            last_id: 0,
            calls: VecDeque::new(),
            to_report: VecDeque::new(),
            delayed: BTreeSet::new(),
            stream: Stream::default(),
            draining: false,
            closing: false,
        }
    }

    /// Begins a new stream. Unacknowledged calls come first, in their order.
    pub(super) fn open(&mut self, now: Duration) {
        self.disconnect();
        self.stream =
            Stream { side: Side::Open, sent_at: now, received_at: now, ..Stream::default() };
    }

    /// Ends the stream.
    pub(super) fn disconnect(&mut self) {
        let stream = std::mem::take(&mut self.stream);
        // The server takes back leases that were never seen.
        for start in stream.unseen {
            self.forget(start.job.id);
            self.orphaned.remove(&start.job.id);
        }
        for (_, calls) in stream.sent.into_iter().rev() {
            for call in calls.into_iter().rev() {
                self.calls.push_front(call);
            }
        }
    }

    /// Whether there is something to send.
    pub(super) fn has_next(&self) -> bool {
        let stream = &self.stream;
        stream.side == Side::Open
            && (stream.sequence == 0
                || stream.must_send
                || !stream.unseen.is_empty()
                || !self.calls.is_empty()
                || !self.to_report.is_empty()
                || stream.slots != self.slots()
                || self.may_close())
    }

    /// The next message, with as many waiting calls as it can hold.
    pub(super) fn next(&mut self, now: Duration) -> Next {
        if !self.has_next() {
            return Next::Nothing;
        }
        let first = self.stream.sequence == 0;
        let mut builder = RequestBuilder::new(pb::ServeQueueRequest {
            hello: first.then(|| self.hello()),
            ..Default::default()
        });
        let sent = self.gather(&mut builder, now);
        let slots = self.slots();
        if !first && sent.is_empty() && self.may_close() && self.stream.unseen.is_empty() {
            self.stream.side = Side::Closed;
            return Next::Close;
        }
        let stream = &mut self.stream;
        let news = first || stream.must_send || !stream.unseen.is_empty() || stream.slots != slots;
        if sent.is_empty() && !news {
            // The waiting calls were of jobs that are gone.
            return Next::Nothing;
        }
        stream.sequence += 1;
        stream.sent.push_back((stream.sequence, sent));
        let mut request = builder.request;
        request.sequence = stream.sequence;
        request.seen_sequence = stream.received;
        request.slots = (first || stream.slots != slots).then_some(slots as i32);
        stream.slots = slots;
        stream.must_send = false;
        stream.sent_at = now;
        Next::Send(Box::new(request), std::mem::take(&mut stream.unseen))
    }

    /// When the next timer fires: a heartbeat, delayed progress, or the server's silence.
    pub(super) fn due(&self) -> Duration {
        let stream = &self.stream;
        let silence = stream.received_at + self.terms.lease;
        let beat = stream.sent_at + self.heartbeat();
        // A heartbeat that is due already waits for the writer.
        let beat = if stream.must_send || stream.side != Side::Open { silence } else { beat };
        let delayed = self.delayed.first().map_or(silence, |(due, _)| *due);
        beat.min(silence).min(delayed)
    }

    /// Fires timers. False if the server has sent nothing for too long.
    #[must_use]
    pub(super) fn tick(&mut self, now: Duration) -> bool {
        if now >= self.stream.sent_at + self.heartbeat() {
            self.stream.must_send = true;
        }
        while let Some((due, id)) = self.delayed.first().copied().filter(|(due, _)| *due <= now) {
            self.delayed.remove(&(due, id));
            if let Some(held) = self.held.get_mut(&id) {
                held.schedule = Schedule::Queued;
                self.to_report.push_back(id);
            }
        }
        now < self.stream.received_at + self.terms.lease
    }

    /// Adds to a job's report. If the lease is lost the receipt is dropped.
    pub(super) fn update(
        &mut self,
        id: u64,
        update: Update,
        receipt: Option<Receipt>,
        now: Duration,
    ) {
        if let Some(held) = self.held.get_mut(&id).filter(|held| !held.ended) {
            held.unsent.take_in(update, receipt);
            self.schedule_report(id, now);
        }
    }

    /// Ends a job with the result of its handler.
    pub(super) fn finish(&mut self, id: u64, end: End) {
        self.orphaned.remove(&id);
        let Some(held) = self.held.get_mut(&id).filter(|held| !held.ended) else { return };
        held.ended = true;
        let pending = std::mem::take(&mut held.unsent);
        let (report, last) = PendingCall::last_of(&held.job, end, pending, held.reports + 1);
        let job = held.job.clone();
        if let Some(report) = report {
            held.reports += 1;
            self.enqueue(&job, report);
        }
        self.enqueue(&job, last);
    }

    /// Leases no more operations, and tells the handlers.
    pub(super) fn drain(&mut self) {
        self.draining = true;
        for held in self.held.values() {
            held.job.direct(|directives| directives.drain = true);
        }
    }

    /// Closes the stream once all calls are sent.
    pub(super) fn close(&mut self) {
        self.draining = true;
        self.closing = true;
    }

    /// Whether leases are held as far as known.
    pub(super) fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether no lease is held and everything is acknowledged.
    pub(super) fn is_idle(&self) -> bool {
        let unacknowledged = self.stream.sent.iter().any(|(_, calls)| !calls.is_empty());
        self.held.is_empty() && self.calls.is_empty() && !unacknowledged
    }

    /// Whether the worker closed its side and everything is acknowledged.
    pub(super) fn is_closed(&self) -> bool {
        let unacknowledged = self.stream.sent.iter().any(|(_, calls)| !calls.is_empty());
        self.closing && self.calls.is_empty() && !unacknowledged
    }

    /// How many operations have ended without an acknowledgement.
    pub(super) fn unacknowledged(&self) -> usize {
        self.held.values().filter(|held| held.ended).count()
    }

    fn hello(&mut self) -> Hello {
        let duration = |duration: Duration| prost_types::Duration::try_from(duration).ok();
        let (mut held, mut excess, mut bytes) = (Vec::new(), Vec::new(), 0);
        for (id, lease) in &self.held {
            let lease = &lease.job.lease;
            bytes += lease.operation.len() + lease.lease_token.len() + ITEM_BYTES;
            if bytes > MAX_HELLO_BYTES {
                excess.push(*id);
                continue;
            }
            let (name, lease_token) = (lease.operation.clone(), lease.lease_token.clone());
            held.push(HeldLease { name, lease_token });
        }
        for id in excess {
            self.lose(id);
        }
        Hello {
            queue: self.terms.queue.clone(),
            worker: self.terms.worker.clone(),
            process: self.terms.process.clone(),
            lease_duration: duration(self.terms.lease),
            reconnect_grace: self.terms.grace.and_then(duration),
            held,
        }
    }

    /// Fills the message, and returns the calls in it.
    fn gather(&mut self, builder: &mut RequestBuilder, now: Duration) -> Vec<PendingCall> {
        let mut sent = Vec::new();
        while let Some(call) = self.calls.pop_front() {
            if !self.held.contains_key(&call.id) {
                continue;
            }
            if !builder.add(&call) {
                self.calls.push_front(call);
                return sent;
            }
            sent.push(call);
        }
        while let Some(id) = self.to_report.pop_front() {
            let Some(held) = self.held.get_mut(&id).filter(|held| !held.ended) else { continue };
            held.schedule = Schedule::None;
            held.reports += 1;
            held.reporting = true;
            held.next_progress = now + PROGRESS_INTERVAL;
            let call = std::mem::take(&mut held.unsent).into_call(&held.job, held.reports);
            if let Some(refusal) = call.too_large() {
                held.reporting = false;
                refused(&held.job, &call, &refusal);
                call.resolve(&Err(refusal));
            } else if builder.add(&call) {
                sent.push(call);
            } else {
                self.calls.push_back(call);
                return sent;
            }
        }
        sent
    }

    /// Enqueues a call, or its replacement if it is too large for a message.
    fn enqueue(&mut self, job: &Job, call: PendingCall) {
        match call.too_large() {
            None => self.calls.push_back(call),
            Some(refusal) => {
                refused(job, &call, &refusal);
                self.replace(job, call, refusal);
            }
        }
    }

    /// Handles a refused call whose lease continues: replaces a call that ends the lease, and drops a report.
    fn replace(
        &mut self,
        job: &Job,
        call: PendingCall,
        refusal: crate::proto::google::rpc::Status,
    ) {
        if !call.is_final() {
            call.resolve(&Err(refusal));
        } else if let Some(call) = call.replacement(job, &refusal) {
            self.calls.push_back(call);
        } else {
            self.forget(job.id);
        }
    }

    /// Decides when a job's report is sent.
    fn schedule_report(&mut self, id: u64, now: Duration) {
        let Some(held) = self.held.get_mut(&id) else { return };
        if held.reporting || held.ended || held.unsent.is_empty() {
            return;
        }
        let wanted = if held.unsent.is_urgent() || now >= held.next_progress {
            Schedule::Queued
        } else {
            Schedule::Delayed(held.next_progress)
        };
        if held.schedule == wanted || held.schedule == Schedule::Queued {
            return;
        }
        if let Schedule::Delayed(due) = std::mem::replace(&mut held.schedule, wanted) {
            self.delayed.remove(&(due, id));
        }
        match wanted {
            Schedule::Delayed(due) => drop(self.delayed.insert((due, id))),
            _ => self.to_report.push_back(id),
        }
    }

    /// Removes a job. Its waiting calls are skipped when the next message is filled.
    fn forget(&mut self, id: u64) -> Option<HeldJob> {
        let held = self.held.remove(&id)?;
        let name = &held.job.lease.operation;
        if self.by_name.get(name) == Some(&id) {
            self.by_name.remove(name);
        }
        if let Schedule::Delayed(due) = held.schedule {
            self.delayed.remove(&(due, id));
        }
        Some(held)
    }

    /// Handles a lost lease: tells the handler.
    fn lose(&mut self, id: u64) {
        let Some(held) = self.forget(id) else { return };
        held.job.cancel(Cancelled::LeaseLost);
        if !held.ended {
            tracing::warn!(
                operation = held.job.lease.operation,
                attempt = held.job.lease.attempt,
                "the lease is lost"
            );
            self.orphaned.insert(id);
        }
    }

    /// How many leases the worker wants to hold.
    fn slots(&self) -> usize {
        if self.draining { 0 } else { self.terms.slots.saturating_sub(self.orphaned.len()) }
    }

    fn may_close(&self) -> bool {
        let lets_go = self.closing || (self.stream.draining && self.held.is_empty());
        lets_go && self.calls.is_empty() && self.to_report.is_empty()
    }

    /// Well within the interval that the server asks for.
    fn heartbeat(&self) -> Duration {
        self.stream.heartbeat.unwrap_or(self.terms.lease / 3) * 2 / 3
    }
}

/// Logs a refused call.
fn refused(job: &Job, call: &PendingCall, refusal: &crate::proto::google::rpc::Status) {
    tracing::warn!(
        operation = job.lease.operation,
        call = call.kind().as_str_name(),
        code = ?tonic::Code::from_i32(refusal.code),
        message = refusal.message,
        "a call was refused"
    );
}

/// Shortest time between reports that carry only progress; other reports are sent at once.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);
/// For the tags and lengths of an item in Hello.
const ITEM_BYTES: usize = 12;
/// Leaves room for the other fields of Hello.
const MAX_HELLO_BYTES: usize = MAX_REQUEST_BYTES - 2 * MAX_NAME_BYTES;
