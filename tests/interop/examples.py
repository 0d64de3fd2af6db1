"""Runs the examples of one language, and its stock client, against a running server.

They must have been built: `examples/LANGUAGE/build` does that.
"""

import argparse
import faulthandler
import sys

import suite
from examples_tests import (
    Examples,
    an_operation_goes_from_its_producer_through_its_worker_to_its_watcher,
)
from languages import LANGUAGES
from stock_tests import STOCK_TESTS

# All tests take seconds; if one hangs, the stack traces show which.
LIMIT_SECONDS = 300


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("language", choices=LANGUAGES)
    parser.add_argument("--server", required=True, metavar="HOST:PORT")
    arguments = parser.parse_args()

    faulthandler.dump_traceback_later(LIMIT_SECONDS, exit=True)
    if arguments.language == "mixed":
        # Each program has been tested with those of its own language.
        suite.TESTS[:] = [an_operation_goes_from_its_producer_through_its_worker_to_its_watcher]
    elif arguments.language in STOCK_TESTS:
        suite.test(STOCK_TESTS[arguments.language])
    return 1 if suite.run(Examples(arguments.server, LANGUAGES[arguments.language])) else 0


if __name__ == "__main__":
    sys.exit(main())
