"""A receiver of deliveries on this machine."""

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# Settings of a server that calls this machine, without TLS, and soon tries again.
SETTINGS = {
    "LONGHAUL_WEBHOOKS__ALLOW_HTTP": "true",
    "LONGHAUL_WEBHOOKS__NETWORKS": "127.0.0.0/8",
    "LONGHAUL_WEBHOOKS__PAUSES": ",".join(["200ms"] * 20),
}


@contextmanager
def receiver() -> Iterator[tuple[str, queue.Queue]]:
    """Yields the URL of a receiver that accepts everything, and the queue of what it received."""
    received: queue.Queue = queue.Queue()

    class Receiver(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            received.put((self.path, headers, body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    serving = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{serving.server_port}", received
    finally:
        serving.shutdown()
