//! The decisions of a job: which ticks run, what runs that overlap do, and what its callers may ask of it.

use std::time::Duration;

use uuid::Uuid;

use super::name::JobName;
use super::record::{Backfill, Job, JobConfig, JobRun, JobStep, Overlap, Trimmed};
use crate::clock::Timestamp;
use crate::limits::{MAX_BACKFILLS_AT_ONCE, MAX_JOB_RUNS, MAX_TICKS_AT_ONCE};
use crate::operation::lease::Fingerprint;
use crate::operation::{Stamps, Trigger};

/// Why a job refuses what a caller asks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JobRejection {
    /// The state does not allow it.
    #[error("cannot {verb} {name}: {why}")]
    InvalidState {
        /// The job.
        name: JobName,
        /// The refused call.
        verb: &'static str,
        /// The reason, and what to do.
        why: String,
    },
    /// The etag names another state.
    #[error("{name} has changed: its etag is now {current}")]
    EtagMismatch {
        /// The job.
        name: JobName,
        /// The present value.
        current: String,
    },
}

/// Whether the tenant of a job may store further operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// It may.
    Free,
    /// It stores as many as it may: ticks are skipped.
    None,
}

/// Whether a run was added to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Added {
    /// It was.
    Yes,
    /// The overlap policy skips it.
    Skipped,
    /// The job has as many runs as it may have.
    Full,
}

impl Job {
    /// A job that is created now.
    pub fn created(name: JobName, config: JobConfig, now: Timestamp) -> Self {
        let mut job = Self {
            name,
            uid: Uuid::new_v4(),
            config,
            create_time: now,
            update_time: now,
            paused: false,
            anchor: now,
            next_tick: None,
            last_tick: None,
            skipped: 0,
            missed: 0,
            runs: Vec::new(),
            backfill: None,
            deleted: false,
            handled: Vec::new(),
            forget_time: None,
            emptied: false,
            kept: Some(0),
            request_id: String::new(),
            fingerprint: Fingerprint::default(),
            due: None,
            stamps: Stamps::default(),
        };
        job.next_tick = job.tick_after(now);
        job.settle(now);
        job
    }

    /// Decides everything that is due: ticks, and the past ticks of a backfill.
    pub fn advance(&mut self, now: Timestamp) {
        self.advance_with(Room::Free, now);
    }

    /// The same, as far as there is room for further operations.
    pub fn advance_with(&mut self, room: Room, now: Timestamp) {
        if !self.deleted {
            self.take_ticks(room, now);
            self.take_backfill();
        }
        self.promote();
        self.settle(now);
    }

    /// Takes ticks whose time has come, a bounded number: others stay due.
    fn take_ticks(&mut self, room: Room, now: Timestamp) {
        for _ in 0..MAX_TICKS_AT_ONCE {
            let Some(tick) = self.next_tick.filter(|_| !self.paused) else { return };
            let Some(fire_time) = self.next_fire_time().filter(|time| *time <= now) else { return };
            self.last_tick = Some(tick);
            if now.since(fire_time) > self.config.catch_up_window {
                self.missed += 1;
                self.next_tick = self.tick_after(self.oldest_in_time(now).max(tick));
                continue;
            }
            let run = JobRun::new(run_id(self.uid, b"tick", tick), Trigger::Schedule, Some(tick));
            if room == Room::None || self.add(run) != Added::Yes {
                self.skipped += 1;
            }
            self.next_tick = self.tick_after(tick);
        }
    }

    /// Ticks up to this are too old to run.
    fn oldest_in_time(&self, now: Timestamp) -> Timestamp {
        let jitter = self.config.schedule.as_ref().map_or(Duration::ZERO, |it| it.jitter);
        now - self.config.catch_up_window - jitter - Duration::from_micros(1)
    }

    /// Backfilled runs follow one another, unless runs may overlap.
    fn take_backfill(&mut self) {
        while let Some(backfill) = self.backfill.filter(|backfill| !backfill.finished) {
            let most =
                if self.config.overlap == Overlap::Allow { MAX_BACKFILLS_AT_ONCE } else { 1 };
            if self.runs.len() >= most {
                return;
            }
            let tick = self.tick_after(backfill.after).filter(|tick| *tick <= backfill.end);
            let Some(tick) = tick else {
                self.backfill = Some(Backfill { finished: true, ..backfill });
                return;
            };
            let id = run_id(backfill.id, b"backfill", tick);
            self.runs.push(JobRun::new(id, Trigger::Backfill, Some(tick)));
            self.backfill = Some(Backfill { after: tick, ..backfill });
        }
    }

    /// Adds a run as the overlap policy says.
    fn add(&mut self, run: JobRun) -> Added {
        let is_alone = self.runs.is_empty();
        if self.runs.len() >= MAX_JOB_RUNS {
            return Added::Full;
        }
        let held = match self.config.overlap {
            Overlap::Skip if !is_alone => return Added::Skipped,
            Overlap::Skip | Overlap::Allow => false,
            Overlap::Queue => !is_alone,
            Overlap::Preempt => {
                for other in self.runs.iter_mut().filter(|other| !other.cancelled) {
                    other.cancel = true;
                }
                !is_alone
            }
        };
        self.runs.push(JobRun { held, ..run });
        Added::Yes
    }

    /// Lets the next run go on if none is under way, or all of them if they may overlap.
    fn promote(&mut self) {
        loop {
            let under_way = self.runs.iter().any(|run| !run.held);
            if under_way && self.config.overlap != Overlap::Allow {
                return;
            }
            let next = self.runs.iter_mut().find(|run| run.held);
            let Some(next) = next else { return };
            (next.held, next.admit) = (false, true);
        }
    }

    /// Some of its steps are done.
    pub fn done(&mut self, steps: &[JobStep], now: Timestamp) {
        let mut begun = 0;
        for step in steps {
            let (JobStep::Start(JobRun { id, .. }) | JobStep::Admit(id) | JobStep::Cancel(id)) =
                *step;
            let Some(run) = self.runs.iter_mut().find(|run| run.id == id) else { continue };
            match step {
                JobStep::Start(_) => {
                    begun += u32::from(!run.started);
                    run.started = true;
                }
                JobStep::Admit(_) => run.admit = false,
                JobStep::Cancel(_) => (run.cancel, run.cancelled) = (false, true),
            }
        }
        self.count_begun(begun);
        self.settle(now);
    }

    /// These runs are over.
    pub fn over(&mut self, ids: &[Uuid]) {
        let is_over = |run: &JobRun| ids.contains(&run.id);
        // One that ended before its start was noted has an execution, too.
        let begun = self.runs.iter().filter(|run| !run.started && is_over(run)).count();
        self.count_begun(begun as u32);
        self.runs.retain(|run| !is_over(run));
    }

    fn count_begun(&mut self, begun: u32) {
        self.kept = self.kept.map(|kept| kept.saturating_add(begun));
    }

    /// The oldest of its executions were removed.
    pub fn trimmed(&mut self, trimmed: Trimmed) {
        let Trimmed { seen, left } = trimmed;
        // After other changes the number stays too high, until some are removed again.
        if self.kept == seen {
            // Those that began meanwhile were not counted.
            let begun = if seen.is_none() { self.runs.len() as u32 } else { 0 };
            self.kept = left.map(|left| left.saturating_add(begun));
        }
    }

    /// A caller runs it. A run of that id that is not over is the same run.
    ///
    /// # Errors
    /// [`JobRejection::InvalidState`] if the overlap policy does not allow it now.
    pub fn run(&mut self, id: Uuid, now: Timestamp) -> Result<(), JobRejection> {
        if self.runs.iter().any(|run| run.id == id) {
            return Ok(());
        }
        let why = match self.add(JobRun::new(id, Trigger::Manual, None)) {
            Added::Yes => {
                self.settle(now);
                return Ok(());
            }
            Added::Skipped => format!(
                "{} is not over, and its overlap_policy is SKIP; wait for it, or set another policy",
                self.name.execution(self.runs[0].id)
            ),
            Added::Full => format!("{MAX_JOB_RUNS} of its runs are not over; wait for one of them"),
        };
        Err(self.refuse("run", why))
    }

    /// Pauses its schedule, or resumes it. Ticks of the pause are not run.
    pub fn pause(&mut self, paused: bool, now: Timestamp) {
        if self.paused == paused {
            return;
        }
        self.paused = paused;
        self.next_tick = if paused { None } else { self.tick_after(now) };
        self.update_time = now;
        self.settle(now);
    }

    /// Takes another configuration. A changed schedule counts from now on.
    pub fn update(&mut self, config: JobConfig, now: Timestamp) {
        let changed = self.config.schedule != config.schedule;
        self.config = config;
        self.update_time = now;
        if changed {
            self.anchor = now;
            self.next_tick = if self.paused { None } else { self.tick_after(now) };
            self.backfill = None;
        }
        self.advance(now);
    }

    /// Deletes it: its schedule ends, its runs are cancelled.
    ///
    /// # Errors
    /// [`JobRejection::InvalidState`] if runs are not over and `force` is not set.
    pub fn delete(&mut self, force: bool, now: Timestamp) -> Result<(), JobRejection> {
        if let Some(run) = self.runs.first().filter(|_| !force) {
            let running = self.name.execution(run.id);
            let why = format!("{running} is not over; wait for it, cancel it, or set force");
            return Err(self.refuse("delete", why));
        }
        self.deleted = true;
        (self.next_tick, self.backfill) = (None, None);
        for run in self.runs.iter_mut().filter(|run| !run.cancelled) {
            run.cancel = true;
        }
        self.promote();
        self.settle(now);
        Ok(())
    }

    /// Runs past ticks, from `start` to `end`.
    ///
    /// # Errors
    /// [`JobRejection::InvalidState`] without a schedule, and while another backfill is under way.
    pub fn backfill(&mut self, wanted: Backfill, now: Timestamp) -> Result<(), JobRejection> {
        // Also once it is finished.
        if self.backfill.is_some_and(|backfill| backfill.id == wanted.id) {
            return Ok(());
        }
        if self.config.schedule.is_none() {
            let why = "it has no schedule, so it has no ticks; set one, or run it";
            return Err(self.refuse("backfill", why.to_owned()));
        }
        if let Some(other) = self.backfill.filter(|other| !other.finished) {
            let why =
                format!("an earlier backfill, up to {}, is under way; wait for it", other.end);
            return Err(self.refuse("backfill", why));
        }
        self.backfill = Some(wanted);
        self.advance(now);
        Ok(())
    }

    /// Its next ticks and the times at which it fires for them.
    pub fn upcoming(&self, after: Timestamp) -> impl Iterator<Item = (Timestamp, Timestamp)> {
        let first = if self.paused { None } else { self.tick_after(after) };
        let ticks = std::iter::successors(first, |tick| self.tick_after(*tick));
        ticks.filter_map(|tick| {
            Some((tick, self.config.schedule.as_ref()?.fire_time(self.uid, tick)))
        })
    }

    /// Checks that callers have seen the job as it is; an empty etag fits all.
    ///
    /// # Errors
    /// [`JobRejection::EtagMismatch`].
    pub fn check_etag(&self, etag: &str) -> Result<(), JobRejection> {
        if etag.is_empty() || etag == self.etag() {
            return Ok(());
        }
        Err(JobRejection::EtagMismatch { name: self.name.clone(), current: self.etag() })
    }

    /// The first tick after a time.
    pub fn tick_after(&self, time: Timestamp) -> Option<Timestamp> {
        self.config.schedule.as_ref()?.next_after(time, self.anchor)
    }

    /// Puts its due entry where it belongs.
    pub fn settle(&mut self, now: Timestamp) {
        if self.emptied {
            self.due = self.forget_time;
            return;
        }
        let at_once = self.deleted || !self.steps().is_empty();
        self.due = if at_once { Some(now) } else { self.next_fire_time() };
    }

    fn refuse(&self, verb: &'static str, why: String) -> JobRejection {
        JobRejection::InvalidState { name: self.name.clone(), verb, why }
    }
}

/// The id of the run of a tick: always the same, so that no tick runs twice.
fn run_id(of: Uuid, purpose: &[u8], tick: Timestamp) -> Uuid {
    let mut hasher = blake3::Hasher::new();
    hasher.update(of.as_bytes()).update(&tick.as_micros().to_be_bytes()).update(purpose);
    let hash = hasher.finalize();
    let bytes = hash.as_bytes().first_chunk().copied().unwrap_or_default();
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}
