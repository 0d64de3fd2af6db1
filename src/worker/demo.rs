//! The sample worker of `longhaul dev`: takes some seconds, reports progress, stops when asked to.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::clock::{Clock, SystemClock};
use crate::proto::google::rpc;
use crate::proto::longhaul::v1::workers_client::WorkersClient;
use crate::proto::longhaul::v1::{
    CompleteOperationRequest, FailOperationRequest, Lease, LeaseOperationsRequest, Progress,
    ReportProgressRequest,
};

/// A connection to the server at `address`.
///
/// # Errors
/// Where nobody answers.
pub async fn connect(address: SocketAddr) -> anyhow::Result<WorkersClient<Channel>> {
    // A server that listens everywhere is reached through loopback.
    let host = if address.ip().is_unspecified() {
        "127.0.0.1".to_owned()
    } else {
        address.ip().to_string()
    };
    let host = if address.is_ipv6() && !address.ip().is_unspecified() {
        format!("[{host}]")
    } else {
        host
    };
    let channel =
        Endpoint::try_from(format!("http://{host}:{}", address.port()))?.connect().await?;
    Ok(WorkersClient::new(channel))
}

/// Works on queue `demo` until `stop` resolves.
///
/// # Errors
/// None today: trouble is logged and tried again, as a worker should.
pub async fn work(
    mut workers: WorkersClient<Channel>,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let clock: Arc<dyn Clock> = SystemClock::new();
    tokio::pin!(stop);
    loop {
        let request = LeaseOperationsRequest {
            queue: QUEUE.to_owned(),
            worker: "dev".to_owned(),
            wait_duration: prost_types::Duration::try_from(WAIT).ok(),
            ..LeaseOperationsRequest::default()
        };
        let leased = tokio::select! {
            leased = workers.lease_operations(request) => leased,
            () = &mut stop => return Ok(()),
        };
        let leases = match leased {
            Ok(reply) => reply.into_inner().leases,
            Err(status) => {
                tracing::warn!(%status, "the sample worker got no work; trying again");
                tokio::select! { () = clock.sleep(PAUSE) => continue, () = &mut stop => return Ok(()) }
            }
        };
        for lease in leases {
            if let Err(status) = handle(&mut workers, &*clock, &lease).await {
                tracing::warn!(operation = lease.operation, %status, "the sample worker gave up on an operation");
            }
        }
    }
}

async fn handle(
    workers: &mut WorkersClient<Channel>,
    clock: &dyn Clock,
    lease: &Lease,
) -> Result<(), Status> {
    for step in 0..STEPS {
        let report = ReportProgressRequest {
            name: lease.operation.clone(),
            lease_token: lease.lease_token.clone(),
            progress: Some(progress(step)),
            report_number: step + 1,
            ..ReportProgressRequest::default()
        };
        let directive =
            workers.report_progress(report).await?.into_inner().directive.unwrap_or_default();
        if directive.cancel_requested {
            return stop_work(workers, lease).await;
        }
        clock.sleep(STEP).await;
    }
    let complete = CompleteOperationRequest {
        name: lease.operation.clone(),
        lease_token: lease.lease_token.clone(),
        // Whatever was asked for comes back.
        response: lease.request.clone().filter(|_| lease.response_type.is_empty()),
        progress: Some(progress(STEPS)),
        ..CompleteOperationRequest::default()
    };
    if let Err(status) = workers.complete_operation(complete).await {
        if status.code() != Code::InvalidArgument {
            return Err(status);
        }
        // A response type that this worker cannot make: the lease goes on, so the operation is told.
        let message = format!("the sample worker cannot make a response: {}", status.message());
        return fail(workers, lease, Code::Internal, &message).await;
    }
    Ok(())
}

async fn stop_work(workers: &mut WorkersClient<Channel>, lease: &Lease) -> Result<(), Status> {
    fail(workers, lease, Code::Cancelled, "the sample worker stopped when asked to").await
}

async fn fail(
    workers: &mut WorkersClient<Channel>,
    lease: &Lease,
    code: Code,
    message: &str,
) -> Result<(), Status> {
    let error = rpc::Status { code: code as i32, message: message.to_owned(), details: Vec::new() };
    let request = FailOperationRequest {
        name: lease.operation.clone(),
        lease_token: lease.lease_token.clone(),
        error: Some(error),
        ..FailOperationRequest::default()
    };
    workers.fail_operation(request).await?;
    Ok(())
}

fn progress(step: i64) -> Progress {
    Progress {
        fraction: Some(step as f64 / STEPS as f64),
        completed_units: step,
        total_units: STEPS,
        unit: "steps".to_owned(),
        message: if step < STEPS {
            format!("step {} of {STEPS}", step + 1)
        } else {
            "finished".to_owned()
        },
        update_time: None,
    }
}

const QUEUE: &str = "demo";
const WAIT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_secs(1);
const STEPS: i64 = 10;
const STEP: Duration = Duration::from_millis(500);
