#!/usr/bin/env python3
"""Runs examples/facade in each of its three ways, and its callers against each.

Needs what `make interop-facade` sets up: the packages of requirements.txt, nginx, built binaries.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from servers import ROOT, Failure, free_port, make_stubs, running, server

HERE = Path(__file__).resolve().parent
FACADE = ROOT / "examples/facade"
# Debian keeps it in a directory that is only on the path of root.
PROGRAMS = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin"))


def fresh_address() -> str:
    return f"127.0.0.1:{free_port()}"


class Facade:
    """The common part of the three ways. Each yields the address for callers."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self.folder = folder
        self._binaries = binaries
        self._stubs = folder / "stubs"
        make_stubs(self._stubs, FACADE / "proto/library.proto")

    def python(self, script: Path, *arguments: str) -> subprocess.CompletedProcess:
        """Runs a caller."""
        environment = os.environ | {"PYTHONPATH": str(self._stubs)}
        return subprocess.run((sys.executable, script, *arguments), env=environment, check=False)

    @contextmanager
    def forwarding(self) -> Iterator[str]:
        """The API forwards."""
        with self._longhaul("forwarding") as longhaul, self._worker(longhaul):
            with self._api(longhaul, "--forward-operations") as address:
                yield address

    @contextmanager
    def nginx(self) -> Iterator[str]:
        """nginx routes; the API itself serves no operations."""
        program = shutil.which("nginx", path=PROGRAMS)
        if program is None:
            raise Failure("nginx is not installed: run scripts/install-test-tools")
        with self._longhaul("nginx") as longhaul, self._worker(longhaul):
            with self._api(longhaul) as api:
                address = fresh_address()
                places = {"127.0.0.1:8080": address, "127.0.0.1:8081": api}
                places["127.0.0.1:50051"] = longhaul
                configuration = (FACADE / "nginx/nginx.conf").read_text()
                for published, here in places.items():
                    if configuration.count(published) != 1:
                        raise Failure(f"nginx.conf must name {published} once")
                    configuration = configuration.replace(published, here)
                file = self.folder / "nginx.conf"
                file.write_text(configuration)
                command = (program, "-e", "stderr", "-p", self.folder, "-c", file)
                with running(command, self.folder / "nginx.log", address):
                    yield address

    @contextmanager
    def rust(self) -> Iterator[str]:
        """One process is the API, longhaul and the worker."""
        address = fresh_address()
        program = self._binaries / "examples/facade"
        command = (program, "--listen", address, "--store", self.folder / "rust")
        with running(command, self.folder / "rust.log", address):
            yield address

    @contextmanager
    def _longhaul(self, name: str) -> Iterator[str]:
        where = f"embedded:{self.folder / name}"
        with server(self._binaries / "longhaul", where, self.folder) as address:
            yield address

    @contextmanager
    def _api(self, longhaul: str, *flags: str) -> Iterator[str]:
        address = fresh_address()
        script = FACADE / "python/api.py"
        command = (sys.executable, script, "--listen", address, "--longhaul", longhaul, *flags)
        log = self.folder / "api.log"
        with running(command, log, address, PYTHONPATH=str(self._stubs)):
            yield address

    @contextmanager
    def _worker(self, longhaul: str) -> Iterator[None]:
        command = (sys.executable, FACADE / "python/worker.py", "--longhaul", longhaul)
        log = self.folder / "worker.log"
        with running(command, log, PYTHONPATH=str(self._stubs)):
            yield


def run_callers(facade: Facade, way: Callable[[], AbstractContextManager[str]]) -> None:
    """Runs the example's own caller and the tests against one way."""
    print(f"== {way.__name__} ==", flush=True)
    with way() as address:
        for script in (FACADE / "python/caller.py", HERE / "facade_tests.py"):
            if facade.python(script, "--api", address).returncode != 0:
                raise Failure(f"failed: {script.name}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binaries", type=Path, default=ROOT / "target/debug")
    parser.add_argument("--way", choices=("forwarding", "nginx", "rust"), help="only this one")
    arguments = parser.parse_args()
    binaries = arguments.binaries.resolve()
    if not (binaries / "examples/facade").exists():
        parser.error(f"there is no {binaries}/examples/facade: run make interop-facade")

    # The tests must not reach their own server through a configured proxy.
    os.environ["no_grpc_proxy"] = "127.0.0.1"
    failures = []
    with tempfile.TemporaryDirectory(prefix="longhaul-facade-") as temporary:
        facade = Facade(binaries, Path(temporary))
        for way in (facade.forwarding, facade.nginx, facade.rust):
            if arguments.way not in (None, way.__name__):
                continue
            try:
                run_callers(facade, way)
            except Failure as failure:
                failures.append(f"{way.__name__}: {failure}")
    print("\n".join(failures) if failures else "every way passed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
