//! Callbacks: how many a receiver on this machine gets, and what one that never answers costs the others.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::{join, join_all};
use tonic::Code;

use super::report::Measured;
use super::run::{BenchRun, Part};

/// Start, lease, complete, and a callback about the end. Counts callbacks; its quantiles are those of starts.
pub(super) fn delivered(session: &BenchRun) -> anyhow::Result<Measured> {
    let receiver = BenchReceiver::open(Manners::Answers)?;
    measured(session, "callbacks", &receiver, Some(&receiver))
}

/// The same cycles with callbacks to a receiver that never answers. Counts cycles.
pub(super) fn hung(session: &BenchRun) -> anyhow::Result<Measured> {
    measured(session, "callbacks-hung", &BenchReceiver::open(Manners::Hangs)?, None)
}

/// The same cycles without callbacks, to compare with. Counts cycles.
pub(super) fn none(session: &BenchRun) -> anyhow::Result<Measured> {
    let nowhere = BenchReceiver { url: String::new(), received: Arc::default() };
    measured(session, "callbacks-none", &nowhere, None)
}

fn measured(
    session: &BenchRun,
    name: &'static str,
    receiver: &BenchReceiver,
    counted: Option<&BenchReceiver>,
) -> anyhow::Result<Measured> {
    let arena = session.arena(name, BACKLOG);
    let (in_flight, workers) = (session.options.in_flight, session.options.workers);
    session.measure(name, &arena, async |part, arena| {
        let produce = async |task| {
            let Ok(room) = arena.room.acquire().await else { return Ok(0) };
            room.forget();
            part.client(task).start_with_callback(&arena.place, &receiver.url).await?;
            // The time of a start is counted, whatever else is.
            Ok(u64::from(counted.is_none()))
        };
        let work = async |task| {
            let client = part.client(task);
            let leases = match client.lease(&arena.place, LEASES_AT_ONCE).await {
                Err(status) if status.code() == Code::Unavailable => return Ok(0),
                leases => leases?,
            };
            let done = join_all(leases.iter().map(|lease| client.complete(lease))).await;
            done.into_iter().collect::<Result<(), _>>()?;
            arena.room.add_permits(leases.len());
            if let Some(receiver) = counted.filter(|_| is_first(part, task)) {
                arena.count(receiver.received.swap(0, Ordering::Relaxed));
            }
            Ok(0)
        };
        let produced = arena.repeat(part.share(in_flight), produce);
        let slots = part.share(workers).max(1);
        join(produced, arena.repeat(slots.div_ceil(LEASES_AT_ONCE), work)).await;
    })
}

fn is_first(part: &Part, task: usize) -> bool {
    part.number == 0 && task == 0
}

/// A receiver of callbacks on this machine.
struct BenchReceiver {
    url: String,
    received: Arc<AtomicU64>,
}

/// What a receiver does with a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manners {
    Answers,
    Hangs,
}

impl BenchReceiver {
    /// Listens until the process ends.
    fn open(manners: Manners) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let url = format!("http://{}/hook", listener.local_addr()?);
        let received = Arc::<AtomicU64>::default();
        let counted = Arc::clone(&received);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counted = Arc::clone(&counted);
                std::thread::spawn(move || drop(serve(stream, manners, &counted)));
            }
        });
        Ok(Self { url, received })
    }
}

/// Answers the requests of one connection, one after the other.
fn serve(mut stream: TcpStream, manners: Manners, received: &AtomicU64) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut buffer, mut held) = ([0; 16 << 10], Vec::new());
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        held.extend_from_slice(&buffer[..length]);
        while let Some(end) = end_of_request(&held) {
            held.drain(..end);
            if manners == Manners::Answers {
                received.fetch_add(1, Ordering::Relaxed);
                stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
            }
        }
    }
}

fn end_of_request(held: &[u8]) -> Option<usize> {
    let head = held.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&held[..head]).ok()?;
    let mut lengths = text.lines().filter_map(|line| line.strip_prefix("content-length: "));
    let end = head + lengths.next().and_then(|length| length.parse().ok()).unwrap_or(0);
    (held.len() >= end).then_some(end)
}

/// Largest number of operations that wait for a worker.
const BACKLOG: usize = 512;
const LEASES_AT_ONCE: usize = 16;
