//! Conversions for the schedules of jobs.

use std::time::Duration;

use super::fields::{duration, timestamp};
use crate::engine::{Error, Result};
use crate::job::schedule::{Calendar, CalendarParts, CronExpression, Schedule, Timing};
use crate::job::zone::Zone;
use crate::limits::{MAX_JITTER, MAX_TEXT_BYTES, MIN_INTERVAL};
use crate::proto::longhaul::v1 as pb;
use crate::proto::longhaul::v1::schedule::Timing as Given;

/// Reads a schedule.
pub fn read(schedule: pb::Schedule) -> Result<Schedule> {
    let timing = schedule.timing.ok_or_else(|| {
        let message = "job.schedule has no times; set cron, interval or calendar";
        Error::field("job.schedule", message)
    })?;
    let jitter = duration("job.schedule.jitter", schedule.jitter)?.unwrap_or_default();
    if jitter > MAX_JITTER {
        let (is, most) = (jitter.as_secs(), MAX_JITTER.as_secs());
        let message = format!("job.schedule.jitter is {is} s, at most {most} s are allowed");
        return Err(Error::field("job.schedule.jitter", message).with("limit", most));
    }
    let start_time = timestamp("job.schedule.start_time", schedule.start_time)?;
    let end_time = timestamp("job.schedule.end_time", schedule.end_time)?;
    if let (Some(start), Some(end)) = (start_time, end_time)
        && end <= start
    {
        let message =
            format!("job.schedule.end_time {end} is not after job.schedule.start_time {start}");
        return Err(Error::field("job.schedule.end_time", message));
    }
    let zone = Zone::parse(&schedule.time_zone).map_err(|error| {
        let message = format!("job.schedule.time_zone is wrong: {error}");
        Error::field("job.schedule.time_zone", message)
    })?;
    Ok(Schedule { timing: read_timing(timing)?, zone, jitter, start_time, end_time })
}

fn read_timing(timing: Given) -> Result<Timing> {
    match timing {
        Given::Cron(text) => read_cron(&text).map(Timing::Cron),
        Given::Interval(every) => {
            let field = "job.schedule.interval";
            let every = duration(field, Some(every))?.unwrap_or(Duration::ZERO);
            if every < MIN_INTERVAL {
                let message = format!("{field} is {every:?}; it must be at least {MIN_INTERVAL:?}");
                return Err(Error::field(field, message));
            }
            Ok(Timing::Interval(every))
        }
        Given::Calendar(calendar) => read_calendar(calendar).map(Timing::Calendar),
    }
}

fn read_cron(text: &str) -> Result<CronExpression> {
    let field = "job.schedule.cron";
    super::fields::check_text(field, text, MAX_TEXT_BYTES)?;
    CronExpression::parse(text).map_err(|error| {
        let position = error.position;
        Error::field(field, format!("{field} is wrong {error}")).with("position", position)
    })
}

fn read_calendar(calendar: pb::Calendar) -> Result<Calendar> {
    let field = "job.schedule.calendar";
    let pb::Calendar { months, days, weekdays, hours, minutes, seconds } = calendar;
    let lists = [&months, &days, &weekdays, &hours, &minutes, &seconds];
    if lists.into_iter().any(|list| list.len() > MOST_VALUES) {
        let message = format!("{field} has a part of more than {MOST_VALUES} values");
        return Err(Error::field(field, message));
    }
    // A negative number is as far out of range as this.
    let part = |values: Vec<i32>| -> Vec<u32> {
        values.into_iter().map(|value| u32::try_from(value).unwrap_or(u32::MAX)).collect()
    };
    let parts = CalendarParts {
        months: part(months),
        days,
        weekdays: part(weekdays),
        hours: part(hours),
        minutes: part(minutes),
        seconds: part(seconds),
    };
    Calendar::new(parts).map_err(|error| Error::field(field, format!("{field} is wrong: {error}")))
}

/// A schedule as callers see it.
pub fn published(schedule: &Schedule) -> pb::Schedule {
    let part = |values: &[u32]| values.iter().map(|value| *value as i32).collect();
    let timing = match &schedule.timing {
        Timing::Cron(cron) => Given::Cron(cron.as_str().to_owned()),
        Timing::Interval(every) => Given::Interval((*every).try_into().unwrap_or_default()),
        Timing::Calendar(calendar) => {
            let parts = calendar.parts();
            Given::Calendar(pb::Calendar {
                months: part(&parts.months),
                days: parts.days.clone(),
                weekdays: part(&parts.weekdays),
                hours: part(&parts.hours),
                minutes: part(&parts.minutes),
                seconds: part(&parts.seconds),
            })
        }
    };
    pb::Schedule {
        timing: Some(timing),
        time_zone: schedule.zone.as_str().to_owned(),
        jitter: (!schedule.jitter.is_zero()).then(|| schedule.jitter.try_into().ok()).flatten(),
        start_time: schedule.start_time.map(Into::into),
        end_time: schedule.end_time.map(Into::into),
    }
}

/// Values of a part; there are no more than 60 different ones.
const MOST_VALUES: usize = 100;
