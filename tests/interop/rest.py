"""Runs the stock REST client of one language against a server of its own.

It must have been built: `rest/build LANGUAGE` does that.
"""

import argparse
import faulthandler
import sys
import tempfile
from pathlib import Path

import suite
from rest_tests import CALLERS, Rest, a_stream_of_messages_is_read_to_its_end
from servers import ROOT, Server, make_descriptors, store

# All tests take seconds; if one hangs, the stack traces show which.
LIMIT_SECONDS = 300
# The payloads of the tests. To write them as JSON, the server must know them.
TYPES = ("google/type/fraction.proto", "google/type/money.proto")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("language", choices=CALLERS)
    parser.add_argument("--binary", type=Path, default=ROOT / "target/debug/longhaul")
    parser.add_argument("--store", choices=("embedded", "redis"), default="embedded")
    arguments = parser.parse_args()

    caller = CALLERS[arguments.language]
    if caller.streams:
        suite.test(a_stream_of_messages_is_read_to_its_end)
    faulthandler.dump_traceback_later(LIMIT_SECONDS, exit=True)
    with tempfile.TemporaryDirectory(prefix="longhaul-rest-") as temporary:
        folder = Path(temporary)
        make_descriptors(folder / "types.binpb", *TYPES)
        settings = ("--descriptor-set", folder / "types.binpb")
        with store(arguments.store, folder) as where:
            with Server(arguments.binary, where, folder, *settings) as server:
                failed = suite.run(Rest(server.address, caller))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
