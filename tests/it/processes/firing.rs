//! Jobs on servers that are killed in the middle of their firings.

use std::time::Duration;

use longhaul::clock::{Clock, SystemClock, Timestamp};
use longhaul::proto::longhaul::v1 as pb;
use longhaul::proto::longhaul::v1::jobs_client::JobsClient;
use tempfile::TempDir;

use super::binary::Longhaul;
use super::bounds::{eventually, retried};
use super::redis::Redis;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_tick_runs_once_though_the_server_is_killed_again_and_again() {
    let folder = TempDir::new().expect("a folder");
    let store = format!("embedded:{}", folder.path().display());
    fires_each_tick_once(&store, 1, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_tick_runs_once_though_servers_of_several_are_killed() {
    let redis = Redis::durable();
    fires_each_tick_once(&redis.url(), 3, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_tick_runs_once_though_two_servers_of_three_are_killed_together() {
    let redis = Redis::durable();
    fires_each_tick_once(&redis.url(), 3, 2).await;
}

/// Kills one server after another while ticks come, or several together, and counts the executions.
async fn fires_each_tick_once(store: &str, count: usize, together: usize) {
    let mut servers = Vec::new();
    for _ in 0..count {
        servers.push(Longhaul::serve(store).await);
    }
    let clock = SystemClock::new();
    let begin = clock.now() + Duration::from_secs(4);
    for number in 0..JOBS {
        let create = || async {
            let mut jobs = JobsClient::new(servers[0].client().channel());
            jobs.create_job(creation(number, begin)).await
        };
        retried("a job", create).await;
    }
    let last = begin + Duration::from_secs(TICKS);
    let mut life = 0_u32;
    while clock.now() < last {
        // At another moment of a firing each time.
        clock.sleep(Duration::from_millis(u64::from(life * 137 % 600) + 300)).await;
        let killed: Vec<usize> =
            (0..together).map(|number| (life as usize + number) % count).collect();
        for server in &killed {
            servers[*server].kill();
        }
        for server in killed {
            servers[server] = Longhaul::serve(store).await;
        }
        life += 1;
    }
    for number in 0..JOBS {
        let ticks = eventually("all ticks of a job", || async {
            let ticks = ticks(&servers[0], number).await?;
            (ticks.len() as u64 >= TICKS).then_some(ticks)
        })
        .await;
        let expected: Vec<Timestamp> =
            (0..TICKS).map(|tick| begin + Duration::from_secs(tick)).collect();
        assert_eq!(ticks, expected, "job {number} after {life} lives");
    }
    let started = servers[0].client().list_all().await.len() as u64;
    assert_eq!(started, TICKS * JOBS, "operations without an execution");
}

/// The ticks of the executions of a job, oldest first; `None` while the server does not answer.
async fn ticks(server: &Longhaul, number: u64) -> Option<Vec<Timestamp>> {
    let request = pb::ListExecutionsRequest {
        parent: format!("jobs/j-{number}"),
        page_size: 1_000,
        ..Default::default()
    };
    let mut jobs = JobsClient::new(server.client().channel());
    let page = jobs.list_executions(request).await.ok()?.into_inner();
    let tick = |execution: &pb::Execution| execution.tick_time.as_ref().map(Timestamp::from);
    let mut ticks: Vec<Timestamp> = page.executions.iter().filter_map(tick).collect();
    ticks.sort_unstable();
    Some(ticks)
}

/// Fires each second, and catches up with what an outage has left.
fn creation(number: u64, begin: Timestamp) -> pb::CreateJobRequest {
    let second = prost_types::Duration { seconds: 1, nanos: 0 };
    let schedule = pb::Schedule {
        timing: Some(pb::schedule::Timing::Interval(second)),
        start_time: Some(begin.into()),
        end_time: Some((begin + Duration::from_secs(TICKS)).into()),
        ..Default::default()
    };
    let job = pb::Job {
        template: Some(pb::JobTemplate { queue: "never-leased".to_owned(), ..Default::default() }),
        schedule: Some(schedule),
        overlap_policy: pb::job::OverlapPolicy::Allow.into(),
        catch_up_window: Some(prost_types::Duration { seconds: 3_600, nanos: 0 }),
        ..Default::default()
    };
    pb::CreateJobRequest {
        job_id: format!("j-{number}"),
        job: Some(job),
        request_id: format!("j-{number}"),
        ..Default::default()
    }
}

const JOBS: u64 = 20;
const TICKS: u64 = 6;
