//! The receiver of the callbacks: it writes down what arrives, refuses some of it, and leaves some without a reply.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::dice::Dice;
use super::event::{Act, State, Told};
use super::journal::Journal;
use crate::processes::receiver::{Arrived, listen};

/// What has been told, and where.
pub(super) struct Receiver {
    pub(super) url: String,
    /// Operations whose end it took.
    ends: Arc<Mutex<BTreeSet<String>>>,
}

impl Receiver {
    pub(super) fn open(seed: u64, folder: &Path) -> Self {
        let journal = Journal::open(folder, "receiver");
        let dice = Mutex::new(Dice::of(seed, "receiver"));
        let ends = Arc::<Mutex<BTreeSet<String>>>::default();
        let taken = Arc::clone(&ends);
        let url = listen(move |arrived| {
            let fate = dice.lock().unwrap_or_else(PoisonError::into_inner).below(100);
            // A receiver that fails after it took a delivery gets it again.
            let (accepted, reply) = match fate {
                0..4 => (false, Some(503)),
                4..6 => (false, None),
                6..8 => (true, None),
                _ => (true, Some(200)),
            };
            let begin = journal.now();
            let (name, told) = read(&arrived, accepted);
            let ended = accepted && told.state.is_done();
            journal.note(&name, begin, Act::Told(told));
            if ended {
                lock(&taken).insert(name);
            }
            reply
        });
        Self { url, ends }
    }

    /// Those of these operations whose end it has not taken.
    pub(super) fn waits_for(&self, mut names: Vec<String>) -> Vec<String> {
        let ends = lock(&self.ends);
        names.retain(|name| !ends.contains(name));
        names
    }
}

fn read(arrived: &Arrived, accepted: bool) -> (String, Told) {
    let data = arrived.json()["data"].take();
    let text = |field: &str| data[field].as_str().expect("a text").to_owned();
    let state = match text("state").as_str() {
        "PENDING" => State::Pending,
        "RUNNING" => State::Running,
        "CANCELLING" => State::Cancelling,
        "SUSPENDED" => State::Suspended,
        "SUCCEEDED" => State::Succeeded,
        "FAILED" => State::Failed,
        "CANCELLED" => State::Cancelled,
        other => panic!("{other} is no state"),
    };
    let sequence = data["sequence"].as_u64().expect("a number");
    let id = arrived.header("webhook-id").to_owned();
    (text("name"), Told { id, sequence, state, accepted })
}

fn lock(ends: &Mutex<BTreeSet<String>>) -> MutexGuard<'_, BTreeSet<String>> {
    ends.lock().unwrap_or_else(PoisonError::into_inner)
}
