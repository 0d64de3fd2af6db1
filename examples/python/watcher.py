"""Prints the states of an operation until it is done: watcher.py NAME [SERVER]."""

import sys
import time

import grpc
from google.longrunning import operations_pb2
from google.protobuf import struct_pb2
from longhaul.v1 import callers_pb2, callers_pb2_grpc, operation_pb2

Type = callers_pb2.WatchOperationResponse.Type


def show(operation: operations_pb2.Operation) -> None:
    """Prints how a finished operation ended."""
    if operation.HasField("error"):
        print(f"error {operation.error.code} {operation.error.message}")
    else:
        response = struct_pb2.Struct()
        operation.response.Unpack(response)
        print(f"response {response['greeting']}")


def main() -> None:
    name = sys.argv[1]
    server = sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1:50051"
    request = callers_pb2.WatchOperationRequest(name=name)
    with grpc.insecure_channel(server) as channel:
        callers = callers_pb2_grpc.CallersStub(channel)
        while True:
            for event in callers.WatchOperation(request, wait_for_ready=True):
                request.resume_token = event.resume_token or request.resume_token
                if event.type == Type.RECONNECT:
                    print("reconnect", flush=True)
                    time.sleep(event.reconnect_delay.ToTimedelta().total_seconds())
                elif event.type == Type.DELETED:
                    sys.exit("it was deleted")
                elif event.HasField("operation"):
                    state = event.server_metadata.state
                    progress = event.server_metadata.progress
                    print(
                        operation_pb2.OperationRecord.State.Name(state),
                        f"{progress.fraction:.0%} {progress.message}".strip(),
                        flush=True,
                    )
                    if event.type == Type.DONE:
                        show(event.operation)
                        return


if __name__ == "__main__":
    main()
