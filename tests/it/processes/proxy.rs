//! A proxy between a server and its Redis that only drops hints at random.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Passes on every byte of both sides but half of the messages on channels.
pub(super) struct LossyProxy {
    address: SocketAddr,
    chance: Arc<Chance>,
    _tasks: JoinSet<()>,
}

/// Which messages are lost: random, and the same in every run.
struct Chance {
    drawn: AtomicU64,
    lost: AtomicU64,
}

impl LossyProxy {
    /// Before the Redis at `redis`, host and port.
    pub(super) async fn before(redis: String, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let chance = Arc::new(Chance { drawn: AtomicU64::new(seed), lost: AtomicU64::new(0) });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, redis, chance.clone()));
        Self { address, chance, _tasks: tasks }
    }

    /// The address that a server uses as its Redis.
    pub(super) fn url(&self) -> String {
        format!("redis://{}/", self.address)
    }

    /// How many messages were lost.
    pub(super) fn lost(&self) -> u64 {
        self.chance.lost.load(Ordering::SeqCst)
    }
}

async fn accept(listener: TcpListener, redis: String, chance: Arc<Chance>) {
    let mut connections = JoinSet::new();
    loop {
        let (server, _) = listener.accept().await.expect("a connection");
        let Ok(redis) = TcpStream::connect(&redis).await else { continue };
        let (from_server, to_server) = server.into_split();
        let (from_redis, to_redis) = redis.into_split();
        let chance = chance.clone();
        connections.spawn(async move {
            // Either end ends both.
            tokio::select! {
                _ = pass_all(from_server, to_redis) => {}
                _ = pass_some(from_redis, to_server, &chance) => {}
            }
        });
    }
}

async fn pass_all(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> std::io::Result<u64> {
    tokio::io::copy(&mut from, &mut to).await
}

async fn pass_some(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    chance: &Chance,
) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    while from.read_buf(&mut bytes).await? > 0 {
        while let Some(end) = end_of_value(&bytes, 0) {
            let value: Vec<u8> = bytes.drain(..end).collect();
            if !(value.starts_with(MESSAGE) && chance.loses()) {
                to.write_all(&value).await?;
            }
        }
    }
    Ok(())
}

impl Chance {
    /// One time in two, by splitmix64.
    fn loses(&self) -> bool {
        let state = self.drawn.fetch_add(GOLDEN, Ordering::SeqCst).wrapping_add(GOLDEN);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let loses = (mixed ^ (mixed >> 31)).is_multiple_of(2);
        self.lost.fetch_add(u64::from(loses), Ordering::SeqCst);
        loses
    }
}

/// Where the RESP value that begins at `start` ends, if it is all there.
fn end_of_value(bytes: &[u8], start: usize) -> Option<usize> {
    let line = bytes.get(start..)?.windows(2).position(|pair| pair == b"\r\n")?;
    let rest = start + line + 2;
    let text = std::str::from_utf8(&bytes[start + 1..start + line]).ok();
    let count = || text.and_then(|text| usize::try_from(text.parse::<i64>().ok()?).ok());
    let values = match bytes[start] {
        b'$' | b'=' | b'!' => {
            let end = count().map_or(rest, |length| rest + length + 2);
            return (end <= bytes.len()).then_some(end);
        }
        b'*' | b'~' | b'>' => count().unwrap_or(0),
        b'%' => 2 * count().unwrap_or(0),
        _ => 0,
    };
    (0..values).try_fold(rest, |next, _| end_of_value(bytes, next))
}

/// The begin of a message from a channel, in RESP3.
const MESSAGE: &[u8] = b">3\r\n$7\r\nmessage\r\n";
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
