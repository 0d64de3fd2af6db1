"""Works on queue `hello` until it is stopped, or on one operation: worker.py [SERVER] [--once]."""

import sys
import time

import grpc
from google.protobuf import struct_pb2
from google.rpc import code_pb2, status_pb2
from longhaul.v1 import operation_pb2, workers_pb2, workers_pb2_grpc

STEPS = 5


def greet(workers: workers_pb2_grpc.WorkersStub, lease: workers_pb2.Lease) -> None:
    """Does the work of one operation."""
    owned = {"name": lease.operation, "lease_token": lease.lease_token}
    for step in range(1, STEPS + 1):
        time.sleep(0.3)
        # A report also renews the lease, and its response says whether to stop.
        progress = operation_pb2.Progress(fraction=step / STEPS, message=f"step {step}")
        report = workers_pb2.ReportProgressRequest(**owned, progress=progress)
        if workers.ReportProgress(report).directive.cancel_requested:
            stopped = status_pb2.Status(code=code_pb2.CANCELLED, message="stopped as asked")
            workers.FailOperation(workers_pb2.FailOperationRequest(**owned, error=stopped))
            return
    request, response = struct_pb2.Struct(), struct_pb2.Struct()
    lease.request.Unpack(request)
    response.update({"greeting": f"hello {request['name']}"})
    complete = workers_pb2.CompleteOperationRequest(**owned)
    complete.response.Pack(response)
    workers.CompleteOperation(complete)


def main() -> None:
    once = "--once" in sys.argv
    server = next((word for word in sys.argv[1:] if word != "--once"), "127.0.0.1:50051")
    ask = workers_pb2.LeaseOperationsRequest(queue="hello", worker="python")
    ask.wait_duration.FromSeconds(20)
    with grpc.insecure_channel(server) as channel:
        workers = workers_pb2_grpc.WorkersStub(channel)
        while True:
            # At most one lease; none if no operation became ready within the wait.
            for lease in workers.LeaseOperations(ask).leases:
                greet(workers, lease)
                if once:
                    return


if __name__ == "__main__":
    main()
