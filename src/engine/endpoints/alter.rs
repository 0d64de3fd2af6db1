//! One change of one endpoint.

use crate::clock::Timestamp;
use crate::engine::error::{Error, Reason, Result};
use crate::engine::transact::{Decision, Ended, Transaction};
use crate::operation::name::EndpointName;
use crate::record::endpoint::etag;
use crate::record::{Before, Change};
use crate::store::{CommitError, Key};
use crate::webhook::endpoint::Endpoint;

/// What becomes of an endpoint.
pub(in crate::engine) enum AlteredEndpoint {
    /// It stays as it is.
    Kept,
    /// This.
    Changed(Box<Endpoint>),
    /// Nothing: it is deleted.
    Deleted,
}

/// Decides what becomes of an endpoint.
pub(in crate::engine) type EndpointAlteration<'a> =
    dyn Fn(&Endpoint, Timestamp) -> Result<AlteredEndpoint> + Sync + 'a;

/// A change of an endpoint that exists.
pub(super) struct AlterEndpoint<'a> {
    pub(super) key: Key,
    pub(super) name: &'a EndpointName,
    /// Only if it has this etag; an empty one fits all.
    pub(super) etag: &'a str,
    pub(super) alteration: &'a EndpointAlteration<'a>,
    /// Why nothing was changed.
    pub(super) refusal: Option<Box<Error>>,
}

impl AlterEndpoint<'_> {
    /// What becomes of it.
    pub(super) fn after(
        &self,
        before: Option<&Before<Endpoint>>,
        now: Timestamp,
    ) -> Result<AlteredEndpoint> {
        let before = before.ok_or_else(|| not_found(self.name))?;
        let current = etag(&before.record);
        if !self.etag.is_empty() && self.etag != current {
            let message = format!("{} has changed; read it, then decide again", self.name);
            return Err(about(Reason::EtagMismatch, self.name, message).with("etag", current));
        }
        (self.alteration)(&before.record, now)
    }
}

impl Transaction for AlterEndpoint<'_> {
    type Kind = Endpoint;

    fn key(&self) -> Key {
        self.key
    }

    fn decide(
        &mut self,
        before: Option<&Before<Endpoint>>,
        _certain: bool,
        now: Timestamp,
    ) -> Decision<Endpoint> {
        let after = match self.after(before, now) {
            Ok(AlteredEndpoint::Kept) => None,
            Ok(AlteredEndpoint::Changed(after)) => Some(Some(*after)),
            Ok(AlteredEndpoint::Deleted) => Some(None),
            Err(refusal) => {
                self.refusal = Some(refusal);
                return Decision::Keep;
            }
        };
        self.refusal = None;
        let commit = |after| Change { visible: true, ..Change::of(after) };
        after.map_or(Decision::Keep, |after| Decision::Commit(Box::new(commit(after))))
    }

    fn recognises_itself(&self) -> bool {
        false
    }
}

/// The record after a transaction.
pub(super) fn ended(name: &EndpointName, ended: Ended<Endpoint>) -> Result<Option<Endpoint>> {
    match ended {
        Ended::Written { record, .. } => Ok(record),
        Ended::Kept { before, .. } => Ok(before.map(|before| before.record)),
        Ended::Failed(CommitError::Unavailable(error)) => Err(error.into()),
        Ended::Failed(_) | Ended::Unknown => Err(Error::busy(name)),
        Ended::Unreadable(_) => Err(unreadable(name)),
    }
}

pub(super) fn not_found(name: &EndpointName) -> Box<Error> {
    let message = format!("there is no webhook endpoint {name}");
    about(Reason::WebhookEndpointNotFound, name, message)
}

pub(super) fn unreadable(name: &EndpointName) -> Box<Error> {
    let message = format!("the record of {name} cannot be read; the server's log has the cause");
    about(Reason::Internal, name, message)
}

pub(super) fn about(reason: Reason, name: &EndpointName, message: String) -> Box<Error> {
    Error::on(reason, name.to_string(), message)
}
