//! Cron expressions: five fields, or six with seconds first. Errors name the byte at which the text is wrong.

use super::pattern::{ALL_DAYS, ALL_HOURS, ALL_MONTHS, ALL_WEEKDAYS, Pattern, bits};

/// Why a cron expression is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at byte {position}: {message}")]
pub struct CronError {
    /// Where in the text, in bytes.
    pub position: usize,
    /// Why, and what to write.
    pub message: String,
}

/// One field of an expression.
struct CronField {
    name: &'static str,
    first: u32,
    last: u32,
    /// Names of values, from `first` on.
    names: &'static [&'static str],
}

const SECOND: CronField = CronField { name: "second", first: 0, last: 59, names: &[] };
const MINUTE: CronField = CronField { name: "minute", first: 0, last: 59, names: &[] };
const HOUR: CronField = CronField { name: "hour", first: 0, last: 23, names: &[] };
const DAY: CronField = CronField { name: "day of the month", first: 1, last: 31, names: &[] };
const MONTH: CronField = CronField {
    name: "month",
    first: 1,
    last: 12,
    names: &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
};
/// 7 is Sunday, as 0 is.
const WEEKDAY: CronField = CronField {
    name: "day of the week",
    first: 0,
    last: 7,
    names: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
};

/// Names for whole expressions.
const NICKNAMES: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// Reads an expression.
///
/// # Errors
/// [`CronError`] where it is no expression, and where it names no day that exists.
pub(super) fn parse(text: &str) -> Result<Pattern, CronError> {
    let trimmed = text.trim();
    if trimmed.starts_with('@') {
        let known = NICKNAMES.iter().find(|(name, _)| trimmed.eq_ignore_ascii_case(name));
        let position = text.len() - text.trim_start().len();
        let (_, meant) = known.ok_or_else(|| {
            let names: Vec<&str> = NICKNAMES.iter().map(|(name, _)| *name).collect();
            at(position, format!("{trimmed:?} is unknown; there are {}", names.join(", ")))
        })?;
        return parse(meant);
    }
    let fields = split(text);
    let (seconds, rest) = match &fields[..] {
        rest if rest.len() == 5 => (1, rest),
        [(start, second), rest @ ..] if rest.len() == 5 => (SECOND.read(*start, second)?, rest),
        fields => {
            let message = format!(
                "it has {} fields; write minute, hour, day of the month, month and day of the week, with seconds before them if wanted",
                fields.len()
            );
            return Err(at(text.len(), message));
        }
    };
    let field = |number: usize, field: &CronField| field.read(rest[number].0, rest[number].1);
    let (day_start, day) = rest[2];
    let (last_day, days) = read_days(day_start, day)?;
    let weekdays = field(4, &WEEKDAY)?;
    // As in the cron of Linux: `1-31` restricts a field, `*/2` does not.
    let is_restricted = |field: &str| !field.starts_with(['*', '?']);
    let pattern = Pattern {
        seconds,
        minutes: field(0, &MINUTE)?,
        hours: field(1, &HOUR)?,
        days,
        last_day,
        months: field(3, &MONTH)?,
        weekdays: (weekdays | (weekdays >> 7)) & ALL_WEEKDAYS,
        either_day: is_restricted(day) && is_restricted(rest[4].1),
    };
    if !pattern.is_possible() {
        return Err(at(day_start, format!("no month of {:?} has such a day: {day:?}", rest[3].1)));
    }
    Ok(pattern)
}

/// The days of a month; `L` is the last one.
fn read_days(start: usize, text: &str) -> Result<(bool, u64), CronError> {
    let (mut last_day, mut days, mut position) = (false, 0, start);
    for item in text.split(',') {
        if item.eq_ignore_ascii_case("L") {
            last_day = true;
        } else {
            days |= DAY.read_item(position, item)?;
        }
        position += item.len() + 1;
    }
    Ok((last_day && days != ALL_DAYS, days))
}

impl CronField {
    fn read(&self, start: usize, text: &str) -> Result<u64, CronError> {
        let (mut set, mut position) = (0, start);
        for item in text.split(',') {
            set |= self.read_item(position, item)?;
            position += item.len() + 1;
        }
        Ok(set)
    }

    /// `*`, a value or a range; `*` and a range may have a step.
    fn read_item(&self, start: usize, item: &str) -> Result<u64, CronError> {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some((start + range.len() + 1, step))),
            None => (item, None),
        };
        let (first, last) = match range.split_once('-') {
            _ if matches!(range, "*" | "?") => (self.first, self.all_end()),
            Some((first, last)) => {
                let first = self.value(start, first)?;
                let last_start = start + range.len() - last.len();
                (first, self.range_end(first, last_start, last)?)
            }
            None if step.is_some() => {
                let message =
                    format!("{item:?} steps from one value; write {range}-{}/STEP", self.last);
                return Err(at(start, message));
            }
            None => {
                let value = self.value(start, range)?;
                (value, value)
            }
        };
        let set = bits(first, last);
        let Some((position, text)) = step else { return Ok(set) };
        let step = text.parse::<u32>().ok().filter(|step| (1..=self.last).contains(step));
        let step = step.ok_or_else(|| {
            at(position, format!("{text:?} is no step; write a number from 1 to {}", self.last))
        })?;
        Ok((first..=last).step_by(step as usize).map(|value| 1 << value).sum())
    }

    /// The end of `*`.
    const fn all_end(&self) -> u32 {
        if self.last == 7 { 6 } else { self.last }
    }

    /// A week may end with Sunday.
    fn range_end(&self, first: u32, position: usize, text: &str) -> Result<u32, CronError> {
        let last = match self.value(position, text)? {
            0 if self.last == 7 && first > 0 => 7,
            last => last,
        };
        if last < first {
            return Err(at(position, format!("the range ends with {text:?}, before it begins")));
        }
        Ok(last)
    }

    fn value(&self, position: usize, text: &str) -> Result<u32, CronError> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = if is_number { text.parse().ok() } else { None };
        let value = named.map(|place| place as u32 + self.first).or(number);
        value.filter(|value| (self.first..=self.last).contains(value)).ok_or_else(|| {
            let Self { name, first, last, .. } = self;
            at(position, format!("{text:?} is no {name}; write {first} to {last}"))
        })
    }
}

/// The words of a text with their positions.
fn split(text: &str) -> Vec<(usize, &str)> {
    let start = |word: &str| word.as_ptr() as usize - text.as_ptr() as usize;
    text.split_ascii_whitespace().map(|word| (start(word), word)).collect()
}

fn at(position: usize, message: String) -> CronError {
    CronError { position, message }
}

/// A pattern in which each part that is not given is unrestricted.
pub(super) const EVERY: Pattern = Pattern {
    seconds: 1,
    minutes: 1,
    hours: ALL_HOURS,
    days: ALL_DAYS,
    last_day: false,
    months: ALL_MONTHS,
    weekdays: ALL_WEEKDAYS,
    either_day: false,
};
