"""Waits for an operation with the stock client: caller.py NAME [SERVER].

Knows nothing of longhaul: this is what the users of an API do whose methods return operations.
"""

import sys

import grpc
from google.api_core import exceptions, operation, operations_v1
from google.protobuf import struct_pb2

name = sys.argv[1]
server = sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1:50051"

with grpc.insecure_channel(server) as channel:
    client = operations_v1.OperationsClient(channel)
    future = operation.from_gapic(client.get_operation(name), client, struct_pb2.Struct)
    try:
        print(f"response {future.result()['greeting']}")
    except exceptions.GoogleAPICallError as error:
        print(f"error {error.grpc_status_code.value[0]} {error.message}")
