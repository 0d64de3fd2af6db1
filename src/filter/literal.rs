//! The value on the right of a comparison, read in every way that its left side may want it.

use std::cmp::Ordering;

use super::syntax::{Comparator, Word};

/// A value, and what it is as a number, a time and so on.
#[derive(Clone, Debug)]
pub(super) struct Literal {
    /// Without wildcards: each stands for itself.
    pub(super) plain: String,
    /// Anything at all.
    pub(super) star: bool,
    /// What stands between the wildcards.
    pieces: Vec<String>,
    number: Option<Number>,
    flag: Option<bool>,
    time: Option<(i64, i32)>,
    span: Option<(i64, i32)>,
}

/// A number, whole ones exactly.
#[derive(Clone, Copy, Debug)]
pub(super) enum Number {
    Whole(i128),
    Real(f64),
}

/// A value that has no parts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scalar<'a> {
    Text(&'a str),
    Enum(&'a str),
    Flag(bool),
    Number(Number),
    Time(i64, i32),
    Span(i64, i32),
    Null,
}

/// What a value is compared as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Flag,
    Whole,
    Real,
    Time,
    Span,
}

impl Literal {
    pub(super) fn of(word: &Word) -> Self {
        let plain = word.plain();
        let pieces = word.pieces();
        let whole = plain.parse::<i128>().ok().filter(|_| is_decimal(&plain)).map(Number::Whole);
        let real = plain.parse::<f64>().ok().filter(|_| is_decimal(&plain)).map(Number::Real);
        Self {
            star: word.is_star(),
            number: whole.or(real),
            flag: match &*plain {
                "true" => Some(true),
                "false" => Some(false),
                _ => None,
            },
            time: time(&plain),
            span: span(&plain),
            plain,
            pieces,
        }
    }

    /// Whether it can be compared as that.
    pub(super) fn check(&self, kind: Kind, comparator: Comparator) -> Result<(), String> {
        let (fits, wanted) = match kind {
            Kind::Text => (true, ""),
            Kind::Flag => (self.flag.is_some(), "true or false"),
            Kind::Whole | Kind::Real => (self.number.is_some(), "a number"),
            Kind::Time => (self.time.is_some(), "a time such as 2030-01-31T12:00:00Z"),
            Kind::Span => (self.span.is_some(), "a duration in seconds such as 20s or 1.5s"),
        };
        if !fits {
            return Err(format!("{:?} is not {wanted}", self.plain));
        }
        if kind == Kind::Flag { equality_only(comparator, "true and false") } else { Ok(()) }
    }

    /// The instant that it names, in seconds and nanoseconds.
    pub(super) const fn time(&self) -> Option<(i64, i32)> {
        self.time
    }

    /// The truth value that it names.
    pub(super) const fn flag(&self) -> Option<bool> {
        self.flag
    }

    /// Whether it has a wildcard.
    pub(super) fn is_pattern(&self) -> bool {
        self.pieces.len() > 1
    }

    /// Whether a text is this one, its wildcards standing for anything.
    pub(super) fn fits(&self, text: &str) -> bool {
        let [first, middle @ .., last] = &self.pieces[..] else {
            return text == self.plain;
        };
        let Some(mut rest) = text.strip_prefix(&**first) else { return false };
        for piece in middle {
            let Some((_, after)) = rest.split_once(&**piece) else { return false };
            rest = after;
        }
        rest.ends_with(&**last)
    }

    /// Whether `left comparator self` holds; never where the two are of different kinds.
    pub(super) fn holds(&self, left: Scalar<'_>, comparator: Comparator) -> bool {
        let ordering = match left {
            Scalar::Text(text) => return self.holds_for_text(text, comparator),
            Scalar::Enum(name) => return equal(comparator, name == self.plain),
            Scalar::Null => return equal(comparator, self.plain == "null"),
            Scalar::Flag(flag) => {
                return self.flag.is_some_and(|own| equal(comparator, own == flag));
            }
            Scalar::Number(number) => self.number.and_then(|own| compare(number, own)),
            Scalar::Time(seconds, nanos) => self.time.map(|own| (seconds, nanos).cmp(&own)),
            Scalar::Span(seconds, nanos) => self.span.map(|own| (seconds, nanos).cmp(&own)),
        };
        ordering.is_some_and(|ordering| by(comparator, ordering))
    }

    fn holds_for_text(&self, text: &str, comparator: Comparator) -> bool {
        match comparator {
            Comparator::Equals | Comparator::Has | Comparator::Differs => {
                equal(comparator, self.fits(text))
            }
            _ => by(comparator, text.cmp(&*self.plain)),
        }
    }
}

/// Refuses an order of what has none.
pub(super) fn equality_only(comparator: Comparator, what: &str) -> Result<(), String> {
    match comparator {
        Comparator::Equals | Comparator::Differs | Comparator::Has => Ok(()),
        _ => Err(format!("{what} have no order; compare them by = or !=")),
    }
}

fn equal(comparator: Comparator, same: bool) -> bool {
    match comparator {
        Comparator::Equals | Comparator::Has => same,
        Comparator::Differs => !same,
        _ => false,
    }
}

fn by(comparator: Comparator, ordering: Ordering) -> bool {
    match comparator {
        Comparator::AtMost => ordering.is_le(),
        Comparator::Less => ordering.is_lt(),
        Comparator::AtLeast => ordering.is_ge(),
        Comparator::More => ordering.is_gt(),
        Comparator::Differs => ordering.is_ne(),
        Comparator::Equals | Comparator::Has => ordering.is_eq(),
    }
}

fn compare(one: Number, other: Number) -> Option<Ordering> {
    match (one, other) {
        (Number::Whole(one), Number::Whole(other)) => Some(one.cmp(&other)),
        (one, other) => one.real().partial_cmp(&other.real()),
    }
}

impl Number {
    const fn real(self) -> f64 {
        match self {
            Self::Whole(whole) => whole as f64,
            Self::Real(real) => real,
        }
    }
}

/// Rust also reads `inf`, `nan` and the like as numbers.
fn is_decimal(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte))
}

/// RFC 3339, the offset included.
fn time(text: &str) -> Option<(i64, i32)> {
    let (date, clock) = text.split_once(['T', 't'])?;
    let digits =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || b"-:.+Zz".contains(&byte));
    let zoned = clock.ends_with(['Z', 'z']) || clock.contains(['+', '-']);
    if date.len() != "2030-01-31".len() || !zoned || !digits(date) || !digits(clock) {
        return None;
    }
    let time: prost_types::Timestamp = text.parse().ok()?;
    Some((time.seconds, time.nanos))
}

/// Seconds, as in `1.5s`.
fn span(text: &str) -> Option<(i64, i32)> {
    let number = text.strip_suffix('s')?;
    if !number.bytes().all(|byte| byte.is_ascii_digit() || b"-.".contains(&byte)) {
        return None;
    }
    let span: prost_types::Duration = text.parse().ok()?;
    Some((span.seconds, span.nanos))
}
