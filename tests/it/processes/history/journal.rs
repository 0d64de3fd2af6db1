//! Stores a history: a line for each event of an actor, in a file that outlives the actor.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use longhaul::clock::{Clock, SystemClock};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::event::{Act, Event, NEVER, Outcome};

/// The journal of one actor.
pub(super) struct Journal {
    who: String,
    clock: Arc<SystemClock>,
    pages: Mutex<Pages>,
}

struct Pages {
    file: File,
    next: u64,
}

impl Journal {
    /// A new one in that folder.
    pub(super) fn open(folder: &Path, who: &str) -> Self {
        let path = folder.join(format!("{who}.{SUFFIX}"));
        let file = OpenOptions::new().create_new(true).append(true).open(path).expect("a journal");
        let pages = Mutex::new(Pages { file, next: 0 });
        Self { who: who.to_owned(), clock: SystemClock::new(), pages }
    }

    /// Microseconds; the same for all processes of this machine.
    pub(super) fn now(&self) -> u64 {
        self.clock.now().as_micros()
    }

    /// Something that is about to be done; it is written down before.
    pub(super) fn begin(&self, operation: &str, act: Act) -> Event {
        let event = Event { outcome: Outcome::Unknown, end: NEVER, ..self.event(operation, act) };
        self.write(&event);
        event
    }

    /// How that went.
    pub(super) fn end(&self, event: Event, outcome: Outcome) {
        // A call without a reply may still take effect.
        let end = if outcome == Outcome::Unknown { NEVER } else { self.now() };
        self.write(&Event { end, outcome, ..event });
    }

    /// Writes what a read showed that began then.
    pub(super) fn note(&self, operation: &str, begin: u64, act: Act) {
        self.write(&Event { begin, ..self.event(operation, act) });
    }

    /// Something that begins to go on.
    pub(super) fn span(&self, operation: &str, act: Act) -> Event {
        self.event(operation, act)
    }

    /// Something that goes on; it is written down as far as it has come.
    pub(super) fn go_on(&self, event: &mut Event, end: u64) {
        (event.end, event.outcome) = (end, Outcome::Ok);
        self.write(event);
    }

    fn event(&self, operation: &str, act: Act) -> Event {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        pages.next += 1;
        let (who, now) = (self.who.clone(), self.now());
        Event {
            who,
            number: pages.next,
            begin: now,
            end: now,
            operation: operation.to_owned(),
            act,
            outcome: Outcome::Ok,
        }
    }

    /// In one write, so that a process that is killed leaves whole lines behind, but for the last.
    fn write(&self, event: &Event) {
        let mut line = serde_json::to_vec(event).expect("JSON");
        line.push(b'\n');
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        pages.file.write_all(&line).expect("room for a journal");
    }
}

/// The history in a folder.
pub(super) fn read(folder: &Path) -> Vec<Event> {
    let mut history = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != SUFFIX) {
            continue;
        }
        let text = std::fs::read_to_string(path).expect("a journal");
        let events = text.lines().filter_map(|line| serde_json::from_str::<Event>(line).ok());
        // The last line of an event counts.
        let events: BTreeMap<u64, Event> = events.map(|event| (event.number, event)).collect();
        history.extend(events.into_values());
    }
    history.sort_by_key(|event| event.begin);
    history
}

/// The result of a call, from its reply.
pub(super) fn outcome<T>(reply: &Result<T, Status>) -> Outcome {
    let Err(status) = reply else { return Outcome::Ok };
    let reason = status.get_details_error_info().map(|info| info.reason);
    match (status.code(), reason) {
        (
            Code::FailedPrecondition | Code::NotFound | Code::AlreadyExists | Code::InvalidArgument,
            reason,
        ) => Outcome::Refused(reason.unwrap_or_else(|| status.message().to_owned())),
        // Without a reason it is the connection that broke.
        (Code::Internal, Some(reason)) => Outcome::Refused(reason),
        _ => Outcome::Unknown,
    }
}

const SUFFIX: &str = "events";
