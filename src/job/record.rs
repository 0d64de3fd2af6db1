//! The record of a job: its configuration, its next tick, and the runs that are not over.

use std::time::Duration;

use uuid::Uuid;

use super::name::JobName;
use super::schedule::Schedule;
use crate::clock::Timestamp;
use crate::operation::lease::Fingerprint;
use crate::operation::{SharedSpec, Stamps, Trigger};

/// A configuration that is run many times.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Its full name.
    pub name: JobName,
    /// Tells it from every other that ever had its name.
    pub uid: Uuid,
    /// What callers set.
    pub config: JobConfig,
    /// When it was created.
    pub create_time: Timestamp,
    /// When callers last changed it.
    pub update_time: Timestamp,
    /// Whether its schedule is paused.
    pub paused: bool,
    /// From when intervals are counted that have no start time.
    pub anchor: Timestamp,
    /// The next tick, unless it is paused or no tick follows.
    pub next_tick: Option<Timestamp>,
    /// The last tick that was decided, whether it was run or not.
    pub last_tick: Option<Timestamp>,
    /// How many ticks were not run because of the overlap policy.
    pub skipped: u64,
    /// How many times ticks were not run because they were too old.
    pub missed: u64,
    /// The runs that are not over, oldest first.
    pub runs: Vec<JobRun>,
    /// Past ticks that are still to be run.
    pub backfill: Option<Backfill>,
    /// Whether it was deleted: callers do not see it while its runs end and its executions are removed.
    pub deleted: bool,
    /// Identifies replays of its creation; may be empty.
    pub request_id: String,
    /// Hash of everything that a replay must repeat.
    pub fingerprint: Fingerprint,
    /// The last calls that changed it and had a request id, newest last.
    pub handled: Vec<RememberedCall>,
    /// Until when its deletion is remembered, for callers that repeat it.
    pub forget_time: Option<Timestamp>,
    /// Whether nothing but the memory of its deletion is left of it. Its name is free.
    pub emptied: bool,
    /// The most executions that it may have. `None`: they must be counted.
    pub kept: Option<u32>,
    /// Where its due entry is.
    pub due: Option<Timestamp>,
    /// The stamps that the store set; not part of the stored value.
    pub stamps: Stamps,
}

/// A call that changed a job. Tells a repeat of it from other calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RememberedCall {
    /// Of the caller's request id.
    pub id: Uuid,
    /// Hash of everything that a repeat must repeat.
    pub fingerprint: Fingerprint,
}

/// What callers set.
#[derive(Clone, Debug, PartialEq)]
pub struct JobConfig {
    /// A name for people.
    pub display_name: String,
    /// The operation that each run starts.
    pub spec: SharedSpec,
    /// When it runs by itself.
    pub schedule: Option<Schedule>,
    /// What happens to a run while another is not over.
    pub overlap: Overlap,
    /// Ticks that are older are not run any more.
    pub catch_up_window: Duration,
    /// How many executions are kept.
    pub history_limit: u32,
}

/// The removal of the oldest executions of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trimmed {
    /// The most executions that the job could have, as it was then.
    pub seen: Option<u32>,
    /// The most that were left.
    pub left: Option<u32>,
}

/// What happens to a run while another is not over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Overlap {
    /// It does not take place.
    #[default]
    Skip = 1,
    /// It waits for the others.
    Queue = 2,
    /// The others are cancelled, and it waits until they have ended.
    Preempt = 3,
    /// It runs beside them.
    Allow = 4,
}

/// A run that is not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a step of its own, done or not")]
pub struct JobRun {
    /// The id of its operation and of its execution.
    pub id: Uuid,
    /// Why it runs.
    pub trigger: Trigger,
    /// Its tick, unless a caller runs it.
    pub tick: Option<Timestamp>,
    /// Whether its operation was started.
    pub started: bool,
    /// Whether it waits for other runs.
    pub held: bool,
    /// Its operation is to be released.
    pub admit: bool,
    /// Its operation is to be cancelled.
    pub cancel: bool,
    /// A cancel of its operation was requested.
    pub cancelled: bool,
}

/// Past ticks that are to be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backfill {
    /// Tells its runs from those of the schedule and of other backfills.
    pub id: Uuid,
    /// Ticks after this are still to be run.
    pub after: Timestamp,
    /// Up to and with this.
    pub end: Timestamp,
    /// Whether all of them were run. It is kept to recognise a replay.
    pub finished: bool,
}

/// Something that a job has decided, and that is done outside its record. Doing it again changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobStep {
    /// Start the operation of a run.
    Start(JobRun),
    /// Release an operation that waits for its turn.
    Admit(Uuid),
    /// Cancel an operation.
    Cancel(Uuid),
}

impl JobRun {
    /// A run that is to start.
    pub const fn new(id: Uuid, trigger: Trigger, tick: Option<Timestamp>) -> Self {
        Self {
            id,
            trigger,
            tick,
            started: false,
            held: false,
            admit: false,
            cancel: false,
            cancelled: false,
        }
    }
}

impl Overlap {
    /// The policy of that stored number.
    pub fn from_number(number: u32) -> Option<Self> {
        let all = [Self::Skip, Self::Queue, Self::Preempt, Self::Allow];
        all.into_iter().find(|policy| *policy as u32 == number)
    }
}

impl Job {
    /// The etag of the published form (AIP-154). Runs do not change it.
    pub fn etag(&self) -> String {
        format!("\"{:x}\"", self.stamps.visible)
    }

    /// Remembers a call, and forgets the oldest if there are too many.
    pub fn remember(&mut self, call: RememberedCall) {
        if self.handled.len() >= MAX_HANDLED {
            self.handled.remove(0);
        }
        self.handled.push(call);
    }

    /// Whether it may have more executions than it is to keep.
    pub fn keeps_too_many(&self) -> bool {
        self.kept.is_none_or(|kept| kept > self.config.history_limit)
    }

    /// When it fires next.
    pub fn next_fire_time(&self) -> Option<Timestamp> {
        let schedule = self.config.schedule.as_ref()?;
        Some(schedule.fire_time(self.uid, self.next_tick?))
    }

    /// What is to be done now, oldest run first.
    pub fn steps(&self) -> Vec<JobStep> {
        let step = |run: &JobRun| match run {
            JobRun { started: false, .. } => Some(JobStep::Start(*run)),
            JobRun { cancel: true, .. } => Some(JobStep::Cancel(run.id)),
            JobRun { admit: true, .. } => Some(JobStep::Admit(run.id)),
            _ => None,
        };
        self.runs.iter().filter_map(step).collect()
    }
}

/// Calls that a job remembers.
const MAX_HANDLED: usize = 8;
