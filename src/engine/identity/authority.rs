//! Whether credentials are accepted, and what they permit. What was found is kept for [`CREDENTIAL_REREAD`], or until a hint says that
//! a token has changed, so that most calls read nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde_json::Value;

use super::credential::{Credential, Parsed, link_text};
use super::links::LinkContent;
use crate::clock::Timestamp;
use crate::engine::access::{Caller, KnownCaller, Permission, Verb};
use crate::engine::bindings::{Member, grants_of};
use crate::engine::context::Context;
use crate::engine::error::{Error, Reason, Result};
use crate::engine::jwt::{AcceptedClaims, Issuer, claimed_issuer};
use crate::engine::reading::reader::Reader;
use crate::engine::transact::{Commit, Observer};
use crate::limits::{CREDENTIAL_REREAD, KEYS_PAUSE, MAX_KNOWN_CREDENTIALS};
use crate::operation::Operation;
use crate::operation::name::{Id, Name};
use crate::record::tokens::{ApiToken, PARTITION};

/// Knows callers by their credentials.
pub(in crate::engine) struct Authority {
    context: Arc<Context>,
    reader: Arc<Reader>,
    /// Rises with each change of a token.
    changes: AtomicU64,
    known: RwLock<HashMap<[u8; 32], Acceptance>>,
}

/// A link that was made just now.
#[derive(Clone)]
pub struct NewLink {
    /// What callers send.
    pub text: String,
    /// The operation.
    pub name: Name,
    /// What it permits.
    pub verbs: Vec<Verb>,
    /// When it ends.
    pub expire_time: Timestamp,
}

impl std::fmt::Debug for NewLink {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("NewLink").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Credentials that were accepted. `Engine::caller_of` says for how long that counts.
#[derive(Clone, Debug)]
pub struct Acceptance {
    caller: Caller,
    expire_time: Timestamp,
    changes: u64,
    at: Duration,
}

impl Authority {
    pub(in crate::engine) fn new(context: Arc<Context>, reader: Arc<Reader>) -> Self {
        Self { context, reader, changes: AtomicU64::new(0), known: RwLock::default() }
    }

    /// Whether callers are asked for credentials.
    pub(in crate::engine) fn asks(&self) -> bool {
        self.context.settings.identity.is_any()
    }

    /// That these credentials are accepted, if that was found a moment ago.
    pub(in crate::engine) fn known(&self, credential: &Credential<'_>) -> Option<Acceptance> {
        let hash = credential.hash();
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&hash).cloned()
    }

    /// The caller whose credentials were accepted. `None` if they end, if a token was changed since, or if that was too long ago.
    pub(in crate::engine) fn caller_of(&self, acceptance: &Acceptance) -> Option<Caller> {
        let Acceptance { caller, expire_time, changes, at } = acceptance;
        let is_fresh = *changes == self.changes.load(Ordering::Acquire)
            && self.context.clock.elapsed().saturating_sub(*at) < CREDENTIAL_REREAD
            && (*expire_time == Timestamp::MAX || self.now() < *expire_time);
        is_fresh.then(|| caller.clone())
    }

    /// The caller with these credentials: a refused one if they are not accepted.
    ///
    /// # Errors
    /// If the store does not answer, or the keys of an issuer are not known.
    pub(in crate::engine) async fn authenticate(
        &self,
        credential: &Credential<'_>,
    ) -> Result<Caller> {
        let known = self.known(credential).and_then(|acceptance| self.caller_of(&acceptance));
        if let Some(caller) = known {
            return Ok(caller);
        }
        let (changes, at) = (self.changes.load(Ordering::Acquire), self.context.clock.elapsed());
        let known = match credential.parse() {
            Some(Parsed::Token(id, secret)) => self.of_token(&id, secret).await?,
            Some(Parsed::Link(sealed)) => self.of_link(sealed).await?,
            Some(Parsed::Jwt(token)) => self.of_jwt(token).await?,
            Some(Parsed::Certificate(subject)) => self.of_certificate(subject),
            None => None,
        };
        let Some(known) = known.filter(|known| self.now() < known.expire_time) else {
            return Ok(Caller::REFUSED);
        };
        let (expire_time, caller) = (known.expire_time, Caller::known(known));
        let entry = Acceptance { caller: caller.clone(), expire_time, changes, at };
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KNOWN_CREDENTIALS {
            // They are read again as they are used.
            known.clear();
        }
        known.insert(credential.hash(), entry);
        Ok(caller)
    }

    /// A token was changed or revoked, or may have been.
    pub(in crate::engine) fn changed(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    async fn of_token(&self, id: &Id, secret: &str) -> Result<Option<KnownCaller>> {
        if !self.context.settings.identity.tokens {
            return Ok(None);
        }
        let keyspace = self.context.store.keyspace();
        let hash = ApiToken::hash(keyspace, secret.as_bytes());
        let key = ApiToken::key(keyspace, id.as_str());
        let found = self.reader.read_each::<ApiToken>(&[key]).await?.pop();
        // One that cannot be read is not accepted; the reader has noted it.
        let token = found.and_then(|found| found.ok().flatten()).map(|before| before.record);
        Ok(token.and_then(|token| {
            let expire_time = token.accepts(&hash, self.now())?;
            let id = format!("token:{}", token.id.as_str());
            Some(KnownCaller { id, permission: Permission::Roles(token.grants), expire_time })
        }))
    }

    /// A caller with a JWT. One without any roles is known, and may do nothing.
    async fn of_jwt(&self, token: &str) -> Result<Option<KnownCaller>> {
        let identity = &self.context.settings.identity;
        if identity.issuers.is_empty() {
            return Ok(None);
        }
        let claimed = claimed_issuer(token);
        let of = identity.issuers.iter().find(|issuer| Some(&issuer.issuer) == claimed.as_ref());
        let Some(of) = of else { return Ok(None) };
        let Some(AcceptedClaims { claims, expire_time }) = self.claims(of, token).await? else {
            return Ok(None);
        };
        let Some(subject) = claims.get("sub").and_then(Value::as_str) else { return Ok(None) };
        let has = |member: &Member| member.has_claims(&of.name, &claims);
        let permission = Permission::Roles(grants_of(&identity.bindings, has));
        let id = format!("jwt:{}:{subject}", of.name);
        Ok(Some(KnownCaller { id, permission, expire_time }))
    }

    /// The claims of a token that is accepted. If its key is not known, the keys of the issuer are read again first.
    async fn claims(&self, of: &Issuer, token: &str) -> Result<Option<AcceptedClaims>> {
        let accepted = of.accept(token, self.now());
        if accepted.is_some() || !of.misses_key(token, self.now()) {
            return Ok(accepted);
        }
        let is_new = of.keys.read_again().await;
        let accepted = is_new.then(|| of.accept(token, self.now())).flatten();
        if accepted.is_none() && of.keys.is_empty() {
            let why = "the keys of the issuer of the token are not known at this time; try again";
            return Err(Error::new(Reason::KeysUnavailable, why).retry_after(KEYS_PAUSE));
        }
        Ok(accepted)
    }

    /// A caller with a certificate, whose validity the connection has checked.
    fn of_certificate(&self, subject: &str) -> Option<KnownCaller> {
        let identity = &self.context.settings.identity;
        let has = |member: &Member| member.has_subject(subject);
        identity.certificates.then(|| KnownCaller {
            id: format!("certificate:{subject}"),
            permission: Permission::Roles(grants_of(&identity.bindings, has)),
            expire_time: Timestamp::MAX,
        })
    }

    async fn of_link(&self, sealed: &str) -> Result<Option<KnownCaller>> {
        let Some(link) = LinkContent::open(self.context.store.keyspace(), sealed) else {
            return Ok(None);
        };
        match self.reader.head(&link.name).await {
            Ok((operation, _)) if operation.uid.as_bytes() != &link.uid => return Ok(None),
            Err(error) if error.reason == Reason::StoreUnavailable => return Err(error),
            // The call itself says that the operation has expired or was deleted.
            Ok(_) | Err(_) => {}
        }
        Ok(Some(KnownCaller {
            id: format!("link:{}", uuid::Uuid::from_bytes(link.uid)),
            permission: link.permission(),
            expire_time: link.expire_time,
        }))
    }

    /// The text of a link to an operation, and when it ends.
    pub(in crate::engine) fn link(
        &self,
        operation: &Operation,
        verbs: Vec<Verb>,
        lifetime: Duration,
    ) -> Result<NewLink> {
        let now = self.now();
        let (name, uid) = (operation.name.clone(), *operation.uid.as_bytes());
        let expire_time = now + lifetime;
        let content = LinkContent { name, uid, verbs, expire_time };
        let text = link_text(&content.seal(self.context.store.keyspace(), now)?);
        Ok(NewLink { text, name: content.name, verbs: content.verbs, expire_time })
    }

    fn now(&self) -> Timestamp {
        self.context.store.now(PARTITION)
    }
}

impl Observer<ApiToken> for Authority {
    fn committed(&self, commit: Commit<ApiToken>) -> Option<ApiToken> {
        self.changed();
        commit.change.main
    }
}
