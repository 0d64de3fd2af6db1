//! What a worker holds and has to say, and what a stream has made of it. No I/O and no time of its own: it is told what was
//! read and what handlers say, and asked what to send.
//!
//! It outlives streams. What one stream did not acknowledge is said again in the next, word for word.

mod read;
#[cfg(test)]
mod tests;
mod words;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use self::words::{Letter, MAX_REQUEST_BYTES, Pending, Word};
use super::job::{Cancelled, Job, Start};
use crate::limits::MAX_NAME_BYTES;
use crate::proto::longhaul::v1 as pb;
use crate::proto::longhaul::v1::serve_queue_request::{Held as HeldLease, Hello};

pub(super) use self::words::{End, Note, Receipt};

/// What the worker says of itself in every Hello.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) queue: String,
    pub(super) worker: String,
    pub(super) lease: Duration,
    pub(super) grace: Option<Duration>,
    /// How many operations at once.
    pub(super) slots: usize,
}

pub(super) struct Session {
    terms: Terms,
    /// Jobs by their ids, whose leases are this worker's as far as it knows.
    held: HashMap<u64, Held>,
    /// The newest lease of each operation.
    by_name: HashMap<String, u64>,
    /// Handlers that still run though their leases are lost: they take up slots.
    astray: HashSet<u64>,
    last_id: u64,
    /// Said in this order.
    words: VecDeque<Word>,
    /// Jobs whose reports go with the next message.
    talkative: VecDeque<u64>,
    /// Jobs whose progress waits until then.
    paced: BTreeSet<(Duration, u64)>,
    stream: Stream,
    /// No new work is begun.
    draining: bool,
    /// Whatever is held is let go.
    closing: bool,
}

struct Held {
    job: Arc<Job>,
    pending: Pending,
    mark: Mark,
    reports: i64,
    /// A report is said and not acknowledged: the next one waits for that.
    reporting: bool,
    /// Bare progress waits until then.
    next_progress: Duration,
    /// The last word is said, or about to be.
    ended: bool,
}

/// Where a job stands that has something to report.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    None,
    Talkative,
    Paced(Duration),
}

/// What belongs to one stream.
#[derive(Default)]
struct Stream {
    side: Side,
    /// Of the last message said.
    sequence: i64,
    /// Of the last message read.
    heard: i64,
    slots: usize,
    /// A message is due, if only to show that somebody is there.
    speak: bool,
    said_at: Duration,
    heard_at: Duration,
    heartbeat: Option<Duration>,
    /// Said and not acknowledged, with the sequence.
    sent: VecDeque<(i64, Vec<Word>)>,
    /// Read, and not begun before that is said.
    unseen: Vec<Start>,
    /// The server goes away.
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

/// What to send.
pub(super) enum Next {
    /// This, and then these may begin.
    Say(Box<pb::ServeQueueRequest>, Vec<Start>),
    /// The end of the worker's side.
    Close,
    Nothing,
}

impl Session {
    pub(super) fn new(terms: Terms) -> Self {
        Self {
            terms,
            held: HashMap::new(),
            by_name: HashMap::new(),
            astray: HashSet::new(),
            last_id: 0,
            words: VecDeque::new(),
            talkative: VecDeque::new(),
            paced: BTreeSet::new(),
            stream: Stream::default(),
            draining: false,
            closing: false,
        }
    }

    /// A new stream begins: what the last one left unacknowledged comes first, in its order.
    pub(super) fn open(&mut self, now: Duration) {
        self.cut();
        self.stream = Stream { side: Side::Open, said_at: now, heard_at: now, ..Stream::default() };
    }

    /// The stream is gone.
    pub(super) fn cut(&mut self) {
        let stream = std::mem::take(&mut self.stream);
        // The server takes back what was never seen.
        for start in stream.unseen {
            self.forget(start.job.id);
            self.astray.remove(&start.job.id);
        }
        for (_, words) in stream.sent.into_iter().rev() {
            for word in words.into_iter().rev() {
                self.words.push_front(word);
            }
        }
    }

    /// Whether there is something to send.
    pub(super) fn has_next(&self) -> bool {
        let stream = &self.stream;
        stream.side == Side::Open
            && (stream.sequence == 0
                || stream.speak
                || !stream.unseen.is_empty()
                || !self.words.is_empty()
                || !self.talkative.is_empty()
                || stream.slots != self.slots()
                || self.may_close())
    }

    /// What to send now; everything that was said since the last message, as far as one can hold it.
    pub(super) fn next(&mut self, now: Duration) -> Next {
        if !self.has_next() {
            return Next::Nothing;
        }
        let first = self.stream.sequence == 0;
        let mut letter = Letter::new(pb::ServeQueueRequest {
            hello: first.then(|| self.hello()),
            ..Default::default()
        });
        let said = self.gather(&mut letter, now);
        let slots = self.slots();
        if !first && said.is_empty() && self.may_close() && self.stream.unseen.is_empty() {
            self.stream.side = Side::Closed;
            return Next::Close;
        }
        let stream = &mut self.stream;
        let news = first || stream.speak || !stream.unseen.is_empty() || stream.slots != slots;
        if said.is_empty() && !news {
            // What was to be said is of jobs that are gone.
            return Next::Nothing;
        }
        stream.sequence += 1;
        stream.sent.push_back((stream.sequence, said));
        let mut request = letter.request;
        request.sequence = stream.sequence;
        request.seen_sequence = stream.heard;
        request.slots = (first || stream.slots != slots).then_some(slots as i32);
        stream.slots = slots;
        stream.speak = false;
        stream.said_at = now;
        Next::Say(Box::new(request), std::mem::take(&mut stream.unseen))
    }

    /// When something comes due at the latest: a heartbeat, progress that waits, the end of patience.
    pub(super) fn due(&self) -> Duration {
        let stream = &self.stream;
        let silence = stream.heard_at + self.terms.lease;
        let beat = stream.said_at + self.heartbeat();
        // One that is due already waits for the writer.
        let beat = if stream.speak || stream.side != Side::Open { silence } else { beat };
        let paced = self.paced.first().map_or(silence, |(due, _)| *due);
        beat.min(silence).min(paced)
    }

    /// Time has passed. False where the server has been silent for too long.
    #[must_use]
    pub(super) fn tick(&mut self, now: Duration) -> bool {
        if now >= self.stream.said_at + self.heartbeat() {
            self.stream.speak = true;
        }
        while let Some((due, id)) = self.paced.first().copied().filter(|(due, _)| *due <= now) {
            self.paced.remove(&(due, id));
            if let Some(held) = self.held.get_mut(&id) {
                held.mark = Mark::Talkative;
                self.talkative.push_back(id);
            }
        }
        now < self.stream.heard_at + self.terms.lease
    }

    /// A handler reports. Whoever has lost the lease is told by the receipt, which is dropped.
    pub(super) fn note(&mut self, id: u64, note: Note, receipt: Option<Receipt>, now: Duration) {
        if let Some(held) = self.held.get_mut(&id).filter(|held| !held.ended) {
            held.pending.take_in(note, receipt);
            self.mark(id, now);
        }
    }

    /// A handler has ended.
    pub(super) fn finish(&mut self, id: u64, end: End) {
        self.astray.remove(&id);
        let Some(held) = self.held.get_mut(&id).filter(|held| !held.ended) else { return };
        held.ended = true;
        let pending = std::mem::take(&mut held.pending);
        let (report, last) = Word::last(&held.job, end, pending, held.reports + 1);
        let job = held.job.clone();
        if let Some(report) = report {
            held.reports += 1;
            self.say(&job, report);
        }
        self.say(&job, last);
    }

    /// Begins no more, and tells the handlers.
    pub(super) fn drain(&mut self) {
        self.draining = true;
        for held in self.held.values() {
            held.job.wish(|wishes| wishes.drain = true);
        }
    }

    /// Ends the stream with whatever it holds, once all is said.
    pub(super) fn close(&mut self) {
        self.draining = true;
        self.closing = true;
    }

    /// Whether leases are held, as far as is known.
    pub(super) fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// Nothing is held and nothing is unacknowledged.
    pub(super) fn is_idle(&self) -> bool {
        let unacknowledged = self.stream.sent.iter().any(|(_, words)| !words.is_empty());
        self.held.is_empty() && self.words.is_empty() && !unacknowledged
    }

    /// The worker closed its side, and all that it said is acknowledged.
    pub(super) fn is_closed(&self) -> bool {
        let unacknowledged = self.stream.sent.iter().any(|(_, words)| !words.is_empty());
        self.closing && self.words.is_empty() && !unacknowledged
    }

    /// Operations whose ends nobody has acknowledged.
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
            lease_duration: duration(self.terms.lease),
            reconnect_grace: self.terms.grace.and_then(duration),
            held,
        }
    }

    /// Fills the letter, and returns what it took.
    fn gather(&mut self, letter: &mut Letter, now: Duration) -> Vec<Word> {
        let mut said = Vec::new();
        while let Some(word) = self.words.pop_front() {
            if !self.held.contains_key(&word.id) {
                continue;
            }
            if !letter.add(&word) {
                self.words.push_front(word);
                return said;
            }
            said.push(word);
        }
        while let Some(id) = self.talkative.pop_front() {
            let Some(held) = self.held.get_mut(&id).filter(|held| !held.ended) else { continue };
            held.mark = Mark::None;
            held.reports += 1;
            held.reporting = true;
            held.next_progress = now + PROGRESS_PACE;
            let word = std::mem::take(&mut held.pending).into_word(&held.job, held.reports);
            if let Some(refusal) = word.too_large() {
                held.reporting = false;
                refused(&held.job, &word, &refusal);
                word.settle(&Err(refusal));
            } else if letter.add(&word) {
                said.push(word);
            } else {
                self.words.push_back(word);
                return said;
            }
        }
        said
    }

    /// Puts a word in line, or what takes its place where no message can hold it.
    fn say(&mut self, job: &Job, word: Word) {
        match word.too_large() {
            None => self.words.push_back(word),
            Some(refusal) => {
                refused(job, &word, &refusal);
                self.replace(job, word, refusal);
            }
        }
    }

    /// A call was refused while the lease goes on: a last word is replaced, a report is given up.
    fn replace(&mut self, job: &Job, word: Word, refusal: crate::proto::google::rpc::Status) {
        if !word.is_last() {
            word.settle(&Err(refusal));
        } else if let Some(word) = word.instead(job, &refusal) {
            self.words.push_back(word);
        } else {
            self.forget(job.id);
        }
    }

    /// Sees to it that what a job has to report is said, in its time.
    fn mark(&mut self, id: u64, now: Duration) {
        let Some(held) = self.held.get_mut(&id) else { return };
        if held.reporting || held.ended || held.pending.is_empty() {
            return;
        }
        let wanted = if held.pending.is_urgent() || now >= held.next_progress {
            Mark::Talkative
        } else {
            Mark::Paced(held.next_progress)
        };
        if held.mark == wanted || held.mark == Mark::Talkative {
            return;
        }
        if let Mark::Paced(due) = std::mem::replace(&mut held.mark, wanted) {
            self.paced.remove(&(due, id));
        }
        match wanted {
            Mark::Paced(due) => drop(self.paced.insert((due, id))),
            _ => self.talkative.push_back(id),
        }
    }

    /// Takes a job off the books; what is still to be said of it is dropped when its turn comes.
    fn forget(&mut self, id: u64) -> Option<Held> {
        let held = self.held.remove(&id)?;
        let name = &held.job.lease.operation;
        if self.by_name.get(name) == Some(&id) {
            self.by_name.remove(name);
        }
        if let Mark::Paced(due) = held.mark {
            self.paced.remove(&(due, id));
        }
        Some(held)
    }

    /// The lease is somebody else's: the handler is told.
    fn lose(&mut self, id: u64) {
        let Some(held) = self.forget(id) else { return };
        held.job.cancel(Cancelled::LeaseLost);
        if !held.ended {
            tracing::warn!(
                operation = held.job.lease.operation,
                attempt = held.job.lease.attempt,
                "the lease is lost"
            );
            self.astray.insert(id);
        }
    }

    /// How many leases it wants to hold.
    fn slots(&self) -> usize {
        if self.draining { 0 } else { self.terms.slots.saturating_sub(self.astray.len()) }
    }

    fn may_close(&self) -> bool {
        let lets_go = self.closing || (self.stream.draining && self.held.is_empty());
        lets_go && self.words.is_empty() && self.talkative.is_empty()
    }

    /// Well within what the server wants.
    fn heartbeat(&self) -> Duration {
        self.stream.heartbeat.unwrap_or(self.terms.lease / 3) * 2 / 3
    }
}

/// Says that a call was refused.
fn refused(job: &Job, word: &Word, refusal: &crate::proto::google::rpc::Status) {
    tracing::warn!(
        operation = job.lease.operation,
        call = word.kind().as_str_name(),
        code = ?tonic::Code::from_i32(refusal.code),
        message = refusal.message,
        "a call was refused"
    );
}

/// Progress alone is reported no more often; anything else is at once, and takes it along.
const PROGRESS_PACE: Duration = Duration::from_millis(100);
/// For tags and lengths of what Hello names.
const ITEM_BYTES: usize = 12;
/// Leaves room for what else is in Hello.
const MAX_HELLO_BYTES: usize = MAX_REQUEST_BYTES - 2 * MAX_NAME_BYTES;
