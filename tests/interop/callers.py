"""Runs google-api-core, unmodified, against a running server.

The stubs of longhaul.v1 must be on the path; `run` makes them.
"""

import argparse
import faulthandler
import sys

# Each registers its tests.
import futures_tests  # noqa: F401
import operations_tests  # noqa: F401
import suite
from connection import Connection

# All tests take seconds; if one hangs, the stack traces show which.
LIMIT_SECONDS = 300


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", required=True, metavar="HOST:PORT")
    server = parser.parse_args().server

    faulthandler.dump_traceback_later(LIMIT_SECONDS, exit=True)
    return 1 if suite.run(Connection(server)) else 0


if __name__ == "__main__":
    sys.exit(main())
