//! Does the exports, one after the other.

use std::time::Duration;

use longhaul::worker::{Connection, Context, RunError, Stop, Worker};
use tokio_util::sync::CancellationToken;

use crate::pb::{ExportBooksMetadata, ExportBooksRequest, ExportBooksResponse};

/// The queue of exports.
pub(crate) const QUEUE: &str = "exports";

/// Works until `stop`, and finishes the current export.
pub(crate) async fn work(
    longhaul: impl Into<Connection>,
    stop: &CancellationToken,
) -> Result<(), RunError> {
    let worker = Worker::builder(longhaul).queue(QUEUE).name("library");
    worker.handler("ExportBooks", export).run_until(stop.cancelled()).await
}

async fn export(
    context: Context,
    request: ExportBooksRequest,
) -> Result<ExportBooksResponse, Stop> {
    let mut books = Vec::new();
    for number in 1..=BOOKS {
        tokio::select! {
            () = tokio::time::sleep(TIME_PER_BOOK) => {}
            _ = context.cancelled() => return Err(Stop::cancelled()),
        }
        books.push(format!("{}/books/{number}\n", request.shelf));
        // Callers see it as the operation's metadata.
        context.metadata(&ExportBooksMetadata { exported_books: number, total_books: BOOKS });
    }
    Ok(ExportBooksResponse { books: books.concat() })
}

const BOOKS: i32 = 10;
const TIME_PER_BOOK: Duration = Duration::from_millis(100);
