//! `longhaul.v1.Queues`.

use tonic::{Request, Response};

use super::call::{Reply, caller};
use crate::engine::Engine;
use crate::proto::longhaul::v1::queues_server::Queues;
use crate::proto::longhaul::v1::{
    DrainWorkerRequest, DrainWorkerResponse, GetQueueRequest, ListQueuesRequest,
    ListQueuesResponse, ListWorkersRequest, ListWorkersResponse, PauseQueueRequest, Queue,
    ResumeQueueRequest, ResumeWorkerRequest, ResumeWorkerResponse, UpdateQueueRequest,
};
use crate::wire::queues;

pub(super) struct Service {
    engine: Engine,
}

impl Service {
    pub(super) fn new(engine: &Engine) -> Self {
        Self { engine: engine.clone() }
    }
}

#[tonic::async_trait]
impl Queues for Service {
    async fn get_queue(&self, request: Request<GetQueueRequest>) -> Reply<Queue> {
        let caller = caller(&request);
        let name = queues::name("name", &request.get_ref().name)?;
        let found = self.engine.get_queue(&caller, &name).await?;
        Ok(Response::new(queues::shown(found)))
    }

    async fn list_queues(&self, request: Request<ListQueuesRequest>) -> Reply<ListQueuesResponse> {
        let caller = caller(&request);
        let query = queues::list(request.into_inner())?;
        let page = self.engine.list_queues(&caller, query).await?;
        Ok(Response::new(queues::list_reply(page)))
    }

    async fn update_queue(&self, request: Request<UpdateQueueRequest>) -> Reply<Queue> {
        let caller = caller(&request);
        let update = queues::update(request.into_inner())?;
        let updated = self.engine.update_queue(&caller, update).await?;
        Ok(Response::new(queues::shown(updated)))
    }

    async fn pause_queue(&self, request: Request<PauseQueueRequest>) -> Reply<Queue> {
        let caller = caller(&request);
        let update = queues::pause(request.into_inner())?;
        let paused = self.engine.update_queue(&caller, update).await?;
        Ok(Response::new(queues::shown(paused)))
    }

    async fn resume_queue(&self, request: Request<ResumeQueueRequest>) -> Reply<Queue> {
        let caller = caller(&request);
        let update = queues::resume(request.into_inner())?;
        let resumed = self.engine.update_queue(&caller, update).await?;
        Ok(Response::new(queues::shown(resumed)))
    }

    async fn list_workers(
        &self,
        request: Request<ListWorkersRequest>,
    ) -> Reply<ListWorkersResponse> {
        let caller = caller(&request);
        let query = queues::list_workers(request.into_inner())?;
        let page = self.engine.list_workers(&caller, query).await?;
        Ok(Response::new(queues::worker_list_reply(&self.engine.guard(&caller), page)))
    }

    async fn drain_worker(
        &self,
        request: Request<DrainWorkerRequest>,
    ) -> Reply<DrainWorkerResponse> {
        let caller = caller(&request);
        let DrainWorkerRequest { queue, worker } = request.into_inner();
        let (queue, worker) = queues::workers(&queue, worker)?;
        let drained = self.engine.drain_worker(&caller, queue, &worker).await?;
        let guard = self.engine.guard(&caller);
        let shown = |worker| queues::shown_worker(&guard, worker);
        let workers = drained.into_iter().map(shown).collect();
        Ok(Response::new(DrainWorkerResponse { workers }))
    }

    async fn resume_worker(
        &self,
        request: Request<ResumeWorkerRequest>,
    ) -> Reply<ResumeWorkerResponse> {
        let caller = caller(&request);
        let ResumeWorkerRequest { queue, worker } = request.into_inner();
        let (queue, worker) = queues::workers(&queue, worker)?;
        let resumed = self.engine.resume_worker(&caller, queue, &worker).await?;
        let guard = self.engine.guard(&caller);
        let shown = |worker| queues::shown_worker(&guard, worker);
        let workers = resumed.into_iter().map(shown).collect();
        Ok(Response::new(ResumeWorkerResponse { workers }))
    }
}
