//! Changes of the settings of a queue.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::engine::error::{Error, Reason};
use crate::engine::transact::{Decision, Transaction};
use crate::limits::MAX_DRAINED_WORKERS;
use crate::operation::name::Queue;
use crate::record::queue::{DrainedWorker, QueueRecord, QueueSettings};
use crate::record::{Before, Change};
use crate::store::Key;

/// A change of the settings of a queue. What is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct QueueUpdate {
    /// Which queue.
    pub queue: Queue,
    /// Only if the settings have this etag; an empty one fits all.
    pub etag: String,
    /// Whether it is paused.
    pub paused: Option<bool>,
    /// Most operations that run at the same time; 0 is no limit.
    pub max_running: Option<u32>,
    /// Most leases in a second; 0 is no limit.
    pub max_leases_per_second: Option<f64>,
    /// The aging interval; zero is as for every queue.
    pub aging_interval: Option<Duration>,
    /// Workers to drain, and those to drain no longer, by name.
    pub drain: Vec<DrainedWorker>,
    /// The name of workers that are not drained any more.
    pub resume: Option<String>,
}

/// A change under way.
pub(super) struct SetQueue {
    key: Key,
    update: QueueUpdate,
    pub(super) refusal: Option<Box<Error>>,
}

impl SetQueue {
    pub(super) const fn new(key: Key, update: QueueUpdate) -> Self {
        Self { key, update, refusal: None }
    }
}

impl Transaction for SetQueue {
    type Kind = QueueRecord;

    fn key(&self) -> Key {
        self.key
    }

    fn decide(
        &mut self,
        before: Option<&Before<QueueRecord>>,
        _certain: bool,
        now: Timestamp,
    ) -> Decision<QueueRecord> {
        let update = &self.update;
        let current = etag(before.map_or(0, |before| before.stamps.revision));
        if !update.etag.is_empty() && update.etag != current {
            let name = update.queue.full();
            let message =
                format!("the settings of {name} have changed; read them, then decide again");
            let refusal = Error::on(Reason::EtagMismatch, name, message).with("etag", current);
            self.refusal = Some(refusal);
            return Decision::Keep;
        }
        self.refusal = None;
        let former = before.map(|before| before.record.settings.clone()).unwrap_or_default();
        let settings = update.applied_to(former.clone(), now);
        if settings == former {
            return Decision::Keep;
        }
        let is_own = settings != QueueSettings::default();
        let after = is_own.then(|| QueueRecord { queue: update.queue.clone(), settings });
        Decision::Commit(Box::new(Change { visible: true, ..Change::of(after) }))
    }

    fn recognises_itself(&self) -> bool {
        false
    }
}

impl QueueUpdate {
    fn applied_to(&self, former: QueueSettings, now: Timestamp) -> QueueSettings {
        QueueSettings {
            paused: self.paused.unwrap_or(former.paused),
            max_running: self.max_running.unwrap_or(former.max_running),
            max_leases_per_second: self
                .max_leases_per_second
                .unwrap_or(former.max_leases_per_second),
            aging_interval: self
                .aging_interval
                .map_or(former.aging_interval, |own| Some(own).filter(|own| !own.is_zero())),
            drained: self.drained(former.drained, now),
        }
    }

    /// The workers that are drained then; those that were drained first are forgotten first.
    fn drained(&self, mut drained: Vec<DrainedWorker>, now: Timestamp) -> Vec<DrainedWorker> {
        let again = |worker: &DrainedWorker| {
            let is =
                |new: &DrainedWorker| new.name == worker.name && new.process.is(&worker.process);
            self.drain.iter().any(is)
        };
        let resumed = |worker: &DrainedWorker| self.resume.as_ref() == Some(&worker.name);
        drained.retain(|worker| now < worker.until && !again(worker) && !resumed(worker));
        drained.extend(self.drain.iter().cloned());
        drained.drain(..drained.len().saturating_sub(MAX_DRAINED_WORKERS));
        drained
    }
}

/// The etag of settings of that revision.
pub(super) fn etag(revision: u64) -> String {
    format!("\"{revision:x}\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::worker::WorkerProcess;

    fn drained(name: &str, id: u64, until: u64) -> DrainedWorker {
        let process = WorkerProcess { id, ..WorkerProcess::default() };
        DrainedWorker { name: name.to_owned(), process, until: Timestamp::from_micros(until) }
    }

    #[test]
    fn drained_workers_are_remembered_once_until_their_time_and_within_a_bound() {
        let now = Timestamp::from_micros(10);
        let former = vec![drained("a", 1, 20), drained("b", 1, 10), drained("c", 1, 20)];
        let update = QueueUpdate {
            drain: vec![drained("a", 1, 30), drained("a", 2, 30)],
            resume: Some("c".to_owned()),
            ..QueueUpdate::default()
        };
        let after = update.drained(former, now);
        assert_eq!(after, [drained("a", 1, 30), drained("a", 2, 30)]);
        let many: Vec<_> = (0..MAX_DRAINED_WORKERS as u64).map(|id| drained("d", id, 20)).collect();
        let after = update.drained(many, now);
        assert_eq!(after.len(), MAX_DRAINED_WORKERS);
        assert_eq!(after.last(), Some(&drained("a", 2, 30)));
        assert_eq!(after[0], drained("d", 2, 20));
    }
}
