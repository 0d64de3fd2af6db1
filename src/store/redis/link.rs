//! A connection that reconnects by itself, and the mapping of Redis's errors to those of the store.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind,
    IntoConnectionInfo, Pipeline, ProtocolVersion, TlsCertificates,
};
use redis::{RedisError, RedisResult, Value};
use tokio_rustls::rustls::crypto::ring;

use super::options::{Options, RedisTls};
use crate::store::error::{OpenError, StoreError};

/// How to connect: address and credentials, which stay in here, and timeouts.
#[derive(Clone, Debug)]
pub(super) struct Dial {
    client: Client,
    response_timeout: Duration,
    place: String,
}

impl Dial {
    /// Parses the URL. Messages contain only its host, port and database.
    pub(super) fn new(options: &Options) -> Result<Self, OpenError> {
        let refuse = |error: RedisError| {
            let reason = error.category();
            OpenError::Address(format!("the store's address is no usable redis URL: {reason}"))
        };
        let info = options.url.as_str().into_connection_info().map_err(refuse)?;
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let prefix = &options.prefix;
        let place = format!("redis at {}/{}, prefix {prefix:?}", info.addr(), settings.db());
        let info = info.set_redis_settings(settings);
        let client = if matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
            encrypted(info, &options.tls)?
        } else {
            Client::open(info).map_err(refuse)?
        };
        Ok(Self { client, response_timeout: options.response_timeout, place })
    }

    /// The name of this store in messages.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// A new connection to a master, with more settings. Data of a replica may be old.
    pub(super) async fn connect(
        &self,
        refine: impl FnOnce(AsyncConnectionConfig) -> AsyncConnectionConfig,
    ) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.response_timeout))
            .set_response_timeout(Some(self.response_timeout))
            .set_pipeline_buffer_size(QUEUED_REQUESTS);
        let config = refine(config);
        let mut connection =
            self.client.get_multiplexed_async_connection_with_config(&config).await?;
        Replication::read(&mut connection).await?;
        Ok(connection)
    }
}

/// A client that speaks TLS.
fn encrypted(info: ConnectionInfo, tls: &RedisTls) -> Result<Client, OpenError> {
    // The crate takes the process's own; a program with several must say which one it is.
    let _ = ring::default_provider().install_default();
    let identity = tls.identity.clone();
    let certificates = TlsCertificates {
        root_cert: tls.ca.clone(),
        client_tls: identity
            .map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key }),
    };
    Client::build_with_tls(info, certificates).map_err(|error| {
        OpenError::Address(format!(
            "the certificates for redis cannot be used: {error}; check redis.tls_ca, redis.tls_cert and redis.tls_key"
        ))
    })
}

/// The id of the server's history of writes; another one after a failover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Replication(String);

impl Replication {
    /// Sends the request.
    ///
    /// # Errors
    /// Also if the server is a replica.
    pub(super) async fn read(connection: &mut MultiplexedConnection) -> RedisResult<Self> {
        let info: String = redis::cmd("INFO").arg("replication").query_async(connection).await?;
        if info.lines().any(|line| line == "role:slave") {
            return Err((ErrorKind::Io, "this is a replica, not a master").into());
        }
        let id = info.lines().find_map(|line| line.strip_prefix("master_replid:"));
        Ok(Self(id.unwrap_or_default().to_owned()))
    }
}

/// One multiplexed connection for each runtime, shared by its tasks and replaced when it fails.
///
/// A connection that is served where its requests come from wakes no other thread: a quarter less CPU time per call.
///
/// The crate's own `ConnectionManager` keeps a connection that only times out, as one to a master that vanished does.
pub(super) struct Link {
    dial: Dial,
    /// Which runtime the calling task runs on.
    lane: fn() -> usize,
    lanes: Vec<Mutex<Current>>,
}

/// All callers without a connection wait for the same attempt to connect.
type Attempt = Shared<BoxFuture<'static, RedisResult<MultiplexedConnection>>>;

#[derive(Default)]
struct Current {
    generation: u64,
    attempt: Option<Attempt>,
}

impl Link {
    /// A link that connects with its first request.
    pub(super) fn new(dial: Dial, lane: fn() -> usize) -> Self {
        Self { dial, lane, lanes: (0..LANES).map(|_| Mutex::default()).collect() }
    }

    /// Sends one command.
    pub(super) async fn command(&self, command: &Cmd) -> RedisResult<Value> {
        let (lane, generation, attempt) = self.attempt();
        let reply = match attempt.await {
            Ok(mut connection) => command.query_async(&mut connection).await,
            Err(error) => Err(error),
        };
        self.judge(lane, generation, reply)
    }

    /// Sends several reads together, each on its own for the server; once more if the connection turns out to be lost.
    ///
    /// The loss of an idle connection shows only in the next request. After a timeout nothing is sent again: with
    /// a server that hangs, the caller would wait twice as long.
    pub(super) async fn read(&self, pipeline: &Pipeline) -> RedisResult<Vec<Value>> {
        match self.pipeline(pipeline).await {
            Err(error) if error.is_connection_dropped() => self.pipeline(pipeline).await,
            reply => reply,
        }
    }

    /// Sends one read, as [`Self::read`] does.
    pub(super) async fn read_one(&self, command: &Cmd) -> RedisResult<Value> {
        match self.command(command).await {
            Err(error) if error.is_connection_dropped() => self.command(command).await,
            reply => reply,
        }
    }

    async fn pipeline(&self, pipeline: &Pipeline) -> RedisResult<Vec<Value>> {
        let (lane, generation, attempt) = self.attempt();
        let reply = match attempt.await {
            Ok(mut connection) => pipeline.query_async(&mut connection).await,
            Err(error) => Err(error),
        };
        self.judge(lane, generation, reply)
    }

    /// Lets the connection go; requests under way still get their answers, the next one connects anew.
    pub(super) fn close(&self) {
        for lane in &self.lanes {
            lock(lane).attempt = None;
        }
    }

    fn attempt(&self) -> (usize, u64, Attempt) {
        let lane = (self.lane)() % LANES;
        let mut current = lock(&self.lanes[lane]);
        if let Some(attempt) = &current.attempt {
            return (lane, current.generation, attempt.clone());
        }
        let dial = self.dial.clone();
        let attempt = async move { dial.connect(|config| config).await }.boxed().shared();
        current.generation += 1;
        current.attempt = Some(attempt.clone());
        (lane, current.generation, attempt)
    }

    /// Drops the connection of that generation if the reply shows that it is unusable.
    fn judge<T>(&self, lane: usize, generation: u64, reply: RedisResult<T>) -> RedisResult<T> {
        if reply.as_ref().is_err_and(ends_connection) {
            let mut current = lock(&self.lanes[lane]);
            if current.generation == generation {
                current.attempt = None;
            }
        }
        reply
    }
}

fn lock(current: &Mutex<Current>) -> MutexGuard<'_, Current> {
    current.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Also for a replica's refusal: behind a moved address the next connection reaches the new master.
fn ends_connection(error: &RedisError) -> bool {
    error.is_io_error() || error.is_timeout() || error.is_unrecoverable_error()
}

/// All errors mean the same to callers: the outcome is unknown, try again.
pub(super) fn away(place: &str, error: &RedisError) -> StoreError {
    refused(place, &error.to_string())
}

/// An error reply of Redis.
pub(super) fn refused(place: &str, text: &str) -> StoreError {
    // Redis begins this refusal with OOM, and the crate passes the word on as the error's code.
    if text.contains("OOM") || text.contains("used memory > 'maxmemory'") {
        return StoreError::Unfit(format!(
            "{place} is out of memory: raise maxmemory or delete operations ({text})"
        ));
    }
    if is_forbidden(text) {
        let what = forbidden(text);
        return StoreError::Unfit(format!(
            "{place} does not let its user {what}; permit all commands that docs/redis.md lists"
        ));
    }
    if text.contains("MISCONF") {
        return StoreError::Unfit(format!(
            "{place} refuses writes because it cannot save to its disk: free space there and read its log ({text})"
        ));
    }
    if text.contains("NOREPLICAS") {
        return StoreError::Unfit(format!(
            "{place} refuses writes because fewer replicas are connected than min-replicas-to-write: connect them or lower it ({text})"
        ));
    }
    StoreError::Away(format!("{place}: {text}"))
}

/// Whether a permission is missing.
pub(super) fn is_forbidden(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    // A script of Redis 7.0 receives the last two.
    ["noperm", "no permissions", "executing the script can't"]
        .iter()
        .any(|said| text.contains(said))
}

/// A missing permission. Not in Redis's words: they may name the user.
fn forbidden(text: &str) -> String {
    let quoted = text.split_once("run the '").and_then(|(_, rest)| rest.split_once('\''));
    if let Some((command, _)) = quoted {
        return format!("run {}", command.to_ascii_uppercase());
    }
    if text.contains("channel") {
        return "use the channel of hints".to_owned();
    }
    if text.contains(" key") || text.contains("keys ") {
        return "use the keys with this prefix".to_owned();
    }
    // A trial puts the command in front.
    let command = text.split_whitespace().next().unwrap_or_default();
    if !command.is_empty() && command.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return format!("run {command}");
    }
    "do what it must".to_owned()
}

/// Requests that wait in the process for the socket; further callers wait for room.
const QUEUED_REQUESTS: usize = 1_024;
/// Connections at most; runtimes beyond share.
const LANES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_redis_refuses_is_told_apart_and_no_user_is_named() {
        for (text, said) in [
            ("NOPERM this user has no permissions to run the 'mset' command", "run MSET;"),
            (
                "NOPERM User joe has no permissions to run the 'config|get' command",
                "run CONFIG|GET;",
            ),
            (
                "HDEL ERR The user executing the script can't run this command or subcommand",
                "run HDEL;",
            ),
            ("NOPERM No permissions to access a channel", "use the channel of hints;"),
            (
                "NOPERM this user has no permissions to access one of the keys used as arguments",
                "use the keys with this prefix;",
            ),
            ("MSET OOM command not allowed when used memory > 'maxmemory'.", "out of memory"),
            ("MSET MISCONF Redis is configured to save RDB snapshots", "cannot save to its disk"),
            ("MSET NOREPLICAS Not enough good replicas to write.", "min-replicas-to-write"),
        ] {
            let error = refused("redis", text);
            assert!(matches!(&error, StoreError::Unfit(unfit) if unfit.contains(said)), "{error}");
            assert!(!error.to_string().contains("joe"), "{error}");
        }
        assert!(matches!(refused("redis", "LOADING Redis is loading"), StoreError::Away(_)));
    }
}
