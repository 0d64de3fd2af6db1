#!/usr/bin/env python3
"""Holds a server to the OpenAPI document that it serves.

First the document itself, by a published validator; then a walk through the life of operations
in which each response is compared with the document; then schemathesis, for a bounded time.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import openapi_spec_validator
import requests
import schemathesis

HERE = Path(__file__).resolve().parent
# Duration of each run of schemathesis, and the bound of one request.
SECONDS, REQUEST_SECONDS = 25, 20
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
)
STATUS = "application/vnd.longhaul.status+json"
AZURE = "application/vnd.longhaul.azure+json"
JSON_API = "application/vnd.api+json"
DOCUMENTS = ("application/json", STATUS, AZURE, JSON_API)
ERRORS = ("application/json", "application/problem+json", JSON_API)


class Walk:
    """Sends requests, and compares each response with the document."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._schema = schemathesis.openapi.from_url(f"{base}/openapi.json")

    def ask(self, method: str, path: str, status: int, /, body: object = None, **values: str):
        """Sends a request to a path of the document; `values` are in the path, or headers."""
        headers = {
            name.replace("_", "-"): value for name, value in values.items() if name[0].isupper()
        }
        address = path.format(**values)
        response = requests.request(
            method,
            self._base + address,
            headers=headers,
            json=body,
            timeout=REQUEST_SECONDS,
            allow_redirects=False,
        )
        if response.status_code != status:
            found = f"{response.status_code}: {response.text}"
            raise AssertionError(f"{method} {address} {headers}: {found}")
        self._schema[path.split("?")[0]][method].validate_response(response)
        return response

    def start(self, **values: str) -> str:
        """Starts an operation, and returns its id."""
        started = self.ask("POST", START, 202, {"queue": "walk"}, **values)
        return started.headers["Operation-Id"]

    def lease(self) -> dict:
        """Leases the next operation."""
        wait = {"worker": "w", "waitDuration": "10s"}
        leased = self.ask("POST", "/v1/queues/{queue}/operations:lease", 200, wait, queue="walk")
        return leased.json()["leases"][0]


OPERATION = "/v1/operations/{operation}"
START = "/v1/operations:start"


def follow(walk: Walk) -> None:
    """Compares operations in all of their states, as each of their documents."""
    done = walk.start()
    for accept in DOCUMENTS:
        walk.ask("GET", OPERATION, 200, operation=done, Accept=accept)
        walk.ask("GET", OPERATION + "/monitor", 200, operation=done, Accept=accept)
        walk.ask("GET", OPERATION + "/result", 202, operation=done, Accept=accept)
    token = {"leaseToken": walk.lease()["leaseToken"]}
    related = [{"name": "logs/l", "uri": "https://x.example/l", "relation": "log", "type": "logs"}]
    report = {"progress": {"fraction": 0.5, "message": "half"}, "relatedResources": related}
    walk.ask("POST", OPERATION + ":reportProgress", 200, token | report, operation=done)
    known = walk.ask("GET", OPERATION, 200, operation=done, Prefer="wait=1")
    walk.ask("GET", OPERATION, 304, operation=done, If_None_Match=known.headers["ETag"])
    response = {"response": {"rows": 7}}
    walk.ask("POST", OPERATION + ":complete", 200, token | response, operation=done)
    failed, cancelled = fail(walk), walk.start()
    walk.ask("POST", OPERATION + ":cancel", 412, operation=cancelled, If_Match='"0"')
    walk.ask("POST", OPERATION + ":cancel", 200, operation=cancelled, Accept=STATUS)
    for operation, status in ((done, 200), (failed, 422), (cancelled, 410)):
        walk.ask("GET", OPERATION + "/result", status, operation=operation)
        for accept in DOCUMENTS:
            walk.ask("GET", OPERATION, 200, operation=operation, Accept=accept)
            walk.ask("GET", OPERATION + "/monitor", 201, operation=operation, Accept=accept)
        for accept in ("text/event-stream", "application/json"):
            walk.ask("GET", OPERATION + ":watch", 200, operation=operation, Accept=accept)
        walk.ask("GET", OPERATION + ":record?view=OPERATION_VIEW_FULL", 200, operation=operation)
    walk.ask("GET", OPERATION + "/monitor", 303, operation=done, Prefer="redirect")
    walk.ask("GET", OPERATION, 303, operation=done, Prefer="redirect", Accept=JSON_API)
    walk.ask("GET", "/v1/operations", 200)
    walk.ask("GET", "/v1/-/operations", 200)
    walk.ask("GET", "/v1/-/operations:records", 200)
    walk.ask("DELETE", OPERATION, 200, operation=done)


def fail(walk: Walk) -> str:
    """Starts an operation, fails it, and returns its id."""
    failed = walk.start()
    kind = "type.googleapis.com/google.rpc.ErrorInfo"
    detail = {"@type": kind, "reason": "R", "metadata": {"a": "b"}}
    error = {"code": 9, "message": "no room", "details": [detail]}
    failure = {"leaseToken": walk.lease()["leaseToken"], "error": error}
    walk.ask("POST", OPERATION + ":fail", 200, failure, operation=failed)
    return failed


def refuse(walk: Walk) -> None:
    """Compares refusals, in each of their forms."""
    for accept in ERRORS:
        walk.ask("GET", OPERATION, 404, operation="none", Accept=accept)
        walk.ask("POST", START, 400, {"nothing": 1}, Accept=accept)
        walk.ask("POST", START, 415, Content_Type="text/plain", Accept=accept, body="text")
        walk.ask("GET", OPERATION, 403, operation="none", Host="elsewhere.example", Accept=accept)
    walk.ask("GET", OPERATION, 406, operation="none", Accept="image/png")
    key = '"openapi-walk"'
    walk.start(Idempotency_Key=key)
    walk.start(Idempotency_Key=key)
    walk.ask("POST", START, 422, {"queue": "other"}, Idempotency_Key=key)
    walk.ask("POST", START, 202, {"operationId": "taken"})
    walk.ask("POST", START, 409, {"operationId": "taken"})
    walk.ask("GET", "/v1/operations?returnPartialSuccess=true", 200)


def fuzz(base: str, folder: str, phases: str) -> None:
    """Runs schemathesis against all operations but the streams, which do not end."""
    command = (
        Path(sys.executable).parent / "schemathesis",
        *("run", f"{base}/openapi.json", "--phases", phases, "--checks", ",".join(CHECKS)),
        *("--max-time", str(SECONDS), "--request-timeout", str(REQUEST_SECONDS)),
        *("--exclude-operation-id-regex", "^watch", "--warnings", "off", "--no-color"),
    )
    environment = os.environ | {"SCHEMATHESIS_HOOKS": "openapi_hooks", "PYTHONPATH": str(HERE)}
    ended = subprocess.run(command, cwd=folder, env=environment, check=False)
    if ended.returncode != 0:
        raise AssertionError("schemathesis found faults; they are above")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", required=True, metavar="ADDRESS")
    base = f"http://{parser.parse_args().server}"

    document = requests.get(f"{base}/openapi.json", timeout=REQUEST_SECONDS)
    openapi_spec_validator.validate(document.json())
    print("the document is valid", flush=True)
    walk = Walk(base)
    follow(walk)
    refuse(walk)
    print("operations and refusals are as the document says", flush=True)
    with tempfile.TemporaryDirectory(prefix="longhaul-openapi-") as folder:
        fuzz(base, folder, "coverage,fuzzing")
        fuzz(base, folder, "stateful")
    return 0


if __name__ == "__main__":
    sys.exit(main())
