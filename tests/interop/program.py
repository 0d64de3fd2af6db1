"""A program of another language while it runs."""

import queue
import subprocess
import tempfile
import threading
import time
from types import TracebackType

from languages import Command
from worker import TIMEOUT_SECONDS

# How long output of a stopped program may take to arrive, and the silence that ends it.
DRAINED_SECONDS = 2.0
QUIET_SECONDS = 0.3


class Program:
    """Runs a command while the `with` block runs, and returns its output line by line."""

    def __init__(self, *command: str) -> None:
        self._command = command
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._errors = tempfile.TemporaryFile("w+")

    def __enter__(self) -> "Program":
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )
        threading.Thread(target=self._read, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        if error is not None:
            self._errors.seek(0)
            print(f"-- what {self._command[0]} said --\n{self._errors.read()}", flush=True)
        self._errors.close()

    def _read(self) -> None:
        for line in self._process.stdout:
            self._lines.put(line.rstrip())
        self._lines.put(None)

    def has_line(self) -> bool:
        """Returns whether it has printed a line that was not read."""
        return not self._lines.empty()

    def line(self) -> str | None:
        """Returns the next line, or None after the last."""
        return self._lines.get(timeout=TIMEOUT_SECONDS)

    def line_with(self, text: str) -> str:
        """Returns the next line that contains the text."""
        while (line := self.line()) is not None:
            if text in line:
                return line
        raise AssertionError(f"{self._command} ended without {text!r}")

    def rest(self) -> list[str]:
        """Returns the lines from here to the end, which must be a good one."""
        lines = []
        while (line := self.line()) is not None:
            lines.append(line)
        code = self._process.wait(timeout=TIMEOUT_SECONDS)
        assert code == 0, f"{self._command} ended with code {code} after {lines}"
        return lines

    def is_silent(self, seconds: float) -> bool:
        """Returns whether it prints nothing for this long."""
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            return True
        raise AssertionError(f"{self._command} printed {line!r}")

    def is_silent_at_last(self, seconds: float) -> bool:
        """Returns whether it prints nothing for this long, after earlier output was read."""
        end = time.monotonic() + DRAINED_SECONDS
        while time.monotonic() < end:
            try:
                # The reader needs a moment for output that is still in the pipe.
                self._lines.get(timeout=QUIET_SECONDS)
            except queue.Empty:
                break
        return self.is_silent(seconds)

    def stop(self) -> None:
        """Stops it; it must end in time."""
        assert self._process.poll() is None, f"{self._command} had ended already"
        self._process.terminate()
        self._process.wait(timeout=TIMEOUT_SECONDS)

    def signal(self, number: int) -> None:
        """Sends it a signal."""
        self._process.send_signal(number)


def output(command: Command, *arguments: str) -> list[str]:
    """Runs a command to its end and returns the lines that it printed."""
    with Program(*command, *arguments) as program:
        return program.rest()
