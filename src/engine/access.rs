//! Who may do what, and on what. See "Access" in `ARCHITECTURE.md`.
//!
//! A face asks before it validates or looks up anything; which question a request asks is in `wire/access.rs`. The verbs of
//! the engine ask nothing: a program that calls them in its own process is trusted.

use std::fmt;
use std::sync::Arc;

use super::error::{Error, Reason, Result};
use crate::clock::Timestamp;
use crate::job::name::{ExecutionName, JobName};
use crate::operation::name::{EndpointName, Name, TypeSetName};
use crate::record::tokens::{RoleGrant, is_below};
use crate::webhook::name::{DeliveryName, DeliveryOwner};

/// Who makes a call. Clones are cheap.
#[derive(Clone, Default)]
pub struct Caller(CallerStanding);

#[derive(Clone, Default)]
enum CallerStanding {
    /// Nothing asked for an identity.
    #[default]
    Unasked,
    /// It sent no credentials.
    Missing,
    /// It sent credentials that are not accepted.
    Refused,
    /// Whether its credentials are accepted could not be found out.
    Undecided(Arc<Error>),
    Known(Arc<KnownCaller>),
}

/// A caller whose credentials were accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownCaller {
    /// The identity, such as `token:ID`.
    pub id: String,
    /// What it may do.
    pub permission: Permission,
    /// When its credentials end.
    pub expire_time: Timestamp,
}

/// What a caller may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Permission {
    /// What its roles allow.
    Roles(Vec<RoleGrant>),
    /// These verbs on one operation.
    Link {
        /// The operation.
        name: Name,
        /// The verbs.
        verbs: Vec<Verb>,
    },
}

impl Caller {
    /// A caller that nothing asked for an identity.
    pub const UNASKED: Self = Self(CallerStanding::Unasked);
    /// A caller that sent no credentials.
    pub const MISSING: Self = Self(CallerStanding::Missing);
    /// A caller that sent credentials which are not accepted.
    pub const REFUSED: Self = Self(CallerStanding::Refused);

    /// The error of callers whose credentials are not accepted.
    pub fn refusal() -> Box<Error> {
        unauthenticated(BAD_CREDENTIALS)
    }

    /// A caller whose credentials could not be checked; its calls fail with that error.
    pub fn undecided(error: Error) -> Self {
        Self(CallerStanding::Undecided(Arc::new(error)))
    }

    /// A caller whose credentials were accepted.
    pub fn known(caller: KnownCaller) -> Self {
        Self(CallerStanding::Known(Arc::new(caller)))
    }

    /// The identity; empty without one.
    pub fn id(&self) -> &str {
        self.identity().map_or("", |known| &known.id)
    }

    /// What is known of the caller.
    pub fn identity(&self) -> Option<&KnownCaller> {
        match &self.0 {
            CallerStanding::Known(known) => Some(known),
            _ => None,
        }
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Caller").field(&self.id()).finish()
    }
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
    Rotate,
    Test,
    Replay,
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
    Share,
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
            Self::Rotate => "rotate",
            Self::Test => "test",
            Self::Replay => "replay",
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
            Self::Share => "share",
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
    /// All tokens of the API.
    Tokens,
    /// One token, by its full name.
    Token(&'a str),
    /// All webhook endpoints of a parent, or of each parent that a pattern with `-` matches.
    WebhookEndpoints(&'a str),
    /// One webhook endpoint, by its full name.
    WebhookEndpoint(&'a str),
    /// All deliveries to a webhook endpoint, or to the callbacks of an operation, by its full name.
    WebhookDeliveries(&'a str),
    /// One delivery, by its full name.
    WebhookDelivery(&'a str),
    /// Everything that is stored.
    Store,
}

impl<'a> Resource<'a> {
    /// The parent that rules go by. `None` for what has no parent, such as a queue, and for a name that is none: no rule about parents allows it.
    ///
    /// A pattern is its own text. Every parent that it matches begins with what stands before its first `-`, so a rule for a
    /// prefix that the text of the pattern begins with covers them all.
    pub fn parent(&self) -> Option<&'a str> {
        match *self {
            Self::Parent(parent)
            | Self::TypeSets(parent)
            | Self::WebhookEndpoints(parent)
            | Self::Jobs(parent) => Some(parent),
            Self::Operation(name) => Name::parent_in(name),
            Self::TypeSet(name) => name.get(..TypeSetName::parse(name).ok()?.parent.as_str().len()),
            Self::WebhookEndpoint(name) => {
                name.get(..EndpointName::parse(name).ok()?.parent.as_str().len())
            }
            Self::WebhookDeliveries(owner) => {
                owner.get(..DeliveryOwner::parse(owner).ok()?.parent().len())
            }
            Self::WebhookDelivery(name) => {
                name.get(..DeliveryName::parse(name).ok()?.owner.parent().len())
            }
            Self::Job(name) => name.get(..JobName::parse(name).ok()?.parent().len()),
            Self::Execution(name) => {
                name.get(..ExecutionName::parse(name).ok()?.job.parent().len())
            }
            Self::Queue(_) | Self::Queues | Self::Tokens | Self::Token(_) | Self::Store => None,
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
            Self::Tokens => formatter.write_str("tokens"),
            Self::Token(name) => write!(formatter, "token {name:?}"),
            Self::WebhookEndpoints(parent) => {
                write!(formatter, "webhook endpoints of parent {parent:?}")
            }
            Self::WebhookEndpoint(name) => write!(formatter, "webhook endpoint {name:?}"),
            Self::WebhookDeliveries(owner) => write!(formatter, "webhook deliveries of {owner:?}"),
            Self::WebhookDelivery(name) => write!(formatter, "webhook delivery {name:?}"),
            Self::Store => formatter.write_str("the store"),
        }
    }
}

/// From which parents a worker gets the operations of a queue. Clones are cheap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LeaseScope(Option<Arc<[String]>>);

impl LeaseScope {
    /// From those below one of these; the root is above all.
    pub fn below<'a>(parents: impl IntoIterator<Item = &'a str>) -> Self {
        let mut parents: Vec<String> = parents.into_iter().map(str::to_owned).collect();
        if parents.iter().any(String::is_empty) {
            return Self(None);
        }
        parents.sort_unstable();
        parents.dedup();
        Self(Some(parents.into()))
    }

    /// Whether operations of that parent are among them.
    pub fn covers(&self, parent: &str) -> bool {
        let Some(parents) = &self.0 else { return true };
        parents.iter().any(|own| is_below(own, parent))
    }
}

/// Rules about callers.
pub trait Rules: fmt::Debug + Send + Sync + 'static {
    /// Whether the caller may do that.
    fn allow(&self, caller: &Caller, verb: Verb, on: Resource<'_>) -> bool;

    /// From which parents the caller gets operations if it may lease from that queue.
    fn lease_scope(&self, _caller: &Caller, _queue: &str) -> LeaseScope {
        LeaseScope::default()
    }

    /// Whether that is noted in the audit log if it is allowed.
    fn is_audited(&self, _verb: Verb, _on: Resource<'_>) -> bool {
        false
    }
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

    /// From which parents the caller gets operations of that queue.
    pub fn lease_scope(&self, queue: &str) -> LeaseScope {
        match self.policy {
            Policy::AllowAll => LeaseScope::default(),
            Policy::Rules(rules) => rules.lease_scope(self.caller, queue),
        }
    }

    /// Asks.
    ///
    /// # Errors
    /// PERMISSION_DENIED, worded alike whether or not the thing exists (AIP-211); UNAUTHENTICATED for a caller without accepted
    /// credentials.
    pub fn ask(&self, verb: Verb, on: Resource<'_>) -> Result<()> {
        let Policy::Rules(rules) = self.policy else { return Ok(()) };
        match &self.caller.0 {
            CallerStanding::Missing => return Err(unauthenticated(NO_CREDENTIALS)),
            CallerStanding::Refused => return Err(unauthenticated(BAD_CREDENTIALS)),
            CallerStanding::Undecided(error) => return Err(Box::new((**error).clone())),
            CallerStanding::Unasked | CallerStanding::Known(_) => {}
        }
        if !rules.allow(self.caller, verb, on) {
            tracing::info!(target: AUDIT, caller = self.caller.id(), verb = verb.as_str(), %on, "audit: denied");
            return Err(denied(verb, on));
        }
        if rules.is_audited(verb, on) {
            tracing::info!(target: AUDIT, caller = self.caller.id(), verb = verb.as_str(), %on, "audit: allowed");
        }
        Ok(())
    }
}

fn denied(verb: Verb, on: Resource<'_>) -> Box<Error> {
    let verb = verb.as_str();
    let message = format!("{verb} is not permitted on {on} (or it might not exist)");
    Error::new(Reason::PermissionDenied, message).with("verb", verb).with("resource", on)
}

fn unauthenticated(message: &str) -> Box<Error> {
    Error::new(Reason::Unauthenticated, message)
}

/// The target of log lines about denials and administrative actions.
pub const AUDIT: &str = "longhaul::audit";
const NO_CREDENTIALS: &str =
    "this server asks for credentials; send a token as authorization: Bearer TOKEN";
/// The same for unknown, expired and revoked ones.
const BAD_CREDENTIALS: &str =
    "the credentials are not accepted: they are unknown, expired or revoked";

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
        assert_eq!(Resource::Token("tokens/t").parent(), None);
        assert_eq!(Resource::TypeSets("projects/p").parent(), Some("projects/p"));
        assert_eq!(Resource::TypeSet("projects/p/typeSets/t").parent(), Some("projects/p"));
        assert_eq!(Resource::TypeSet("typeSets/t").parent(), Some(""));
        assert_eq!(Resource::TypeSet("projects/p/operations/o").parent(), None);
        let endpoint = Resource::WebhookEndpoint("projects/p/webhookEndpoints/e");
        assert_eq!(endpoint.parent(), Some("projects/p"));
        assert_eq!(Resource::WebhookEndpoint("projects/p/typeSets/t").parent(), None);
        let id = "msg_00000000000000000000000000000000";
        for owner in ["projects/p/webhookEndpoints/e", "projects/p/operations/o"] {
            assert_eq!(Resource::WebhookDeliveries(owner).parent(), Some("projects/p"));
            let name = format!("{owner}/deliveries/{id}");
            assert_eq!(Resource::WebhookDelivery(&name).parent(), Some("projects/p"));
        }
        assert_eq!(Resource::WebhookDeliveries("projects/p").parent(), None);
        assert_eq!(Resource::WebhookEndpoints("projects/-").parent(), Some("projects/-"));
    }
}
