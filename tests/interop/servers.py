"""Starts the servers of the tests, waits until they respond, and stops them."""

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import grpc
from google.type import money_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent.parent
START_SECONDS = 60.0
STOP_SECONDS = 30.0


class Failure(Exception):
    """The tests could not run, or a server failed at its start or end."""


def make_stubs(folder: Path, *more: Path) -> None:
    """Generates Python stubs for longhaul.v1 and others; Google's modules come from their own package."""
    folder.mkdir()
    protos = (*sorted((ROOT / "proto/longhaul/v1").glob("*.proto")), *more)
    sources = (ROOT / "proto", files("grpc_tools") / "_proto", *(path.parent for path in more))
    arguments = (
        "protoc",
        *(f"--proto_path={source}" for source in sources),
        f"--python_out={folder}",
        f"--grpc_python_out={folder}",
        *map(str, protos),
    )
    if protoc.main(arguments) != 0:
        raise Failure(f"no stubs could be made of {', '.join(path.name for path in protos)}")


def make_descriptors(file: Path, *protos: str) -> None:
    """Writes a descriptor set of definitions of longhaul, or of those that Google publishes in its package."""
    sources = (ROOT / "proto", Path(money_pb2.__file__).parent.parent.parent)
    paths = (f"--proto_path={source}" for source in (*sources, files("grpc_tools") / "_proto"))
    arguments = ("protoc", *paths, "--include_imports")
    if protoc.main((*arguments, f"--descriptor_set_out={file}", *protos)) != 0:
        raise Failure(f"no descriptor set could be made of {', '.join(protos)}")


def free_port() -> int:
    """Returns a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """Runs a Redis of its own that writes through, and yields its URL."""
    if shutil.which("redis-server") is None:
        raise Failure("redis-server is not installed: run scripts/install-test-tools")
    port = free_port()
    durably = "--appendonly yes --appendfsync always"
    command = f"redis-server --bind 127.0.0.1 --port {port} {durably}".split()
    process = subprocess.Popen(
        (*command, "--dir", folder),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        said = []
        for line in process.stdout:
            said.append(line)
            if "Ready to accept connections" in line:
                break
        else:
            raise Failure(f"redis-server does not start:\n{''.join(said)}")
        # A full pipe would block it.
        threading.Thread(target=process.stdout.read, daemon=True).start()
        yield f"redis://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@contextmanager
def store(kind: str, folder: Path) -> Iterator[str]:
    """Yields the `--store` argument for an empty store of that kind."""
    if kind == "redis":
        with redis(folder) as url:
            yield url
    else:
        yield f"embedded:{folder / 'store'}"


def wait_until_ready(channel: grpc.Channel, address: str, process: subprocess.Popen) -> None:
    """Returns once the process responds at that address."""
    ready = grpc.channel_ready_future(channel)
    deadline = time.monotonic() + START_SECONDS
    while True:
        if process.poll() is not None:
            raise Failure(f"the server ended with code {process.returncode} at its start")
        try:
            ready.result(timeout=0.2)
            return
        except grpc.FutureTimeoutError:
            if time.monotonic() > deadline:
                raise Failure(f"nobody listens on {address}") from None


def wait_until_listening(address: str) -> None:
    """Returns once a program accepts connections at that address."""
    host, port = address.split(":")
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise Failure(f"no program listens on {address}") from None
            time.sleep(0.05)


def quick_channel(address: str) -> grpc.Channel:
    """Returns a channel that does not wait long before it connects again."""
    quick = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 200))
    return grpc.insecure_channel(address, options=quick)


def wait_until_serving(channel: grpc.Channel) -> None:
    """Returns once the health service says SERVING."""
    health = health_pb2_grpc.HealthStub(channel)
    watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=START_SECONDS)
    try:
        for answer in watch:
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return
    except grpc.RpcError as error:
        raise Failure(f"the server does not get to SERVING: {error.details()}") from error
    raise Failure("the server ended the health watch before SERVING")


def stop(process: subprocess.Popen) -> None:
    """Stops the server with SIGTERM; it must end in time."""
    process.send_signal(signal.SIGTERM)
    try:
        code = process.wait(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        raise Failure(f"the server still runs {STOP_SECONDS:.0f} s after SIGTERM") from None
    if code != 0:
        raise Failure(f"the server ended with code {code} after SIGTERM")


def launched(
    command: Sequence[str | Path], log: Path, address: str | None, **environment: str
) -> subprocess.Popen:
    """Starts a program, and returns once it responds at its address."""
    # The developer's own settings must not affect the tests.
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("LONGHAUL_")
    }
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=inherited | environment
        )
    try:
        if address is not None:
            with quick_channel(address) as channel:
                wait_until_ready(channel, address, process)
    except BaseException:
        kill(process)
        print_log(log)
        raise
    return process


def kill(process: subprocess.Popen) -> None:
    """Kills it if it still runs."""
    if process.poll() is None:
        process.kill()
        process.wait()


def print_log(log: Path) -> None:
    """Prints the log for diagnosis."""
    print(f"-- what {log.stem} said --\n{log.read_text(errors='replace')}", flush=True)


@contextmanager
def running(
    command: Sequence[str | Path], log: Path, address: str | None = None, **environment: str
) -> Iterator[None]:
    """Runs a program from its first response within the block, and checks that it ends well."""
    process = launched(command, log, address, **environment)
    try:
        yield
        stop(process)
    except BaseException:
        print_log(log)
        raise
    finally:
        kill(process)


class Server:
    """longhaul on one store within a `with` block; may be killed there."""

    def __init__(
        self, binary: Path, where: str, folder: Path, *settings: str | Path, **environment: str
    ) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self.log = folder / "server.log"
        self._command = (binary, "serve", "--listen", self.address, "--store", where, *settings)
        self._environment = environment

    def start(self) -> None:
        """Returns once it serves."""
        self._process = launched(self._command, self.log, self.address, **self._environment)
        with quick_channel(self.address) as channel:
            wait_until_serving(channel)

    def stop(self) -> None:
        """Stops it, and returns when it has ended."""
        stop(self._process)

    def crash(self) -> None:
        """Kills it without a warning."""
        kill(self._process)

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.stop()
        except Failure:
            kind = Failure
            raise
        finally:
            kill(self._process)
            if kind is not None:
                print_log(self.log)


@contextmanager
def server(binary: Path, where: str, folder: Path) -> Iterator[str]:
    """Runs longhaul on that store, and yields its address."""
    with Server(binary, where, folder) as longhaul:
        yield longhaul.address
