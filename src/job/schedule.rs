//! When a job fires: ticks, each an instant that follows from the schedule alone.
//!
//! Where a clock is put forward, the wall-clock times that it leaves out fire together at the first instant after them. Where
//! it is put back, the times that it passes twice fire the first time only, unless the schedule names every hour: then they
//! fire both times, so that no hour is without them.

use std::time::Duration;

use jiff::civil::DateTime;
use uuid::Uuid;

use super::cron::{self, CronError};
use super::pattern::Pattern;
use super::zone::Zone;
use crate::clock::Timestamp;

/// When a job fires.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// The times.
    pub timing: Timing,
    /// The zone of wall-clock times.
    pub zone: Zone,
    /// Each firing is delayed by less than this, always by as much for the same tick.
    pub jitter: Duration,
    /// No tick is before this.
    pub start_time: Option<Timestamp>,
    /// No tick is at this or after it.
    pub end_time: Option<Timestamp>,
}

/// The times of a schedule.
#[derive(Clone, Debug, PartialEq)]
pub enum Timing {
    /// A cron expression.
    Cron(CronExpression),
    /// At a fixed distance.
    Interval(Duration),
    /// Parts of wall-clock times.
    Calendar(Calendar),
}

/// A cron expression as it was written, and its meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CronExpression {
    text: String,
    pattern: Pattern,
}

/// Parts of wall-clock times. A time matches if it matches every part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calendar {
    parts: CalendarParts,
    pattern: Pattern,
}

/// The parts as they were written. Empty parts match everything, except that empty hours, minutes and seconds are 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CalendarParts {
    /// 1 to 12.
    pub months: Vec<u32>,
    /// 1 to 31; -1 is the last day of the month.
    pub days: Vec<i32>,
    /// 0, Sunday, to 6.
    pub weekdays: Vec<u32>,
    /// 0 to 23.
    pub hours: Vec<u32>,
    /// 0 to 59.
    pub minutes: Vec<u32>,
    /// 0 to 59.
    pub seconds: Vec<u32>,
}

/// Why a calendar is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CalendarError {
    /// A value of a part that it cannot have.
    #[error("{part} has {value}; write {first} to {last}{more}")]
    OutOfRange {
        /// Which part.
        part: &'static str,
        /// The value.
        value: i64,
        /// The smallest.
        first: u32,
        /// The largest.
        last: u32,
        /// What else may be written.
        more: &'static str,
    },
    /// No month has such a day.
    #[error("days has no day that its months have")]
    NoSuchDay,
}

impl CronExpression {
    /// Reads an expression.
    ///
    /// # Errors
    /// If the expression is no cron expression; the error has the position.
    pub fn parse(text: &str) -> Result<Self, CronError> {
        Ok(Self { pattern: cron::parse(text)?, text: text.to_owned() })
    }

    /// The text as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl Calendar {
    /// Checks the parts.
    ///
    /// # Errors
    /// [`CalendarError`] for a value that its part cannot have, and for days that do not exist.
    pub fn new(parts: CalendarParts) -> Result<Self, CalendarError> {
        let every = cron::EVERY;
        let days: Vec<u32> =
            parts.days.iter().filter(|day| **day != -1).map(|day| (*day).max(0) as u32).collect();
        let last_day = parts.days.contains(&-1);
        let no_day = parts.days.is_empty();
        let pattern = Pattern {
            seconds: set("seconds", &parts.seconds, 0, 59, 1)?,
            minutes: set("minutes", &parts.minutes, 0, 59, 1)?,
            hours: set("hours", &parts.hours, 0, 23, 1)?,
            days: set("days", &days, 1, 31, if no_day { every.days } else { 0 })?,
            last_day,
            months: set("months", &parts.months, 1, 12, every.months)?,
            weekdays: set("weekdays", &parts.weekdays, 0, 6, every.weekdays)?,
            either_day: false,
        };
        if !pattern.is_possible() {
            return Err(CalendarError::NoSuchDay);
        }
        Ok(Self { parts, pattern })
    }

    /// The parts as they were written.
    pub const fn parts(&self) -> &CalendarParts {
        &self.parts
    }
}

fn set(
    part: &'static str,
    values: &[u32],
    first: u32,
    last: u32,
    empty: u64,
) -> Result<u64, CalendarError> {
    if values.is_empty() {
        return Ok(empty);
    }
    let more = if part == "days" { ", or -1 for the last day" } else { "" };
    values.iter().try_fold(0, |set, value| {
        if !(first..=last).contains(value) {
            let value = i64::from(*value);
            return Err(CalendarError::OutOfRange { part, value, first, last, more });
        }
        Ok(set | 1 << value)
    })
}

impl Schedule {
    /// The first tick after `time`. Intervals without a start time are counted from `anchor`, which is no tick itself.
    pub fn next_after(&self, time: Timestamp, anchor: Timestamp) -> Option<Timestamp> {
        let from = match self.start_time {
            Some(start) if start > time => start - Duration::from_micros(1),
            _ => time,
        };
        let tick = match &self.timing {
            Timing::Interval(every) => self.next_interval(*every, from, anchor),
            Timing::Cron(cron) => next_match(&cron.pattern, &self.zone, from)?,
            Timing::Calendar(calendar) => next_match(&calendar.pattern, &self.zone, from)?,
        };
        let in_time = self.end_time.is_none_or(|end| tick < end) && tick < Timestamp::MAX;
        (in_time && tick > time).then_some(tick)
    }

    fn next_interval(&self, every: Duration, from: Timestamp, anchor: Timestamp) -> Timestamp {
        let anchor = self.start_time.unwrap_or(anchor);
        if from < anchor {
            return if self.start_time.is_some() { anchor } else { anchor + every };
        }
        let every_micros = every.as_micros().max(1) as u64;
        let passed = (from.as_micros() - anchor.as_micros()) / every_micros + 1;
        let micros = anchor.as_micros().saturating_add(passed.saturating_mul(every_micros));
        Timestamp::from_micros(micros)
    }

    /// When the job of that uid fires for a tick.
    pub fn fire_time(&self, uid: Uuid, tick: Timestamp) -> Timestamp {
        if self.jitter.is_zero() {
            return tick;
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(uid.as_bytes()).update(&tick.as_micros().to_be_bytes());
        let hash = hasher.finalize();
        let number = hash.as_bytes().first_chunk().copied().map_or(0, u32::from_be_bytes);
        tick + self.jitter.mul_f64(f64::from(number) / (f64::from(u32::MAX) + 1.0))
    }
}

/// The first instant after `time` at which a clock in that zone shows a time of the pattern.
fn next_match(pattern: &Pattern, zone: &Zone, time: Timestamp) -> Option<Timestamp> {
    let zone = zone.zone();
    let mut from = jiff::Timestamp::from_second((time.as_micros() / 1_000_000) as i64 + 1).ok()?;
    let last = from.checked_add(jiff::SignedDuration::from_hours(SEARCHED_HOURS));
    let last = last.unwrap_or(jiff::Timestamp::MAX);
    // From one change of the offset to the next, wall-clock time runs evenly.
    while from <= last {
        let (offset, earlier) = (zone.to_offset(from), zone.to_offset(just_before(from)?));
        let (before, mut start) = (earlier.to_datetime(from), offset.to_datetime(from));
        if start > before && pattern.first(before, start).is_some() {
            return micros(from);
        }
        if !pattern.is_every_hour() {
            start = start.max(passed_before(zone, from).unwrap_or(start));
        }
        let change = zone.following(from).next().map(|change| change.timestamp());
        let end = change.unwrap_or(jiff::Timestamp::MAX);
        if let Some(found) = pattern.first(start, offset.to_datetime(end)) {
            return micros(offset.to_timestamp(found).ok()?);
        }
        from = change?;
    }
    None
}

/// The wall-clock time until which the clock had come before it was last put back, if
fn passed_before(zone: &jiff::tz::TimeZone, at: jiff::Timestamp) -> Option<DateTime> {
    let just_after = at.checked_add(jiff::SignedDuration::from_nanos(1)).ok()?;
    let change = zone.preceding(just_after).next()?.timestamp();
    let before = zone.to_offset(just_before(change)?);
    let put_back = before.seconds() > zone.to_offset(change).seconds();
    put_back.then(|| before.to_datetime(change))
}

fn just_before(instant: jiff::Timestamp) -> Option<jiff::Timestamp> {
    instant.checked_sub(jiff::SignedDuration::from_nanos(1)).ok()
}

fn micros(instant: jiff::Timestamp) -> Option<Timestamp> {
    u64::try_from(instant.as_microsecond()).ok().map(Timestamp::from_micros)
}

/// A leap day that is a certain weekday comes every 28 years, or after 40 where a century is no leap year.
const SEARCHED_HOURS: i64 = 45 * 366 * 24;
