//! Who may do what, and on what. See "Access" in `ARCHITECTURE.md`.
//!
//! A face asks before it validates or looks up anything; which question a request asks is in `wire/access.rs`. The verbs of
//! the engine ask nothing: a program that calls them in its own process is trusted.

use std::fmt;
use std::sync::Arc;

use super::error::{Error, Reason, Result};
use crate::job::name::{ExecutionName, JobName};
use crate::operation::name::{Name, TypeSetName};

/// Who makes a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The caller's identity; empty while there is no authentication.
    pub id: String,
}

/// What a caller wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are the verbs of the API")]
pub enum Verb {
    Create,
    Run,
    Backfill,
    Rerun,
    Start,
    Get,
    List,
    Update,
    Drain,
    Wait,
    Watch,
    Cancel,
    Delete,
    Pause,
    Resume,
    Lease,
    Renew,
    Report,
    Complete,
    Fail,
    Release,
    Suspend,
    Export,
}

impl Verb {
    /// The verb as messages name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Run => "run",
            Self::Backfill => "backfill",
            Self::Rerun => "rerun",
            Self::Start => "start",
            Self::Get => "get",
            Self::List => "list",
            Self::Update => "update",
            Self::Drain => "drain",
            Self::Wait => "wait",
            Self::Watch => "watch",
            Self::Cancel => "cancel",
            Self::Delete => "delete",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Lease => "lease",
            Self::Renew => "renew",
            Self::Report => "report",
            Self::Complete => "complete",
            Self::Fail => "fail",
            Self::Release => "release",
            Self::Suspend => "suspend",
            Self::Export => "export",
        }
    }
}

/// What a caller wants to do it to, in the caller's own words: nothing was parsed yet, and nothing need exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource<'a> {
    /// All operations directly below a parent, or below each parent that a pattern with `-` matches.
    Parent(&'a str),
    /// One operation, by its full name.
    Operation(&'a str),
    /// A queue.
    Queue(&'a str),
    /// All jobs of a parent, or of each parent that a pattern with `-` matches.
    Jobs(&'a str),
    /// One job, by its full name.
    Job(&'a str),
    /// One execution, by its full name.
    Execution(&'a str),
    /// All queues.
    Queues,
    /// All type sets of a parent, or of each parent that a pattern with `-` matches.
    TypeSets(&'a str),
    /// One type set, by its full name.
    TypeSet(&'a str),
    /// Everything that is stored.
    Store,
}

impl<'a> Resource<'a> {
    /// The parent that rules go by. `None` for queues and for the store, and for a name that is none: no rule about parents allows it.
    ///
    /// A pattern is its own text. Every parent that it matches begins with what stands before its first `-`, so a rule for a
    /// prefix that the text of the pattern begins with covers them all.
    pub fn parent(&self) -> Option<&'a str> {
        match *self {
            Self::Parent(parent) | Self::TypeSets(parent) | Self::Jobs(parent) => Some(parent),
            Self::Operation(name) => name.get(..Name::parse(name).ok()?.parent().len()),
            Self::TypeSet(name) => name.get(..TypeSetName::parse(name).ok()?.parent.as_str().len()),
            Self::Job(name) => name.get(..JobName::parse(name).ok()?.parent().len()),
            Self::Execution(name) => {
                name.get(..ExecutionName::parse(name).ok()?.job.parent().len())
            }
            Self::Queue(_) | Self::Queues | Self::Store => None,
        }
    }
}

impl fmt::Display for Resource<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parent(parent) => write!(formatter, "parent {parent:?}"),
            Self::Operation(name) => write!(formatter, "operation {name:?}"),
            Self::Queue(queue) => write!(formatter, "queue {queue:?}"),
            Self::Jobs(parent) => write!(formatter, "jobs of parent {parent:?}"),
            Self::Job(name) => write!(formatter, "job {name:?}"),
            Self::Execution(name) => write!(formatter, "execution {name:?}"),
            Self::Queues => formatter.write_str("all queues"),
            Self::TypeSets(parent) => write!(formatter, "type sets of parent {parent:?}"),
            Self::TypeSet(name) => write!(formatter, "type set {name:?}"),
            Self::Store => formatter.write_str("the store"),
        }
    }
}

/// Rules about callers.
pub trait Rules: fmt::Debug + Send + Sync + 'static {
    /// Whether the caller may do that.
    fn allow(&self, caller: &Caller, verb: Verb, on: Resource<'_>) -> bool;
}

/// What callers may do.
#[derive(Clone, Debug, Default)]
pub enum Policy {
    /// Everything, for every caller that reaches the server: it listens on loopback unless its operator says otherwise.
    #[default]
    AllowAll,
    /// What these rules allow.
    Rules(Arc<dyn Rules>),
}

/// The policy as one caller meets it.
#[derive(Clone, Copy, Debug)]
pub struct Guard<'a> {
    policy: &'a Policy,
    caller: &'a Caller,
}

impl<'a> Guard<'a> {
    pub(super) const fn new(policy: &'a Policy, caller: &'a Caller) -> Self {
        Self { policy, caller }
    }

    /// Whether everything is allowed, so that there is no need to ask.
    pub const fn allows_all(&self) -> bool {
        matches!(self.policy, Policy::AllowAll)
    }

    /// Asks.
    ///
    /// # Errors
    /// PERMISSION_DENIED, worded alike whether or not the thing exists (AIP-211).
    pub fn ask(&self, verb: Verb, on: Resource<'_>) -> Result<()> {
        match self.policy {
            Policy::AllowAll => Ok(()),
            Policy::Rules(rules) if rules.allow(self.caller, verb, on) => Ok(()),
            Policy::Rules(_) => {
                tracing::debug!(caller = self.caller.id, verb = verb.as_str(), %on, "denied");
                Err(denied(verb, on))
            }
        }
    }
}

fn denied(verb: Verb, on: Resource<'_>) -> Box<Error> {
    let verb = verb.as_str();
    let message = format!("{verb} is not permitted on {on} (or it might not exist)");
    Error::new(Reason::PermissionDenied, message).with("verb", verb).with("resource", on)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_about_parents_sees_the_parent_that_a_name_has_and_none_in_a_text_that_is_no_name() {
        let parent = |name| Resource::Operation(name).parent();
        assert_eq!(parent("projects/p/operations/o"), Some("projects/p"));
        assert_eq!(parent("operations/o"), Some(""));
        for text in ["", "o", "///", "projects/p/operations/", "projects/-/operations/o"] {
            assert_eq!(parent(text), None, "{text}");
        }
        assert_eq!(Resource::Parent("projects/-").parent(), Some("projects/-"));
        assert_eq!(Resource::Queue("q").parent(), None);
        assert_eq!(Resource::TypeSets("projects/p").parent(), Some("projects/p"));
        assert_eq!(Resource::TypeSet("projects/p/typeSets/t").parent(), Some("projects/p"));
        assert_eq!(Resource::TypeSet("typeSets/t").parent(), Some(""));
        assert_eq!(Resource::TypeSet("projects/p/operations/o").parent(), None);
    }
}
