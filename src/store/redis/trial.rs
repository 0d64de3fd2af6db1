//! A trial of all commands that the store uses in Redis, so that a refusal shows before there is work.

use std::sync::LazyLock;

use redis::{Cmd, RedisError, Value};

use super::keys::Keys;
use super::link::{self, Link};
use crate::store::error::StoreError;
use crate::store::index::Index;
use crate::store::key::{BodyKey, Key, Partition};

/// The script of [`write`]; `docs/redis.md` shows it.
pub(super) const TEXT: &str = include_str!("trial.lua");

static DIGEST: LazyLock<String> = LazyLock::new(|| redis::Script::new(TEXT).get_hash().to_owned());

/// Why Redis refused.
pub(super) struct Refusal {
    pub(super) error: StoreError,
    /// The user lacks a permission, which waiting does not mend.
    pub(super) forbidden: bool,
    /// The client's error, if Redis did not run the script.
    pub(super) cause: Option<RedisError>,
}

/// Runs once every command of a running server, except those that opening runs anyway.
pub(super) async fn all(link: &Link, keys: &Keys, place: &str) -> Result<(), Refusal> {
    let mut range = redis::cmd("ZRANGE");
    range
        .arg(keys.index(PLACE, &index()))
        .arg("-")
        .arg("+")
        .arg("BYLEX")
        .arg("LIMIT")
        .arg(0)
        .arg(1);
    let mut count = redis::cmd("HMGET");
    count.arg(keys.counters(PLACE, NAME)).arg(NAME);
    let mut names = redis::cmd("HSCAN");
    names.arg(keys.counters(PLACE, NAME)).arg(0);
    for read in [range, count, names, request("EVAL", TEXT, keys)] {
        link.read_one(&read).await.map_err(|error| unsent(place, error))?;
    }
    write(link, keys, place).await
}

/// Runs once every command of the commit script, in one script, which leaves no data.
pub(super) async fn write(link: &Link, keys: &Keys, place: &str) -> Result<(), Refusal> {
    let mut reply = link.read_one(&request("EVALSHA", &DIGEST, keys)).await;
    if reply.as_ref().is_err_and(|error| error.code() == Some("NOSCRIPT")) {
        reply = link.read_one(&request("EVAL", TEXT, keys)).await;
    }
    match reply.map_err(|error| unsent(place, error))? {
        Value::BulkString(refused) if refused.is_empty() => Ok(()),
        Value::BulkString(refused) => {
            let text = String::from_utf8_lossy(&refused);
            Err(Refusal {
                error: link::refused(place, &text),
                forbidden: link::is_forbidden(&text),
                cause: None,
            })
        }
        _ => Err(Refusal {
            error: StoreError::Damaged(format!("{place} answered a script with something else")),
            forbidden: false,
            cause: None,
        }),
    }
}

fn unsent(place: &str, error: RedisError) -> Refusal {
    let forbidden = link::is_forbidden(&error.to_string());
    Refusal { error: link::away(place, &error), forbidden, cause: Some(error) }
}

fn request(verb: &str, script: &str, keys: &Keys) -> Cmd {
    let record = Key::from_bytes([0; 16]);
    let body = BodyKey { record, slot: 0, nonce: [0; 8] };
    let named = [
        keys.record(PLACE, record),
        keys.index(PLACE, &index()),
        keys.counters(PLACE, NAME),
        keys.meta(PLACE),
        keys.body(PLACE, body),
    ];
    let mut request = redis::cmd(verb);
    request.arg(script).arg(named.len());
    for key in named {
        request.arg(key);
    }
    request.arg(keys.channel());
    request
}

fn index() -> Index {
    Index::new(NAME)
}

/// The permissions of one partition are those of all others.
const PLACE: Partition = Partition(0);
/// No index and no family of counters of an engine is called so.
const NAME: &str = "trial";
