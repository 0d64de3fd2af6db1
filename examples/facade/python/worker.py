"""Does the exports, one after the other."""

import argparse
import asyncio
import logging
import signal

import grpc
import library_pb2
from google.rpc import code_pb2, status_pb2
from longhaul.v1 import workers_pb2, workers_pb2_grpc

BOOKS = 10
SECONDS_PER_BOOK = 0.1
WAIT_SECONDS = 30
PAUSE_SECONDS = 1


async def export(workers: workers_pb2_grpc.WorkersStub, lease: workers_pb2.Lease) -> None:
    """Does one export, and reports its progress and its result."""
    owned = {"name": lease.operation, "lease_token": lease.lease_token}

    async def fail(code: int, message: str) -> None:
        error = status_pb2.Status(code=code, message=message)
        await workers.FailOperation(workers_pb2.FailOperationRequest(**owned, error=error))

    request = library_pb2.ExportBooksRequest()
    if not lease.request.Unpack(request):
        return await fail(code_pb2.INVALID_ARGUMENT, "the request is not of this API")

    books = ""
    for number in range(1, BOOKS + 1):
        await asyncio.sleep(SECONDS_PER_BOOK)
        books += f"{request.shelf}/books/{number}\n"
        # Callers see it as the operation's metadata; the call renews the lease, too.
        report = workers_pb2.ReportProgressRequest(**owned)
        report.metadata.Pack(
            library_pb2.ExportBooksMetadata(exported_books=number, total_books=BOOKS)
        )
        if (await workers.ReportProgress(report)).directive.cancel_requested:
            return await fail(code_pb2.CANCELLED, "the export was cancelled")

    complete = workers_pb2.CompleteOperationRequest(**owned)
    complete.response.Pack(library_pb2.ExportBooksResponse(books=books))
    await workers.CompleteOperation(complete)


async def work(longhaul: str) -> None:
    """Works until it is cancelled."""
    async with grpc.aio.insecure_channel(longhaul) as channel:
        workers = workers_pb2_grpc.WorkersStub(channel)
        request = workers_pb2.LeaseOperationsRequest(queue="exports", worker="library")
        request.wait_duration.FromSeconds(WAIT_SECONDS)
        while True:
            try:
                for lease in (await workers.LeaseOperations(request)).leases:
                    await export(workers, lease)
            except grpc.aio.AioRpcError as error:
                # Nothing is lost: an unfinished export is leased again.
                logging.warning("trying again: %s", error.details())
                await asyncio.sleep(PAUSE_SECONDS)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--longhaul", default="127.0.0.1:50051", metavar="HOST:PORT")
    arguments = parser.parse_args()
    working = asyncio.create_task(work(arguments.longhaul))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, working.cancel)
    await asyncio.wait([working])
    if not working.cancelled():
        working.result()


if __name__ == "__main__":
    asyncio.run(main())
