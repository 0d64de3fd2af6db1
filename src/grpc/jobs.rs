//! `longhaul.v1.Jobs`.

use tonic::{Request, Response};

use super::call::{Reply, caller};
use super::producers::replayed;
use crate::engine::{Engine, Reason};
use crate::proto::google::longrunning::Operation;
use crate::proto::longhaul::v1 as pb;
use crate::proto::longhaul::v1::jobs_server::Jobs;
use crate::wire::{jobs, operations, views};

pub(super) struct Service {
    engine: Engine,
}

impl Service {
    pub(super) fn new(engine: &Engine) -> Self {
        Self { engine: engine.clone() }
    }
}

#[tonic::async_trait]
impl Jobs for Service {
    async fn create_job(&self, request: Request<pb::CreateJobRequest>) -> Reply<pb::Job> {
        let caller = caller(&request);
        let wanted = jobs::create(&self.engine, request.into_inner()).await?;
        Ok(Response::new(jobs::job(self.engine.jobs().create(&caller, wanted).await?)))
    }

    async fn get_job(&self, request: Request<pb::GetJobRequest>) -> Reply<pb::Job> {
        let name = jobs::name(&request.get_ref().name)?;
        Ok(Response::new(jobs::job(self.engine.jobs().get(&name).await?)))
    }

    async fn list_jobs(
        &self,
        request: Request<pb::ListJobsRequest>,
    ) -> Reply<pb::ListJobsResponse> {
        let caller = caller(&request);
        let query = jobs::list(request.into_inner())?;
        let page = self.engine.jobs().list(&caller, &query).await?;
        Ok(Response::new(jobs::list_reply(page)))
    }

    async fn update_job(&self, request: Request<pb::UpdateJobRequest>) -> Reply<pb::Job> {
        let caller = caller(&request);
        let update = jobs::update(&self.engine, request.into_inner()).await?;
        let change = |config: &_| update.apply(config);
        let wanted = update.wanted(&change);
        let updated = self.engine.jobs().update(&caller, &update.name, &wanted).await;
        let view = match updated {
            Err(error) if error.reason == Reason::JobNotFound && update.allow_missing => {
                self.engine.jobs().create(&caller, update.creation()?).await?
            }
            updated => updated?,
        };
        Ok(Response::new(jobs::job(view)))
    }

    async fn delete_job(&self, request: Request<pb::DeleteJobRequest>) -> Reply<()> {
        let caller = caller(&request);
        let (wanted, force) = jobs::delete(request.into_inner())?;
        self.engine.jobs().delete(&caller, &wanted, force).await?;
        Ok(Response::new(()))
    }

    async fn run_job(&self, request: Request<pb::RunJobRequest>) -> Reply<Operation> {
        let caller = caller(&request);
        let (name, etag, request_id) = jobs::run(request.into_inner())?;
        let (view, again) = self.engine.jobs().run(&caller, &name, &etag, &request_id).await?;
        Ok(replayed(Response::new(views::published(view)), again))
    }

    async fn pause_job(&self, request: Request<pb::PauseJobRequest>) -> Reply<pb::Job> {
        let caller = caller(&request);
        let wanted = jobs::pause(request.into_inner())?;
        let view = self.engine.jobs().pause(&caller, &wanted, true).await?;
        Ok(Response::new(jobs::job(view)))
    }

    async fn resume_job(&self, request: Request<pb::ResumeJobRequest>) -> Reply<pb::Job> {
        let caller = caller(&request);
        let wanted = jobs::resume(request.into_inner())?;
        let view = self.engine.jobs().pause(&caller, &wanted, false).await?;
        Ok(Response::new(jobs::job(view)))
    }

    async fn backfill_job(
        &self,
        request: Request<pb::BackfillJobRequest>,
    ) -> Reply<pb::BackfillJobResponse> {
        let caller = caller(&request);
        let (name, ticks) = jobs::backfill(request.into_inner())?;
        let count = self.engine.jobs().backfill(&caller, &name, &ticks).await?;
        Ok(Response::new(pb::BackfillJobResponse { tick_count: count as i32 }))
    }

    async fn list_upcoming_runs(
        &self,
        request: Request<pb::ListUpcomingRunsRequest>,
    ) -> Reply<pb::ListUpcomingRunsResponse> {
        let name = jobs::name(&request.get_ref().name)?;
        let view = self.engine.jobs().get(&name).await?;
        let now = self.engine.clock().now();
        Ok(Response::new(jobs::upcoming(request.get_ref(), &view.job, now)?))
    }

    async fn get_execution(
        &self,
        request: Request<pb::GetExecutionRequest>,
    ) -> Reply<pb::Execution> {
        let name = jobs::execution_name(&request.get_ref().name)?;
        Ok(Response::new(jobs::execution(self.engine.executions().get(&name).await?)))
    }

    async fn list_executions(
        &self,
        request: Request<pb::ListExecutionsRequest>,
    ) -> Reply<pb::ListExecutionsResponse> {
        let caller = caller(&request);
        let request = request.into_inner();
        let types = operations::types(&self.engine, &request.parent, &request.filter).await?;
        let query = jobs::list_executions(request, &types)?;
        let page = self.engine.executions().list(&caller, &query).await?;
        Ok(Response::new(jobs::list_executions_reply(page)))
    }

    async fn delete_execution(&self, request: Request<pb::DeleteExecutionRequest>) -> Reply<()> {
        let name = jobs::execution_name(&request.get_ref().name)?;
        self.engine.executions().delete(&name).await?;
        Ok(Response::new(()))
    }
}
