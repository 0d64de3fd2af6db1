"""Works on queue `hello` over one stream, several operations at once, until SIGTERM.

stream_worker.py [--queue QUEUE] [--slots N] [--pause SECONDS] [SERVER]
"""

import argparse
import asyncio
import contextlib
import signal
from collections import deque
from collections.abc import Callable

import grpc
from google.protobuf import struct_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, status_pb2
from longhaul.v1 import operation_pb2, workers_pb2, workers_pb2_grpc

STEPS = 5
LEASE_SECONDS = 30
# Leases outlive a stream by 3 s, which is enough for several reconnects.
RECONNECT_SECONDS = 0.3
# A message with this many bytes is full: one more call, with a response of 1 MiB, stays below the limit of 3 MiB.
FULL_BYTES = 1 << 20
REFUSED = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.UNIMPLEMENTED,
)

Report = Callable[[float, str], None]


async def greet(lease: workers_pb2.Lease, pause: float, report: Report) -> struct_pb2.Struct:
    """Does the work of one operation; cancelled when it must stop."""
    for step in range(1, STEPS + 1):
        await asyncio.sleep(pause)
        report(step / STEPS, f"step {step}")
    request, response = struct_pb2.Struct(), struct_pb2.Struct()
    lease.request.Unpack(request)
    response.update({"greeting": f"hello {request['name']}"})
    return response


class Job:
    """An operation that this worker holds."""

    def __init__(self, lease: workers_pb2.Lease) -> None:
        self.lease = lease
        self.owned = {"name": lease.operation, "lease_token": lease.lease_token}
        self.cancel_requested = lease.cancel_requested
        self.task: asyncio.Task | None = None
        # The final call, until the server has acknowledged it.
        self.last: Message | None = None


class Worker:
    """The state that outlives a stream: held operations and unacknowledged calls."""

    def __init__(self, queue: str, slots: int, pause: float) -> None:
        self.queue, self.slots, self.pause = queue, slots, pause
        self.jobs: dict[str, Job] = {}
        # By the list of the request and the lease: a newer report replaces an older one.
        self.unsaid: dict[tuple[str, str], Message] = {}
        self.news = asyncio.Event()
        self.stopping = False

    async def run(self, workers: workers_pb2_grpc.WorkersStub) -> None:
        """Serves, one stream after another, until it is stopped."""
        while True:
            try:
                await self.serve(workers.ServeQueue())
                if self.stopping:
                    return
            except grpc.aio.AioRpcError as error:
                if error.code() in REFUSED:
                    raise
                print(f"broken: {error.details()}", flush=True)
            except TimeoutError:
                print("broken: the server is silent", flush=True)
            if self.stopping and not self.jobs:
                return
            await asyncio.sleep(RECONNECT_SECONDS)

    def stop(self) -> None:
        """Stops all work; closing this side of the stream releases unfinished operations."""
        self.stopping = True
        for job in self.jobs.values():
            if job.task:
                job.task.cancel()
        self.news.set()

    async def serve(self, stream: grpc.aio.StreamStreamCall) -> None:
        """Serves over one stream, to its end."""
        self.seen, self.heartbeat, self.draining = 0, LEASE_SECONDS / 3, False
        # Sequences, and what was said with them.
        self.sent: deque[tuple[int, dict]] = deque()
        writer = asyncio.create_task(self.write(stream))
        try:
            while True:
                response = await asyncio.wait_for(stream.read(), LEASE_SECONDS)
                if response is grpc.aio.EOF:
                    return
                self.take_in(response)
        finally:
            stream.cancel()
            writer.cancel()
            await asyncio.wait([writer])
            # The server may have handled it. A repeat does no harm.
            again = {key: call for _, calls in self.sent for key, call in calls.items()}
            self.unsaid = again | self.unsaid

    async def write(self, stream: grpc.aio.StreamStreamCall) -> None:
        """Says what there is to say, or just that somebody is there."""
        hello = workers_pb2.ServeQueueRequest.Hello(
            queue=self.queue,
            worker="python",
            lease_duration={"seconds": LEASE_SECONDS},
            held=[workers_pb2.ServeQueueRequest.Held(**job.owned) for job in self.jobs.values()],
        )
        request = workers_pb2.ServeQueueRequest(sequence=1, hello=hello, slots=self.slots)
        # Why a write fails is known to who reads.
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            while True:
                self.news.clear()
                calls = self.gather(request)
                request.seen_sequence = self.seen
                self.sent.append((request.sequence, calls))
                unbegun = [job for job in self.jobs.values() if not job.task and self.seen]
                await stream.write(request)
                # Only now: the server would lease an operation that was never seen to another worker.
                for job in unbegun:
                    self.begin(job)
                closing = self.stopping or (self.draining and not self.jobs)
                if closing and not self.unsaid:
                    break
                if not self.unsaid:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self.news.wait(), self.heartbeat / 2)
                request = workers_pb2.ServeQueueRequest(sequence=request.sequence + 1)
            await stream.done_writing()

    def gather(self, request: workers_pb2.ServeQueueRequest) -> dict:
        """Moves what is to be said into a message, as far as it has room."""
        calls = {}
        while self.unsaid and request.ByteSize() < FULL_BYTES:
            key = next(iter(self.unsaid))
            calls[key] = self.unsaid.pop(key)
            getattr(request, key[0]).append(calls[key])
        return calls

    def take_in(self, response: workers_pb2.ServeQueueResponse) -> None:
        """Does what the server says."""
        self.seen = response.sequence
        if response.HasField("welcome"):
            print("serving", flush=True)
            self.heartbeat = response.welcome.heartbeat_interval.ToTimedelta().total_seconds()
            for name in response.welcome.lost:
                self.lose(name)
        for outcome in response.outcomes:
            self.hear(outcome)
        while self.sent and self.sent[0][0] <= response.acknowledged_sequence:
            for call in self.sent.popleft()[1].values():
                if (job := self.jobs.get(call.name)) and job.last is call:
                    del self.jobs[call.name]
        for lease in response.leases:
            self.lose(lease.operation)
            self.jobs[lease.operation] = Job(lease)
        for told in response.signals:
            if told.directive.cancel_requested and (job := self.jobs.get(told.name)):
                job.cancel_requested = True
                if job.task:
                    job.task.cancel()
        self.draining |= response.HasField("drain_duration")
        if response.HasField("welcome") or response.leases or self.draining:
            self.news.set()

    def hear(self, outcome: workers_pb2.ServeQueueResponse.Outcome) -> None:
        """Goes on after a refusal, or the loss of a lease."""
        job = self.jobs.get(outcome.name)
        if not job or not outcome.HasField("error"):
            return
        print(f"{outcome.name}: {outcome.error.message}", flush=True)
        if outcome.sequence == 0:
            self.lose(outcome.name)
        elif job.last and outcome.call != outcome.REPORT and not gone(outcome.error):
            # For example because the response is too large. The lease continues until another call ends it.
            self.fail(job, code_pb2.INTERNAL, outcome.error.message)

    def begin(self, job: Job) -> None:
        """Begins the work on what was leased."""

        def report(fraction: float, message: str) -> None:
            progress = operation_pb2.Progress(fraction=fraction, message=message)
            self.say("reports", workers_pb2.ReportProgressRequest(**job.owned, progress=progress))

        print(f"{job.lease.operation}: attempt {job.lease.attempt}", flush=True)
        job.task = asyncio.create_task(greet(job.lease, self.pause, report))
        job.task.add_done_callback(lambda task: self.ended(job, task))
        if job.cancel_requested or self.stopping:
            job.task.cancel()

    def ended(self, job: Job, task: asyncio.Task) -> None:
        """Says how the work ended, unless it is no more this worker's, or given back."""
        if self.jobs.get(job.lease.operation) is not job:
            return
        if task.cancelled():
            if job.cancel_requested:
                self.fail(job, code_pb2.CANCELLED, "stopped as asked")
        elif error := task.exception():
            self.fail(job, code_pb2.UNKNOWN, repr(error))
        else:
            print(f"{job.lease.operation}: done", flush=True)
            job.last = workers_pb2.CompleteOperationRequest(**job.owned)
            job.last.response.Pack(task.result())
            self.say("completions", job.last)

    def fail(self, job: Job, code: int, message: str) -> None:
        """Ends an operation with an error."""
        error = status_pb2.Status(code=code, message=message)
        job.last = workers_pb2.FailOperationRequest(**job.owned, error=error)
        self.say("failures", job.last)

    def say(self, kind: str, call: Message) -> None:
        """Has it said with the next message."""
        self.unsaid[kind, call.lease_token] = call
        self.news.set()

    def lose(self, name: str) -> None:
        """Stops work on an operation that another worker has; for an ended one the repeated call tells."""
        if (job := self.jobs.get(name)) and not job.last:
            del self.jobs[name]
            if job.task:
                job.task.cancel()


def gone(error: status_pb2.Status) -> bool:
    """Whether the lease is over."""
    return error.code in (code_pb2.FAILED_PRECONDITION, code_pb2.NOT_FOUND)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--queue", default="hello")
    parser.add_argument("--slots", type=int, default=10)
    parser.add_argument("--pause", type=float, default=0.3)
    parser.add_argument("server", nargs="?", default="127.0.0.1:50051")
    given = parser.parse_args()
    worker = Worker(given.queue, given.slots, given.pause)
    loop = asyncio.get_running_loop()

    def stop() -> None:
        # A second signal ends the process at once.
        loop.remove_signal_handler(signal.SIGTERM)
        worker.stop()

    loop.add_signal_handler(signal.SIGTERM, stop)
    quick = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 1000))
    async with grpc.aio.insecure_channel(given.server, options=quick) as channel:
        await worker.run(workers_pb2_grpc.WorkersStub(channel))


if __name__ == "__main__":
    asyncio.run(main())
