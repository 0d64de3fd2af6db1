//! Tokens of the API: what each permits, and hashes of its secrets. The secrets themselves are not stored.

use bytes::Bytes;
use uuid::Uuid;

use super::due::DueIndex;
use super::kind::Kind;
use super::note::Note;
use super::value::{unwrap, wrap};
use crate::clock::Timestamp;
use crate::operation::Stamps;
use crate::operation::name::{Id, Parent};
use crate::proto::longhaul::store::v1 as stored;
use crate::store::{Index, IndexEntry, Key, Keyspace, Partition};

/// The index of all tokens; a member is the id, a zero, and the record's key.
pub const TOKENS: &str = "tokens";
/// The partition of their records, in every keyspace.
pub const PARTITION: Partition = Partition(0);

/// A token of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiToken {
    /// The id, which the caller's identity is made of.
    pub id: Id,
    /// The unique id.
    pub uid: Uuid,
    /// When it was created.
    pub create_time: Timestamp,
    /// When it ends, if it does.
    pub expire_time: Option<Timestamp>,
    /// What it permits.
    pub grants: Vec<RoleGrant>,
    /// The secrets that are accepted, newest last.
    pub secrets: Vec<TokenSecret>,
    /// The identity that created it; empty on the command line.
    pub creator: String,
}

/// A role, and where it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleGrant {
    /// The role.
    pub role: Role,
    /// Below which parent; the root is everywhere.
    pub parent: Parent,
    /// In which queues: names, or beginnings of names that end in `*`.
    pub queues: Vec<String>,
}

/// What an identity may do, by the work that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Reads operations and what belongs to them.
    Viewer = 1,
    /// Starts operations, steers them, and reads them.
    Caller = 2,
    /// Works on operations.
    Worker = 3,
    /// Writes what operations are started from and told by: jobs, endpoints, message types.
    JobEditor = 4,
    /// Everything.
    Admin = 5,
}

/// A secret of a token.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenSecret {
    /// A keyed hash of it.
    pub hash: [u8; 32],
    /// When it was made.
    pub create_time: Timestamp,
    /// When it ends, if it does.
    pub expire_time: Option<Timestamp>,
}

/// The hash says nothing to a reader, so it is left out.
impl std::fmt::Debug for TokenSecret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { create_time, expire_time, .. } = self;
        formatter
            .debug_struct("TokenSecret")
            .field("create_time", create_time)
            .field("expire_time", expire_time)
            .finish_non_exhaustive()
    }
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Viewer, Self::Caller, Self::Worker, Self::JobEditor, Self::Admin];

    /// The role as users write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Caller => "caller",
            Self::Worker => "worker",
            Self::JobEditor => "job-editor",
            Self::Admin => "admin",
        }
    }

    /// The role of that number, in stored records and in messages.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|role| *role as u32 == number)
    }
}

impl std::str::FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = || Self::ALL.map(Self::as_str).join(", ");
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| format!("{text:?} is no role; the roles are {}", all()))
    }
}

impl RoleGrant {
    /// A role below a parent, in these queues. Without queues it holds in all of them if the parent is the root.
    ///
    /// # Errors
    /// Says which queues must be named.
    pub fn new(role: Role, parent: Parent, mut queues: Vec<String>) -> Result<Self, String> {
        if queues.is_empty() && parent.as_str().is_empty() {
            queues.push(EVERY_QUEUE.to_owned());
        }
        let needs_queues = matches!(role, Role::Caller | Role::Worker | Role::Admin);
        if queues.is_empty() && needs_queues {
            return Err(format!(
                "the role {} below {:?} needs its queues, since queues do not belong to a parent; name them, or \"*\" for all",
                role.as_str(),
                parent.as_str()
            ));
        }
        for queue in &mut queues {
            let name = queue.strip_prefix("queues/").unwrap_or(queue).to_owned();
            let begin = name.strip_suffix('*').unwrap_or(&name);
            let is_valid = begin.bytes().all(|byte| {
                byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~')
            });
            if name.is_empty() || name.len() > MAX_QUEUE_BYTES || !is_valid {
                return Err(format!(
                    "{queue:?} is not a queue; write its name, or the beginning of names and \"*\""
                ));
            }
            *queue = name;
        }
        Ok(Self { role, parent, queues })
    }

    /// Whether it holds below that parent, or below all that the pattern matches: each of them begins with the text before the
    /// first `-` of the pattern.
    pub fn covers(&self, parent: &str) -> bool {
        is_below(self.parent.as_str(), parent)
    }

    /// Whether it holds in that queue.
    pub fn covers_queue(&self, queue: &str) -> bool {
        self.queues.iter().any(|own| match own.strip_suffix('*') {
            Some(begin) => queue.starts_with(begin),
            None => own == queue,
        })
    }

    /// Whether it holds below every parent.
    pub fn covers_parents(&self) -> bool {
        self.parent.as_str().is_empty()
    }

    /// Whether it holds in every queue.
    pub fn covers_queues(&self) -> bool {
        self.queues.iter().any(|queue| queue == EVERY_QUEUE)
    }

    /// Whether it holds everywhere.
    pub fn is_whole(&self) -> bool {
        self.covers_parents() && self.covers_queues()
    }
}

/// Whether a parent is that one or below it; everything is below the root.
pub fn is_below(above: &str, parent: &str) -> bool {
    above.is_empty()
        || parent.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl ApiToken {
    /// The key of the record of that id. It leads to [`PARTITION`], and no name leads there.
    pub fn key(keyspace: &Keyspace, id: &str) -> Key {
        let mut key = [0; Key::LENGTH];
        key[4..].copy_from_slice(&keyspace.hash::<12>("token", id.as_bytes()));
        Key::from_bytes(key)
    }

    /// The hash of a secret.
    pub fn hash(keyspace: &Keyspace, secret: &[u8]) -> [u8; 32] {
        keyspace.hash::<32>("token secret", secret)
    }

    /// Until when the secret of that hash is accepted; `None` if it is not. The time that this takes does not depend on the hash.
    pub fn accepts(&self, hash: &[u8; 32], now: Timestamp) -> Option<Timestamp> {
        let until = |time: Option<Timestamp>| time.unwrap_or(Timestamp::MAX);
        let hash = blake3::Hash::from_bytes(*hash);
        let mut accepted = None;
        for secret in &self.secrets {
            // This comparison takes the same time wherever the two differ.
            let is_equal = blake3::Hash::from_bytes(secret.hash) == hash;
            let end = until(secret.expire_time).min(until(self.expire_time));
            if is_equal && now < end {
                accepted = Some(end);
            }
        }
        accepted
    }

    /// Tells this state of it from others.
    pub fn etag(&self) -> String {
        let newest = self.secrets.last().map_or(0, |secret| secret.create_time.as_micros());
        format!("{}-{newest:x}", &self.uid.simple().to_string()[..12])
    }
}

impl Kind for ApiToken {
    const NAME: &'static str = "a token";
    const NUMBERS: &'static [u32] = &[NUMBER];
    const DUE: &'static [DueIndex] = &[];

    fn name(&self) -> String {
        format!("the token {:?}", self.id.as_str())
    }

    fn lies_under(&self, key: Key, keyspace: &Keyspace) -> bool {
        Self::key(keyspace, self.id.as_str()) == key
    }

    fn decode(value: &Bytes, _stamps: Stamps) -> Option<Self> {
        let stored::record::Kind::Token(stored) = unwrap(value)? else { return None };
        let grants: Option<Vec<_>> = stored.grants.into_iter().map(decode_grant).collect();
        let secrets: Option<Vec<_>> = stored.secrets.into_iter().map(decode_secret).collect();
        Some(Self {
            id: Id::parse(&stored.id).ok()?,
            uid: Uuid::from_slice(&stored.uid).ok()?,
            create_time: Timestamp::from_micros(stored.create_time),
            expire_time: decode_time(stored.expire_time),
            grants: grants?,
            secrets: secrets?,
            creator: stored.creator,
        })
    }

    fn encode(&self) -> Bytes {
        let token = stored::Token {
            id: self.id.as_str().to_owned(),
            uid: Bytes::copy_from_slice(self.uid.as_bytes()),
            create_time: self.create_time.as_micros(),
            expire_time: encode_time(self.expire_time),
            grants: self.grants.iter().map(encode_grant).collect(),
            secrets: self.secrets.iter().map(encode_secret).collect(),
            creator: self.creator.clone(),
        };
        wrap(NUMBER, &token)
    }

    fn entries(&self, key: Key) -> Vec<IndexEntry> {
        let member = [self.id.as_str().as_bytes(), &[0], key.as_bytes()].concat();
        vec![IndexEntry { index: Index::new(TOKENS), member: member.into() }]
    }

    fn hint(_: Option<&Self>, _: Option<&Self>, _: bool) -> Option<Note> {
        Some(Note::Token)
    }
}

fn encode_grant(grant: &RoleGrant) -> stored::Grant {
    stored::Grant {
        role: grant.role as u32,
        parent: grant.parent.as_str().to_owned(),
        queues: grant.queues.clone(),
    }
}

fn decode_grant(stored: stored::Grant) -> Option<RoleGrant> {
    Some(RoleGrant {
        role: Role::from_number(stored.role)?,
        parent: Parent::parse(&stored.parent).ok()?,
        queues: stored.queues,
    })
}

fn encode_secret(secret: &TokenSecret) -> stored::TokenSecret {
    stored::TokenSecret {
        hash: Bytes::copy_from_slice(&secret.hash),
        create_time: secret.create_time.as_micros(),
        expire_time: encode_time(secret.expire_time),
    }
}

fn decode_secret(stored: stored::TokenSecret) -> Option<TokenSecret> {
    Some(TokenSecret {
        hash: stored.hash.as_ref().try_into().ok()?,
        create_time: Timestamp::from_micros(stored.create_time),
        expire_time: decode_time(stored.expire_time),
    })
}

fn encode_time(time: Option<Timestamp>) -> u64 {
    time.map_or(0, Timestamp::as_micros)
}

fn decode_time(micros: u64) -> Option<Timestamp> {
    (micros > 0).then(|| Timestamp::from_micros(micros))
}

/// The number of the kind in a stored record.
const NUMBER: u32 = 13;
const EVERY_QUEUE: &str = "*";
const MAX_QUEUE_BYTES: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(role: Role, parent: &str, queues: &[&str]) -> Result<RoleGrant, String> {
        let queues = queues.iter().map(|queue| (*queue).to_owned()).collect();
        RoleGrant::new(role, Parent::parse(parent).expect("a parent"), queues)
    }

    #[test]
    fn a_grant_holds_below_its_parent_and_in_its_queues_and_nowhere_else() {
        let own = grant(Role::Caller, "projects/p", &["queues/mail", "p-*"]).expect("a grant");
        for (parent, covered) in [
            ("projects/p", true),
            ("projects/p/locations/-", true),
            ("projects/p2", false),
            ("projects/-", false),
            ("projects", false),
            ("-", false),
            ("", false),
        ] {
            assert_eq!(own.covers(parent), covered, "{parent}");
        }
        for (queue, covered) in [
            ("mail", true),
            ("p-", true),
            ("p-x", true),
            ("p", false),
            ("mail2", false),
            ("", false),
        ] {
            assert_eq!(own.covers_queue(queue), covered, "{queue}");
        }
        let whole = grant(Role::Admin, "", &[]).expect("a grant");
        assert!(
            whole.is_whole() && whole.covers("-") && whole.covers("") && whole.covers_queue("q")
        );
        assert!(!own.is_whole());
    }

    #[test]
    fn a_grant_below_a_parent_names_its_queues() {
        for role in [Role::Caller, Role::Worker, Role::Admin] {
            let refusal = grant(role, "projects/p", &[]).expect_err("no queues");
            assert!(refusal.contains("needs its queues"), "{refusal}");
        }
        assert!(grant(Role::Viewer, "projects/p", &[]).expect("a grant").queues.is_empty());
        for queue in ["", "a/b", "a*b", "a b", "queues/"] {
            grant(Role::Worker, "", &[queue]).expect_err(queue);
        }
    }
}
