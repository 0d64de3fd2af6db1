//! What the connections hold of the server's memory, and which of them goes when it is too much.
//!
//! Every connection has an account. A call counts from its head to the end of its answer: a fixed share, what has arrived of
//! its request, and each piece of its answer until the connection has written it. A connection that reaches its own bound is
//! refused more. Once all of them together reach theirs, the one that holds most is closed, so that one which holds little
//! is served whatever the others do.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::load::{Load, LoadKind, LoadShare};
use super::refusal::overloaded;
use crate::clock::Clock;
use crate::engine::Error;
use crate::limits::{
    MAX_BYTES_IN_FLIGHT, MAX_CONNECTION_BYTES, READS_AT_ONCE, READS_OF_CONNECTION,
};
use crate::throttle::Throttle;
use crate::turn::Turn;

/// All connections of one server.
#[derive(Debug)]
pub(super) struct Accounts {
    clock: Arc<dyn Clock>,
    used: AtomicUsize,
    open: Mutex<Vec<Arc<Account>>>,
    most: usize,
    reads: Arc<Semaphore>,
    throttle: Throttle,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Account {
    all: Arc<Accounts>,
    used: AtomicUsize,
    /// Bytes of answers that the connection has yet to write, and how many it has written.
    unwritten: AtomicUsize,
    written: AtomicU64,
    received: AtomicU64,
    calls: AtomicUsize,
    has_called: AtomicBool,
    /// When its last call ended, or it was opened.
    idle_since: AtomicU64,
    /// Calls that the client gave up before they were answered, since the last look.
    abandoned: AtomicUsize,
    reads: Arc<Semaphore>,
    pub(super) close: CancellationToken,
    /// Ends the watches of a connection that is to end.
    pub(super) retired: CancellationToken,
}

/// Bytes that count until this is dropped.
#[derive(Debug)]
pub(super) struct Share {
    account: Arc<Account>,
    bytes: usize,
}

/// A place among the open connections.
#[derive(Debug)]
pub(crate) struct Admission(pub(super) Arc<Account>);

/// A call that runs.
#[derive(Debug)]
pub(super) struct OpenCall {
    pub(super) account: Arc<Account>,
    /// Its share of the load, from the arrival of its request to its answer.
    load: Mutex<Option<LoadShare>>,
    _share: Share,
}

impl Accounts {
    pub(super) fn new(clock: Arc<dyn Clock>, most: usize) -> Arc<Self> {
        Arc::new(Self {
            used: AtomicUsize::new(0),
            open: Mutex::default(),
            most,
            reads: Arc::new(Semaphore::new(READS_AT_ONCE)),
            throttle: Throttle::new(Arc::clone(&clock)),
            clock,
        })
    }

    /// A place for one more connection. Where there is none, the one that has been idle for longest makes room; `None` if all
    /// are busy.
    pub(super) fn admit(self: &Arc<Self>) -> Option<Admission> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= self.most {
            let idle = open.iter().filter(|account| account.is_idle());
            let longest = idle.min_by_key(|account| account.idle_since.load(Ordering::Relaxed));
            let room = longest.inspect(|account| account.close.cancel()).is_some();
            if let Some(left_out) = self.throttle.admit("crowded") {
                tracing::warn!(
                    connections = self.most,
                    left_out,
                    "as many connections as the open files allow; {}",
                    if room { "the longest idle one is closed" } else { "a new one is refused" }
                );
            }
            if !room {
                return None;
            }
            open.retain(|account| !account.close.is_cancelled());
        }
        let account = Arc::new(Account {
            all: Arc::clone(self),
            used: AtomicUsize::new(0),
            unwritten: AtomicUsize::new(0),
            written: AtomicU64::new(0),
            received: AtomicU64::new(0),
            calls: AtomicUsize::new(0),
            has_called: AtomicBool::new(false),
            idle_since: AtomicU64::new(self.now()),
            abandoned: AtomicUsize::new(0),
            reads: Arc::new(Semaphore::new(READS_OF_CONNECTION)),
            close: CancellationToken::new(),
            retired: CancellationToken::new(),
        });
        open.push(Arc::clone(&account));
        Some(Admission(account))
    }

    /// Makes room for `bytes` of `asks`: closes the connection that holds most, unless that is `asks` itself.
    fn relieve(&self, asks: &Account, bytes: usize) -> bool {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let used = |account: &&Arc<Account>| account.used.load(Ordering::Relaxed);
        let (closing, staying): (Vec<_>, Vec<_>) =
            open.iter().partition(|account| account.close.is_cancelled());
        let freed: usize = closing.iter().map(used).sum();
        if self.used.load(Ordering::Relaxed).saturating_sub(freed) <= MAX_BYTES_IN_FLIGHT {
            return true;
        }
        let Some(most) = staying.iter().max_by_key(|account| used(account)) else { return false };
        let held = used(most);
        if held <= asks.used.load(Ordering::Relaxed) + bytes {
            return false;
        }
        most.close.cancel();
        if let Some(left_out) = self.throttle.admit("greedy") {
            tracing::warn!(
                held,
                left_out,
                "calls in flight hold too much memory; the connection that holds most is closed"
            );
        }
        true
    }

    fn now(&self) -> u64 {
        self.clock.elapsed().as_micros() as u64
    }
}

impl Account {
    /// Counts `bytes` until the share is dropped.
    pub(super) fn take(self: &Arc<Self>, bytes: usize) -> Result<Share, Box<Error>> {
        let all = &self.all;
        let share = Share { account: Arc::clone(self), bytes };
        let own = self.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let total = all.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if own > MAX_CONNECTION_BYTES {
            return Err(overloaded(
                "the calls of this connection hold as much as one connection may; ask again once some have ended, or read their answers",
            ));
        }
        if total > MAX_BYTES_IN_FLIGHT && !all.relieve(self, bytes) {
            return Err(overloaded("this server has as much in flight as it may; try again"));
        }
        Ok(share)
    }

    /// A call whose head has so many bytes.
    pub(super) fn call(self: &Arc<Self>, head: usize) -> Result<Arc<OpenCall>, Box<Error>> {
        let share = self.take(CALL_BYTES + head)?;
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.has_called.store(true, Ordering::Relaxed);
        Ok(Arc::new(OpenCall { account: Arc::clone(self), load: Mutex::default(), _share: share }))
    }

    /// Waits for a turn to read operations with their payloads, which count only once they are read.
    pub(super) async fn turn(&self) -> Option<Turn> {
        Turn::take(&self.reads, &self.all.reads).await
    }

    pub(super) fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn unwritten(&self, bytes: usize) {
        self.unwritten.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn wrote(&self, bytes: usize) {
        self.unwritten.fetch_sub(bytes, Ordering::Relaxed);
        self.written.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// How far it has read what it was answered, while there is more to read.
    pub(super) fn reading(&self) -> Option<u64> {
        (self.unwritten.load(Ordering::Relaxed) > 0).then(|| self.written.load(Ordering::Relaxed))
    }

    /// Whether it has said nothing of use: neither a request, nor all that opens a connection of HTTP/2.
    pub(super) fn is_silent(&self) -> bool {
        !self.has_called.load(Ordering::Relaxed)
            && self.received.load(Ordering::Relaxed) < PREFACE_BYTES
    }

    /// How long it has had no call; `None` while it has one.
    pub(super) fn idle_time(&self) -> Option<Duration> {
        let since = self.idle_since.load(Ordering::Relaxed);
        self.is_idle().then(|| Duration::from_micros(self.all.now().saturating_sub(since)))
    }

    /// Notes that the client gave up a call.
    pub(super) fn abandoned(&self) {
        self.abandoned.fetch_add(1, Ordering::Relaxed);
    }

    /// How many calls the client has given up since the last question.
    pub(super) fn take_abandoned(&self) -> usize {
        self.abandoned.swap(0, Ordering::Relaxed)
    }

    fn is_idle(&self) -> bool {
        self.calls.load(Ordering::Relaxed) == 0 && !self.close.is_cancelled()
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut open = self.0.all.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|account| !Arc::ptr_eq(account, &self.0));
    }
}

impl Share {
    pub(super) const fn account(&self) -> &Arc<Account> {
        &self.account
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.account.used.fetch_sub(self.bytes, Ordering::Relaxed);
        self.account.all.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl OpenCall {
    /// Its request has arrived: it counts as load, or is refused.
    pub(super) fn arrived(&self, load: &Arc<Load>, kind: LoadKind) -> Result<(), Box<Error>> {
        if let Some(share) = load.admit(kind)? {
            *self.load.lock().unwrap_or_else(PoisonError::into_inner) = Some(share);
        }
        Ok(())
    }

    /// Its answer is made.
    pub(super) fn answered(&self) {
        drop(self.load.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.account.idle_since.store(self.account.all.now(), Ordering::Relaxed);
        self.account.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Bytes counted for each call beside its head, request and answer: its task and its stream.
const CALL_BYTES: usize = 8 << 10;
/// The preface of HTTP/2 and the head of the first frame.
const PREFACE_BYTES: u64 = 24 + 9;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ManualClock, Timestamp};

    fn accounts(most: usize) -> (Arc<ManualClock>, Arc<Accounts>) {
        let clock = ManualClock::new(Timestamp::EPOCH);
        (clock.clone(), Accounts::new(clock, most))
    }

    fn is_closed(place: &Admission) -> bool {
        place.0.close.is_cancelled()
    }

    #[test]
    fn beyond_the_bound_of_all_the_connection_that_holds_most_is_closed() {
        let (_, accounts) = accounts(100);
        let greedy: Vec<_> = (0..MAX_BYTES_IN_FLIGHT / MAX_CONNECTION_BYTES)
            .map(|_| accounts.admit().expect("a place"))
            .collect();
        let held: Vec<_> =
            greedy.iter().map(|place| place.0.take(MAX_CONNECTION_BYTES).expect("room")).collect();
        assert!(greedy[0].0.take(1).is_err(), "a connection has a bound of its own");
        let polite = accounts.admit().expect("a place");
        let share = polite.0.take(1_000).expect("room beside the greedy");
        let more = polite.0.take(1_000).expect("room that is about to be free");
        assert_eq!(greedy.iter().filter(|place| is_closed(place)).count(), 1);
        assert!(!is_closed(&polite));
        drop((held, share, more));
        assert_eq!(accounts.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn beyond_the_number_of_connections_the_one_that_is_idle_for_longest_is_closed() {
        let (clock, accounts) = accounts(2);
        let (busy, idle) = (accounts.admit().expect("a place"), accounts.admit().expect("a place"));
        let call = busy.0.call(0).expect("room");
        clock.advance(Duration::from_secs(1));
        let next = accounts.admit().expect("a place");
        assert!(is_closed(&idle) && !is_closed(&busy) && !is_closed(&next));
        let second = next.0.call(0).expect("room");
        assert!(accounts.admit().is_none(), "no busy one makes room");
        drop((call, second));
        assert!(accounts.admit().is_some());
    }
}
