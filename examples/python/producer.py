"""Starts an operation that greets a person, and prints its name: producer.py [WHOM [SERVER]]."""

import sys

import grpc
from google.protobuf import struct_pb2
from longhaul.v1 import producers_pb2, producers_pb2_grpc

person = sys.argv[1] if len(sys.argv) > 1 else "world"
server = sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1:50051"

request = struct_pb2.Struct()
request.update({"name": person})
start = producers_pb2.StartOperationRequest(
    queue="hello", method="greet", response_type="google.protobuf.Struct"
)
start.request.Pack(request)
with grpc.insecure_channel(server) as channel:
    print(producers_pb2_grpc.ProducersStub(channel).StartOperation(start).name)
