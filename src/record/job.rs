//! Jobs: a record each, listed by parent, due at their next tick and while there is something to do for them.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use uuid::Uuid;

use super::due::{Agent, DueIndex, due_member};
use super::kind::Kind;
use super::note::Note;
use super::operation::{Slot, detach_request, spec};
use super::value::{unwrap, wrap};
use crate::clock::Timestamp;
use crate::job::name::JobName;
use crate::job::schedule::{Calendar, CalendarParts, CronExpression, Schedule, Timing};
use crate::job::zone::Zone;
use crate::job::{Backfill, Job, JobConfig, JobRun, Overlap, RememberedCall};
use crate::operation::entries::{parent_member, parent_prefix};
use crate::operation::{SharedSpec, Stamps, Trigger};
use crate::proto::longhaul::store::v1 as stored;
use crate::proto::longhaul::store::v1::record::Kind as Stored;
use crate::proto::longhaul::store::v1::schedule::Timing as StoredTiming;
use crate::store::{BodyKey, Index, IndexEntry, Key, Keyspace};

/// The jobs of a parent, in order of creation.
pub const JOBS: &str = "jobs";
/// Jobs whose next tick has come, or for which there is something to do.
const DUE: &str = "due/job";

/// What the entries of the jobs of a parent begin with.
pub fn jobs_prefix(parent: &str) -> Vec<u8> {
    parent_prefix(parent)
}

impl Kind for Job {
    const NAME: &'static str = "a job";
    const NUMBERS: &'static [u32] = &[NUMBER];
    const DUE: &'static [DueIndex] = &[DueIndex::new(DUE, Agent::Scheduler)];

    fn name(&self) -> String {
        self.name.to_string()
    }

    fn lies_under(&self, key: Key, keyspace: &Keyspace) -> bool {
        keyspace.key(self.name.as_str()) == key
    }

    fn decode(value: &Bytes, stamps: Stamps) -> Option<Self> {
        match unwrap(value)? {
            Stored::Job(job) => decode(job, stamps),
            _ => None,
        }
    }

    fn encode(&self) -> Bytes {
        wrap(NUMBER, &encode(self))
    }

    fn entries(&self, key: Key) -> Vec<IndexEntry> {
        let due = self.due.map(|time| IndexEntry {
            index: Index::new(DUE),
            member: due_member(time, key).into(),
        });
        let member = parent_member(self.name.parent(), self.create_time, key.as_bytes()).into();
        let listed = (!self.deleted).then_some(IndexEntry { index: Index::new(JOBS), member });
        due.into_iter().chain(listed).collect()
    }

    fn bodies(&self, key: Key) -> Vec<BodyKey> {
        Slot::Request.body_of(key, self.config.spec.request.as_ref()).into_iter().collect()
    }

    fn must_detach(&self) -> bool {
        Slot::is_large(self.config.spec.request.as_ref())
    }

    fn detach(&mut self, key: Key) -> Vec<(BodyKey, Bytes)> {
        detach_request(&mut self.config.spec, key)
    }

    /// The schedulers of other servers find by themselves what is due no earlier than before.
    fn hint(before: Option<&Self>, after: Option<&Self>, _: bool) -> Option<Note> {
        let due = after?.due?;
        let is_earlier = before.and_then(|before| before.due).is_none_or(|before| due < before);
        is_earlier.then_some(Note::Scheduled)
    }
}

fn encode(job: &Job) -> stored::Job {
    let JobConfig { display_name, spec, schedule, overlap, catch_up_window, history_limit } =
        &job.config;
    stored::Job {
        name: job.name.as_str().to_owned(),
        uid: bytes(job.uid),
        create_time: job.create_time.as_micros(),
        update_time: job.update_time.as_micros(),
        display_name: display_name.clone(),
        spec: encode_spec(spec),
        schedule: schedule.as_ref().map(encode_schedule),
        overlap: *overlap as u32,
        catch_up_window: catch_up_window.as_micros() as u64,
        history_limit: *history_limit,
        paused: job.paused,
        anchor: job.anchor.as_micros(),
        next_tick: micros(job.next_tick),
        last_tick: micros(job.last_tick),
        skipped: job.skipped,
        missed: job.missed,
        runs: job.runs.iter().map(encode_run).collect(),
        backfill: job.backfill.map(|backfill| stored::job::Backfill {
            id: bytes(backfill.id),
            after: backfill.after.as_micros(),
            end: backfill.end.as_micros(),
            finished: backfill.finished,
        }),
        deleted: job.deleted,
        request_id: job.request_id.clone(),
        fingerprint: Bytes::copy_from_slice(&job.fingerprint),
        due: micros(job.due),
        handled: job.handled.iter().map(encode_handled).collect(),
        forget_time: micros(job.forget_time),
        emptied: job.emptied,
        kept: job.kept,
    }
}

fn decode(stored: stored::Job, stamps: Stamps) -> Option<Job> {
    let config = JobConfig {
        display_name: stored.display_name,
        spec: decode_spec(stored.spec)?,
        schedule: match stored.schedule {
            Some(schedule) => Some(decode_schedule(schedule)?),
            None => None,
        },
        overlap: Overlap::from_number(stored.overlap)?,
        catch_up_window: Duration::from_micros(stored.catch_up_window),
        history_limit: stored.history_limit,
    };
    Some(Job {
        name: JobName::parse(&stored.name).ok()?,
        uid: Uuid::from_slice(&stored.uid).ok()?,
        config,
        create_time: Timestamp::from_micros(stored.create_time),
        update_time: Timestamp::from_micros(stored.update_time),
        paused: stored.paused,
        anchor: Timestamp::from_micros(stored.anchor),
        next_tick: time(stored.next_tick),
        last_tick: time(stored.last_tick),
        skipped: stored.skipped,
        missed: stored.missed,
        runs: stored.runs.iter().map(decode_run).collect::<Option<_>>()?,
        backfill: match stored.backfill {
            Some(backfill) => Some(Backfill {
                id: Uuid::from_slice(&backfill.id).ok()?,
                after: Timestamp::from_micros(backfill.after),
                end: Timestamp::from_micros(backfill.end),
                finished: backfill.finished,
            }),
            None => None,
        },
        deleted: stored.deleted,
        request_id: stored.request_id,
        fingerprint: stored.fingerprint.as_ref().try_into().ok()?,
        handled: stored.handled.iter().map(decode_handled).collect::<Option<_>>()?,
        forget_time: time(stored.forget_time),
        emptied: stored.emptied,
        kept: stored.kept,
        due: time(stored.due),
        stamps,
    })
}

fn encode_handled(call: &RememberedCall) -> stored::job::Handled {
    let fingerprint = Bytes::copy_from_slice(&call.fingerprint);
    stored::job::Handled { id: bytes(call.id), fingerprint }
}

fn decode_handled(stored: &stored::job::Handled) -> Option<RememberedCall> {
    Some(RememberedCall {
        id: Uuid::from_slice(&stored.id).ok()?,
        fingerprint: stored.fingerprint.as_ref().try_into().ok()?,
    })
}

fn encode_run(run: &JobRun) -> stored::job::Run {
    stored::job::Run {
        id: bytes(run.id),
        trigger: u32::from(run.trigger as u8),
        tick: micros(run.tick),
        started: run.started,
        held: run.held,
        admit: run.admit,
        cancel: run.cancel,
        cancelled: run.cancelled,
    }
}

fn decode_run(stored: &stored::job::Run) -> Option<JobRun> {
    Some(JobRun {
        id: Uuid::from_slice(&stored.id).ok()?,
        trigger: Trigger::from_number(stored.trigger)?,
        tick: time(stored.tick),
        started: stored.started,
        held: stored.held,
        admit: stored.admit,
        cancel: stored.cancel,
        cancelled: stored.cancelled,
    })
}

fn encode_schedule(schedule: &Schedule) -> stored::Schedule {
    let timing = match &schedule.timing {
        Timing::Cron(cron) => StoredTiming::Cron(cron.as_str().to_owned()),
        Timing::Interval(every) => StoredTiming::Interval(every.as_micros() as u64),
        Timing::Calendar(calendar) => {
            let CalendarParts { months, days, weekdays, hours, minutes, seconds } =
                calendar.parts().clone();
            StoredTiming::Calendar(stored::schedule::Calendar {
                months,
                days,
                weekdays,
                hours,
                minutes,
                seconds,
            })
        }
    };
    stored::Schedule {
        timing: Some(timing),
        time_zone: schedule.zone.as_str().to_owned(),
        jitter: schedule.jitter.as_micros() as u64,
        start_time: micros(schedule.start_time),
        end_time: micros(schedule.end_time),
    }
}

fn decode_schedule(stored: stored::Schedule) -> Option<Schedule> {
    let timing = match stored.timing? {
        StoredTiming::Cron(text) => Timing::Cron(CronExpression::parse(&text).ok()?),
        StoredTiming::Interval(every) => Timing::Interval(Duration::from_micros(every)),
        StoredTiming::Calendar(parts) => {
            let stored::schedule::Calendar { months, days, weekdays, hours, minutes, seconds } =
                parts;
            let parts = CalendarParts { months, days, weekdays, hours, minutes, seconds };
            Timing::Calendar(Calendar::new(parts).ok()?)
        }
    };
    Some(Schedule {
        timing,
        zone: Zone::parse(&stored.time_zone).ok()?,
        jitter: Duration::from_micros(stored.jitter),
        start_time: time(stored.start_time),
        end_time: time(stored.end_time),
    })
}

/// The stored form of a spec, which is made once.
pub(super) fn encode_spec(spec: &SharedSpec) -> Bytes {
    spec.stored(|spec| spec::encode(spec).encode_to_vec().into())
}

pub(super) fn decode_spec(stored: Bytes) -> Option<SharedSpec> {
    let spec = spec::decode(stored::Spec::decode(stored.clone()).ok()?)?;
    Some(SharedSpec::with_stored(spec, stored))
}

pub(super) fn bytes(id: Uuid) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}

pub(super) fn micros(time: Option<Timestamp>) -> u64 {
    time.map_or(0, Timestamp::as_micros)
}

pub(super) fn time(micros: u64) -> Option<Timestamp> {
    (micros > 0).then(|| Timestamp::from_micros(micros))
}

/// Its number in `longhaul.store.v1.Record`.
const NUMBER: u32 = 5;
