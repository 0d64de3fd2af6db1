//! What callbacks and endpoints are told of: the facts of one commit, and the state that it led to.

use uuid::Uuid;

use super::name::Name;
use super::record::{Operation, State};
use crate::clock::Timestamp;
use crate::proto::longhaul::v1::callback::Event as Subscribed;
use crate::proto::longhaul::v1::operation_record::State as Published;

/// What happened to an operation in one commit: a set of [`Subscribed`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts(u32);

/// What happened, for those who are told of it.
#[derive(Clone, Debug, PartialEq)]
pub struct OperationEvent {
    /// The operation.
    pub name: Name,
    /// Its uid.
    pub uid: Uuid,
    /// Counts the events of the operation, from 1 on.
    pub sequence: u64,
    /// When it happened.
    pub time: Timestamp,
    /// What happened.
    pub facts: Facts,
    /// The state after it.
    pub state: Published,
    /// The fraction done, if known.
    pub fraction: Option<f64>,
    /// The line for people.
    pub status_detail: String,
    /// The trace context of the start.
    pub trace_parent: String,
}

impl Facts {
    /// What a commit did.
    pub fn of(before: Option<&Operation>, after: &Operation) -> Self {
        let mut facts = Self::default();
        if after.deletion.is_some() {
            return facts;
        }
        let was = before.map_or("PENDING", |before| before.state.name());
        let started = before.is_none_or(|before| before.start_time.is_none());
        if after.start_time.is_some() && started {
            facts.add(Subscribed::Started);
        }
        if was != after.state.name() {
            facts.add(Subscribed::StateChanged);
            match after.state {
                State::Suspended(_) => facts.add(Subscribed::Suspended),
                State::Succeeded(_) => facts.add(Subscribed::Succeeded),
                State::Failed(_) => facts.add(Subscribed::Failed),
                State::Cancelled(_) => facts.add(Subscribed::Cancelled),
                State::Pending(_) | State::Running(_) | State::Cancelling(..) => {}
            }
            if after.state.is_done() {
                facts.add(Subscribed::Done);
            }
        }
        if before.is_some_and(|before| progressed(before, after)) {
            facts.add(Subscribed::Progress);
        }
        facts
    }

    /// From the stored number.
    pub const fn from_number(number: u32) -> Self {
        Self(number)
    }

    /// The number to store.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// Whether nothing happened.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether that happened.
    pub const fn has(self, event: Subscribed) -> bool {
        self.0 & (1 << event as u32) != 0
    }

    /// Whether nothing but progress happened: later news make it worthless.
    pub const fn is_progress_only(self) -> bool {
        self.0 == 1 << Subscribed::Progress as u32
    }

    /// What to call it for a subscription to `wanted`; `None` if none of these happened. No list means the end.
    ///
    /// A subscription to every change of state is told what the change was.
    pub fn for_subscription(self, wanted: &[i32]) -> Option<Subscribed> {
        let wants = |event: &Subscribed| {
            wanted.contains(&(*event as i32))
                || wanted.is_empty() && *event == Subscribed::Done
                || wanted.contains(&(Subscribed::StateChanged as i32))
                    && !matches!(event, Subscribed::Progress | Subscribed::Done)
                    && self.has(Subscribed::StateChanged)
        };
        MOST_SPECIFIC_FIRST.into_iter().filter(|event| self.has(*event)).find(wants)
    }

    const fn add(&mut self, event: Subscribed) {
        self.0 |= 1 << event as u32;
    }
}

impl OperationEvent {
    /// The news of a commit; `None` if nothing happened that could be subscribed to.
    pub fn of(before: Option<&Operation>, after: &Operation) -> Option<Self> {
        let facts = Facts::of(before, after);
        (!facts.is_empty()).then(|| Self {
            name: after.name.clone(),
            uid: after.uid,
            sequence: before.map_or(0, |before| before.events) + 1,
            time: after.update_time,
            facts,
            state: after.state.published(),
            fraction: after.fraction(),
            status_detail: after.status_detail.clone(),
            trace_parent: after.spec.trace_parent.clone(),
        })
    }

    /// Whether the operation had ended.
    pub const fn is_done(&self) -> bool {
        matches!(self.state, Published::Succeeded | Published::Failed | Published::Cancelled)
    }
}

/// The name of an event in the `type` of a delivery, after `operation.`.
pub const fn event_name(event: Subscribed) -> &'static str {
    match event {
        Subscribed::Unspecified | Subscribed::StateChanged => "state_changed",
        Subscribed::Started => "started",
        Subscribed::Progress => "progress",
        Subscribed::Done => "done",
        Subscribed::Succeeded => "succeeded",
        Subscribed::Failed => "failed",
        Subscribed::Cancelled => "cancelled",
        Subscribed::Suspended => "suspended",
    }
}

fn progressed(before: &Operation, after: &Operation) -> bool {
    !after.state.is_done()
        && (before.progress != after.progress
            || before.status_detail != after.status_detail
            || before.metadata != after.metadata
            || before.partial_errors != after.partial_errors
            || before.related_resources != after.related_resources)
}

const MOST_SPECIFIC_FIRST: [Subscribed; 8] = [
    Subscribed::Succeeded,
    Subscribed::Failed,
    Subscribed::Cancelled,
    Subscribed::Done,
    Subscribed::Suspended,
    Subscribed::Started,
    Subscribed::StateChanged,
    Subscribed::Progress,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(events: &[Subscribed]) -> Facts {
        let mut facts = Facts::default();
        events.iter().for_each(|event| facts.add(*event));
        facts
    }

    fn told(happened: &[Subscribed], wanted: &[Subscribed]) -> Option<Subscribed> {
        let wanted: Vec<i32> = wanted.iter().map(|event| *event as i32).collect();
        facts(happened).for_subscription(&wanted)
    }

    #[test]
    fn a_subscription_is_told_the_most_specific_of_what_it_asked_for() {
        use Subscribed::{
            Cancelled, Done, Failed, Progress, Started, StateChanged, Succeeded, Suspended,
        };
        let success = [StateChanged, Succeeded, Done];
        for (happened, wanted, expected) in [
            (&success[..], &[][..], Some(Done)),
            (&success, &[Done], Some(Done)),
            (&success, &[Done, Succeeded], Some(Succeeded)),
            (&success, &[StateChanged], Some(Succeeded)),
            (&success, &[Failed, Cancelled, Suspended, Progress, Started], None),
            (&[StateChanged, Started], &[StateChanged], Some(Started)),
            (&[StateChanged, Started], &[], None),
            (&[StateChanged], &[StateChanged, Progress], Some(StateChanged)),
            (&[StateChanged, Progress], &[Progress], Some(Progress)),
            (&[Progress], &[StateChanged], None),
        ] {
            assert_eq!(told(happened, wanted), expected, "{happened:?} {wanted:?}");
        }
    }
}
