//! Tokens of the API: create, get, list, rotate, revoke.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::authority::Authority;
use super::credential::{new_secret, token_text};
use crate::clock::Timestamp;
use crate::engine::access::Caller;
use crate::engine::context::Context;
use crate::engine::error::{Error, Reason, Result};
use crate::engine::reading::reader::Reader;
use crate::engine::transact::{Assumed, Decision, Ended, Transaction, Transactor};
use crate::limits::MAX_TOKEN_SECRETS;
use crate::operation::name::Id;
use crate::record::tokens::{ApiToken, PARTITION, RoleGrant, TOKENS, TokenSecret};
use crate::record::{Before, Change};
use crate::store::{CommitError, Entry, Index, Key, Scan};

/// A token to create.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// Its id; without one it gets a UUID.
    pub id: Option<Id>,
    /// What it permits.
    pub grants: Vec<RoleGrant>,
    /// When it ends, if it does.
    pub expire_time: Option<Timestamp>,
}

/// A token, and its text where that is shown.
#[derive(Clone)]
pub struct ShownToken {
    /// The token.
    pub token: ApiToken,
    /// What callers send; empty unless it was made just now.
    pub text: String,
}

impl std::fmt::Debug for ShownToken {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ShownToken").field("token", &self.token).finish_non_exhaustive()
    }
}

/// Creates, reads, rotates and revokes tokens.
pub(in crate::engine) struct TokenCalls {
    pub(in crate::engine) context: Arc<Context>,
    reader: Arc<Reader>,
    transactor: Transactor<Authority>,
}

impl TokenCalls {
    pub(in crate::engine) fn new(
        context: Arc<Context>,
        reader: Arc<Reader>,
        authority: Arc<Authority>,
    ) -> Self {
        let transactor = Transactor::new(context.clone(), reader.clone(), authority);
        Self { context, reader, transactor }
    }

    /// Creates a token. Its text is in the answer, and can be had nowhere else.
    pub(in crate::engine) async fn create(
        &self,
        caller: &Caller,
        new: NewToken,
    ) -> Result<ShownToken> {
        let id = new.id.unwrap_or_else(|| Id::from_uuid(Uuid::new_v4()));
        let now = self.context.store.now(PARTITION);
        if new.expire_time.is_some_and(|time| time <= now) {
            let message = "token.expire_time has passed; leave it out, or name a later time";
            return Err(Error::field("token.expire_time", message));
        }
        let secret = new_secret();
        let token = ApiToken {
            id: id.clone(),
            uid: Uuid::new_v4(),
            create_time: now,
            expire_time: new.expire_time,
            grants: new.grants,
            secrets: vec![self.stored(&secret, now)],
            creator: caller.id().to_owned(),
        };
        let mut create = Create { key: self.key(&id), token: &token, taken: false };
        end(&id, self.transactor.transact_one(&mut create).await)?;
        if create.taken {
            let message = format!("tokens/{} exists already; choose another token_id", id.as_str());
            return Err(about(Reason::TokenAlreadyExists, &id, message));
        }
        Ok(ShownToken { text: token_text(&id, &secret), token })
    }

    /// A token.
    pub(in crate::engine) async fn get(&self, id: &Id) -> Result<ApiToken> {
        let found = self.reader.read_each::<ApiToken>(&[self.key(id)]).await?.pop();
        match found {
            Some(Ok(Some(before))) => Ok(before.record),
            Some(Err(_)) => Err(unreadable(id)),
            Some(Ok(None)) | None => Err(not_found(id)),
        }
    }

    /// Gives a token a new secret. The former ones end after `grace`.
    pub(in crate::engine) async fn rotate(&self, id: &Id, grace: Duration) -> Result<ShownToken> {
        let secret = new_secret();
        let stored = self.stored(&secret, self.context.store.now(PARTITION));
        let mut rotate = Rotate { key: self.key(id), stored, grace, rotated: None };
        end(id, self.transactor.transact_one(&mut rotate).await)?;
        let token = rotate.rotated.ok_or_else(|| not_found(id))?;
        Ok(ShownToken { text: token_text(id, &secret), token })
    }

    /// Revokes a token: from now on it is unknown.
    pub(in crate::engine) async fn delete(&self, id: &Id) -> Result<()> {
        let mut revoke = Revoke { key: self.key(id), found: false };
        end(id, self.transactor.transact_one(&mut revoke).await)?;
        if revoke.found { Ok(()) } else { Err(not_found(id)) }
    }

    /// Tokens by id, after that one; and the last of these ids, if there may be more.
    pub(in crate::engine) async fn after(
        &self,
        after: &str,
        page_size: usize,
    ) -> Result<(Vec<ApiToken>, Option<String>)> {
        let mut scan = Scan::first(Index::new(TOKENS), page_size).within(PARTITION);
        if !after.is_empty() {
            // Members begin with the id and a zero.
            scan.from = Bound::Included([after.as_bytes(), &[1]].concat().into());
        }
        let entries = self.context.store.scan(scan).await?;
        let more = entries.len() == page_size;
        let next = entries.last().filter(|_| more).and_then(id_of);
        let keys: Vec<Key> = entries.iter().filter_map(Entry::key).collect();
        let found = self.reader.read_each::<ApiToken>(&keys).await?;
        let tokens = found.into_iter().filter_map(|found| Some(found.ok()??.record)).collect();
        Ok((tokens, next))
    }

    fn key(&self, id: &Id) -> Key {
        ApiToken::key(self.context.store.keyspace(), id.as_str())
    }

    fn stored(&self, secret: &str, create_time: Timestamp) -> TokenSecret {
        let hash = ApiToken::hash(self.context.store.keyspace(), secret.as_bytes());
        TokenSecret { hash, create_time, expire_time: None }
    }
}

struct Create<'a> {
    key: Key,
    token: &'a ApiToken,
    /// Another token has the id.
    taken: bool,
}

impl Transaction for Create<'_> {
    type Kind = ApiToken;

    fn key(&self) -> Key {
        self.key
    }

    fn assume(&mut self) -> Assumed<ApiToken> {
        Assumed::Absent
    }

    fn decide(
        &mut self,
        before: Option<&Before<ApiToken>>,
        _certain: bool,
        _now: Timestamp,
    ) -> Decision<ApiToken> {
        self.taken = before.is_some_and(|before| before.record.uid != self.token.uid);
        if before.is_some() { Decision::Keep } else { commit(Some(self.token.clone())) }
    }
}

struct Rotate {
    key: Key,
    stored: TokenSecret,
    grace: Duration,
    /// The token with its new secret.
    rotated: Option<ApiToken>,
}

impl Transaction for Rotate {
    type Kind = ApiToken;

    fn key(&self) -> Key {
        self.key
    }

    fn decide(
        &mut self,
        before: Option<&Before<ApiToken>>,
        _certain: bool,
        now: Timestamp,
    ) -> Decision<ApiToken> {
        let Some(before) = before else {
            self.rotated = None;
            return Decision::Keep;
        };
        let mut token = before.record.clone();
        if token.secrets.contains(&self.stored) {
            self.rotated = Some(token);
            return Decision::Keep;
        }
        for secret in &mut token.secrets {
            let end = now + self.grace;
            secret.expire_time = Some(secret.expire_time.map_or(end, |time| time.min(end)));
        }
        token.secrets.retain(|secret| secret.expire_time.is_none_or(|time| now < time));
        let surplus = (token.secrets.len() + 1).saturating_sub(MAX_TOKEN_SECRETS);
        token.secrets.drain(..surplus);
        token.secrets.push(self.stored.clone());
        self.rotated = Some(token.clone());
        commit(Some(token))
    }
}

struct Revoke {
    key: Key,
    found: bool,
}

impl Transaction for Revoke {
    type Kind = ApiToken;

    fn key(&self) -> Key {
        self.key
    }

    fn decide(
        &mut self,
        before: Option<&Before<ApiToken>>,
        _certain: bool,
        _now: Timestamp,
    ) -> Decision<ApiToken> {
        self.found = before.is_some();
        if self.found { commit(None) } else { Decision::Keep }
    }

    fn recognises_itself(&self) -> bool {
        false
    }
}

fn commit(after: Option<ApiToken>) -> Decision<ApiToken> {
    Decision::Commit(Box::new(Change { visible: true, ..Change::of(after) }))
}

fn id_of(entry: &Entry) -> Option<String> {
    let id = entry.member.split(|byte| *byte == 0).next()?;
    std::str::from_utf8(id).ok().map(str::to_owned)
}

fn end(id: &Id, ended: Ended<ApiToken>) -> Result<()> {
    match ended {
        Ended::Failed(CommitError::Unavailable(error)) => Err(error.into()),
        Ended::Failed(_) | Ended::Unknown => Err(Error::busy(&format!("tokens/{}", id.as_str()))),
        Ended::Unreadable(_) => Err(unreadable(id)),
        Ended::Written { .. } | Ended::Kept { .. } => Ok(()),
    }
}

fn not_found(id: &Id) -> Box<Error> {
    about(Reason::TokenNotFound, id, format!("there is no token tokens/{}", id.as_str()))
}

fn unreadable(id: &Id) -> Box<Error> {
    let message = "the record of this token cannot be read; the server's log has the cause";
    about(Reason::Internal, id, message.to_owned())
}

fn about(reason: Reason, id: &Id, message: String) -> Box<Error> {
    Error::on(reason, format!("tokens/{}", id.as_str()), message)
}
