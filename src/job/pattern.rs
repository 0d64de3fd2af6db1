//! Wall-clock times: the seconds, minutes, hours and days at which a schedule fires.

use jiff::civil::{Date, DateTime, Time};

/// A set of wall-clock times. Each bit stands for one value of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    /// Bits 0 to 59.
    pub(super) seconds: u64,
    /// Bits 0 to 59.
    pub(super) minutes: u64,
    /// Bits 0 to 23.
    pub(super) hours: u64,
    /// Bits 1 to 31.
    pub(super) days: u64,
    /// The last day of each month, too.
    pub(super) last_day: bool,
    /// Bits 1 to 12.
    pub(super) months: u64,
    /// Bits 0, Sunday, to 6.
    pub(super) weekdays: u64,
    /// A day matches by its number or by its weekday. Otherwise it must match by both.
    pub(super) either_day: bool,
}

/// The bits from `first` to `last`.
pub(super) const fn bits(first: u32, last: u32) -> u64 {
    (u64::MAX >> (63 - (last - first))) << first
}

pub(super) const ALL_HOURS: u64 = bits(0, 23);
pub(super) const ALL_DAYS: u64 = bits(1, 31);
pub(super) const ALL_MONTHS: u64 = bits(1, 12);
pub(super) const ALL_WEEKDAYS: u64 = bits(0, 6);

impl Pattern {
    /// Whether every hour is in it. Then the hour that a clock passes twice has its times twice.
    pub(super) const fn is_every_hour(&self) -> bool {
        self.hours == ALL_HOURS
    }

    /// Whether it has any time at all: no month has a day 32, and February none after the 29th.
    pub(super) fn is_possible(&self) -> bool {
        const LENGTHS: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let has_day = |length: u32| self.last_day || self.days & bits(1, length) != 0;
        let of_month = (1..).zip(LENGTHS);
        let mut months = of_month.filter(|(month, _)| self.months & (1 << month) != 0);
        if self.either_day {
            months.next().is_some()
        } else {
            months.any(|(_, length)| has_day(length))
        }
    }

    /// The first time that is not before `from` and before `end`.
    pub(super) fn first(&self, from: DateTime, end: DateTime) -> Option<DateTime> {
        let (mut date, mut time) = (from.date(), from.time());
        while date.to_datetime(Time::midnight()) < end {
            if self.months & (1 << date.month()) == 0 {
                date = date.last_of_month().tomorrow().ok()?;
                time = Time::midnight();
                continue;
            }
            if self.has_day(date)
                && let Some(time) = self.first_time(time)
            {
                return Some(date.to_datetime(time)).filter(|found| *found < end);
            }
            date = date.tomorrow().ok()?;
            time = Time::midnight();
        }
        None
    }

    fn has_day(&self, date: Date) -> bool {
        let is_last = self.last_day && date.day() == date.days_in_month();
        let by_number = is_last || self.days & (1 << date.day()) != 0;
        let by_weekday = self.weekdays & (1 << date.weekday().to_sunday_zero_offset()) != 0;
        if self.either_day { by_number || by_weekday } else { by_number && by_weekday }
    }

    /// The first time of a day that is not before `from`.
    fn first_time(&self, from: Time) -> Option<Time> {
        let (hour, minute, second) = (from.hour() as u32, from.minute() as u32, from.second());
        let same_hour = self.hours & (1 << hour) != 0;
        let later = if same_hour { self.first_in_hour(minute, second as u32) } else { None };
        let (hour, (minute, second)) = match later {
            Some(time) => (hour, time),
            None => (next_bit(self.hours, hour + 1)?, self.first_in_hour(0, 0)?),
        };
        Time::new(hour as i8, minute as i8, second as i8, 0).ok()
    }

    fn first_in_hour(&self, minute: u32, second: u32) -> Option<(u32, u32)> {
        if self.minutes & (1 << minute) != 0
            && let Some(second) = next_bit(self.seconds, second)
        {
            return Some((minute, second));
        }
        Some((next_bit(self.minutes, minute + 1)?, next_bit(self.seconds, 0)?))
    }
}

/// The lowest bit that is set from `from` on.
const fn next_bit(bits: u64, from: u32) -> Option<u32> {
    let rest = if from > 63 { 0 } else { bits & (u64::MAX << from) };
    if rest == 0 { None } else { Some(rest.trailing_zeros()) }
}
