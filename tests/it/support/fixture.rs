//! One server, its store, its clock and a client of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use longhaul::engine::{
    Engine, IdentitySettings, Janitor, Policy, Reaper, Roles, Rules, Scheduler, Settings,
    TenantLimits,
};
use longhaul::limits::MIN_RETURN_GRACE;
use longhaul::post::Carrier;
use longhaul::proto::google::longrunning as lro;
use longhaul::proto::google::longrunning::operations_client::OperationsClient;
use longhaul::proto::longhaul::v1::callers_client::CallersClient;
use longhaul::proto::longhaul::v1::jobs_client::JobsClient;
use longhaul::proto::longhaul::v1::producers_client::ProducersClient;
use longhaul::proto::longhaul::v1::tokens_client::TokensClient;
use longhaul::proto::longhaul::v1::workers_client::WorkersClient;
use longhaul::server::Server;
use longhaul::store::faulty::{FaultPlan, Faulty};
use longhaul::store::{Partition, Store};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use super::clock::TestClock;
use super::rest::{Line, Rest};
use super::{Answer, Call, Operation, State, Watcher, pb, requests, stores, within};

/// A server in this process. Its agents run when time passes by [`Fixture::pass`], so that nothing happens at a bad moment.
pub(crate) struct Fixture {
    pub(crate) clock: Arc<TestClock>,
    pub(crate) store: Arc<Faulty>,
    pub(crate) server: Server,
    pub(crate) line: Line,
    pub(crate) channel: Channel,
    pub(crate) address: SocketAddr,
    shutdown: Option<oneshot::Sender<()>>,
    serving: JoinSet<anyhow::Result<()>>,
    _folder: Option<TempDir>,
}

impl Fixture {
    pub(crate) async fn embedded() -> Self {
        let clock = TestClock::new();
        let (store, folder) = stores::embedded(&clock);
        Self::on(Faulty::new(store, FaultPlan::default()), clock, Some(folder)).await
    }

    pub(crate) async fn redis() -> Self {
        let clock = TestClock::new();
        let store = stores::redis(&clock).await;
        Self::on(Faulty::new(store, FaultPlan::default()), clock, None).await
    }

    /// The same server, whose client speaks HTTP/JSON.
    pub(crate) async fn over_http(mut self) -> Self {
        self.line = Line::Http(Arc::new(Rest::new(self.address, self.channel.clone()).await));
        self
    }

    /// Another server on the same store, with agents that run by themselves.
    pub(crate) async fn with_agents(&self) -> Self {
        let (store, clock) = (self.store.clone(), self.clock.clone());
        let server = Server::new(store.clone(), clock.clone());
        Self::serve(server, store, clock, None).await
    }

    /// Another server on the same store, whose agents run only when called.
    pub(crate) async fn beside(&self) -> Self {
        Self::on(self.store.clone(), self.clock.clone(), None).await
    }

    /// A server on a store of another test's making.
    pub(crate) async fn over(store: Arc<dyn Store>, clock: Arc<TestClock>) -> Self {
        let store = Faulty::new(store, FaultPlan::default());
        let engine = Engine::without_agents(store.clone(), clock.clone());
        Self::serve(Server::on(engine), store, clock, None).await
    }

    /// Another server on the same store, with rules about what its callers may do.
    pub(crate) async fn guarded_by(&self, rules: Arc<dyn Rules>) -> Self {
        let (store, clock) = (self.store.clone(), self.clock.clone());
        let settings = Settings { policy: Policy::Rules(rules), ..Settings::default() };
        let engine = Engine::with(store.clone(), clock.clone(), settings);
        Self::serve(Server::on(engine), store, clock, None).await
    }

    /// Another server on the same store, whose callers need credentials.
    pub(crate) async fn asking_for(&self, identity: IdentitySettings) -> Self {
        let (store, clock) = (self.store.clone(), self.clock.clone());
        let policy = Policy::Rules(Arc::new(Roles));
        let settings = Settings { policy, identity, ..Settings::default() };
        let engine = Engine::with(store.clone(), clock.clone(), settings);
        Self::serve(Server::on(engine), store, clock, None).await
    }

    /// Another server on the same store, whose tenants have limits, with a client that speaks as this one.
    pub(crate) async fn limited_by(&self, tenant_limits: TenantLimits) -> Self {
        let (store, clock) = (self.store.clone(), self.clock.clone());
        let settings = Settings { tenant_limits, ..Settings::default() };
        let engine = Engine::with(store.clone(), clock.clone(), settings);
        let limited = Self::serve(Server::on(engine), store, clock, None).await;
        match self.line {
            Line::Grpc(_) => limited,
            Line::Http(_) => limited.over_http().await,
        }
    }

    /// Another server on the same store, which sends deliveries, with a client that speaks as this one.
    pub(crate) async fn delivering(&self, carrier: Arc<dyn Carrier>) -> Self {
        let (store, clock) = (self.store.clone(), self.clock.clone());
        let settings = Settings { carrier: Some(carrier), ..Settings::default() };
        let engine = Engine::with(store.clone(), clock.clone(), settings);
        let delivering = Self::serve(Server::on(engine), store, clock, None).await;
        match self.line {
            Line::Grpc(_) => delivering,
            Line::Http(_) => delivering.over_http().await,
        }
    }

    async fn on(store: Arc<Faulty>, clock: Arc<TestClock>, folder: Option<TempDir>) -> Self {
        // A store that has just been opened grants workers time to come back.
        for _ in 0..MIN_RETURN_GRACE.as_secs() {
            clock.advance(STEP);
        }
        let engine = Engine::without_agents(store.clone(), clock.clone());
        Self::serve(Server::on(engine), store, clock, folder).await
    }

    async fn serve(
        server: Server,
        store: Arc<Faulty>,
        clock: Arc<TestClock>,
        folder: Option<TempDir>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (shutdown, told) = oneshot::channel();
        let mut serving = JoinSet::new();
        let serves = server.clone();
        serving.spawn(async move { serves.serve(listener, async move { drop(told.await) }).await });
        let channel = connect(address).await;
        let line = Line::Grpc(channel.clone());
        let shutdown = Some(shutdown);
        Self { clock, store, server, line, channel, address, shutdown, serving, _folder: folder }
    }

    /// Tells the server to shut down; calls that run go on.
    pub(crate) fn shut_down(&mut self) {
        drop(self.shutdown.take());
    }

    /// Waits until the server has shut down.
    pub(crate) async fn served(&mut self) {
        let ended = within("the server to shut down", self.serving.join_next()).await;
        ended.expect("a server").expect("no panic").expect("no trouble");
    }

    /// Ends the server, and with it the store.
    pub(crate) async fn stop(mut self) {
        within("the background work to end", self.server.stop()).await;
        self.serving.abort_all();
    }

    /// Lets time pass, then processes due records.
    pub(crate) async fn pass(&self, duration: Duration) {
        // Stamps run a few microseconds ahead of a clock that stands still, since no two commits have the same.
        self.let_pass(duration + Duration::from_millis(1));
        let engine = self.server.engine();
        // If a scenario made the store unavailable nothing is processed; other failures show in the missing effects.
        drop(within("the reaper", Reaper.run_once(engine)).await);
        drop(within("the scheduler", Scheduler.run_once(engine)).await);
        drop(within("the janitor", Janitor.run_once(engine)).await);
    }

    /// Lets time pass without processing due records. In small steps, since a large one looks like a clock that was set.
    pub(crate) fn let_pass(&self, duration: Duration) {
        let mut left = duration;
        while !left.is_zero() {
            let step = if left > MANY_STEPS { left } else { left.min(STEP) };
            self.clock.advance(step);
            left -= step;
        }
    }

    /// Lets time pass, little by little, until `future` has ended: for agents that run on their own.
    pub(crate) async fn passing<T>(&self, what: &str, future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        within(what, async {
            loop {
                tokio::select! {
                    biased;
                    output = &mut future => return output,
                    // A call lets every other task run.
                    _ = self.list("", 1, "") => self.clock.advance(PACE),
                }
            }
        })
        .await
    }

    /// The store's time, as messages carry it, so much later.
    pub(crate) fn at(&self, later: Duration) -> prost_types::Timestamp {
        (self.store.now(Partition(0)) + later).into()
    }

    pub(crate) fn operations(&self) -> OperationsClient<Line> {
        OperationsClient::new(self.line.clone())
    }

    pub(crate) fn producers(&self) -> ProducersClient<Line> {
        ProducersClient::new(self.line.clone())
    }

    pub(crate) fn callers(&self) -> CallersClient<Line> {
        CallersClient::new(self.line.clone())
    }

    pub(crate) fn tokens(&self) -> TokensClient<Line> {
        TokensClient::new(self.line.clone())
    }

    pub(crate) fn jobs(&self) -> JobsClient<Line> {
        JobsClient::new(self.line.clone())
    }

    pub(crate) fn workers(&self) -> WorkersClient<Line> {
        WorkersClient::new(self.line.clone())
    }
}

/// Callers.
impl Fixture {
    pub(crate) async fn get(&self, name: &str) -> Result<Operation, Status> {
        let request = lro::GetOperationRequest { name: name.to_owned() };
        answer("get", self.operations().get_operation(request)).await
    }

    pub(crate) async fn list(
        &self,
        parent: &str,
        page_size: i32,
        page_token: &str,
    ) -> Result<lro::ListOperationsResponse, Status> {
        let request = lro::ListOperationsRequest {
            name: parent.to_owned(),
            page_size,
            page_token: page_token.to_owned(),
            ..Default::default()
        };
        answer("list", self.operations().list_operations(request)).await
    }

    pub(crate) async fn stats(&self, parent: &str) -> Result<pb::OperationStats, Status> {
        let request = pb::GetOperationStatsRequest { parent: parent.to_owned() };
        answer("stats", self.callers().get_operation_stats(request)).await
    }

    pub(crate) async fn cancel(&self, name: &str) -> Result<(), Status> {
        let request = lro::CancelOperationRequest { name: name.to_owned() };
        answer("cancel", self.operations().cancel_operation(request)).await
    }

    pub(crate) async fn delete(&self, name: &str) -> Result<(), Status> {
        let request = lro::DeleteOperationRequest { name: name.to_owned() };
        answer("delete", self.operations().delete_operation(request)).await
    }

    /// Waits beside the test.
    pub(crate) fn wait(
        &self,
        name: &str,
        timeout: Option<prost_types::Duration>,
    ) -> Call<Result<Operation, Status>> {
        let request = lro::WaitOperationRequest { name: name.to_owned(), timeout };
        let mut client = self.operations();
        let call = async move { client.wait_operation(request).await.map(Response::into_inner) };
        Call::begin(format!("the wait for {name}"), call)
    }

    pub(crate) async fn record(&self, name: &str) -> pb::OperationRecord {
        self.try_record(name).await.granted()
    }

    pub(crate) async fn try_record(&self, name: &str) -> Result<pb::OperationRecord, Status> {
        let view = pb::OperationView::Full.into();
        let request = pb::GetOperationRecordRequest { name: name.to_owned(), view };
        answer("record", self.callers().get_operation_record(request)).await
    }

    pub(crate) async fn state(&self, name: &str) -> State {
        self.record(name).await.state()
    }

    pub(crate) async fn pause(&self, name: &str) -> Result<pb::OperationRecord, Status> {
        let reason = "lunch".to_owned();
        let request =
            pb::PauseOperationRequest { name: name.to_owned(), reason, ..Default::default() };
        answer("pause", self.callers().pause_operation(request)).await
    }

    pub(crate) async fn resume(
        &self,
        name: &str,
        input: Option<longhaul::proto::google::protobuf::Any>,
    ) -> Result<pb::OperationRecord, Status> {
        let request =
            pb::ResumeOperationRequest { name: name.to_owned(), input, ..Default::default() };
        answer("resume", self.callers().resume_operation(request)).await
    }

    pub(crate) async fn watch(&self, request: pb::WatchOperationRequest) -> Watcher {
        self.try_watch(request).await.granted()
    }

    pub(crate) async fn try_watch(
        &self,
        request: pb::WatchOperationRequest,
    ) -> Result<Watcher, Status> {
        let stream = answer("watch", self.callers().watch_operation(request)).await;
        stream.map(Watcher::new)
    }
}

/// Producers and workers.
impl Fixture {
    pub(crate) async fn start(
        &self,
        request: pb::StartOperationRequest,
    ) -> Result<Operation, Status> {
        answer("start", self.producers().start_operation(request)).await
    }

    /// Starts an operation with only a queue; returns its name.
    pub(crate) async fn started(&self, queue: &str) -> String {
        self.start(requests::start(queue)).await.granted().name
    }

    /// Starts an operation and leases it.
    pub(crate) async fn running(&self, request: pb::StartOperationRequest) -> pb::Lease {
        let queue = request.queue.clone();
        self.start(request).await.granted();
        self.lease(&queue).await
    }

    pub(crate) async fn leases(
        &self,
        request: pb::LeaseOperationsRequest,
    ) -> Result<Vec<pb::Lease>, Status> {
        let reply = answer("lease", self.workers().lease_operations(request)).await;
        reply.map(|reply| reply.leases)
    }

    /// Leases beside the test.
    pub(crate) fn leasing(
        &self,
        request: pb::LeaseOperationsRequest,
    ) -> Call<Result<Vec<pb::Lease>, Status>> {
        let mut client = self.workers();
        let what = format!("leases of {} for {}", request.queue, request.worker);
        let call = async move { Ok(client.lease_operations(request).await?.into_inner().leases) };
        Call::begin(what, call)
    }

    /// Leases the operation that is ready.
    pub(crate) async fn lease(&self, queue: &str) -> pb::Lease {
        let mut leases = self.leases(requests::leasing(queue)).await.granted();
        assert_eq!(leases.len(), 1, "one lease of {queue}");
        leases.remove(0)
    }

    /// There is nothing to lease.
    pub(crate) async fn expect_no_lease(&self, queue: &str) {
        let leases = self.leases(requests::leasing(queue)).await.granted();
        assert!(leases.is_empty(), "{leases:?}");
    }

    pub(crate) async fn renew(
        &self,
        renewals: Vec<pb::renew_leases_request::Renewal>,
    ) -> Result<Vec<pb::renew_leases_response::Result>, Status> {
        let request = pb::RenewLeasesRequest { renewals };
        let reply = answer("renew", self.workers().renew_leases(request)).await;
        reply.map(|reply| reply.results)
    }

    pub(crate) async fn report(
        &self,
        request: pb::ReportProgressRequest,
    ) -> Result<pb::ReportProgressResponse, Status> {
        answer("report", self.workers().report_progress(request)).await
    }

    pub(crate) async fn complete(
        &self,
        request: pb::CompleteOperationRequest,
    ) -> Result<pb::CompleteOperationResponse, Status> {
        answer("complete", self.workers().complete_operation(request)).await
    }

    pub(crate) async fn fail(
        &self,
        request: pb::FailOperationRequest,
    ) -> Result<pb::FailOperationResponse, Status> {
        answer("fail", self.workers().fail_operation(request)).await
    }

    pub(crate) async fn release(
        &self,
        request: pb::ReleaseLeaseRequest,
    ) -> Result<pb::ReleaseLeaseResponse, Status> {
        answer("release", self.workers().release_lease(request)).await
    }

    pub(crate) async fn suspend(
        &self,
        request: pb::SuspendOperationRequest,
    ) -> Result<pb::SuspendOperationResponse, Status> {
        answer("suspend", self.workers().suspend_operation(request)).await
    }

    pub(crate) async fn start_leased(
        &self,
        request: pb::StartOperationRequest,
    ) -> Result<Response<pb::StartLeasedOperationResponse>, Status> {
        let worker = "starter".to_owned();
        let start = Some(request);
        let request = pb::StartLeasedOperationRequest { start, worker, ..Default::default() };
        let mut client = self.workers();
        within("start leased", client.start_leased_operation(Request::new(request))).await
    }
}

async fn answer<T>(
    what: &str,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Status> {
    within(&format!("the answer to {what}"), call).await.map(Response::into_inner)
}

async fn connect(address: SocketAddr) -> Channel {
    let endpoint = Channel::from_shared(format!("http://{address}")).expect("an address");
    within("a connection", endpoint.connect()).await.expect("a server that listens")
}

/// Less than any agent rests.
const PACE: Duration = Duration::from_millis(20);
/// The longest time that a store accepts as elapsed in one step.
const STEP: Duration = Duration::from_secs(1);
/// More than this goes in one step.
const MANY_STEPS: Duration = Duration::from_mins(10);
