"""Tests of workers over ServeQueue, with faults of the worker and the server."""

import signal
import time
from collections.abc import Iterator
from concurrent import futures

import grpc
from google.longrunning import operations_pb2
from google.protobuf import struct_pb2
from google.rpc import code_pb2
from longhaul.v1 import (
    callers_pb2,
    operation_pb2,
    producers_pb2,
    workers_pb2,
    workers_pb2_grpc,
)

from connection import Connection, fresh
from languages import Command
from program import Program
from servers import Server
from suite import test
from worker import TIMEOUT_SECONDS, packed

STRUCT_NAME = struct_pb2.Struct.DESCRIPTOR.full_name
State = operation_pb2.OperationRecord.State
# Longer than any test waits: work that continues until a test ends it.
NEVER = "--pause=60"
AT_ONCE_SECONDS = 2.0
# How long leases outlive their stream, and how much later they may be leased again.
GRACE_SECONDS, REDELIVERY_SECONDS = 3.0, 1.0
# Shorter than the grace of the server for workers.
DRAIN_SECONDS = 6.0
FROZEN_SECONDS = 1.0
# Many times the concurrency of one worker.
MANY, MANY_SECONDS = 2_000, 120.0
BATCH = 100
# Several times the flow-control window of HTTP/2.
LARGE_BYTES = 256 * 1024


class Streams(Connection):
    """A server, and the worker under test."""

    def __init__(self, server: Server, worker: Command) -> None:
        super().__init__(server.address)
        self.process = server
        self.command = worker

    def worker_program(self, queue: str, *arguments: str, server: str | None = None) -> Program:
        """Returns the worker, which runs within a `with` block."""
        return Program(*self.command, f"--queue={queue}", *arguments, server or self.server)

    def greeting(self, queue: str, person: str, **fields: object) -> str:
        """Starts an operation that makes a greeting, and returns its name."""
        return self.start(**greeting(queue, person), **fields).name

    def record(self, name: str) -> operation_pb2.OperationRecord:
        """Returns the operation's record."""
        request = callers_pb2.GetOperationRecordRequest(name=name)
        return self.callers.GetOperationRecord(request, timeout=TIMEOUT_SECONDS)

    def states(self, name: str) -> Iterator[operation_pb2.OperationMetadata]:
        """Yields the states of an operation, to its end."""
        request = callers_pb2.WatchOperationRequest(name=name)
        for event in self.callers.WatchOperation(request, timeout=TIMEOUT_SECONDS):
            if event.HasField("server_metadata"):
                yield event.server_metadata

    def reaches(self, name: str, fraction: float) -> None:
        """Returns once this fraction is done."""
        assert any(state.progress.fraction >= fraction for state in self.states(name)), name

    def finished(
        self, name: str, timeout: float = TIMEOUT_SECONDS
    ) -> tuple[operations_pb2.Operation, operation_pb2.OperationMetadata]:
        """Returns the operation at its end."""
        request = operations_pb2.WaitOperationRequest(name=name)
        request.timeout.FromNanoseconds(int(timeout * 1e9))
        # The server may have been restarting.
        operation = self.operations.WaitOperation(request, timeout=timeout, wait_for_ready=True)
        assert operation.done, operation
        metadata = operation_pb2.OperationMetadata()
        operation.metadata.Unpack(metadata)
        return operation, metadata


def greeting(queue: str, person: str) -> dict[str, object]:
    """Returns the request for a greeting."""
    message = struct_pb2.Struct()
    message.update({"name": person})
    return {"queue": queue, "method": "greet", "request": packed(message)}


def greeted(operation: operations_pb2.Operation) -> str:
    """Returns the greeting of an operation that succeeded."""
    response = struct_pb2.Struct()
    assert operation.response.Unpack(response), operation
    return response["greeting"]


@test
def operations_go_over_one_stream_side_by_side_with_progress(api: Streams) -> None:
    queue = fresh("stream")
    names = [api.greeting(queue, f"number {number}") for number in range(3)]
    with api.worker_program(queue, "--slots=2") as worker:
        assert worker.line() == "serving"
        begun = {worker.line() for _ in range(2)}
        assert len(begun & {f"{name}: attempt 1" for name in names}) == 2, begun
        third = next(name for name in names if f"{name}: attempt 1" not in begun)
        assert api.record(third).state == State.PENDING
        seen = {round(state.progress.fraction, 1) for state in api.states(third)}
        assert {0.4, 0.6, 0.8, 1.0} <= seen, seen
        for number, name in enumerate(names):
            operation, metadata = api.finished(name)
            assert greeted(operation) == f"hello number {number}"
            assert (metadata.progress.message, metadata.attempt_count) == ("step 5", 1)
        worker.signal(signal.SIGTERM)
        worker.rest()


@test
def a_cancel_reaches_the_worker_at_once(api: Streams) -> None:
    queue = fresh("stream")
    name = api.greeting(queue, "nobody")
    with api.worker_program(queue, NEVER) as worker:
        worker.line_with(f"{name}: attempt 1")
        before = time.monotonic()
        api.client.cancel_operation(name)
        operation, metadata = api.finished(name)
        assert time.monotonic() - before < AT_ONCE_SECONDS
    assert metadata.state == State.CANCELLED
    assert operation.error.code == code_pb2.CANCELLED
    assert operation.error.message == "stopped as asked"
    assert metadata.cancel_trail.HasField("deliver_time") and not metadata.cancel_trail.forced


@test
def a_response_that_is_refused_fails_the_operation(api: Streams) -> None:
    queue = fresh("stream")
    name = api.greeting(queue, "nobody", response_type="google.protobuf.Duration")
    with api.worker_program(queue, "--pause=0"):
        operation, _ = api.finished(name)
    assert operation.error.code == code_pb2.INTERNAL, operation


@test
def a_worker_that_is_asked_to_go_gives_back_what_it_holds_at_no_attempt(api: Streams) -> None:
    queue = fresh("stream")
    names = [api.greeting(queue, person) for person in ("one", "two")]
    with api.worker_program(queue, NEVER) as worker:
        for _ in names:
            worker.line_with("attempt 1")
        before = time.monotonic()
        worker.signal(signal.SIGTERM)
        worker.rest()
        assert time.monotonic() - before < AT_ONCE_SECONDS
    for name in names:
        record = api.record(name)
        assert record.state == State.PENDING, record
        assert not record.attempts, record
    with api.worker_program(queue, "--pause=0"):
        for name in names:
            assert api.finished(name)[1].attempt_count == 1


@test
def what_a_killed_worker_held_goes_to_another_after_the_grace(api: Streams) -> None:
    queue = fresh("stream")
    name = api.greeting(queue, "again")
    with api.worker_program(queue, NEVER) as first:
        first.line_with(f"{name}: attempt 1")
        with api.worker_program(queue, "--pause=0") as second:
            second.line_with("serving")
            before = time.monotonic()
            first.signal(signal.SIGKILL)
            second.line_with(f"{name}: attempt 2")
            assert time.monotonic() - before < GRACE_SECONDS + REDELIVERY_SECONDS
            assert greeted(api.finished(name)[0]) == "hello again"
    lost, done = api.record(name).attempts
    assert lost.HasField("error") and not done.HasField("error")


@test
def a_worker_keeps_what_it_holds_when_the_server_crashes(api: Streams) -> None:
    queue = fresh("stream")
    sooner = api.greeting(queue, "sooner")
    with api.worker_program(queue, "--pause=1") as worker:
        api.reaches(sooner, 0.6)
        later = api.greeting(queue, "later")
        worker.line_with(f"{later}: attempt 1")
        api.process.crash()
        # It can report its end only to a running server.
        worker.line_with(f"{sooner}: done")
        api.process.start()
        for name, person in ((sooner, "sooner"), (later, "later")):
            operation, metadata = api.finished(name)
            assert greeted(operation) == f"hello {person}"
            assert metadata.attempt_count == 1, metadata
        worker.signal(signal.SIGTERM)
        rest = worker.rest()
        assert not any("attempt" in line for line in rest), rest


@test
def a_worker_finishes_what_it_holds_when_the_server_goes_away(api: Streams) -> None:
    queue = fresh("stream")
    name = api.greeting(queue, "on the way out")
    with api.worker_program(queue, "--pause=0.3") as worker:
        worker.line_with(f"{name}: attempt 1")
        before = time.monotonic()
        api.process.stop()
        # It ends as soon as it holds no lease.
        assert time.monotonic() - before < DRAIN_SECONDS
        worker.line_with(f"{name}: done")
        api.process.start()
        worker.line_with("serving")
        operation, metadata = api.finished(name)
        assert greeted(operation) == "hello on the way out"
        assert metadata.attempt_count == 1, metadata
        next_one = api.greeting(queue, "next")
        assert greeted(api.finished(next_one)[0]) == "hello next"


@test
def many_operations_go_through_one_stream_even_where_the_worker_freezes(api: Streams) -> None:
    queue = fresh("stream")
    with api.worker_program(queue, "--slots=100", "--pause=0") as worker:
        worker.line_with("serving")
        worker.signal(signal.SIGSTOP)
        names = []
        for start in range(0, MANY, BATCH):
            requests = [
                producers_pb2.StartOperationRequest(**greeting(queue, str(number)))
                for number in range(start, start + BATCH)
            ]
            batch = producers_pb2.BatchStartOperationsRequest(requests=requests)
            results = api.producers.BatchStartOperations(batch, timeout=TIMEOUT_SECONDS).results
            names += [result.operation.name for result in results]
        worker.signal(signal.SIGCONT)
        api.finished(names[MANY // 4], MANY_SECONDS)
        worker.signal(signal.SIGSTOP)
        assert worker.is_silent_at_last(FROZEN_SECONDS)
        worker.signal(signal.SIGCONT)
        deadline = time.monotonic() + MANY_SECONDS
        for number, name in enumerate(names):
            operation, metadata = api.finished(name, deadline - time.monotonic())
            assert greeted(operation) == f"hello {number}"
            assert metadata.attempt_count == 1, metadata
        worker.signal(signal.SIGTERM)
        worker.rest()


@test
def large_requests_and_responses_wait_for_each_other_without_end(api: Streams) -> None:
    queue = fresh("stream")
    large = "x" * LARGE_BYTES
    with api.worker_program(queue, "--slots=40", "--pause=0") as worker:
        worker.line_with("serving")
        worker.signal(signal.SIGSTOP)
        names = [api.greeting(queue, large) for _ in range(40)]
        assert worker.is_silent_at_last(FROZEN_SECONDS)
        worker.signal(signal.SIGCONT)
        for name in names:
            operation, metadata = api.finished(name)
            assert greeted(operation) == f"hello {large}"
            assert metadata.attempt_count == 1, metadata
        worker.signal(signal.SIGTERM)
        worker.rest()


class Breaking(workers_pb2_grpc.WorkersServicer):
    """Imitates a server that breaks a stream before it acknowledges the calls on it."""

    HEARTBEAT_SECONDS = 2.0
    NAMES = ("operations/one", "operations/two")

    def __init__(self) -> None:
        self.hellos: list[workers_pb2.ServeQueueRequest] = []
        self.said: list[workers_pb2.ServeQueueRequest] = []
        self.said_again: list[workers_pb2.ServeQueueRequest] = []
        self.silences: list[float] = []
        self.half_closed = futures.Future()

    def ServeQueue(self, requests, context):
        self.hellos.append(next(requests))
        if len(self.hellos) == 1:
            yield from self.first(requests, context)
        else:
            yield from self.second(requests)

    def first(self, requests, context):
        yield self.welcome()
        spoke = time.monotonic()
        for request in requests:
            self.silences.append(time.monotonic() - spoke)
            spoke = time.monotonic()
            assert request.sequence == len(self.silences) + 1, request
            if len(self.silences) == 3:
                break
        request = packed(struct_pb2.Struct(fields={"name": struct_pb2.Value(string_value="you")}))
        leases = [
            workers_pb2.Lease(operation=name, lease_token=f"token of {name}", attempt=1, request=request)
            for name in self.NAMES
        ]
        yield workers_pb2.ServeQueueResponse(sequence=2, acknowledged_sequence=4, leases=leases)
        for request in requests:
            self.said.append(request)
            if len(completions(self.said)) == len(self.NAMES):
                break
        context.abort(grpc.StatusCode.UNAVAILABLE, "broken on purpose")

    def second(self, requests):
        # They had ended, so the worker no longer holds them.
        yield self.welcome(*self.NAMES)
        self.said_again.append(self.hellos[1])
        while len(completions(self.said_again)) < len(self.NAMES):
            self.said_again.append(next(requests))
        last = self.said_again[-1].sequence
        yield workers_pb2.ServeQueueResponse(sequence=2, acknowledged_sequence=last)
        rest = list(requests)
        self.half_closed.set_result(rest)

    def welcome(self, *lost: str) -> workers_pb2.ServeQueueResponse:
        welcome = workers_pb2.ServeQueueResponse.Welcome(lost=lost)
        welcome.heartbeat_interval.FromNanoseconds(int(self.HEARTBEAT_SECONDS * 1e9))
        return workers_pb2.ServeQueueResponse(sequence=1, acknowledged_sequence=1, welcome=welcome)


def completions(
    requests: list[workers_pb2.ServeQueueRequest],
) -> dict[str, workers_pb2.CompleteOperationRequest]:
    """Returns what was completed, by its name."""
    return {call.name: call for request in requests for call in request.completions}


@test
def what_was_not_acknowledged_is_said_again_over_the_next_stream(api: Streams) -> None:
    breaking = Breaking()
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    workers_pb2_grpc.add_WorkersServicer_to_server(breaking, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    address = f"127.0.0.1:{port}"
    try:
        with api.worker_program("q", "--pause=0.1", "--slots=7", server=address) as worker:
            done = {worker.line_with(": done") for _ in breaking.NAMES}
            assert done == {f"{name}: done" for name in breaking.NAMES}
            worker.line_with("serving")
            worker.signal(signal.SIGTERM)
            worker.rest()
            rest = breaking.half_closed.result(timeout=TIMEOUT_SECONDS)
    finally:
        server.stop(grace=None)
    first, second = breaking.hellos
    assert (first.sequence, first.seen_sequence, first.slots, first.hello.queue) == (1, 0, 7, "q")
    assert not first.hello.held
    assert max(breaking.silences) < breaking.HEARTBEAT_SECONDS, breaking.silences
    # It acknowledges a lease before it works on it.
    assert all(request.seen_sequence == 2 for request in breaking.said), breaking.said
    assert any(request.reports for request in breaking.said), breaking.said
    held = {held.name: held.lease_token for held in second.hello.held}
    assert held == {name: f"token of {name}" for name in breaking.NAMES}
    assert (second.sequence, second.seen_sequence, second.slots) == (1, 0, 7)
    assert completions(breaking.said_again) == completions(breaking.said)
    every = [*breaking.said_again, *rest]
    assert [request.sequence for request in every] == list(range(1, len(every) + 1))
    assert not completions(rest), rest
