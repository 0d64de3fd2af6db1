"""Lets reference libraries check what a server delivers, and the receivers of examples/webhooks take it.

`webhooks/build` must have been run.
"""

import argparse
import faulthandler
import sys
import tempfile
from pathlib import Path

import suite
from receiver import SETTINGS, receiver
from servers import ROOT, Server, store
from webhooks_tests import Webhooks

# All tests take seconds; if one hangs, the stack traces show which.
LIMIT_SECONDS = 300


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", type=Path, default=ROOT / "target/debug/longhaul")
    parser.add_argument("--store", choices=("embedded", "redis"), default="embedded")
    arguments = parser.parse_args()

    faulthandler.dump_traceback_later(LIMIT_SECONDS, exit=True)
    with tempfile.TemporaryDirectory(prefix="longhaul-webhooks-") as temporary:
        folder = Path(temporary)
        with store(arguments.store, folder) as where, receiver() as (url, received):
            with Server(arguments.binary, where, folder, **SETTINGS) as server:
                failed = suite.run(Webhooks(server, url, received))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
