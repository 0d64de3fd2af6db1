"""Tests of deliveries with the reference libraries of Standard Webhooks and CloudEvents."""

import json
import queue
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import requests
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from google.protobuf import struct_pb2
from longhaul.v1 import operation_pb2, webhooks_pb2, webhooks_pb2_grpc
from standardwebhooks import Webhook, WebhookVerificationError

from connection import Connection, fresh
from program import Program
from servers import ROOT, Server, free_port, wait_until_listening
from suite import test
from worker import TIMEOUT_SECONDS

WEBHOOKS = Path(__file__).resolve().parent / "webhooks"
EXAMPLES = {
    "receiver.py": (sys.executable, str(ROOT / "examples/webhooks/receiver.py")),
    "receiver.ts": ("node", str(WEBHOOKS / "dist/receiver.js")),
}
# Signatures cover every byte.
TEXT = 'ä "b" \\ \u2028 %20'
# How long to wait for a delivery before another operation ends.
ENDPOINT_SECONDS = 1.0
Format = operation_pb2.Callback.Format
FORMATS = {
    "standard, thin": {"format": Format.STANDARD_WEBHOOK},
    "standard, full": {"format": Format.STANDARD_WEBHOOK, "include_result": True},
    "structured, thin": {"format": Format.CLOUDEVENTS_STRUCTURED},
    "structured, full": {"format": Format.CLOUDEVENTS_STRUCTURED, "include_result": True},
    "response": {"format": Format.RESPONSE_BODY},
}


@dataclass(frozen=True)
class Delivery:
    """A delivery about the end of an operation, and the key that checks it."""

    kind: str
    key: str
    operation: str
    headers: dict[str, str]
    body: str


class Webhooks(Connection):
    """A server, and a receiver of its deliveries."""

    def __init__(self, server: Server, url: str, received: queue.Queue) -> None:
        super().__init__(server.address)
        self._webhooks = webhooks_pb2_grpc.WebhooksStub(self.channel)
        self._url, self._received = url, received
        found = re.search(r'callback_key="?(whpk_[^\s"]+)', server.log.read_text())
        assert found, "the server does not log its public key"
        self._callback_key = found[1]
        self._deliveries: list[Delivery] = []

    def endpoint(self, parent: str, uri: str, **settings: object) -> str:
        """Creates an endpoint, and returns its secret."""
        endpoint = webhooks_pb2.WebhookEndpoint(uri=uri, **settings)
        request = webhooks_pb2.CreateWebhookEndpointRequest(
            parent=parent, webhook_endpoint=endpoint
        )
        created = self._webhooks.CreateWebhookEndpoint(request, timeout=TIMEOUT_SECONDS)
        return created.secrets[0].secret

    def end(self, parent: str, *callbacks: operation_pb2.Callback) -> str:
        """Starts an operation and completes it."""
        place = fresh("webhooks")
        options = operation_pb2.OperationOptions(callbacks=callbacks)
        started = self.start(parent=parent, queue=place, options=options)
        response = struct_pb2.Struct()
        response.update({"text": TEXT})
        self.lease(place).complete(response)
        return started.name

    def ended(self, parent: str, is_there: Callable[[], bool]) -> None:
        """Ends operations until there is a delivery: an endpoint takes a moment to count."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not is_there():
            assert time.monotonic() < deadline, f"no delivery about {parent}"
            self.end(parent)
            time.sleep(0.5)

    def deliveries(self) -> list[Delivery]:
        """One of each format, to a callback and to an endpoint."""
        if self._deliveries:
            return self._deliveries
        keys, endpoints = {}, {}
        deadline = time.monotonic() + 2 * TIMEOUT_SECONDS
        for name, settings in FORMATS.items():
            place = fresh("parents/c")
            keys[place] = (f"callback, {name}", self._callback_key)
            callback = operation_pb2.Callback(uri=f"{self._url}/{place}", **settings)
            self.end(place, callback)
            place = fresh("parents/e")
            secret = self.endpoint(place, f"{self._url}/{place}", **settings)
            keys[place] = (f"endpoint, {name}", secret)
            endpoints[place] = None
        while keys:
            try:
                path, headers, body = self._received.get(timeout=ENDPOINT_SECONDS)
            except queue.Empty:
                # An endpoint gets the events from a moment after its creation on.
                assert time.monotonic() < deadline, f"not delivered: {keys}"
                for place in endpoints.keys() & keys.keys():
                    self.end(place)
                continue
            kind, key = keys.pop(path.removeprefix("/"), ("", ""))
            if kind:
                name = headers.get("ce-subject") or json.loads(body)["subject"]
                assert name.startswith(f"{path[1:]}/operations/"), name
                self._deliveries.append(Delivery(kind, key, name, headers, body.decode()))
        return self._deliveries


def altered(delivery: Delivery) -> Iterator[tuple[str, dict[str, str], str]]:
    """The delivery with one thing changed at a time."""
    headers, body = delivery.headers, delivery.body
    yield "body", headers, body.replace("t", "T", 1)
    yield "length", headers, body + " "
    yield "id", headers | {"webhook-id": headers["webhook-id"] + "x"}, body
    later = int(headers["webhook-timestamp"]) + 1
    yield "timestamp", headers | {"webhook-timestamp": str(later)}, body
    yield "age", headers | {"webhook-timestamp": str(later - 3600)}, body
    yield "signature", headers | {"webhook-signature": "v1," + "A" * 43 + "="}, body
    yield "no signature", headers | {"webhook-signature": ""}, body


@test
def standardwebhooks_accepts_deliveries_to_endpoints_and_refuses_altered_ones(
    api: Webhooks,
) -> None:
    signed = [it for it in api.deliveries() if it.kind.startswith("endpoint")]
    assert len(signed) == len(FORMATS)
    for delivery in signed:
        webhook = Webhook(delivery.key)
        webhook.verify(delivery.body.encode(), delivery.headers)
        for what, headers, body in altered(delivery):
            try:
                webhook.verify(body.encode(), headers)
            except WebhookVerificationError:
                continue
            raise AssertionError(f"{delivery.kind}: accepted with another {what}")


@test
def cloudevents_reads_each_format_and_refuses_an_event_that_lacks_something(
    api: Webhooks,
) -> None:
    for delivery in api.deliveries():
        headers, body = delivery.headers, delivery.body.encode()
        event = from_http_event(HTTPMessage(headers=headers, body=body))
        assert event.get_id() == headers["webhook-id"], event
        assert event.get_specversion() == "1.0", event
        assert event.get_type() == "dev.longhaul.operation.done", event
        assert event.get_subject() == delivery.operation, event
        data = event.get_data()
        if "structured" in delivery.kind:
            # One header with that prefix would make it a binary event for the library.
            assert not [name for name in headers if name.startswith("ce-")], headers
            assert headers["content-type"] == "application/cloudevents+json", headers
        elif "standard" in delivery.kind:
            data = data["data"]
        check_data(delivery, data)
        whole = json.loads(body)
        # The library makes up an id, if there is none.
        for name in ("source", "type"):
            less = {it: value for it, value in headers.items() if it != f"ce-{name}"}
            less_body = {it: value for it, value in whole.items() if it != name}
            content = json.dumps(less_body).encode() if less == headers else body
            try:
                from_http_event(HTTPMessage(headers=less, body=content))
            except Exception as error:
                # The library has an error for each fault, and one around them.
                assert "cloudevents" in type(error).__module__, repr(error)
                continue
            raise AssertionError(f"{delivery.kind}: accepted without {name}")


def check_data(delivery: Delivery, data: dict) -> None:
    """The data of the event is about the operation, with its result only if that is asked for."""
    if delivery.kind.endswith("response"):
        assert data == {"text": TEXT}, data
        return
    assert data["name"] == delivery.operation and data["state"] == "SUCCEEDED", data
    assert ("operation" in data) == delivery.kind.endswith("full"), data
    if "operation" in data:
        assert json.dumps(TEXT) in json.dumps(data["operation"]), data


@test
def the_libraries_of_node_agree(api: Webhooks) -> None:
    deliveries = json.dumps([asdict(it) for it in api.deliveries()])
    node = ("node", WEBHOOKS / "verify.js")
    ended = subprocess.run(node, input=deliveries, text=True, capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == f"{len(api.deliveries())} deliveries\n", ended.stdout


@test
def the_receivers_of_the_examples_take_deliveries_and_refuse_forged_ones(api: Webhooks) -> None:
    for program, command in EXAMPLES.items():
        address, place = f"127.0.0.1:{free_port()}", fresh("receivers/r")
        secret = api.endpoint(place, f"http://{address}/hook")
        with Program(*command, address.split(":")[1], secret) as receiver:
            wait_until_listening(address)
            api.ended(place, receiver.has_line)
            words = receiver.line().split()
            assert words[1] == "operation.done" and words[2].startswith(place), (program, words)
            headers = {"webhook-id": words[0], "webhook-timestamp": str(int(time.time()))}
            headers["webhook-signature"] = "v1," + "A" * 43 + "="
            forged = requests.post(
                f"http://{address}/hook", b"{}", headers=headers, timeout=TIMEOUT_SECONDS
            )
            assert forged.status_code == 400, f"{program}: {forged}"
