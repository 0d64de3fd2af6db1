//! The same work with workers on streams, which send many calls in one message.

use std::collections::VecDeque;

use futures_util::FutureExt;
use futures_util::future::join;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::client::{Client, Destination, completion, report};
use super::report::Measured;
use super::run::{Arena, BenchRun, Part};
use crate::proto::longhaul::v1::serve_queue_request::Hello;
use crate::proto::longhaul::v1::{ServeQueueRequest, ServeQueueResponse};

/// A worker's stream.
pub(super) struct Worker {
    requests: mpsc::Sender<ServeQueueRequest>,
    replies: Streaming<ServeQueueResponse>,
    sequence: i64,
    /// Number and completions of each unacknowledged request.
    unacknowledged: VecDeque<(i64, u64)>,
}

impl Worker {
    /// Opens a stream with this number of slots.
    pub(super) async fn open(
        client: &Client,
        place: &Destination,
        slots: usize,
    ) -> Result<Self, Status> {
        let (requests, said) = mpsc::channel(4);
        let hello =
            Hello { queue: place.queue.clone(), worker: "bench".to_owned(), ..Hello::default() };
        let first = ServeQueueRequest {
            sequence: 1,
            hello: Some(hello),
            slots: Some(i32::try_from(slots).unwrap_or(i32::MAX)),
            ..ServeQueueRequest::default()
        };
        // There is room for it.
        let _ = requests.send(first).await;
        let replies = client.serve_queue(ReceiverStream::new(said)).await?;
        Ok(Self { requests, replies, sequence: 1, unacknowledged: VecDeque::new() })
    }

    /// Waits for messages and reads all that are there. Returns the acknowledged completions and the new leases.
    async fn hear(&mut self) -> Result<(u64, ServeQueueResponse), Status> {
        let gone = || Status::unavailable("the server has closed the stream");
        let mut news = self.replies.message().await?.ok_or_else(gone)?;
        while let Some(more) = self.replies.message().now_or_never() {
            let more = more?.ok_or_else(gone)?;
            news.sequence = more.sequence;
            news.acknowledged_sequence = more.acknowledged_sequence;
            news.leases.extend(more.leases);
            news.outcomes.extend(more.outcomes);
        }
        if let Some(outcome) = news.outcomes.first() {
            return Err(Status::data_loss(format!("a call was refused: {outcome:?}")));
        }
        let mut done = 0;
        while let Some((_, completions)) =
            self.unacknowledged.front().filter(|(said, _)| *said <= news.acknowledged_sequence)
        {
            done += completions;
            self.unacknowledged.pop_front();
        }
        Ok((done, news))
    }

    /// Completes the leases in one message, with a report for each if wanted.
    async fn complete(&mut self, news: &ServeQueueResponse, reports: bool) -> Result<(), Status> {
        if news.leases.is_empty() {
            return Ok(());
        }
        self.sequence += 1;
        let reported = news.leases.iter().filter(|_| reports);
        let request = ServeQueueRequest {
            sequence: self.sequence,
            seen_sequence: news.sequence,
            reports: reported.map(|lease| report(lease, 1)).collect(),
            completions: news.leases.iter().map(completion).collect(),
            ..ServeQueueRequest::default()
        };
        self.unacknowledged.push_back((self.sequence, news.leases.len() as u64));
        let closed = |_| Status::unavailable("the server has closed the stream");
        self.requests.send(request).await.map_err(closed)
    }

    /// Waits for one lease.
    pub(super) async fn lease_one(&mut self) -> Result<ServeQueueResponse, Status> {
        loop {
            let (_, news) = self.hear().await?;
            if !news.leases.is_empty() {
                return Ok(news);
            }
        }
    }

    /// Completes one lease.
    pub(super) async fn complete_one(&mut self, lease: &ServeQueueResponse) -> Result<(), Status> {
        self.complete(lease, false).await
    }
}

/// Start, lease, one report, complete; counted when the worker has the acknowledgement. `batch` starts go in one call.
pub(super) fn cycles(
    session: &BenchRun,
    name: &'static str,
    batch: usize,
) -> anyhow::Result<Measured> {
    let arena = session.arena(name, SLOTS);
    let in_flight = session.options.in_flight;
    session.measure(name, &arena, async |part, arena| {
        let produce = async |task| {
            let room = u32::try_from(batch).unwrap_or(u32::MAX);
            let Ok(room) = arena.room.acquire_many(room).await else { return Ok(0) };
            room.forget();
            let client = part.client(task);
            if batch == 1 {
                client.start(&arena.place).await?;
            } else {
                client.start_many(&arena.place, batch).await?;
            }
            Ok(0)
        };
        let producers = part.share(in_flight).div_ceil(batch).max(2);
        join(arena.repeat(producers, produce), serve(part, arena, SLOTS, true)).await;
    })
}

/// Start, wait for the result, next, with a worker on a stream.
pub(super) fn round_trips(session: &BenchRun) -> anyhow::Result<Measured> {
    let arena = session.arena("stream-round-trips", 0);
    let (in_flight, workers) = (session.options.in_flight, session.options.workers);
    session.measure("stream-round-trips", &arena, async |part, arena| {
        let round = async |task| {
            let client = part.client(task);
            let name = client.start(&arena.place).await?;
            Ok(u64::from(client.wait(&name).await?.done))
        };
        // The waiter counts it.
        join(arena.repeat(part.share(in_flight), round), serve(part, arena, workers, false)).await;
    })
}

/// The worker of one thread: one stream, on its first connection.
async fn serve(part: &Part, arena: &Arena, workers: usize, counts: bool) {
    let slots = part.share(workers).max(1);
    let serving = async {
        let mut worker = Worker::open(part.client(0), &arena.place, slots).await?;
        loop {
            let Some(heard) = arena.until_stopped(worker.hear()).await else {
                return Ok::<_, Status>(());
            };
            let (done, news) = heard?;
            worker.complete(&news, counts).await?;
            if counts {
                arena.count(done);
            }
            arena.room.add_permits(done as usize);
        }
    };
    match serving.await {
        Err(status) if status.code() == Code::Unavailable => {}
        ended => arena.note::<Status>(ended),
    }
}

/// Leases that streams hold at once, and operations under way: a worker with free slots gets what is started in one commit.
const SLOTS: usize = 512;
