//! Calls about jobs, and reruns.

use tonic::Status;

use super::channel::AuthorizedChannel;
use super::connection::{Client, MAX_REPLY, timed};
use super::retry::retried;
use crate::proto::google::longrunning::Operation;
use crate::proto::longhaul::v1 as pb;
use crate::proto::longhaul::v1::jobs_client::JobsClient;

/// One method for each of the service: request, reply, and what it does. Those with a field in parentheses get an id there if it
/// is empty, so that a retry is recognised.
macro_rules! calls {
    ($($(#[$doc:meta])* $method:ident$(($id:ident))?: $request:ident => $reply:ty;)+) => {
        impl Client {
            $($(#[$doc])*
            ///
            /// # Errors
            /// The server's error.
            pub async fn $method(&self, request: pb::$request) -> Result<$reply, Status> {
                $(let request = pb::$request { $id: named(request.$id), ..request };)?
                retried(|| {
                    let (mut stub, request) = (self.jobs(), timed(request.clone()));
                    async move { stub.$method(request).await }
                })
                .await
            })+
        }
    };
}

calls! {
    /// Creates a job.
    create_job(request_id): CreateJobRequest => pb::Job;
    /// Runs a job.
    run_job(request_id): RunJobRequest => Operation;
    /// Runs past ticks of a job.
    backfill_job(request_id): BackfillJobRequest => pb::BackfillJobResponse;
    /// A job.
    get_job: GetJobRequest => pb::Job;
    /// A page of jobs.
    list_jobs: ListJobsRequest => pb::ListJobsResponse;
    /// Changes a job.
    update_job(request_id): UpdateJobRequest => pb::Job;
    /// Deletes a job.
    delete_job(request_id): DeleteJobRequest => ();
    /// Pauses the schedule of a job.
    pause_job(request_id): PauseJobRequest => pb::Job;
    /// Resumes the schedule of a job.
    resume_job(request_id): ResumeJobRequest => pb::Job;
    /// The next runs of a job.
    list_upcoming_runs: ListUpcomingRunsRequest => pb::ListUpcomingRunsResponse;
    /// An execution.
    get_execution: GetExecutionRequest => pb::Execution;
    /// A page of executions.
    list_executions: ListExecutionsRequest => pb::ListExecutionsResponse;
    /// Deletes an execution.
    delete_execution: DeleteExecutionRequest => ();
}

impl Client {
    /// Starts a finished operation again. Generates a `request_id` if there is none.
    ///
    /// # Errors
    /// The server's error.
    pub async fn rerun(&self, request: pb::RerunOperationRequest) -> Result<Operation, Status> {
        let request =
            pb::RerunOperationRequest { request_id: named(request.request_id), ..request };
        retried(|| {
            let (mut stub, request) = (self.callers(), timed(request.clone()));
            async move { stub.rerun_operation(request).await }
        })
        .await
    }

    /// Starts all finished operations that match a filter again, as an operation. Generates a `request_id` if there is none.
    ///
    /// # Errors
    /// The server's error.
    pub async fn rerun_all(
        &self,
        request: pb::RerunOperationsRequest,
    ) -> Result<Operation, Status> {
        let request =
            pb::RerunOperationsRequest { request_id: named(request.request_id), ..request };
        retried(|| {
            let (mut stub, request) = (self.callers(), timed(request.clone()));
            async move { stub.rerun_operations(request).await }
        })
        .await
    }

    fn jobs(&self) -> JobsClient<AuthorizedChannel> {
        JobsClient::new(self.channel()).max_decoding_message_size(MAX_REPLY)
    }
}

fn named(request_id: String) -> String {
    if request_id.is_empty() { uuid::Uuid::new_v4().to_string() } else { request_id }
}
