"""google-api-core over REST: caller.py SERVER COMMAND NAME. `rest_tests.py` runs it."""

import sys

import requests
from google.api_core import exceptions, operation, rest_streaming
from google.api_core.future import polling
from google.api_core.operations_v1 import AbstractOperationsClient
from google.api_core.operations_v1.transports.rest import OperationsRestTransport
from google.auth.credentials import AnonymousCredentials
from google.longrunning import operations_pb2
from google.type import fraction_pb2, money_pb2
from longhaul.v1 import callers_pb2, operation_pb2

LIMIT_SECONDS = 30.0
QUICK_POLLING = polling.DEFAULT_POLLING.with_delay(initial=0.02, maximum=0.05).with_timeout(
    LIMIT_SECONDS
)
Event = callers_pb2.WatchOperationResponse
State = operation_pb2.OperationRecord.State


class Caller:
    """The stock client, without a generated one around it."""

    def __init__(self, server: str) -> None:
        self._server = server
        # It ignores `url_scheme`.
        transport = OperationsRestTransport(
            host=f"http://{server}", credentials=AnonymousCredentials()
        )
        self._client = AbstractOperationsClient(transport=transport)

    def get(self, name: str) -> None:
        found = self._client.get_operation(name)
        print(found.name, "done" if found.done else "running")

    def list(self, parent: str) -> None:
        for found in self._client.list_operations(parent, page_size=2):
            print(found.name)

    def cancel(self, name: str) -> None:
        self._client.cancel_operation(name)
        print("ok")

    def delete(self, name: str) -> None:
        self._client.delete_operation(name)
        print("ok")

    def result(self, name: str) -> None:
        last = None

        def refresh(**_: object) -> operations_pb2.Operation:
            nonlocal last
            found = self._client.get_operation(name)
            share = fraction_pb2.Fraction()
            found.metadata.Unpack(share)
            if share != last and not found.done:
                print(f"metadata {share.numerator}/{share.denominator}", flush=True)
            last = share
            return found

        future = operation.Operation(
            refresh(),
            refresh,
            lambda: self._client.cancel_operation(name),
            money_pb2.Money,
            metadata_type=fraction_pb2.Fraction,
            polling=QUICK_POLLING,
        )
        price = future.result()
        print("result", price.currency_code, price.units)

    def watch(self, name: str) -> None:
        """As generated clients do for methods that return many messages."""
        answer = requests.get(
            f"http://{self._server}/v1/{name}:watch", stream=True, timeout=LIMIT_SECONDS
        )
        for event in rest_streaming.ResponseIterator(answer, Event):
            state = State.Name(event.server_metadata.state) if event.server_metadata.state else ""
            print(f"{Event.Type.Name(event.type)} {state}".strip(), flush=True)


def main() -> None:
    server, command, name = sys.argv[1:]
    try:
        getattr(Caller(server), command)(name)
    except exceptions.GoogleAPICallError as error:
        print("error", type(error).__name__, error.message)


if __name__ == "__main__":
    main()
