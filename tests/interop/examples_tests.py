"""Tests of the examples of one language, run as their README describes."""

from concurrent import futures

import grpc
from google.longrunning import operations_pb2
from google.protobuf import struct_pb2
from google.rpc import code_pb2, status_pb2
from longhaul.v1 import callers_pb2, callers_pb2_grpc, operation_pb2

from connection import Connection, fresh
from languages import Language
from program import Program, output
from suite import test
from worker import TIMEOUT_SECONDS, Task

STRUCT_NAME = struct_pb2.Struct.DESCRIPTOR.full_name
RUNNING = operation_pb2.OperationRecord.State.RUNNING


class Examples(Connection):
    """A server, and the examples that are run against it."""

    def __init__(self, server: str, language: Language) -> None:
        super().__init__(server)
        self.language = language

    def produced(self, person: str) -> str:
        """Runs the producer and returns the name that it printed."""
        lines = output(self.language.producer, person, self.server)
        assert len(lines) == 1 and lines[0].startswith("operations/"), lines
        return lines[0]

    def worker_program(self, *arguments: str) -> Program:
        """Returns the worker, which runs within a `with` block."""
        return Program(*self.language.worker, *arguments, self.server)

    def watcher_program(self, name: str) -> Program:
        """Returns the watcher of an operation."""
        return Program(*self.language.watcher, name, self.server)

    def caller_program(self, name: str, *arguments: str) -> Program:
        """Returns the program that waits for an operation with the language's stock client."""
        return Program(*self.language.caller, *arguments, name, self.server)


def greeting(text: str) -> struct_pb2.Struct:
    """Returns what a worker responds with."""
    message = struct_pb2.Struct()
    message.update({"greeting": text})
    return message


def leased(api: Examples) -> Task:
    """Starts an operation with a response type that callers know, and leases it."""
    queue = fresh("held")
    api.start(queue=queue, response_type=STRUCT_NAME)
    return api.lease(queue)


@test
def an_operation_goes_from_its_producer_through_its_worker_to_its_watcher(api: Examples) -> None:
    person = fresh("earth")
    name = api.produced(person)
    with api.watcher_program(name) as watcher:
        assert watcher.line().split() == ["PENDING", "0%"]
        with api.worker_program("--once") as worker:
            watcher.line_with("RUNNING 40% step 2")
            *_, last, response = watcher.rest()
            worker.rest()
    assert last == "SUCCEEDED 100% step 5"
    assert response == f"response hello {person}"
    future = api.future(api.get(name), struct_pb2.Struct, operation_pb2.OperationMetadata)
    assert future.result() == greeting(f"hello {person}")
    assert future.metadata.progress.fraction == 1


@test
def a_worker_goes_on_until_it_is_stopped(api: Examples) -> None:
    names = [api.produced(person) for person in ("one", "two")]
    with api.worker_program() as worker:
        for name in names:
            waited = operations_pb2.WaitOperationRequest(name=name)
            assert api.operations.WaitOperation(waited, timeout=TIMEOUT_SECONDS).done
        worker.stop()


@test
def a_cancelled_operation_ends_as_its_worker_says(api: Examples) -> None:
    name = api.produced("nobody")
    with api.watcher_program(name) as watcher, api.worker_program("--once") as worker:
        watcher.line_with("RUNNING 20%")
        api.client.cancel_operation(name)
        assert watcher.rest()[-1] == "error 1 stopped as asked"
        worker.rest()


@test
def a_watcher_attaches_again_where_the_server_asks_it_to(api: Examples) -> None:
    Response = callers_pb2.WatchOperationResponse
    requests = []

    class Restarting(callers_pb2_grpc.CallersServicer):
        """Imitates a server that is about to stop, and then the next one."""

        def WatchOperation(self, request, context):
            requests.append(request)
            operation = operations_pb2.Operation(name=request.name)
            state = operation_pb2.OperationMetadata(state=RUNNING)
            if not request.resume_token:
                yield Response(
                    type=Response.SNAPSHOT,
                    operation=operation,
                    server_metadata=state,
                    resume_token="here",
                )
                yield Response(type=Response.RECONNECT, reconnect_delay={"nanos": 1_000_000})
            else:
                operation.done = True
                operation.response.Pack(greeting("hello again"))
                yield Response(type=Response.HEARTBEAT)
                yield Response(type=Response.DONE, operation=operation, server_metadata=state)

    server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
    callers_pb2_grpc.add_CallersServicer_to_server(Restarting(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    name = "operations/restarted"
    lines = output(api.language.watcher, name, f"127.0.0.1:{port}")
    server.stop(grace=None)
    assert [line.split()[0] for line in lines[:3]] == ["RUNNING", "reconnect", "RUNNING"], lines
    assert lines[-1] == "response hello again"
    assert [(request.name, request.resume_token) for request in requests] == [
        (name, ""),
        (name, "here"),
    ]


@test
def a_stock_client_gets_the_response_that_it_waits_for(api: Examples) -> None:
    task = leased(api)
    with api.caller_program(task.lease.operation) as caller:
        # The result must not depend on whether it polls before or after.
        task.complete(greeting("hello stock"))
        assert caller.rest()[-1] == "response hello stock"


@test
def a_stock_client_gets_the_error_of_a_failed_operation(api: Examples) -> None:
    task = leased(api)
    error = status_pb2.Status(code=code_pb2.FAILED_PRECONDITION, message="nobody is there")
    with api.caller_program(task.lease.operation) as caller:
        task.fail(error)
        assert caller.rest()[-1] == "error 9 nobody is there"
