"""Runs a page in headless Chromium against a server of its own, which is restarted meanwhile.

`web/build` makes its script.
"""

import argparse
import faulthandler
import sys
import tempfile
from pathlib import Path

import suite
from browser_tests import Browser
from servers import ROOT, Server, store

# The test takes less than a minute; if it hangs, the stack traces show where.
LIMIT_SECONDS = 300


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", type=Path, default=ROOT / "target/debug/longhaul")
    parser.add_argument("--store", choices=("embedded", "redis"), default="embedded")
    arguments = parser.parse_args()

    faulthandler.dump_traceback_later(LIMIT_SECONDS, exit=True)
    with tempfile.TemporaryDirectory(prefix="longhaul-browser-") as temporary:
        folder = Path(temporary)
        with store(arguments.store, folder) as where:
            with Server(arguments.binary, where, folder) as server:
                failed = suite.run(Browser(server, folder))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
