"""Tests of the stock clients of single languages, beyond the common ones."""

import time
from collections.abc import Callable

from longhaul.v1 import operation_pb2

from examples_tests import Examples, greeting, leased
from program import output

# Longer than several polls of google-gax, which begin at 100 ms.
QUIET_SECONDS = 1.0


def the_promise_of_google_gax_tells_of_every_real_change_once(api: Examples) -> None:
    task = leased(api)
    with api.caller_program(task.lease.operation) as caller:
        # Its first poll compares with what it was made from.
        assert caller.is_silent(QUIET_SECONDS)
        for step in range(1, 4):
            task.report(progress=operation_pb2.Progress(fraction=step / 4, message=f"step {step}"))
            assert caller.line() == f"progress RUNNING {25 * step}% step {step}"
        assert caller.is_silent(QUIET_SECONDS)
        task.complete(greeting("hello promise"))
        assert caller.rest() == ["response hello promise"]


def the_go_client_lets_the_server_wait(api: Examples) -> None:
    task = leased(api)
    with api.caller_program(task.lease.operation, "-rpc") as caller:
        assert caller.is_silent(QUIET_SECONDS)
        before = time.monotonic()
        task.complete(greeting("hello waiting"))
        assert caller.rest() == ["response hello waiting"]
        assert time.monotonic() - before < QUIET_SECONDS, "it polls at most once a second"


def the_java_client_waits_and_lists_page_by_page(api: Examples) -> None:
    task = leased(api)
    with api.caller_program(task.lease.operation) as caller:
        assert caller.is_silent(QUIET_SECONDS)
        task.complete(greeting("hello waiting"))
        assert caller.rest() == ["response hello waiting"]
    names = [task.lease.operation] + [leased(api).lease.operation for _ in range(60)]
    listed = output(api.language.caller, "--list", api.server)
    assert listed[:61] == names[::-1]


STOCK_TESTS: dict[str, Callable[[Examples], None]] = {
    "go": the_go_client_lets_the_server_wait,
    "node": the_promise_of_google_gax_tells_of_every_real_change_once,
    "java": the_java_client_waits_and_lists_page_by_page,
}
