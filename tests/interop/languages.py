"""The example programs of each language, as commands without arguments."""

import sys
from dataclasses import dataclass
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"

Command = tuple[str, ...]


@dataclass(frozen=True)
class Language:
    """The commands of the four programs; all take the same arguments and print the same."""

    producer: Command
    worker: Command
    watcher: Command
    caller: Command


def python(program: str) -> Command:
    return (sys.executable, str(EXAMPLES / f"python/{program}.py"))


def go(program: str) -> Command:
    return (str(EXAMPLES / f"go/bin/{program}"),)


def node(program: str) -> Command:
    return ("node", str(EXAMPLES / f"node/dist/{program}.js"))


def java(program: str) -> Command:
    target = EXAMPLES / "java/target"
    # Small programs start faster with one JIT compiler.
    quick = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
    main = f"dev.longhaul.examples.{program.title()}"
    return ("java", *quick, "-cp", f"{target / 'classes'}:{target / 'lib'}/*", main)


LANGUAGES = {
    name: Language(*map(named, ("producer", "worker", "watcher", "caller")))
    for name, named in (("python", python), ("go", go), ("node", node), ("java", java))
}
# Workers that speak ServeQueue.
STREAM_WORKERS = {
    "python": python("stream_worker"),
    "go": go("stream-worker"),
    "node": node("stream-worker"),
}
# Each in another language.
LANGUAGES["mixed"] = Language(go("producer"), node("worker"), java("watcher"), python("caller"))
