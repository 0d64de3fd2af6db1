"""A terminal without a window: runs a command on it, and keeps the content of its screen."""

import fcntl
import os
import pty
import re
import select
import struct
import termios

ROWS = 24
PATIENCE_SECONDS = 120


class Screen:
    """The subset of a terminal that longhaul's bars use."""

    SEQUENCE = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])")
    BEGUN = re.compile(r"\x1b(\[[0-9;?]*)?$")

    def __init__(self, columns):
        self.columns, self.lines, self.row, self.column, self.rest = columns, [""], 0, 0, ""

    def feed(self, text):
        text, self.rest = self.rest + text, ""
        while text:
            if text[0] != "\x1b":
                self.put(text[0])
                text = text[1:]
            elif found := self.SEQUENCE.match(text):
                self.control(found[2], int(found[1]) if found[1].isdigit() else 0)
                text = text[found.end() :]
            else:
                assert self.BEGUN.match(text), f"an escape that is not known here: {text[:10]!r}"
                self.rest, text = text, ""

    def control(self, name, count):
        line = self.lines[self.row]
        if name == "A":
            self.row = max(0, self.row - max(count, 1))
        elif name == "B":
            self.move_down(max(count, 1))
        elif name == "K":
            self.lines[self.row] = "" if count == 2 else line[: self.column]
        elif name == "J":
            self.lines[self.row :] = [line[: self.column]]
        else:
            assert name in "mhl", f"a control sequence that is not known here: {name}"

    def put(self, letter):
        if letter == "\r":
            self.column = 0
        elif letter == "\n":
            self.move_down(1)
        else:
            if self.column == self.columns:
                self.column = 0
                self.move_down(1)
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + letter + line[self.column + 1 :]
            self.column += 1

    def move_down(self, count):
        self.row += count
        self.lines += [""] * (self.row + 1 - len(self.lines))

    def text(self):
        return "\n".join(line.rstrip() for line in self.lines).rstrip("\n")


class Terminal:
    """A shell command on a terminal of its own."""

    def __init__(self, line, environment, columns, folder=".", rows=ROWS):
        self.screen = Screen(columns)
        self.process, self.device = pty.fork()
        if self.process == 0:
            os.chdir(folder)
            os.execvpe("bash", ["bash", "-c", line], dict(environment, TERM="xterm"))
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self.device, termios.TIOCSWINSZ, size)

    def read(self, seconds=PATIENCE_SECONDS):
        """Reads the next output; returns whether there was any."""
        try:
            ready = select.select([self.device], [], [], seconds)[0]
            read = os.read(self.device, 65536) if ready else b""
        except OSError:
            # The error at the end of the last program.
            read = b""
        self.screen.feed(read.decode())
        return bool(read)

    def type(self, keys):
        os.write(self.device, keys)

    def end(self):
        """Waits for its end, and returns its exit code."""
        while self.read():
            pass
        os.close(self.device)
        _, status = os.waitpid(self.process, 0)
        return os.waitstatus_to_exitcode(status)
