"""Clients of one server: the stock client for callers, and stubs for the rest."""

import uuid

import grpc
from google.api_core import operation, operations_v1
from google.api_core.future import polling
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.message import Message
from longhaul.v1 import (
    callers_pb2_grpc,
    jobs_pb2_grpc,
    producers_pb2,
    producers_pb2_grpc,
    workers_pb2,
    workers_pb2_grpc,
)

from worker import TIMEOUT_SECONDS, Handler, Task, Worker

# The stock strategy with shorter pauses; one test uses the stock pauses too.
QUICK_POLLING = polling.DEFAULT_POLLING.with_delay(initial=0.02, maximum=0.2).with_timeout(
    TIMEOUT_SECONDS
)


class Connection:
    """A channel to the server, and the clients on it."""

    def __init__(self, server: str) -> None:
        self.server = server
        self.channel = grpc.insecure_channel(server)
        grpc.channel_ready_future(self.channel).result(timeout=TIMEOUT_SECONDS)
        self.client = operations_v1.OperationsClient(self.channel)
        self.operations = operations_pb2_grpc.OperationsStub(self.channel)
        self.producers = producers_pb2_grpc.ProducersStub(self.channel)
        self.workers = workers_pb2_grpc.WorkersStub(self.channel)
        self.callers = callers_pb2_grpc.CallersStub(self.channel)
        self.jobs = jobs_pb2_grpc.JobsStub(self.channel)

    def start(self, **fields: object) -> operations_pb2.Operation:
        """Starts an operation; the fields are those of the request."""
        request = producers_pb2.StartOperationRequest(**fields)
        return self.producers.StartOperation(request, timeout=TIMEOUT_SECONDS)

    def get(self, name: str) -> operations_pb2.Operation:
        """Returns the operation as the stock client sees it."""
        return self.client.get_operation(name, timeout=TIMEOUT_SECONDS)

    def future(
        self,
        started: operations_pb2.Operation,
        result_type: type[Message],
        metadata_type: type[Message] | None = None,
    ) -> operation.Operation:
        """Returns the future that a generated client library gives to its caller."""
        return operation.from_gapic(
            started, self.client, result_type, metadata_type=metadata_type, polling=QUICK_POLLING
        )

    def lease(self, queue: str) -> Task:
        """Leases one operation from a queue."""
        request = workers_pb2.LeaseOperationsRequest(queue=queue, worker="interop")
        request.wait_duration.FromSeconds(10)
        leases = self.workers.LeaseOperations(request, timeout=TIMEOUT_SECONDS).leases
        assert len(leases) == 1, f"{len(leases)} leases from {queue}"
        return Task(self.workers, leases[0])

    def worker(self, queue: str, handle: Handler) -> Worker:
        """Returns a worker that serves a queue in a thread of its own."""
        return Worker(self.workers, queue, handle)


def fresh(prefix: str) -> str:
    """Returns a unique id, so that all tests can share one server."""
    return f"{prefix}-{uuid.uuid4().hex[:12]}"
