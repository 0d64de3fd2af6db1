//! Which index holds everything that may match a filter.
//!
//! Only what every match must have counts: conditions that the filter as a whole demands. The states that are possible are
//! worked out for the whole tree; a set that is too large costs time, one that is too small would lose operations.

use std::ops::RangeInclusive;

use super::checked::Filter;
use super::condition::{Condition, Of, STATES, Test, is_done};
use super::order::Order;
use super::seen::Payload;
use super::syntax::Comparator;
use crate::clock::Timestamp;
use crate::proto::longhaul::v1::operation_record::State;

/// What to read, and what to ask of it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What to read.
    pub access: Access,
    /// In which order to answer: the list and its failures are read from either end, anything else is gathered and sorted.
    pub order: Order,
    /// What must hold of each operation read.
    pub residual: Filter,
}

/// What holds everything that may match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing can match.
    Nothing,
    /// One operation, by its name.
    Name(String),
    /// The operations of the parent that were started within these times.
    List(RangeInclusive<Timestamp>),
    /// Those among them that failed.
    Failed(RangeInclusive<Timestamp>),
    /// Those among them that have not ended.
    Unfinished(RangeInclusive<Timestamp>),
    /// What workers hold, of all parents: it has a lease that expires.
    Leased,
    /// What waits in a queue, of all parents: for a worker, for its time, or for its next attempt.
    Waiting(String),
}

impl Access {
    /// Its name, for people who wonder what a list costs.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Nothing => "none",
            Self::Name(_) => "name",
            Self::List(_) => "list",
            Self::Failed(_) => "failed",
            Self::Unfinished(_) => "unfinished",
            Self::Leased => "due/lease",
            Self::Waiting(_) => "ready",
        }
    }
}

/// Chooses what to read for a filter.
pub fn plan(filter: &Filter, order: Order) -> Plan {
    planned(filter, order, access(&filter.condition))
}

/// Reads an index in the order of the list, whatever else would do: for a filter whose own index holds too much.
pub fn plan_in_order(filter: &Filter, order: Order) -> Plan {
    let condition = &filter.condition;
    planned(filter, order, in_order(states(condition).possible, times(&demanded(condition))))
}

fn planned(filter: &Filter, order: Order, access: Access) -> Plan {
    let condition = match &access {
        Access::List(_) | Access::Failed(_) | Access::Unfinished(_) => {
            without_times(&filter.condition)
        }
        _ => filter.condition.clone(),
    };
    Plan { access, order, residual: filter.with(condition) }
}

fn access(condition: &Condition) -> Access {
    let possible = states(condition).possible;
    let demanded = demanded(condition);
    let text = |of: &Of| {
        demanded.iter().find_map(|test| {
            let equal = matches!(test.comparator, Comparator::Equals | Comparator::Has);
            let literal = &test.literal;
            (test.of == *of && equal && !literal.is_pattern()).then(|| literal.plain.clone())
        })
    };
    let times = times(&demanded);
    if possible == 0 || times.is_empty() {
        return Access::Nothing;
    }
    if let Some(name) = text(&Of::Name) {
        return Access::Name(name);
    }
    if within(possible, &[State::Running, State::Cancelling]) {
        return Access::Leased;
    }
    match text(&Of::Queue) {
        Some(queue) if within(possible, &[State::Pending]) => Access::Waiting(queue),
        _ => in_order(possible, times),
    }
}

/// The smallest index in the order of the list that holds these states.
fn in_order(possible: u8, times: RangeInclusive<Timestamp>) -> Access {
    if within(possible, &[State::Failed]) {
        Access::Failed(times)
    } else if within(
        possible,
        &[State::Pending, State::Running, State::Cancelling, State::Suspended],
    ) {
        Access::Unfinished(times)
    } else {
        Access::List(times)
    }
}

fn within(possible: u8, states: &[State]) -> bool {
    possible & !set(states) == 0
}

/// The times of creation that pass all these tests.
fn times(demanded: &[&Test]) -> RangeInclusive<Timestamp> {
    demanded.iter().fold(ALWAYS, |times, test| narrowed(times, test))
}

/// The tests that every match passes.
fn demanded(condition: &Condition) -> Vec<&Test> {
    match condition {
        Condition::Test(test) => vec![test],
        Condition::All(parts) => parts.iter().flat_map(demanded).collect(),
        Condition::Any(_) | Condition::Not(_) => Vec::new(),
    }
}

/// Without the tests that the range of times in a list stands for.
fn without_times(condition: &Condition) -> Condition {
    match condition {
        Condition::Test(test) if is_range(test) => Condition::All(Vec::new()),
        Condition::All(parts) => Condition::All(parts.iter().map(without_times).collect()),
        other => other.clone(),
    }
}

fn is_range(test: &Test) -> bool {
    test.of == Of::CreateTime
        && test.comparator != Comparator::Differs
        && test.literal.time().is_some()
}

/// The times within a range that pass a test too. Operations are started at whole microseconds.
fn narrowed(times: RangeInclusive<Timestamp>, test: &Test) -> RangeInclusive<Timestamp> {
    let Some((seconds, nanos)) = test.literal.time().filter(|_| is_range(test)) else {
        return times;
    };
    let (first, last) = (micros(*times.start()), micros(*times.end()));
    let whole = i128::from(seconds) * 1_000_000 + i128::from(nanos / 1_000);
    let above = whole + i128::from(nanos % 1_000 != 0);
    let (from, until) = match test.comparator {
        Comparator::More => (whole + 1, last),
        Comparator::AtLeast => (above, last),
        Comparator::Less => (first, above - 1),
        Comparator::AtMost => (first, whole),
        Comparator::Equals | Comparator::Has | Comparator::Differs => (above, whole),
    };
    let (from, until) = (from.max(first), until.min(last));
    if from > until { NEVER } else { instant(from)..=instant(until) }
}

fn micros(time: Timestamp) -> i128 {
    time.as_micros().into()
}

fn instant(micros: i128) -> Timestamp {
    Timestamp::from_micros(u64::try_from(micros).unwrap_or_default())
}

/// Which states a match may be in.
#[derive(Clone, Copy)]
struct States {
    possible: u8,
    /// Whether all operations in those states match.
    exact: bool,
}

fn states(condition: &Condition) -> States {
    let join = |parts: &[Condition], start: u8, join: fn(u8, u8) -> u8| {
        let start = States { possible: start, exact: true };
        parts.iter().map(states).fold(start, |joined, part| States {
            possible: join(joined.possible, part.possible),
            exact: joined.exact && part.exact,
        })
    };
    match condition {
        Condition::All(parts) => join(parts, ALL, |one, other| one & other),
        Condition::Any(parts) => join(parts, 0, |one, other| one | other),
        Condition::Not(part) => match states(part) {
            States { possible, exact: true } => States { possible: ALL & !possible, exact: true },
            States { exact: false, .. } => States { possible: ALL, exact: false },
        },
        Condition::Test(test) => states_of(test),
    }
}

fn states_of(test: &Test) -> States {
    let chosen = |chooses: &dyn Fn(State) -> bool| {
        let states = STATES.into_iter().filter(|state| chooses(*state));
        set(&states.collect::<Vec<_>>())
    };
    let differs = test.comparator == Comparator::Differs;
    let (possible, exact) = match &test.of {
        Of::State if test.literal.star => (ALL, true),
        Of::State => {
            let named = chosen(&|state| state.as_str_name() == test.literal.plain);
            (if differs { ALL & !named } else { named }, true)
        }
        Of::Done => {
            // `done:*` asks for true, too.
            let wanted = test.literal.flag().unwrap_or(true) != differs;
            (chosen(&|state| is_done(state) == wanted), true)
        }
        // What is not there passes no test.
        Of::Error(_) => (set(&[State::Failed, State::Cancelled]), false),
        Of::Payload(Payload::Response, _) => (set(&[State::Succeeded]), false),
        _ => (ALL, false),
    };
    States { possible, exact }
}

fn set(states: &[State]) -> u8 {
    states.iter().fold(0, |set, state| set | 1 << (*state as u8 - 1))
}

/// Every state.
const ALL: u8 = 0b111_1111;
const ALWAYS: RangeInclusive<Timestamp> = Timestamp::EPOCH..=Timestamp::from_micros(u64::MAX);
const NEVER: RangeInclusive<Timestamp> = Timestamp::from_micros(1)..=Timestamp::EPOCH;
