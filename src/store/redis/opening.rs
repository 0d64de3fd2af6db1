//! Finding the keyspace or making it, and refusing a Redis that would lose it.

use std::collections::HashMap;

use redis::{RedisError, Value};

use super::fitness::{self, Fitness, RedisSettings};
use super::keys::{self, Keys, Meta};
use super::link::{self, Dial, Link};
use super::options::Options;
use super::trial::{self, Refusal};
use crate::store::backend::Durability;
use crate::store::error::{OpenError, StoreError};
use crate::store::keyspace::Keyspace;

/// Checks the server and its settings.
pub(super) async fn inspect(
    link: &Link,
    dial: &Dial,
    options: &Options,
) -> Result<Fitness, OpenError> {
    let info = Info::read(link, dial).await?;
    info.refuse_unfit(dial)?;
    let place = dial.place();
    let syncing = link.command(&fitness::asking()).await.ok();
    let syncing = syncing.and_then(|reply| redis::from_redis_value(reply).ok());
    let settings = RedisSettings::new(&info.text, syncing);
    let stated = options.durability.unwrap_or(Durability::Memory);
    let level = settings.judge(place, options.durability, stated).map_err(OpenError::Unsafe)?;
    if !settings.are_told() {
        tracing::warn!(
            store = place,
            durability = level.as_str(),
            "CONFIG is forbidden here: the durability level is taken as stated"
        );
    }
    Ok(Fitness::new(place, options.durability, settings.are_told(), level))
}

/// Tries everything that a running server does. Only a missing permission keeps the store from being opened: in a Redis that
/// is full for a while, work can still end.
pub(super) async fn permissions(link: &Link, dial: &Dial, keys: &Keys) -> Result<(), OpenError> {
    match trial::all(link, keys, dial.place()).await {
        Err(refusal) if refusal.forbidden => Err(OpenError::Address(refusal.error.to_string())),
        Err(Refusal { cause: Some(error), .. }) => Err(unreachable(dial, &error)),
        Err(refusal) => {
            tracing::warn!(error = %refusal.error, "opened, but writes are refused");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// Adopts the existing keyspace, or creates one.
///
/// One MSETNX creates the root and all metas, so no crash and no race leaves a part of them. If a part is missing
/// later, it was lost, and perhaps records with it: then nothing is created, and the operator decides.
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
    if !options.create {
        return Err(OpenError::Address(format!(
            "there is no store in {place}; correct --store or redis.prefix"
        )));
    }
    let partitions = options.partitions.max(1);
    let new = match &options.import {
        Some(origin) => Keyspace::imported(partitions, origin),
        None => Keyspace::generate(partitions),
    };
    let meta = Meta::new(new.id()).encode();
    let mut request = redis::cmd("MSETNX");
    request.arg(keys::root(&options.prefix)).arg(new.encode());
    for key in Keys::new(&options.prefix, &new).metas() {
        request.arg(key).arg(&meta);
    }
    link.command(&request).await.map_err(|error| unreachable(dial, &error))?;
    // The reply does not matter: the keyspace is adopted, whichever server created it.
    adopt(link, dial, options).await?.ok_or_else(|| {
        OpenError::Damaged(format!(
            "{place} holds partitions of a keyspace whose root record is gone: it lost data; restore it, or remove every key with this prefix to start empty"
        ))
    })
}

/// The existing keyspace, with all its metas.
async fn adopt(link: &Link, dial: &Dial, options: &Options) -> Result<Option<Keyspace>, OpenError> {
    let place = dial.place();
    let mut request = redis::cmd("GET");
    request.arg(keys::root(&options.prefix));
    let keyspace = match link.command(&request).await.map_err(|error| unreachable(dial, &error))? {
        Value::Nil => return Ok(None),
        Value::BulkString(root) => match &options.import {
            Some(origin) => Keyspace::decode_imported(place, &root, origin)?,
            None => Keyspace::decode(place, &root)?,
        },
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
            "{place} lost {lost} of the {} partitions of keyspace {}; restore it, or remove every key with this prefix to start empty",
            keyspace.partitions(),
            keyspace.id(),
        )));
    }
    Ok(Some(keyspace))
}

/// The server's part of INFO.
struct Info {
    text: String,
    fields: HashMap<String, String>,
}

impl Info {
    async fn read(link: &Link, dial: &Dial) -> Result<Self, OpenError> {
        let text =
            link.command(&redis::cmd("INFO")).await.map_err(|error| unreachable(dial, &error))?;
        let text: String =
            redis::from_redis_value(text).map_err(|error| unreachable(dial, &error.into()))?;
        let field = |line: &str| {
            line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        };
        let fields = text.lines().filter_map(field).collect();
        Ok(Self { text, fields })
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
        Ok(())
    }

    fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }
}

/// Any reason why the store cannot be opened now, except wrong credentials, which waiting does not repair.
pub(super) fn unreachable(dial: &Dial, error: &RedisError) -> OpenError {
    let place = dial.place().to_owned();
    let refused = error.kind() == redis::ErrorKind::AuthenticationFailed;
    if refused || matches!(error.code(), Some("NOAUTH" | "WRONGPASS")) {
        return OpenError::Address(format!(
            "{place} refuses these credentials: {}",
            error.code().unwrap_or("AUTH")
        ));
    }
    let text = error.to_string();
    if link::is_forbidden(&text) {
        return OpenError::Address(link::refused(&place, &text).to_string());
    }
    match link::refused("redis", &text) {
        StoreError::Away(cause) | StoreError::Unfit(cause) => {
            OpenError::Unreachable { place, cause }
        }
        _ => OpenError::Unreachable { place, cause: String::new() },
    }
}

const OLDEST_MAJOR: u32 = 7;
