"""Tests of stock REST clients, one text for all languages.

Each language has a program, `CALLER SERVER COMMAND NAME`, that calls its client and prints the outcome.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from google.longrunning import operations_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from google.type import fraction_pb2, money_pb2
from longhaul.v1 import operation_pb2

from connection import Connection, fresh
from languages import Command
from program import Program, output
from servers import ROOT
from suite import test
from worker import Task, packed

HERE = Path(__file__).resolve().parent
PRICE_NAME = money_pb2.Money.DESCRIPTOR.full_name
SHARE_NAME = fraction_pb2.Fraction.DESCRIPTOR.full_name
TWELVE_EUROS = money_pb2.Money(currency_code="EUR", units=12)


@dataclass(frozen=True)
class Caller:
    """The program of a language, and how its client shows errors."""

    command: Command
    # Whether names have a parent: google-cloud-rust wants none, the others want one.
    has_parent: bool
    # The class of an error by the name of its code: of an operation, and of a refused call if that has another.
    classes: dict[str, str]
    refusals: dict[str, str] = field(default_factory=dict)
    # Whether generated clients of this language read streams over REST.
    streams: bool = False


CODES = ("NOT_FOUND", "INVALID_ARGUMENT", "FAILED_PRECONDITION", "CANCELLED", "DATA_LOSS")


def camel(code: str) -> str:
    return code.title().replace("_", "")


def java() -> Command:
    target = HERE / "rest/java/target"
    # Small programs start faster with one JIT compiler.
    quick = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
    return ("java", *quick, "-cp", f"{target / 'classes'}:{target / 'lib'}/*", "RestCaller")


CALLERS = {
    "python": Caller(
        (sys.executable, str(HERE / "rest/caller.py")),
        has_parent=True,
        classes={code: camel(code) for code in CODES},
        # It takes the class from the status of HTTP.
        refusals={"INVALID_ARGUMENT": "BadRequest"},
        streams=True,
    ),
    "node": Caller(
        ("node", str(HERE / "web/rest.js")),
        has_parent=True,
        classes={code: f"GoogleError {code_pb2.Code.Value(code)}" for code in CODES},
        # Its fetch throws before it reads the error: code and message are those of HTTP.
        refusals={"NOT_FOUND": "GaxiosError 404", "INVALID_ARGUMENT": "GaxiosError 400"},
        streams=True,
    ),
    "java": Caller(
        java(),
        has_parent=True,
        classes={code: f"{camel(code)}Exception" for code in CODES},
    ),
    "rust": Caller(
        (str(ROOT / "target/rest/debug/rest-caller"),),
        has_parent=False,
        classes={code: code for code in CODES},
    ),
}


class Rest(Connection):
    """A server, and the program that calls it over REST."""

    def __init__(self, server: str, caller: Caller) -> None:
        super().__init__(server)
        self.caller = caller

    def said(self, command: str, name: str) -> list[str]:
        """Runs a command to its end, and returns the lines that it printed."""
        return output(self.caller.command, self.server, command, name)

    def program(self, command: str, name: str) -> Program:
        """Returns a command, which runs within a `with` block."""
        return Program(*self.caller.command, self.server, command, name)

    def pricing(self, queue: str) -> operations_pb2.Operation:
        """Starts an operation whose metadata is a share and whose response is a price."""
        parent = f"projects/{queue}" if self.caller.has_parent else ""
        return self.start(
            parent=parent, queue=queue, metadata_type=SHARE_NAME, response_type=PRICE_NAME
        )

    def leased(self) -> Task:
        """Starts such an operation and leases it."""
        queue = fresh("rest")
        self.pricing(queue)
        return self.lease(queue)

    def shown(self, code: str, message: str) -> str:
        """Returns the line for the error of an operation."""
        return f"error {self.caller.classes[code]} {message}"

    def is_refused(self, command: str, name: str, code: str) -> None:
        """Runs a command that must be refused with that code and a message with the last part of the name."""
        (line,) = self.said(command, name)
        kind = (self.caller.classes | self.caller.refusals)[code]
        assert line.startswith(f"error {kind} "), line
        assert name.rpartition("/")[2] in line, line


def share(numerator: int) -> fraction_pb2.Fraction:
    return fraction_pb2.Fraction(numerator=numerator, denominator=3)


@test
def an_operation_is_shown_under_its_own_name(api: Rest) -> None:
    task = api.leased()
    name = task.lease.operation
    assert api.said("get", name) == [f"{name} running"]
    task.complete(TWELVE_EUROS)
    assert api.said("get", name) == [f"{name} done"]


@test
def a_list_goes_through_its_pages_to_the_last(api: Rest) -> None:
    queue = fresh("rest")
    names = [api.pricing(queue).name for _ in range(5)]
    # Where names have no parent, the queue tells them from those of other tests.
    which = f"projects/{queue}" if api.caller.has_parent else f'queue() = "{queue}"'
    assert api.said("list", which) == names[::-1]


@test
def a_future_ends_with_a_result_of_its_type(api: Rest) -> None:
    task = api.leased()
    with api.program("result", task.lease.operation) as caller:
        assert caller.line() == "metadata 0/0"
        task.report(metadata=packed(share(1)))
        assert caller.line_with("metadata") == "metadata 1/3"
        task.complete(TWELVE_EUROS)
        assert caller.rest() == ["result EUR 12"]


@test
def a_future_ends_with_the_error_of_its_operation(api: Rest) -> None:
    # Details of types that the client knows and of types that it does not.
    info = error_details_pb2.ErrorInfo(reason="OUT_OF_STOCK", domain="shop.example.com")
    for code in ("FAILED_PRECONDITION", "DATA_LOSS"):
        task = api.leased()
        error = status_pb2.Status(
            code=code_pb2.Code.Value(code), message="article 17 is gone", details=[packed(info)]
        )
        task.fail_for_good(error)
        *_, last = api.said("result", task.lease.operation)
        assert last == api.shown(code, "article 17 is gone"), last


@test
def a_cancelled_operation_ends_as_its_worker_says(api: Rest) -> None:
    task = api.leased()
    with api.program("result", task.lease.operation) as caller:
        assert caller.line() == "metadata 0/0"
        assert api.said("cancel", task.lease.operation) == ["ok"]
        assert task.report().cancel_requested
        task.stop_as_asked()
        *_, last = caller.rest()
    assert last == api.shown("CANCELLED", "stopped as asked"), last


@test
def a_deleted_operation_is_gone(api: Rest) -> None:
    task = api.leased()
    name = task.lease.operation
    task.complete(TWELVE_EUROS)
    assert api.said("delete", name) == ["ok"]
    for command in ("get", "delete", "cancel", "result"):
        api.is_refused(command, name, "NOT_FOUND")


@test
def a_refusal_has_the_class_of_its_code(api: Rest) -> None:
    name = "projects/p/operations/No.Such.Id" if api.caller.has_parent else "operations/No.Such.Id"
    api.is_refused("get", name, "INVALID_ARGUMENT")


@test
def metadata_of_the_server_breaks_no_client(api: Rest) -> None:
    queue = fresh("rest")
    parent = f"projects/{queue}" if api.caller.has_parent else ""
    # Without a type of its own, metadata is the server's: the client does not know that.
    name = api.start(parent=parent, queue=queue).name
    assert api.said("get", name) == [f"{name} running"]
    task = api.lease(queue)
    progress = operation_pb2.Progress(fraction=0.5)
    task.report(progress=progress)
    assert api.said("get", name) == [f"{name} running"]
    task.complete()
    assert api.said("get", name) == [f"{name} done"]


def a_stream_of_messages_is_read_to_its_end(api: Rest) -> None:
    task = api.leased()
    with api.program("watch", task.lease.operation) as caller:
        assert caller.line() == "SNAPSHOT RUNNING"
        task.complete(TWELVE_EUROS)
        *_, last = caller.rest()
    assert last == "DONE SUCCEEDED", last
