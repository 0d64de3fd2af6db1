"""Checks the descriptors that a running server hands out over gRPC reflection.

Each google/* file must equal the published one, because stock clients link that one into the same
process. The well-known files must be there, so that tools can read what an Any holds.
"""

import argparse
import difflib
import sys
from collections.abc import Callable
from typing import Protocol

import grpc
from google.api import (
    annotations_pb2,
    client_pb2,
    field_behavior_pb2,
    field_info_pb2,
    http_pb2,
    launch_stage_pb2,
    resource_pb2,
)
from google.longrunning import operations_pb2
from google.protobuf import text_format
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

TIMEOUT_SECONDS = 10.0
V1_METHOD = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"

PUBLISHED_MODULES = (
    annotations_pb2,
    client_pb2,
    field_behavior_pb2,
    field_info_pb2,
    http_pb2,
    launch_stage_pb2,
    resource_pb2,
    operations_pb2,
    code_pb2,
    error_details_pb2,
    status_pb2,
)

WELL_KNOWN_FILES = (
    "google/protobuf/any.proto",
    "google/protobuf/descriptor.proto",
    "google/protobuf/duration.proto",
    "google/protobuf/empty.proto",
    "google/protobuf/field_mask.proto",
    "google/protobuf/struct.proto",
    "google/protobuf/timestamp.proto",
    "google/protobuf/wrappers.proto",
)

SERVICES = (
    "google.longrunning.Operations",
    "grpc.health.v1.Health",
    "longhaul.v1.Admin",
    "longhaul.v1.Callers",
    "longhaul.v1.Producers",
    "longhaul.v1.Queues",
    "longhaul.v1.TypeSets",
    "longhaul.v1.Workers",
)


class Refused(Exception):
    """The server did not return the requested descriptor."""


class Reflection(Protocol):
    """The replies of both versions of the reflection service."""

    version: str

    def services(self) -> list[str]: ...

    def file(self, name: str) -> FileDescriptorProto: ...


class V1Alpha:
    """The older version, through the client that grpcio-reflection ships."""

    version = "v1alpha"

    def __init__(self, channel: grpc.Channel) -> None:
        self._database = ProtoReflectionDescriptorDatabase(channel)

    def services(self) -> list[str]:
        return list(self._database.get_services())

    def file(self, name: str) -> FileDescriptorProto:
        try:
            return self._database.FindFileByName(name)
        except KeyError as error:
            raise Refused(f"{name} is not served") from error


class V1:
    """The newer version: the same messages under another service name."""

    version = "v1"

    def __init__(self, channel: grpc.Channel) -> None:
        self._call = channel.stream_stream(
            V1_METHOD,
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )

    def services(self) -> list[str]:
        answer = self._ask(reflection_pb2.ServerReflectionRequest(list_services=""))
        return [service.name for service in answer.list_services_response.service]

    def file(self, name: str) -> FileDescriptorProto:
        answer = self._ask(reflection_pb2.ServerReflectionRequest(file_by_filename=name))
        for encoded in answer.file_descriptor_response.file_descriptor_proto:
            served = FileDescriptorProto.FromString(encoded)
            if served.name == name:
                return served
        raise Refused(f"{name} is not in the answer about it")

    def _ask(
        self, request: reflection_pb2.ServerReflectionRequest
    ) -> reflection_pb2.ServerReflectionResponse:
        for answer in self._call(iter((request,)), timeout=TIMEOUT_SECONDS):
            if answer.HasField("error_response"):
                raise Refused(answer.error_response.error_message)
            return answer
        raise Refused("the stream ended without an answer")


class Report:
    """Counts checks, and prints a line for each."""

    def __init__(self) -> None:
        self.passed = 0
        self.failed = 0

    def check(self, title: str, check: Callable[[], str | None]) -> None:
        """Runs a check, which returns the problem, or None."""
        try:
            fault = check()
        except (Refused, grpc.RpcError) as error:
            fault = str(error)
        if fault is None:
            self.passed += 1
            print(f"ok      {title}")
        else:
            self.failed += 1
            print(f"FAILED  {title}\n{fault}")


def published_files() -> dict[str, FileDescriptorProto]:
    """Returns the descriptors of googleapis-common-protos, by file name."""
    files = {}
    for module in PUBLISHED_MODULES:
        published = FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(published)
        files[published.name] = published
    return files


def without_json_names(message: DescriptorProto) -> None:
    """Clears the JSON names in a message and its nested messages."""
    for field in (*message.field, *message.extension):
        field.ClearField("json_name")
    for nested in message.nested_type:
        without_json_names(nested)


def normalised(file: FileDescriptorProto) -> FileDescriptorProto:
    """Returns a copy without the optional parts that differ between compilers."""
    copy = FileDescriptorProto()
    copy.CopyFrom(file)
    copy.ClearField("source_code_info")
    for extension in copy.extension:
        extension.ClearField("json_name")
    for message in copy.message_type:
        without_json_names(message)
    for service in copy.service:
        for method in service.method:
            if not method.options.ListFields():
                method.ClearField("options")
    return copy


def difference(published: FileDescriptorProto, served: FileDescriptorProto) -> str | None:
    """Returns how the served descriptor differs from the published one, or None."""
    published, served = normalised(published), normalised(served)
    if published == served:
        return None
    lines = difflib.unified_diff(
        text_format.MessageToString(published).splitlines(),
        text_format.MessageToString(served).splitlines(),
        fromfile="published",
        tofile="served",
        lineterm="",
    )
    return "\n".join(lines)


def well_known_fault(reflection: Reflection, name: str) -> str | None:
    """Returns the problem of a well-known file, or None."""
    served = reflection.file(name)
    if served.package != "google.protobuf":
        return f"its package is {served.package!r}"
    return None


def missing_services(reflection: Reflection) -> str | None:
    """Returns which services are not listed, or None."""
    missing = sorted(set(SERVICES) - set(reflection.services()))
    return f"not listed: {', '.join(missing)}" if missing else None


def check_all(reflection: Reflection, report: Report) -> None:
    """Runs every check over one version of reflection."""
    version = reflection.version
    report.check(f"{version} services", lambda: missing_services(reflection))
    for name, published in sorted(published_files().items()):
        report.check(
            f"{version} {name} equals the published one",
            lambda: difference(published, reflection.file(name)),
        )
    for name in WELL_KNOWN_FILES:
        report.check(f"{version} {name} is served", lambda: well_known_fault(reflection, name))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", required=True, metavar="HOST:PORT")
    server = parser.parse_args().server

    report = Report()
    with grpc.insecure_channel(server) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=TIMEOUT_SECONDS)
        except grpc.FutureTimeoutError:
            print(f"no server at {server}", file=sys.stderr)
            return 1
        for reflection in (V1Alpha(channel), V1(channel)):
            check_all(reflection, report)
    print(f"{report.passed} passed, {report.failed} failed")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
