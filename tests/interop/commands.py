"""Runs the README's grpcurl commands against a running server; grpcurl must be on the path."""

import argparse
import faulthandler
import json
import subprocess
import sys

import suite
from connection import Connection, fresh
from suite import test
from worker import TIMEOUT_SECONDS

# All tests take seconds; if one hangs, the stack traces show which.
LIMIT_SECONDS = 300
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


def grpcurl(api: Connection, *arguments: str, data: object = None) -> str:
    """Runs grpcurl as in the README, and returns its output."""
    given = () if data is None else ("-d", json.dumps(data))
    ended = subprocess.run(
        ("grpcurl", "-plaintext", *given, api.server, *arguments),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def messages(printed: str) -> list[dict]:
    """Returns the JSON documents that follow each other."""
    decoder, found = json.JSONDecoder(), []
    while printed := printed.strip():
        message, end = decoder.raw_decode(printed)
        found.append(message)
        printed = printed[end:]
    return found


@test
def grpcurl_lists_and_describes_what_is_served(api: Connection) -> None:
    listed = grpcurl(api, "list").split()
    assert set(SERVICES) <= set(listed), listed
    assert "longhaul.v1.Producers.StartOperation" in grpcurl(api, "list", "longhaul.v1.Producers")
    for service in listed:
        assert f"service {service.rpartition('.')[2]} {{" in grpcurl(api, "describe", service)
    described = grpcurl(api, "describe", "longhaul.v1.StartOperationRequest")
    assert "string operation_id = 2" in described
    assert ".google.protobuf.Any request = 5" in described


@test
def grpcurl_starts_an_operation_and_watches_it_to_its_end(api: Connection) -> None:
    queue, wanted = fresh("curl"), fresh("first")
    name = f"operations/{wanted}"
    request = {"@type": "type.googleapis.com/google.protobuf.Struct", "value": {"rows": 3}}
    started = {"operation_id": wanted, "queue": queue, "request": request}
    method = "longhaul.v1.Producers/StartOperation"
    (operation,) = messages(grpcurl(api, method, data=started))
    assert operation["name"] == name
    assert operation["metadata"]["state"] == "PENDING"

    def work(task):
        task.report(progress={"fraction": 0.5, "message": "halfway"})
        task.complete()

    with api.worker(queue, work):
        watched = messages(grpcurl(api, "longhaul.v1.Callers/WatchOperation", data={"name": name}))
    assert watched[-1]["type"] == "DONE"
    assert watched[-1]["serverMetadata"]["state"] == "SUCCEEDED"
    assert watched[-1]["operation"]["response"] == {
        "@type": "type.googleapis.com/google.protobuf.Empty",
        "value": {},
    }


@test
def grpcurl_gets_waits_for_and_lists_operations(api: Connection) -> None:
    parent = f"projects/{fresh('curl')}"
    queue = fresh("curl")
    names = [api.start(parent=parent, queue=queue).name for _ in range(2)]
    for _ in names:
        api.lease(queue).complete()
    for verb in ("GetOperation", "WaitOperation"):
        method = f"google.longrunning.Operations/{verb}"
        (operation,) = messages(grpcurl(api, method, data={"name": names[0]}))
        assert operation["name"] == names[0] and operation["done"]
        assert operation["metadata"]["state"] == "SUCCEEDED"
    method = "google.longrunning.Operations/ListOperations"
    (page,) = messages(grpcurl(api, method, data={"name": parent}))
    assert [operation["name"] for operation in page["operations"]] == names[::-1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", required=True, metavar="HOST:PORT")
    server = parser.parse_args().server

    faulthandler.dump_traceback_later(LIMIT_SECONDS, exit=True)
    return 1 if suite.run(Connection(server)) else 0


if __name__ == "__main__":
    sys.exit(main())
