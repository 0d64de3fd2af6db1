"""A worker that uses only the generated stubs."""

import threading
from collections.abc import Callable
from types import TracebackType

import grpc
from google.protobuf import any_pb2, empty_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, status_pb2
from longhaul.v1 import workers_pb2, workers_pb2_grpc

# Generous, because it only ends tests that have failed already.
TIMEOUT_SECONDS = 30.0
JOIN_SECONDS = 10.0


def packed(message: Message) -> any_pb2.Any:
    """Returns the message in an Any."""
    envelope = any_pb2.Any()
    envelope.Pack(message)
    return envelope


class Task:
    """A leased operation, and the calls of its worker."""

    def __init__(self, workers: workers_pb2_grpc.WorkersStub, lease: workers_pb2.Lease) -> None:
        self.lease = lease
        self._workers = workers
        self._owned = {"name": lease.operation, "lease_token": lease.lease_token}

    def report(self, **fields: object) -> workers_pb2.Directive:
        """Reports progress, and returns the requests of the server."""
        # The server may hold back a bare report for a moment, but never one with a checkpoint.
        request = workers_pb2.ReportProgressRequest(
            **self._owned, checkpoint=packed(empty_pb2.Empty()), **fields
        )
        return self._workers.ReportProgress(request, timeout=TIMEOUT_SECONDS).directive

    def complete(
        self, response: Message | None = None, **fields: object
    ) -> workers_pb2.CompleteOperationResponse:
        """Ends the operation, with a response or without."""
        request = workers_pb2.CompleteOperationRequest(**self._owned, **fields)
        if isinstance(response, any_pb2.Any):
            request.response.CopyFrom(response)
        elif response is not None:
            request.response.Pack(response)
        return self._workers.CompleteOperation(request, timeout=TIMEOUT_SECONDS)

    def fail(self, error: status_pb2.Status, **fields: object) -> workers_pb2.FailOperationResponse:
        """Ends the attempt with an error."""
        request = workers_pb2.FailOperationRequest(**self._owned, error=error, **fields)
        return self._workers.FailOperation(request, timeout=TIMEOUT_SECONDS)

    def fail_for_good(self, error: status_pb2.Status) -> workers_pb2.FailOperationResponse:
        """Ends the operation with an error, without a retry."""
        decision = workers_pb2.FailOperationRequest.RetryDecision.DO_NOT_RETRY
        return self.fail(error, retry_decision=decision)

    def stop_as_asked(self) -> workers_pb2.FailOperationResponse:
        """Confirms a requested cancellation."""
        stopped = status_pb2.Status(code=code_pb2.CANCELLED, message="stopped as asked")
        return self.fail(stopped)


Handler = Callable[[Task], object]


class Worker:
    """Serves one queue in a thread while the `with` block runs."""

    def __init__(self, workers: workers_pb2_grpc.WorkersStub, queue: str, handle: Handler) -> None:
        self._workers = workers
        self._queue = queue
        self._handle = handle
        self._lock = threading.Lock()
        self._stopping = False
        self._call: grpc.Future | None = None
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._serve, name=queue, daemon=True)

    def __enter__(self) -> "Worker":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._stopping = True
            if self._call is not None:
                self._call.cancel()
        self._thread.join(timeout=JOIN_SECONDS)
        if error is None and self._error is not None:
            raise self._error
        if error is None and self._thread.is_alive():
            raise AssertionError(f"the worker of {self._queue} does not stop")

    def _serve(self) -> None:
        try:
            while (leases := self._lease()) is not None:
                for lease in leases:
                    self._handle(Task(self._workers, lease))
        except Exception as error:
            self._error = error

    def _lease(self) -> list[workers_pb2.Lease] | None:
        """Returns the next leases, or None once the worker is to stop."""
        request = workers_pb2.LeaseOperationsRequest(queue=self._queue, worker="interop")
        request.wait_duration.FromSeconds(10)
        with self._lock:
            if self._stopping:
                return None
            self._call = self._workers.LeaseOperations.future(request, timeout=TIMEOUT_SECONDS)
        try:
            return list(self._call.result().leases)
        except grpc.FutureCancelledError:
            return None
