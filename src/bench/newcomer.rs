//! Fairness: one parent has a long backlog, and another one starts an operation.

use futures_util::future::try_join_all;
use tonic::Status;

use super::client::{Client, Destination};
use super::report::{Measured, Quantiles};
use super::run::BenchRun;

/// How soon a worker has the first operation of a new parent. The number is that of all leases until then.
pub(super) fn run(session: &BenchRun) -> anyhow::Result<Measured> {
    let place = session.place("newcomer");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = Client::connect(&session.options.server).await?;
        fill(&client, &place).await?;
        let (mut leases, mut took) = (0, Vec::new());
        for round in 0..ROUNDS {
            let parent = format!("{}/newcomers/{round}", place.parent);
            let newcomer = Destination { parent, queue: place.queue.clone() };
            serve(&client, &place, "", LEASES_BEFORE).await?;
            let began = session.clock.elapsed();
            let name = client.start(&newcomer).await?;
            leases += serve(&client, &place, &name, usize::MAX).await?;
            took.push(session.clock.elapsed().saturating_sub(began));
        }
        let quantiles = vec![Quantiles::of("start to lease", took)];
        let (name, cpu, memory) = ("newcomer", Vec::new(), Vec::new());
        Ok(Measured { name, per_second: None, count: leases, quantiles, cpu, memory })
    })
}

async fn fill(client: &Client, place: &Destination) -> Result<(), Status> {
    for _ in 0..BACKLOG / (BATCH * BATCHES_AT_ONCE) {
        try_join_all((0..BATCHES_AT_ONCE).map(|_| client.start_many(place, BATCH))).await?;
    }
    Ok(())
}

/// Leases one after the other and completes each, until that operation was leased; returns how many leases that took.
async fn serve(
    client: &Client,
    place: &Destination,
    until: &str,
    most: usize,
) -> Result<u64, Status> {
    let mut count = 0;
    for _ in 0..most {
        for lease in client.lease(place, 1).await? {
            count += 1;
            let found = lease.operation == until;
            client.complete(&lease).await?;
            if found {
                return Ok(count);
            }
        }
    }
    Ok(count)
}

const BACKLOG: usize = 100_000;
const BATCH: usize = 100;
const BATCHES_AT_ONCE: usize = 10;
const ROUNDS: usize = 20;
/// So many operations of the backlog are leased between two newcomers.
const LEASES_BEFORE: usize = 20;
