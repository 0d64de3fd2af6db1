//! The subscription: receives hints, checks all partitions once a second, and reconnects after every loss.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, RedisError, RedisResult, Value};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::fitness::{self, RedisSettings};
use super::keys::Meta;
use super::link::Replication;
use super::shared::SharedLink;
use crate::clock::Timestamp;

/// One connection, subscribed to the hints of all partitions.
///
/// It is separate from requests: Redis disconnects a subscriber whose pending replies exceed 32 MiB by default.
pub(super) struct Subscription {
    connection: MultiplexedConnection,
    ended: Arc<Notify>,
}

impl Subscription {
    /// Connects, subscribes, and checks all partitions for the first time.
    pub(super) async fn open(shared: &Arc<SharedLink>) -> RedisResult<Self> {
        let ended = Arc::new(Notify::new());
        let receiver = receiver(shared, &ended);
        shared.hints.restart();
        let mut connection = shared.dial.connect(|config| config.set_push_sender(receiver)).await?;
        connection.subscribe(shared.keys.channel()).await?;
        let mut subscription = Self { connection, ended };
        subscription.look(shared).await?;
        Ok(subscription)
    }

    /// Listens until the connection is lost.
    async fn listen(mut self, shared: &SharedLink) -> RedisResult<()> {
        loop {
            tokio::select! {
                () = self.ended.notified() => return Ok(()),
                () = shared.time.clock().sleep(LOOK_INTERVAL) => self.look(shared).await?,
            }
        }
    }

    /// Reads the time and all metas. On this connection, so that the hints before them have come or are lost.
    async fn look(&mut self, shared: &SharedLink) -> RedisResult<()> {
        let replication = Replication::read(&mut self.connection).await?;
        self.look_at_settings(shared).await?;
        let before = shared.hints.known();
        let sent = shared.time.clock().elapsed();
        let mut request = redis::pipe();
        request.cmd("TIME").cmd("GET").arg(shared.keys.root()).cmd("MGET");
        for meta in shared.keys.metas() {
            request.arg(meta);
        }
        let ((seconds, micros), root, metas): ((u64, u64), Value, Vec<Value>) =
            request.query_async(&mut self.connection).await?;
        if let Value::BulkString(root) = &root {
            shared.take_in_root(root);
        }
        shared.time.observe(
            Timestamp::from_micros(seconds.saturating_mul(1_000_000).saturating_add(micros)),
            sent,
        );

        let fit = shared.fitness.refusal().is_none();
        let metas: Vec<Option<Meta>> = metas.iter().map(|meta| shared.own_meta(meta)).collect();
        let mut lost = 0_u16;
        for (partition, meta) in shared.keyspace.all().zip(&metas) {
            let changed = match meta {
                Some(_) if fit => shared.time.answered(partition),
                // While no lease can be renewed, none may expire.
                _ => shared.time.away(partition),
            };
            lost += u16::from(changed && meta.is_none());
        }
        if lost > 0 {
            tracing::error!(partitions = lost, "{}", shared.foreign());
        }
        let last = metas.iter().flatten().map(|meta| meta.revision).max().unwrap_or_default();
        shared.time.compare(Timestamp::from_micros(last));
        shared.hints.compare(&before, &metas);
        shared.hints.follow(replication);
        Ok(())
    }

    /// Operators change settings while the server runs, and after a failover they are those of another Redis.
    async fn look_at_settings(&mut self, shared: &SharedLink) -> RedisResult<()> {
        let info: String =
            redis::cmd("INFO").arg("memory").query_async(&mut self.connection).await?;
        let syncing = if shared.fitness.asks() {
            fitness::asking().query_async(&mut self.connection).await.ok()
        } else {
            None
        };
        shared.fitness.settings(&RedisSettings::new(&info, syncing));
        Ok(())
    }
}

/// Keeps a subscription until the store is closed.
pub(super) async fn run(
    shared: Arc<SharedLink>,
    mut subscription: Subscription,
    stop: CancellationToken,
) {
    let keep = async {
        loop {
            let began = shared.time.clock().elapsed();
            let loss = subscription.listen(&shared).await.err();
            lost(&shared, loss.as_ref());
            if shared.time.clock().elapsed().saturating_sub(began) < RETRY_INTERVAL {
                // A connection that does not last must not be made in a tight loop.
                shared.time.clock().sleep(RETRY_INTERVAL).await;
            }
            subscription = reopen(&shared).await;
            tracing::info!(store = shared.dial.place(), "listening again");
            shared.hints.missed_everything();
        }
    };
    stop.run_until_cancelled(keep).await;
}

async fn reopen(shared: &Arc<SharedLink>) -> Subscription {
    loop {
        match Subscription::open(shared).await {
            Ok(subscription) => return subscription,
            Err(error) => lost(shared, Some(&error)),
        }
        shared.time.clock().sleep(RETRY_INTERVAL).await;
    }
}

/// The other connections are no better; they may lead to a master that is none any more.
fn lost(shared: &SharedLink, error: Option<&RedisError>) {
    shared.link.close();
    shared.bulk.close();
    let cause = error.map_or_else(|| "connection closed".to_owned(), ToString::to_string);
    if shared.time.all_away()
        && let Some(left_out) = shared.throttle.admit("subscription")
    {
        tracing::warn!(store = shared.dial.place(), cause, left_out, "lost the subscription");
    }
}

/// Runs in the connection's own task, so it only records the message.
fn receiver(
    shared: &Arc<SharedLink>,
    ended: &Arc<Notify>,
) -> impl Fn(PushInfo) -> Result<(), redis::aio::SendError> + Send + Sync + use<> {
    let channel = shared.keys.channel();
    let (hints, ended) = (Arc::clone(&shared.hints), Arc::clone(ended));
    move |push| {
        match (push.kind, &push.data[..]) {
            (PushKind::Message, [Value::BulkString(on), Value::BulkString(payload)])
                if *on == channel =>
            {
                hints.hear(payload);
            }
            (PushKind::Disconnection, _) => ended.notify_one(),
            _ => {}
        }
        Ok(())
    }
}

/// A hint that was lost is noticed after this.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Between attempts to come back.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);
