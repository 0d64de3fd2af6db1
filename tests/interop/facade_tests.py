"""Tests of examples/facade from the view of its callers, the same for all ways."""

import argparse
import faulthandler
import sys
import time

import grpc
import library_pb2
import library_pb2_grpc
import suite
from google.api_core import exceptions, operation, operations_v1
from google.longrunning import operations_pb2, operations_pb2_grpc
from suite import refused, test

TIMEOUT_SECONDS = 30.0
# All tests take seconds; if one hangs, the stack traces show which.
LIMIT_SECONDS = 120


class Library:
    """The API; its callers know only the host."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(address)
        self.client = operations_v1.OperationsClient(self.channel)
        self.operations = operations_pb2_grpc.OperationsStub(self.channel)
        self._stub = library_pb2_grpc.LibraryStub(self.channel)

    def start(self, shelf: str, request_id: str = "") -> operations_pb2.Operation:
        """Calls the API's method."""
        request = library_pb2.ExportBooksRequest(shelf=shelf, request_id=request_id)
        return self._stub.ExportBooks(request, timeout=TIMEOUT_SECONDS)

    def export(self, shelf: str) -> operation.Operation:
        """Calls the API's method as a generated client library does."""
        return operation.from_gapic(
            self.start(shelf),
            self.client,
            library_pb2.ExportBooksResponse,
            metadata_type=library_pb2.ExportBooksMetadata,
        )

    def wait(self, name: str, seconds: float) -> operations_pb2.Operation:
        """Waits for the operation's end within a deadline."""
        request = operations_pb2.WaitOperationRequest(name=name)
        return self.operations.WaitOperation(request, timeout=seconds)


@test
def a_stock_future_resolves_typed_metadata_and_response(api: Library) -> None:
    future = api.export("shelves/poems")
    assert future.operation.name.startswith("shelves/poems/operations/")
    assert isinstance(future.metadata, library_pb2.ExportBooksMetadata)
    result = future.result(timeout=TIMEOUT_SECONDS)
    assert isinstance(result, library_pb2.ExportBooksResponse)
    books = result.books.splitlines()
    assert books[0] == "shelves/poems/books/1"
    exported = library_pb2.ExportBooksMetadata(exported_books=len(books), total_books=len(books))
    assert future.metadata == exported


@test
def cancelling_a_running_export_ends_it(api: Library) -> None:
    future = api.export("shelves/maps")
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not future.done() and future.metadata.exported_books == 0:
        assert time.monotonic() < deadline, "no worker has begun"
    assert future.cancel()
    raised = future.exception(timeout=TIMEOUT_SECONDS)
    assert isinstance(raised, exceptions.Cancelled), raised
    assert future.cancelled()
    assert 0 < future.metadata.exported_books < future.metadata.total_books


@test
def an_unknown_operation_is_not_found_whatever_is_asked_of_it(api: Library) -> None:
    name = "shelves/poems/operations/nowhere"
    for call in (
        lambda: api.client.get_operation(name, timeout=TIMEOUT_SECONDS),
        lambda: api.client.cancel_operation(name, timeout=TIMEOUT_SECONDS),
        lambda: api.client.delete_operation(name, timeout=TIMEOUT_SECONDS),
        lambda: api.wait(name, TIMEOUT_SECONDS),
    ):
        # The reason is in the details, so they were forwarded.
        refused(call, exceptions.NotFound, "OPERATION_NOT_FOUND")


@test
def a_wait_answers_before_the_callers_own_deadline_or_at_the_end(api: Library) -> None:
    name = api.start("shelves/plays").name
    assert not api.wait(name, seconds=0.5).done
    assert api.wait(name, seconds=TIMEOUT_SECONDS).done


@test
def a_repeated_call_finds_the_export_that_it_started(api: Library) -> None:
    first, second = (api.start("shelves/letters", request_id="twice") for _ in range(2))
    assert first.name == second.name
    api.client.cancel_operation(first.name)


@test
def the_exports_of_a_shelf_are_listed_until_they_are_deleted(api: Library) -> None:
    names = [api.start("shelves/atlases").name for _ in range(2)]
    for name in names:
        api.client.cancel_operation(name)
        assert api.wait(name, TIMEOUT_SECONDS).done
    listed = [listed.name for listed in api.client.list_operations("shelves/atlases", "")]
    assert listed == names[::-1]
    for name in names:
        api.client.delete_operation(name)
    assert not list(api.client.list_operations("shelves/atlases", ""))


@test
def what_cannot_be_exported_is_refused_by_the_api_itself(api: Library) -> None:
    try:
        started = api.start("attic")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
        assert "shelf" in error.details()
    else:
        raise AssertionError(f"not refused, but started: {started}")


@test
def callers_reach_neither_producers_nor_workers(api: Library) -> None:
    for method in ("Producers/StartOperation", "Workers/LeaseOperations"):
        call = api.channel.unary_unary(f"/longhaul.v1.{method}")
        try:
            call(b"", timeout=TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error
        else:
            raise AssertionError(f"{method} is served")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--api", required=True, metavar="HOST:PORT")
    api = parser.parse_args().api

    faulthandler.dump_traceback_later(LIMIT_SECONDS, exit=True)
    return 1 if suite.run(Library(api)) else 0


if __name__ == "__main__":
    sys.exit(main())
