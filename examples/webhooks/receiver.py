"""Receives webhooks: `receiver.py PORT SECRET`. Needs `pip install standardwebhooks`."""

import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

from standardwebhooks import Webhook, WebhookVerificationError


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            event = Webhook(sys.argv[2]).verify(body, headers)
        except WebhookVerificationError as error:
            return self.send_error(400, str(error))
        # The same id may come twice: remember what was done.
        print(headers["webhook-id"], event["type"], event["data"]["name"], flush=True)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


HTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
