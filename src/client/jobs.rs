//! Calls about jobs, and reruns.

use tonic::Status;
use tonic::transport::Channel;

use super::connection::{Client, MAX_REPLY, timed};
use super::retry::retried;
use crate::proto::google::longrunning::Operation;
use crate::proto::longhaul::v1 as pb;
use crate::proto::longhaul::v1::jobs_client::JobsClient;

/// One method for each of the service: request, reply, and what it does.
macro_rules! calls {
    ($($(#[$doc:meta])* $method:ident: $request:ident => $reply:ty;)+) => {
        impl Client {
            $($(#[$doc])*
            ///
            /// # Errors
            /// The server's error.
            pub async fn $method(&self, request: pb::$request) -> Result<$reply, Status> {
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
    /// A job.
    get_job: GetJobRequest => pb::Job;
    /// A page of jobs.
    list_jobs: ListJobsRequest => pb::ListJobsResponse;
    /// Changes a job.
    update_job: UpdateJobRequest => pb::Job;
    /// Deletes a job.
    delete_job: DeleteJobRequest => ();
    /// Pauses the schedule of a job.
    pause_job: PauseJobRequest => pb::Job;
    /// Resumes the schedule of a job.
    resume_job: ResumeJobRequest => pb::Job;
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
    /// Creates a job. Generates a `request_id` if there is none, so that a retry creates no other.
    ///
    /// # Errors
    /// The server's error.
    pub async fn create_job(&self, mut request: pb::CreateJobRequest) -> Result<pb::Job, Status> {
        name_request(&mut request.request_id);
        retried(|| {
            let (mut stub, request) = (self.jobs(), timed(request.clone()));
            async move { stub.create_job(request).await }
        })
        .await
    }

    /// Runs a job. Generates a `request_id` if there is none, so that a retry does not run it again.
    ///
    /// # Errors
    /// The server's error.
    pub async fn run_job(&self, mut request: pb::RunJobRequest) -> Result<Operation, Status> {
        name_request(&mut request.request_id);
        retried(|| {
            let (mut stub, request) = (self.jobs(), timed(request.clone()));
            async move { stub.run_job(request).await }
        })
        .await
    }

    /// Runs past ticks of a job. Generates a `request_id` if there is none.
    ///
    /// # Errors
    /// The server's error.
    pub async fn backfill_job(
        &self,
        mut request: pb::BackfillJobRequest,
    ) -> Result<pb::BackfillJobResponse, Status> {
        name_request(&mut request.request_id);
        retried(|| {
            let (mut stub, request) = (self.jobs(), timed(request.clone()));
            async move { stub.backfill_job(request).await }
        })
        .await
    }

    /// Starts a finished operation again. Generates a `request_id` if there is none.
    ///
    /// # Errors
    /// The server's error.
    pub async fn rerun(&self, mut request: pb::RerunOperationRequest) -> Result<Operation, Status> {
        name_request(&mut request.request_id);
        retried(|| {
            let (mut stub, request) = (self.callers(), timed(request.clone()));
            async move { stub.rerun_operation(request).await }
        })
        .await
    }

    fn jobs(&self) -> JobsClient<Channel> {
        JobsClient::new(self.channel()).max_decoding_message_size(MAX_REPLY)
    }
}

fn name_request(request_id: &mut String) {
    if request_id.is_empty() {
        *request_id = uuid::Uuid::new_v4().to_string();
    }
}
