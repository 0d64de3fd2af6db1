"""Plays Tic Tac Toe with examples/tictactoe, and holds it to its OpenAPI document, its callback included."""

import argparse
import faulthandler
import json
import queue
import sys
import tempfile
from pathlib import Path

import jsonschema
import openapi_spec_validator
import requests
import schemathesis
import suite
import yaml
from program import Program
from receiver import SETTINGS, receiver
from servers import ROOT, Server, free_port, store, wait_until_listening
from suite import test
from worker import TIMEOUT_SECONDS

LIMIT_SECONDS = 300
SQUARE = "/board/{row}/{column}"
EXPRESSION = "{$request.header.progressUrl}"


class Table:
    """The API, its document, and a receiver of its calls."""

    def __init__(self, address: str, url: str, received: queue.Queue) -> None:
        self._base, self._url, self._received = f"http://{address}", url, received
        served = requests.get(f"{self._base}/openapi.yaml", timeout=TIMEOUT_SECONDS)
        self.document = yaml.safe_load(served.text)
        self._schema = schemathesis.openapi.from_dict(self.document)

    def ask(self, method: str, path: str, status: int, **more: object) -> requests.Response:
        """Sends a request, and compares the response with the document."""
        response = requests.request(method, self._base + path, timeout=TIMEOUT_SECONDS, **more)
        assert response.status_code == status, f"{method} {path}: {response} {response.text}"
        described = SQUARE if path.count("/") == 3 else path
        assert str(status) in self.document["paths"][described][method.lower()]["responses"]
        self._schema[described][method].validate_response(response)
        return response

    def put(self, path: str, mark: str, status: int) -> None:
        """Makes a move, whose outcome is to be told."""
        headers = {"progressUrl": f"{self._url}/done"}
        self.ask("PUT", path, status, json=mark, headers=headers)

    def told(self) -> dict:
        """Returns the body of the next call, which is as the document says."""
        path, headers, body = self._received.get(timeout=TIMEOUT_SECONDS)
        assert path == "/done", path
        callback = self.document["paths"][SQUARE]["put"]["callbacks"]["statusCallback"]
        content = callback[EXPRESSION]["post"]["requestBody"]["content"]
        schema = content[headers["content-type"]]["schema"]
        whole = schema | {"components": self.document["components"]}
        found = json.loads(body)
        jsonschema.Draft202012Validator(whole).validate(found)
        return found


@test
def the_document_is_valid(table: Table) -> None:
    openapi_spec_validator.validate(table.document)


@test
def a_move_is_accepted_and_the_board_is_told_as_the_document_says(table: Table) -> None:
    assert table.ask("GET", "/board", 200).json()["winner"] == "."
    table.put("/board/2/2", "X", 202)
    assert table.told()["board"][1] == [".", "X", "."]
    assert table.ask("GET", "/board/2/2", 200).json() == "X"
    table.put("/board/2/2", "O", 202)
    assert table.told()["message"] == "Square is not empty."
    for square in ("/board/1/1", "/board/3/3"):
        table.put(square, "X", 202)
        board = table.told()
    assert board["winner"] == "X", board
    assert table.ask("GET", "/board", 200).json() == board


@test
def what_the_document_does_not_allow_is_refused_as_it_says(table: Table) -> None:
    table.ask("GET", "/board/4/1", 400)
    table.put("/board/0/1", "X", 400)
    table.put("/board/1/2", "Y", 400)
    table.ask("PUT", "/board/1/2", 400, json="X", headers={"progressUrl": "nowhere"})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", type=Path, default=ROOT / "target/debug/longhaul")
    parser.add_argument("--store", choices=("embedded", "redis"), default="embedded")
    arguments = parser.parse_args()
    program = arguments.binary.parent / "examples/tictactoe"
    if not program.exists():
        parser.error(f"there is no {program}: run make interop-webhooks")

    faulthandler.dump_traceback_later(LIMIT_SECONDS, exit=True)
    with tempfile.TemporaryDirectory(prefix="longhaul-tictactoe-") as temporary:
        folder, address = Path(temporary), f"127.0.0.1:{free_port()}"
        with store(arguments.store, folder) as where, receiver() as (url, received):
            with Server(arguments.binary, where, folder, **SETTINGS) as server:
                with Program(str(program), server.address, address):
                    wait_until_listening(address)
                    failed = suite.run(Table(address, url, received))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
