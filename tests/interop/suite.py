"""A test is a function whose name is a sentence. This collects them and runs them in order."""

import traceback
from collections.abc import Callable

import grpc
from google.api_core.exceptions import GoogleAPICallError, from_grpc_error

# Each program decides which server it runs against.
Test = Callable[..., None]

TESTS: list[Test] = []
DOMAIN = "longhaul.dev"


def test(function: Test) -> Test:
    """Marks a function as a test."""
    TESTS.append(function)
    return function


def run(api: object) -> int:
    """Runs every test, prints the result of each, and returns how many failed."""
    failed = 0
    for function in TESTS:
        try:
            function(api)
        except Exception as error:
            failed += 1
            print(f"FAILED  {function.__name__}")
            # The values behind a bare assert are in the locals.
            trace = traceback.TracebackException.from_exception(error, capture_locals=True)
            print("".join(trace.format()))
        else:
            print(f"ok      {function.__name__}")
    print(f"{len(TESTS) - failed} passed, {failed} failed", flush=True)
    return failed


def refused(
    call: Callable[[], object], kind: type[GoogleAPICallError], reason: str
) -> GoogleAPICallError:
    """Returns the error of a call that must be refused with that code and reason."""
    try:
        answer = call()
    except GoogleAPICallError as error:
        refusal = error
    except grpc.RpcError as error:
        refusal = from_grpc_error(error)
    else:
        raise AssertionError(f"not refused, but answered: {answer!r}")
    assert type(refusal) is kind, f"{type(refusal).__name__}: {refusal}"
    assert refusal.domain == DOMAIN, f"domain {refusal.domain}: {refusal}"
    assert refusal.reason == reason, f"reason {refusal.reason}: {refusal}"
    return refusal
