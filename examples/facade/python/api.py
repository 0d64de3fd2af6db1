"""The library's API. Its method starts an operation at longhaul and hands it to the caller."""

import argparse
import asyncio
import signal

import grpc
import library_pb2
import library_pb2_grpc
from google.longrunning import operations_pb2_grpc
from longhaul.v1 import producers_pb2, producers_pb2_grpc

from forwarding import ForwardedOperations, pass_on


class Library(library_pb2_grpc.LibraryServicer):
    """The API's own service."""

    def __init__(self, longhaul: grpc.aio.Channel) -> None:
        self._producers = producers_pb2_grpc.ProducersStub(longhaul)

    async def ExportBooks(self, request, context):
        # Refuse an invalid request now; only later failures are the operation's error.
        if not request.shelf.startswith("shelves/"):
            refusal = "shelf must look like shelves/SHELF"
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, refusal)
        start = producers_pb2.StartOperationRequest(
            parent=request.shelf,
            queue="exports",
            method="ExportBooks",
            metadata_type=library_pb2.ExportBooksMetadata.DESCRIPTOR.full_name,
            response_type=library_pb2.ExportBooksResponse.DESCRIPTOR.full_name,
            request_id=request.request_id,
        )
        start.request.Pack(request)
        return await pass_on(self._producers.StartOperation, start, context)


async def serve(listen: str, longhaul: str, forward_operations: bool) -> None:
    """Serves until the process is told to end."""
    async with grpc.aio.insecure_channel(longhaul) as channel:
        server = grpc.aio.server()
        library_pb2_grpc.add_LibraryServicer_to_server(Library(channel), server)
        if forward_operations:
            operations = ForwardedOperations(channel)
            operations_pb2_grpc.add_OperationsServicer_to_server(operations, server)
        server.add_insecure_port(listen)
        await server.start()

        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await stop.wait()
        await server.stop(grace=5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", default="127.0.0.1:8080", metavar="HOST:PORT")
    parser.add_argument("--longhaul", default="127.0.0.1:50051", metavar="HOST:PORT")
    parser.add_argument(
        "--forward-operations",
        action="store_true",
        help="serve google.longrunning.Operations here too; a proxy in front may do it instead",
    )
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.listen, arguments.longhaul, arguments.forward_operations))


if __name__ == "__main__":
    main()
