"""Runs the stream worker of one language against a server of its own, which is killed meanwhile.

It must have been built: `examples/LANGUAGE/build` does that.
"""

import argparse
import faulthandler
import sys
import tempfile
from pathlib import Path

import suite
from languages import STREAM_WORKERS
from servers import ROOT, Server, store
from streams_tests import Streams

# All tests together take less than a minute; if one hangs, the stack traces show which.
LIMIT_SECONDS = 300


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("language", choices=STREAM_WORKERS)
    parser.add_argument("--binary", type=Path, default=ROOT / "target/debug/longhaul")
    parser.add_argument("--store", choices=("embedded", "redis"), default="embedded")
    arguments = parser.parse_args()

    faulthandler.dump_traceback_later(LIMIT_SECONDS, exit=True)
    with tempfile.TemporaryDirectory(prefix="longhaul-streams-") as temporary:
        folder = Path(temporary)
        with store(arguments.store, folder) as where:
            with Server(arguments.binary, where, folder) as server:
                failed = suite.run(Streams(server, STREAM_WORKERS[arguments.language]))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
