//! A worker that leases, renews, reports and ends with a call each.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use longhaul::clock::{Clock, SystemClock};
use longhaul::proto::google::longrunning::GetOperationRequest;
use longhaul::proto::google::longrunning::operations_client::OperationsClient;
use longhaul::proto::longhaul::v1 as pb;
use longhaul::proto::longhaul::v1::workers_client::WorkersClient;
use tokio::task::JoinSet;
use tonic::Status;
use tonic::transport::Channel;

use super::callers::QUEUES;
use super::dice::Dice;
use super::event::{Act, Call, Outcome, Said};
use super::journal::{Journal, outcome};
use super::look::at_operation;
use super::stage::{bounded, channel};
use super::worker::{
    LEASE, Part, Step, complete, duration, fail, leased, micros, plan, release, report, said, stop,
    suspend,
};

/// The additional content of a reply: the result, and the requests to the worker.
#[derive(Default)]
struct Answer {
    will_retry: bool,
    discarded: bool,
    expires: u64,
    directive: pb::Directive,
}

#[derive(Clone)]
struct Worker {
    part: Part,
    journal: Arc<Journal>,
    clock: Arc<SystemClock>,
    channels: Vec<Channel>,
    reports: Arc<AtomicI64>,
}

/// Works until it is killed.
pub(super) async fn play(part: Part) {
    let worker = Worker {
        journal: Arc::new(Journal::open(&part.folder, &part.who)),
        clock: SystemClock::new(),
        channels: part.doors.iter().map(|door| channel(*door)).collect(),
        reports: Arc::default(),
        part,
    };
    let mut hands = JoinSet::new();
    for hand in 0..HANDS {
        hands.spawn(worker.clone().lease(hand));
    }
    hands.join_all().await;
}

impl Worker {
    /// Leases now and then, and handles leases concurrently.
    async fn lease(self, hand: usize) {
        let mut dice = Dice::of(self.part.seed, &format!("{}-{hand}", self.part.who));
        let mut under_way = JoinSet::new();
        loop {
            while under_way.try_join_next().is_some() {}
            let queue = (*dice.pick(&QUEUES)).to_owned();
            let most = dice.between(1, 4);
            let request = pb::LeaseOperationsRequest {
                queue,
                worker: self.part.who.clone(),
                max_operations: most as i32,
                lease_duration: duration(dice.between(LEASE, 2 * LEASE)),
                wait_duration: duration(500),
                ..Default::default()
            };
            let begin = self.journal.now();
            let reply = bounded(self.workers(&mut dice).lease_operations(request)).await;
            let leases = reply.map(|reply| reply.leases).unwrap_or_default();
            let holds = leases.len();
            for lease in leases {
                let act = leased(&lease, true, holds, most as usize);
                self.journal.note(&lease.operation, begin, act);
                let fencing = lease.fencing_number as u64;
                let steps = plan(&mut dice, &self.part, fencing);
                let dice = Dice::of(self.part.seed, &format!("{}-{fencing}", self.part.who));
                under_way.spawn(self.clone().see_to(lease, steps, dice));
            }
            self.clock.sleep(Duration::from_millis(dice.between(5, 60))).await;
        }
    }

    fn workers(&self, dice: &mut Dice) -> WorkersClient<Channel> {
        WorkersClient::new(dice.pick(&self.channels).clone())
    }

    async fn see_to(self, lease: pb::Lease, mut steps: VecDeque<Step>, mut dice: Dice) {
        let mut asked = false;
        while let Some(step) = steps.pop_front() {
            self.clock.sleep(Duration::from_millis(step.after)).await;
            let Some(answer) = self.insist(&lease, &step, &mut dice).await else { continue };
            if step.call.ends() && dice.percent(40) {
                self.look(&lease.operation, &mut dice).await;
            }
            let directive = answer.directive;
            if !asked && (directive.cancel_requested || directive.pause_requested) {
                asked = true;
                if let Some(step) = stop(&mut dice, &self.part, directive) {
                    steps = VecDeque::from([step]);
                }
            }
        }
    }

    /// An acknowledged call counts at once, for every reader.
    async fn look(&self, name: &str, dice: &mut Dice) {
        let begin = self.journal.now();
        let request = GetOperationRequest { name: name.to_owned() };
        let mut operations = OperationsClient::new(dice.pick(&self.channels).clone());
        if let Ok(operation) = bounded(operations.get_operation(request)).await {
            self.journal.note(name, begin, Act::Seen(at_operation(&operation)));
        }
    }

    /// Makes a call; one that ends the lease is repeated if there is no reply.
    async fn insist(&self, lease: &pb::Lease, step: &Step, dice: &mut Dice) -> Option<Answer> {
        for _ in 0..3 {
            let said = said(lease, step, true);
            let event = self.journal.begin(&lease.operation, Act::Said(said.clone()));
            let reply = self.say(lease, step, dice).await;
            let came = outcome(&reply);
            let said = reply.as_ref().map_or(said.clone(), |answer| Said {
                will_retry: answer.will_retry,
                discarded: answer.discarded,
                expires: answer.expires,
                ..said
            });
            let event = super::event::Event { act: Act::Said(said), ..event };
            self.journal.end(event, came.clone());
            if came != Outcome::Unknown || !step.call.ends() {
                return reply.ok();
            }
            self.clock.sleep(Duration::from_millis(dice.between(10, 400))).await;
        }
        None
    }

    async fn say(&self, lease: &pb::Lease, step: &Step, dice: &mut Dice) -> Result<Answer, Status> {
        let mut workers = self.workers(dice);
        match step.call {
            Call::Adopt | Call::Renew => renew(workers, lease).await,
            Call::Report => {
                let report_number = self.reports.fetch_add(1, Ordering::SeqCst) + 1;
                let request = pb::ReportProgressRequest { report_number, ..report(lease, step) };
                let reply = bounded(workers.report_progress(request)).await?;
                let expires = micros(reply.expire_time.as_ref());
                let directive = reply.directive.unwrap_or_default();
                Ok(Answer { expires, directive, ..Answer::default() })
            }
            Call::Complete => {
                let reply = bounded(workers.complete_operation(complete(lease, step))).await?;
                Ok(Answer { discarded: reply.discarded, ..Answer::default() })
            }
            Call::Fail => {
                let reply = bounded(workers.fail_operation(fail(lease, step))).await?;
                let (will_retry, discarded) = (reply.will_retry, reply.discarded);
                Ok(Answer { will_retry, discarded, ..Answer::default() })
            }
            Call::Release => {
                bounded(workers.release_lease(release(lease))).await.map(|_| Answer::default())
            }
            Call::Suspend | Call::SuspendUntil => {
                let request = suspend(lease, step);
                bounded(workers.suspend_operation(request)).await.map(|_| Answer::default())
            }
        }
    }
}

async fn renew(mut workers: WorkersClient<Channel>, lease: &pb::Lease) -> Result<Answer, Status> {
    let renewal = pb::renew_leases_request::Renewal {
        name: lease.operation.clone(),
        lease_token: lease.lease_token.clone(),
        ..Default::default()
    };
    let request = pb::RenewLeasesRequest { renewals: vec![renewal] };
    let reply = bounded(workers.renew_leases(request)).await?;
    let result = reply.results.into_iter().next().expect("one result");
    if let Some(error) = result.error {
        return Err(Status::new(error.code.into(), error.message));
    }
    let expires = micros(result.expire_time.as_ref());
    let directive = result.directive.unwrap_or_default();
    Ok(Answer { expires, directive, ..Answer::default() })
}

const HANDS: usize = 3;
