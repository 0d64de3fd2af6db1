//! Fencing: a worker that was stopped for longer than its lease wakes up and writes, and the database refuses it, because a
//! newer worker has written.
//!
//! Needs a Redis: `cargo run --example fencing [SERVER [REDIS]]`, in two terminals, then:
//!
//!     longhaul start --queue balances --method set --target account-1 --request '{"balance": 5}'
//!     kill -STOP PID        # of the worker that says that it works, within ten seconds
//!     kill -CONT PID        # once the other one has written: "refused: a newer lease has written"
//!
//! Any database with an atomic compare and write can do it. In SQL:
//!
//!     UPDATE accounts SET balance = $1, fence = $2 WHERE id = $3 AND fence <= $2

use std::time::Duration;

use longhaul::client::Client;
use longhaul::clock::{Clock, SystemClock};
use longhaul::worker::{Context, Json, Stop, Worker};
use redis::aio::MultiplexedConnection;
use serde::{Deserialize, Serialize};
use tonic::Code;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Balance {
    pub(crate) balance: f64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let mut arguments = std::env::args().skip(1);
    let server = arguments.next().unwrap_or_else(|| "127.0.0.1:50051".to_owned());
    let redis = arguments.next().unwrap_or_else(|| "redis://127.0.0.1/".to_owned());
    let accounts = Accounts::open(&redis).await?;
    let client = Client::connect(&server).await?;
    let set = move |context: Context, Json(request): Json<Balance>| {
        let accounts = accounts.clone();
        async move {
            let operation = context.operation().to_owned();
            tracing::info!(operation, pid = std::process::id(), "working");
            SystemClock::new().sleep(WORK).await;
            let done = set(&accounts, &context, request).await;
            let balance = accounts.balance(context.target()).await?;
            match &done {
                Ok(_) => tracing::info!(operation, balance, "written"),
                Err(stop) => tracing::warn!(operation, balance, "{stop}"),
            }
            done
        }
    };
    let worker = Worker::builder(client).queue("balances").handler("set", set);
    worker.run_until(async { drop(tokio::signal::ctrl_c().await) }).await?;
    Ok(())
}

/// Writes the balance, unless a newer lease has written.
pub(crate) async fn set(
    accounts: &Accounts,
    context: &Context,
    request: Balance,
) -> Result<Json<Balance>, Stop> {
    // Not `if context.is_cancelled()`: a worker that sleeps between a look and its write would still write.
    if !accounts.write(context.target(), request.balance, context.fencing_number()).await? {
        return Err(Stop::fail(Code::Aborted, "refused: a newer lease has written").do_not_retry());
    }
    Ok(Json(request))
}

/// Balances, each with the newest fencing number that wrote it.
#[derive(Clone)]
pub(crate) struct Accounts {
    redis: MultiplexedConnection,
}

impl Accounts {
    pub(crate) async fn open(url: &str) -> redis::RedisResult<Self> {
        let client = redis::Client::open(url)?;
        Ok(Self { redis: client.get_multiplexed_async_connection().await? })
    }

    /// Whether the balance was written; false if the fence is newer.
    pub(crate) async fn write(
        &self,
        account: &str,
        balance: f64,
        fence: i64,
    ) -> redis::RedisResult<bool> {
        let script = redis::Script::new(WRITE);
        let mut redis = self.redis.clone();
        script.key(account).arg(fence).arg(balance).invoke_async(&mut redis).await
    }

    pub(crate) async fn balance(&self, account: &str) -> redis::RedisResult<f64> {
        redis::cmd("HGET").arg(account).arg("balance").query_async(&mut self.redis.clone()).await
    }
}

/// Compares and writes atomically.
const WRITE: &str = "
local newest = tonumber(redis.call('HGET', KEYS[1], 'fence') or '0')
if tonumber(ARGV[1]) < newest then return 0 end
redis.call('HSET', KEYS[1], 'fence', ARGV[1], 'balance', ARGV[2])
return 1
";
const WORK: Duration = Duration::from_secs(10);
