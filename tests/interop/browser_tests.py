"""Tests of a page in headless Chromium."""

import queue
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import groupby
from pathlib import Path
from urllib.parse import urlencode

from longhaul.v1 import operation_pb2

from connection import Connection, fresh
from servers import Server, make_descriptors
from suite import test
from worker import Task

HERE = Path(__file__).resolve().parent
CHROMIUM = ("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0")
# The browser may start slowly on a busy machine.
PATIENCE_SECONDS = 60.0
WATCHERS = ("events", "bytes", "text")
HTML = b'<!doctype html><title>longhaul</title><script type="module" src="/page.js"></script>'


class Page:
    """A page from a port of its own, so that longhaul is another origin, and what it says."""

    def __init__(self, folder: Path) -> None:
        self.lines: list[str] = []
        self._said: queue.Queue[str] = queue.Queue()
        make_descriptors(
            folder / "types.binpb",
            "longhaul/v1/callers.proto",
            "google/longrunning/operations.proto",
            "google/rpc/error_details.proto",
        )
        contents = {
            "/": ("text/html", HTML),
            "/page.js": ("text/javascript", (HERE / "web/dist/page.js").read_bytes()),
            "/types.binpb": ("application/octet-stream", (folder / "types.binpb").read_bytes()),
        }
        said = self._said

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                kind, content = contents.get(self.path.partition("?")[0], ("text/plain", b""))
                self._answer(kind, content)

            def do_POST(self) -> None:
                said.put(self.rfile.read(int(self.headers["content-length"])).decode())
                self._answer("text/plain", b"")

            def _answer(self, kind: str, content: bytes) -> None:
                self.send_response(200)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def until(self, what: str, is_said: Callable[[list[str]], bool]) -> None:
        """Returns once the page has said enough."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not is_said(self.lines):
            try:
                self.lines.append(self._said.get(timeout=max(0, deadline - time.monotonic())))
            except queue.Empty:
                raise AssertionError(f"the page has not said {what}, but {self.lines}") from None
            assert not self.lines[-1].startswith("error"), self.lines

    def until_all_say(self, state: str) -> None:
        """Returns once every watcher has that state."""
        wanted = {f"{watcher} {state}" for watcher in WATCHERS}
        self.until(state, wanted.issubset)

    def states(self, watcher: str) -> list[str]:
        """Returns the states that a watcher said; one that it was told twice counts once."""
        mine = (line.partition(" ")[2] for line in self.lines if line.startswith(f"{watcher} "))
        return [state for state, _ in groupby(mine)]


class Browser(Connection):
    """A server that can be restarted, and a browser."""

    def __init__(self, server: Server, folder: Path) -> None:
        super().__init__(server.address)
        self.process = server
        self.folder = folder

    @contextmanager
    def page(self, name: str) -> Iterator[Page]:
        """Shows the page for that operation within a `with` block."""
        page = Page(self.folder)
        query = urlencode({"server": f"http://{self.server}", "name": name})
        profile = f"--user-data-dir={self.folder / 'profile'}"
        with (self.folder / "chromium.log").open("w+") as log:
            command = (*CHROMIUM, profile, f"{page.address}?{query}")
            process = subprocess.Popen(command, stdout=log, stderr=log)
            try:
                yield page
            except BaseException:
                log.seek(0)
                print(f"-- what chromium said --\n{log.read()}", flush=True)
                raise
            finally:
                process.kill()
                process.wait()

    def again(self, task: Task) -> Task:
        """Returns the same task for a server that was started again."""
        return Task(Connection(self.server).workers, task.lease)


@test
def a_page_sees_every_state_of_an_operation_while_the_server_is_restarted(api: Browser) -> None:
    queue_name = fresh("browser")
    name = api.start(queue=queue_name).name
    with api.page(name) as page:
        page.until_all_say("PENDING 0")
        task = api.lease(queue_name)
        page.until_all_say("RUNNING 0")
        task.report(progress=operation_pb2.Progress(fraction=0.25))
        page.until_all_say("RUNNING 0.25")

        api.process.stop()
        api.process.start()
        task = api.again(task)
        task.report(progress=operation_pb2.Progress(fraction=0.5))
        page.until_all_say("RUNNING 0.5")

        api.process.crash()
        api.process.start()
        task = api.again(task)
        task.report(progress=operation_pb2.Progress(fraction=0.75))
        page.until_all_say("RUNNING 0.75")

        task.complete(progress=operation_pb2.Progress(fraction=1))
        page.until_all_say("SUCCEEDED 1")
        page.until("that its events are over", lambda lines: "events closed" in lines)

        shares = (0, 0.25, 0.5, 0.75)
        states = ["PENDING 0", *(f"RUNNING {share}" for share in shares), "SUCCEEDED 1"]
        for watcher in WATCHERS:
            seen = [state for state in page.states(watcher) if state != "closed"]
            assert seen == states, f"{watcher}: {seen}"


@test
def a_page_calls_methods_and_reads_their_answers(api: Browser) -> None:
    name = api.start(queue=fresh("browser")).name
    with api.page(name) as page:
        page.until("that it started", lambda lines: any("started" in line for line in lines))
        said = [line for line in page.lines if line.partition(" ")[0] not in WATCHERS]
        assert said == [
            "got true false",
            "refused NotFound OPERATION_NOT_FOUND",
            "status 200 true true",
            "started 202 true",
        ], said
