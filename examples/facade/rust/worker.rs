//! Does the exports, one after the other.

use std::time::Duration;

use longhaul::proto::google::rpc;
use longhaul::proto::longhaul::v1::workers_client::WorkersClient;
use longhaul::proto::longhaul::v1::{
    CompleteOperationRequest, FailOperationRequest, Lease, LeaseOperationsRequest,
    ReportProgressRequest,
};
use prost::Name;
use prost_types::Any;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Code, Status};

use crate::pb::{ExportBooksMetadata, ExportBooksRequest, ExportBooksResponse};

/// Where exports wait for a worker.
pub(crate) const QUEUE: &str = "exports";

type Workers = WorkersClient<Routes>;

/// Works until `stop`, and finishes the export in hand.
pub(crate) async fn work(mut workers: Workers, stop: &CancellationToken) {
    while !stop.is_cancelled() {
        // Nothing is lost with an error: an export that nobody finished is leased again.
        if let Err(status) = export_next(&mut workers, stop).await {
            tracing::warn!(%status, "trying again");
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn export_next(workers: &mut Workers, stop: &CancellationToken) -> Result<(), Status> {
    let request = LeaseOperationsRequest {
        queue: QUEUE.to_owned(),
        worker: "library".to_owned(),
        wait_duration: prost_types::Duration::try_from(WAIT).ok(),
        ..LeaseOperationsRequest::default()
    };
    let leased = tokio::select! {
        leased = workers.lease_operations(request) => leased?,
        () = stop.cancelled() => return Ok(()),
    };
    for lease in leased.into_inner().leases {
        export(workers, lease).await?;
    }
    Ok(())
}

async fn export(workers: &mut Workers, lease: Lease) -> Result<(), Status> {
    let (name, lease_token) = (lease.operation, lease.lease_token);
    let fail = |code: Code, message: &str| FailOperationRequest {
        name: name.clone(),
        lease_token: lease_token.clone(),
        error: Some(rpc::Status {
            code: code.into(),
            message: message.to_owned(),
            details: Vec::new(),
        }),
        ..FailOperationRequest::default()
    };
    let Ok(request) = lease.request.unwrap_or_default().to_msg::<ExportBooksRequest>() else {
        workers
            .fail_operation(fail(Code::InvalidArgument, "the request is not of this API"))
            .await?;
        return Ok(());
    };

    let mut books = Vec::new();
    for number in 1..=BOOKS {
        tokio::time::sleep(TIME_PER_BOOK).await;
        books.push(format!("{}/books/{number}\n", request.shelf));
        // Callers see it as the operation's metadata; the call renews the lease, too.
        let report = ReportProgressRequest {
            name: name.clone(),
            lease_token: lease_token.clone(),
            metadata: Some(packed(&ExportBooksMetadata {
                exported_books: number,
                total_books: BOOKS,
            })?),
            ..ReportProgressRequest::default()
        };
        let directive = workers.report_progress(report).await?.into_inner().directive;
        if directive.is_some_and(|directive| directive.cancel_requested) {
            workers.fail_operation(fail(Code::Cancelled, "the export was cancelled")).await?;
            return Ok(());
        }
    }
    let response = Some(packed(&ExportBooksResponse { books: books.concat() })?);
    let complete = CompleteOperationRequest {
        name,
        lease_token,
        response,
        ..CompleteOperationRequest::default()
    };
    workers.complete_operation(complete).await?;
    Ok(())
}

fn packed(message: &impl Name) -> Result<Any, Status> {
    Any::from_msg(message).map_err(|error| Status::internal(error.to_string()))
}

const BOOKS: i32 = 10;
const TIME_PER_BOOK: Duration = Duration::from_millis(100);
const WAIT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_secs(1);
