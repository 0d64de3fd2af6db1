//! Finding the keyspace or making it, and refusing a Redis that would lose it.

use std::collections::HashMap;

use redis::{RedisError, Value};

use super::Options;
use super::keys::{self, Keys, Meta};
use super::link::{Dial, Link};
use crate::store::{Durability, Keyspace, OpenError, StoreError};

/// Looks at the server and its settings. Returns how far an acknowledged commit is safe.
pub(super) async fn inspect(
    link: &Link,
    dial: &Dial,
    options: &Options,
) -> Result<Durability, OpenError> {
    let info = Info::read(link, dial).await?;
    info.refuse_unfit(dial)?;
    let place = dial.place();
    let Some(settings) = durability_settings(link).await else {
        let stated = options.durability.unwrap_or(Durability::Memory);
        tracing::warn!(
            store = place,
            durability = stated.as_str(),
            "CONFIG is forbidden here: the durability level is taken as stated"
        );
        return Ok(stated);
    };
    let wrong = FSYNC_SETTINGS
        .iter()
        .find(|(name, wanted)| settings.get(*name).is_some_and(|value| value != wanted));
    match (wrong, options.durability) {
        (None, _) => Ok(Durability::Fsync),
        (Some((name, wanted)), Some(Durability::Fsync)) => Err(OpenError::Unsafe(format!(
            "{place} does not sync commits to disk: {name} is {:?}; set it to {wanted:?}, or ask for durability memory",
            settings.get(*name).map_or("", String::as_str),
        ))),
        (Some(_), _) => Ok(Durability::Memory),
    }
}

/// Adopts the keyspace that is there, or makes one.
///
/// The root and all metas come into being in one MSETNX, so no crash and no race leaves a part of them. A part that is missing
/// later was therefore lost, and with it perhaps records: then nothing is made up, and the operator decides.
pub(super) async fn keyspace(
    link: &Link,
    dial: &Dial,
    options: &Options,
) -> Result<Keyspace, OpenError> {
    let place = dial.place();
    if let Some(keyspace) = adopt(link, dial, options).await? {
        return Ok(keyspace);
    }
    if let Some(wanted) = options.keyspace {
        let (place, found) = (place.to_owned(), "none".to_owned());
        return Err(OpenError::WrongKeyspace { place, found, wanted: wanted.to_string() });
    }
    let new = Keyspace::generate(options.partitions.max(1));
    let meta = Meta::new(new.id()).encode();
    let mut request = redis::cmd("MSETNX");
    request.arg(keys::root(&options.prefix)).arg(new.encode());
    for key in Keys::new(&options.prefix, &new).metas() {
        request.arg(key).arg(&meta);
    }
    link.command(&request).await.map_err(|error| unreachable(dial, &error))?;
    // The answer does not matter: whoever made a keyspace just now, it is adopted.
    adopt(link, dial, options).await?.ok_or_else(|| {
        OpenError::Damaged(format!(
            "{place} holds partitions of a keyspace whose root record is gone: it lost data; restore it, or remove every key with this prefix to begin anew"
        ))
    })
}

/// The keyspace that is there, with all its metas.
async fn adopt(link: &Link, dial: &Dial, options: &Options) -> Result<Option<Keyspace>, OpenError> {
    let place = dial.place();
    let mut request = redis::cmd("GET");
    request.arg(keys::root(&options.prefix));
    let keyspace = match link.command(&request).await.map_err(|error| unreachable(dial, &error))? {
        Value::Nil => return Ok(None),
        Value::BulkString(root) => Keyspace::decode(place, &root)?,
        _ => return Err(OpenError::Damaged(format!("{place} answered a GET with something else"))),
    };
    keyspace.expect(place, options.keyspace)?;

    let mut request = redis::cmd("MGET");
    for key in Keys::new(&options.prefix, &keyspace).metas() {
        request.arg(key);
    }
    let metas = link.command(&request).await.map_err(|error| unreachable(dial, &error))?;
    let own = |meta: &Value| match meta {
        Value::BulkString(bytes) => {
            Meta::decode(bytes).is_some_and(|meta| meta.keyspace == keyspace.id())
        }
        _ => false,
    };
    let lost = match &metas {
        Value::Array(metas) => metas.iter().filter(|meta| !own(meta)).count(),
        _ => usize::from(keyspace.partitions()),
    };
    if lost > 0 {
        return Err(OpenError::Damaged(format!(
            "{place} lost {lost} of the {} partitions of keyspace {}; restore it, or remove every key with this prefix to begin anew",
            keyspace.partitions(),
            keyspace.id(),
        )));
    }
    Ok(Some(keyspace))
}

/// What INFO says about the server.
struct Info(HashMap<String, String>);

impl Info {
    async fn read(link: &Link, dial: &Dial) -> Result<Self, OpenError> {
        let text =
            link.command(&redis::cmd("INFO")).await.map_err(|error| unreachable(dial, &error))?;
        let text: String =
            redis::from_redis_value(text).map_err(|error| unreachable(dial, &error.into()))?;
        let field = |line: &str| {
            line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        };
        Ok(Self(text.lines().filter_map(field).collect()))
    }

    fn refuse_unfit(&self, dial: &Dial) -> Result<(), OpenError> {
        let place = dial.place();
        let version = self.field("redis_version");
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        if major.is_some_and(|major| major < OLDEST_MAJOR) {
            return Err(OpenError::Format(format!(
                "{place} is version {version}; longhaul needs {OLDEST_MAJOR}.0 or newer"
            )));
        }
        if self.field("redis_mode") == "cluster" {
            return Err(OpenError::Address(format!(
                "{place} is a node of a Redis Cluster, which this longhaul does not support; use a standalone Redis"
            )));
        }
        let policy = self.field("maxmemory_policy");
        if !matches!(policy, "" | "noeviction") {
            return Err(OpenError::Unsafe(format!(
                "{place} may evict acknowledged data: maxmemory-policy is {policy}; set it to noeviction"
            )));
        }
        Ok(())
    }

    fn field(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }
}

/// The settings that decide when a commit is on disk; `None` where the server does not let us ask.
async fn durability_settings(link: &Link) -> Option<HashMap<String, String>> {
    let mut request = redis::cmd("CONFIG");
    request.arg("GET");
    for (name, _) in FSYNC_SETTINGS {
        request.arg(name);
    }
    let reply = link.command(&request).await.ok()?;
    let settings: HashMap<String, String> = redis::from_redis_value(reply).ok()?;
    (settings.len() == FSYNC_SETTINGS.len()).then_some(settings)
}

/// Whatever keeps the store from being opened now, unless it is the credentials, which waiting does not mend.
pub(super) fn unreachable(dial: &Dial, error: &RedisError) -> OpenError {
    let place = dial.place().to_owned();
    let refused = error.kind() == redis::ErrorKind::AuthenticationFailed;
    if refused || matches!(error.code(), Some("NOAUTH" | "WRONGPASS" | "NOPERM")) {
        return OpenError::Address(format!(
            "{place} refuses these credentials: {}",
            error.code().unwrap_or("AUTH")
        ));
    }
    let StoreError::Away(cause) = super::link::refused("redis", &error.to_string()) else {
        return OpenError::Unreachable { place, cause: String::new() };
    };
    OpenError::Unreachable { place, cause }
}

const OLDEST_MAJOR: u32 = 7;
const FSYNC_SETTINGS: [(&str, &str); 3] =
    [("appendonly", "yes"), ("appendfsync", "always"), ("no-appendfsync-on-rewrite", "no")];
