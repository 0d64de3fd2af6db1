//! Conversions for `longhaul.v1.Tokens`, and for links.

use std::time::Duration;

use super::fields::duration;
use super::operations::page_size;
use super::starts::in_field;
use crate::clock::Timestamp;
use crate::engine::{
    Engine, Error, Guard, LINKABLE, NewLink, NewToken, Reason, Resource, Result, ShownToken,
    Started, TokenPage, Verb,
};
use crate::limits::{DEFAULT_LINK_LIFETIME, MAX_LINK_LIFETIME, MAX_TOKEN_GRANTS};
use crate::operation::name::{Id, Parent};
use crate::proto::longhaul::v1 as pb;
use crate::record::tokens::{ApiToken, Role, RoleGrant};

/// Reads a create.
pub fn create(request: pb::CreateTokenRequest) -> Result<NewToken> {
    let id = match request.token_id.as_str() {
        "" => None,
        id => Some(Id::parse(id).map_err(in_field("token_id"))?),
    };
    let Some(token) = request.token else {
        return Err(Error::field("token", "token must be set, with its grants"));
    };
    if token.grants.is_empty() || token.grants.len() > MAX_TOKEN_GRANTS {
        let message = format!(
            "token.grants has {} grants; a token has 1 to {MAX_TOKEN_GRANTS}",
            token.grants.len()
        );
        return Err(Error::field("token.grants", message).with("limit", MAX_TOKEN_GRANTS));
    }
    let grants: Result<Vec<_>> = token.grants.into_iter().map(grant).collect();
    let expire_time = token.expire_time.as_ref().map(Timestamp::from);
    Ok(NewToken { id, grants: grants?, expire_time })
}

/// Reads the id in the name of a token.
pub fn id(name: &str) -> Result<Id> {
    let wrong = || {
        let message = format!("name is {name:?}; the name of a token looks like tokens/ID");
        Error::new(Reason::InvalidName, message).with("field", "name")
    };
    let id = name.strip_prefix(COLLECTION).ok_or_else(wrong)?;
    Id::parse(id).map_err(in_field("name"))
}

/// Reads a list: the size of a page, and where it begins.
pub fn list(request: pb::ListTokensRequest) -> Result<(usize, String)> {
    Ok((page_size(request.page_size)?, request.page_token))
}

/// Reads a rotation: the token, and how long the former secrets last.
pub fn rotate(request: &pb::RotateTokenRequest) -> Result<(Id, Duration)> {
    let grace = duration("grace_duration", request.grace_duration)?;
    Ok((id(&request.name)?, grace.unwrap_or_default()))
}

/// A token, with its text where there is one.
pub fn shown(shown: ShownToken) -> pb::Token {
    pb::Token { secret: shown.text, ..bare(shown.token) }
}

/// A token without any secret.
pub fn bare(token: ApiToken) -> pb::Token {
    let rotate_time = token.secrets.last().map(|secret| secret.create_time.into());
    pb::Token {
        name: format!("{COLLECTION}{}", token.id.as_str()),
        uid: token.uid.to_string(),
        etag: token.etag(),
        create_time: Some(token.create_time.into()),
        expire_time: token.expire_time.map(Into::into),
        grants: token.grants.into_iter().map(grant_message).collect(),
        rotate_time,
        creator: token.creator,
        secret: String::new(),
    }
}

/// A page of a list.
pub fn list_reply(page: TokenPage) -> pb::ListTokensResponse {
    let tokens = page.tokens.into_iter().map(bare).collect();
    pb::ListTokensResponse { tokens, next_page_token: page.next_page_token }
}

/// Reads what a link is to permit, and for how long.
pub fn link(request: &pb::CreateLinkRequest) -> Result<(Vec<Verb>, Duration)> {
    let lifetime = duration("ttl", request.ttl)?.unwrap_or(DEFAULT_LINK_LIFETIME);
    if lifetime.is_zero() || lifetime > MAX_LINK_LIFETIME {
        let message = format!(
            "ttl is {}s; a link lasts from a second to {} days",
            lifetime.as_secs(),
            MAX_LINK_LIFETIME.as_secs() / 86_400
        );
        return Err(Error::field("ttl", message));
    }
    Ok((link_verbs(&request.verbs)?, lifetime))
}

/// Reads the verbs of a link.
pub fn link_verbs(verbs: &[String]) -> Result<Vec<Verb>> {
    if verbs.is_empty() {
        return Ok(vec![Verb::Get, Verb::Watch]);
    }
    let verb = |text: &String| {
        LINKABLE.into_iter().find(|verb| verb.as_str() == text).ok_or_else(|| {
            let all = LINKABLE.map(Verb::as_str).join(", ");
            Error::field("verbs", format!("verbs has {text:?}; a link can have {all}"))
        })
    };
    verbs.iter().map(verb).collect()
}

/// A link that is wanted with a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkWish {
    /// What it is to permit.
    pub verbs: Vec<Verb>,
    /// How long it lasts.
    pub lifetime: Duration,
}

impl LinkWish {
    /// Reads the header of a start below `parent`, such as `get, cancel; ttl=600`, and asks whether its caller may make that link.
    pub fn of(header: Option<&str>, parent: &str, guard: &Guard<'_>) -> Result<Option<Self>> {
        let Some(text) = header else { return Ok(None) };
        let (verbs, ttl) = text.split_once(';').unwrap_or((text, ""));
        let wrong = || {
            let message = format!(
                "{LINK_HEADER} is {text:?}; write verbs and how many seconds it lasts, such as get, cancel; ttl=3600"
            );
            Error::field(LINK_HEADER, message)
        };
        let verbs = verbs.split(',').map(str::trim).filter(|verb| !verb.is_empty());
        let verbs = verbs.map(str::to_owned).collect::<Vec<_>>();
        let seconds = match ttl.trim() {
            "" => None,
            ttl => {
                Some(ttl.strip_prefix("ttl=").and_then(|ttl| ttl.parse().ok()).ok_or_else(wrong)?)
            }
        };
        let ttl = seconds.map(|seconds| prost_types::Duration { seconds, nanos: 0 });
        let request = pb::CreateLinkRequest { name: String::new(), verbs, ttl };
        let (verbs, lifetime) = link(&request).map_err(|_| wrong())?;
        let on = Resource::Parent(parent);
        guard.ask(Verb::Share, on)?;
        verbs.iter().try_for_each(|verb| guard.ask(*verb, on))?;
        Ok(Some(Self { verbs, lifetime }))
    }

    /// The link, if the start was more than a check.
    pub fn grant(self, engine: &Engine, started: &Started) -> Result<Option<String>> {
        let Some(operation) = &started.operation else { return Ok(None) };
        Ok(Some(engine.link_to(operation, self.verbs, self.lifetime)?.text))
    }
}

/// A link.
pub fn link_reply(link: NewLink) -> pb::Link {
    pb::Link {
        path: format!("/v1/{}?access_token={}", link.name, link.text),
        operation: link.name.to_string(),
        token: link.text,
        verbs: link.verbs.into_iter().map(|verb| verb.as_str().to_owned()).collect(),
        expire_time: Some(link.expire_time.into()),
    }
}

fn grant(grant: pb::Grant) -> Result<RoleGrant> {
    let role = u32::try_from(grant.role).ok().and_then(Role::from_number);
    let role = role.ok_or_else(|| {
        let message = format!(
            "token.grants.role is {}; it is VIEWER, CALLER, WORKER, JOB_EDITOR or ADMIN",
            grant.role
        );
        Error::field("token.grants.role", message)
    })?;
    let parent = Parent::parse(&grant.parent).map_err(in_field("token.grants.parent"))?;
    RoleGrant::new(role, parent, grant.queues)
        .map_err(|message| Error::field("token.grants.queues", message))
}

fn grant_message(grant: RoleGrant) -> pb::Grant {
    pb::Grant {
        role: grant.role as i32,
        parent: grant.parent.as_str().to_owned(),
        queues: grant.queues,
    }
}

/// The header that asks for a link with a start, and that has the link in the answer.
pub const LINK_HEADER: &str = "longhaul-link";
const COLLECTION: &str = "tokens/";
