"""What the lessons share: reading one as text, running one version of it, and `main`.

The lab is imported only where it is used: a lesson's child process imports this module too.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib
import inspect
import io
import math
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from . import SECTIONS

if TYPE_CHECKING:
    from plait.lab.timeline import Timeline

__all__ = [
    "FULL_DELAY",
    "SHORT_DELAY",
    "Lesson",
    "Run",
    "Version",
    "WholeLines",
    "main",
    "read",
    "run",
]

Version = Callable[[float], None]
SHORT_DELAY = 0.05  # seconds; enough to see in a chart
FULL_DELAY = 2.0  # as printed in the tutorial

LABELS = {
    "with_stdlib": "Standard library",
    "with_plait": "plait",
    "with_uvloop": "uvloop",
    "with_gevent": "gevent",
}


@dataclass(frozen=True, slots=True)
class Lesson:
    """A section as text.

    Attributes:
        name: its module's name.
        title: the tutorial's heading.
        text: the explanation: paragraphs, each one line, with an empty line between.
        shared: the source of what all versions use.
        versions: the source of each version, by its function's name.
    """

    name: str
    title: str
    text: str
    shared: str
    versions: dict[str, str]


@dataclass(frozen=True, slots=True)
class Run:
    """What running one version gave: its duration in seconds and its timeline.

    ``reason`` says what to install where the version could not run, else it is None.
    """

    seconds: float
    timeline: Timeline
    reason: str | None = None


def read(name: str) -> Lesson:
    """Take a lesson's source apart into what is shown: nothing is imported or run."""
    source = Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
    tree = ast.parse(source)
    lines = source.splitlines()
    versions = {}
    hidden = {0}  # numbers of the lines that the shared part leaves out
    for index, node in enumerate(tree.body):
        span = range(node.lineno, (node.end_lineno or node.lineno) + 1)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("with_"):
            versions[node.name] = "\n".join(lines[span.start - 1 : span.stop - 1])
        # Also left out: the docstring, which is the text, and what makes it a script.
        elif not (
            index == 0
            or isinstance(node, ast.If)
            or (isinstance(node, ast.ImportFrom) and node.module == "plait.lessons.frame")
        ):
            continue
        hidden.update(span)
    shared = "\n".join(line for number, line in enumerate(lines, 1) if number not in hidden)
    while "\n\n\n\n" in shared:
        shared = shared.replace("\n\n\n\n", "\n\n\n")
    _, *paragraphs = (ast.get_docstring(tree) or "").split("\n\n")
    text = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    return Lesson(name, SECTIONS[name], text, shared.strip(), versions)


class WholeLines(io.TextIOWrapper):
    """A stdout whose lines never mix.

    print() writes a text and the end of its line apart, so lines of threads that print at the
    same instant may run into each other; here a thread's text waits for its line's end.
    """

    def __init__(self, descriptor: int) -> None:
        self._started = threading.local()
        binary = open(descriptor, "wb", closefd=False)  # noqa: SIM115 - it lives as long as this
        super().__init__(binary, encoding="utf-8", line_buffering=True)

    def write(self, text: str) -> int:
        line = getattr(self._started, "text", "") + text
        self._started.text = ""
        if line.endswith("\n"):
            super().write(line)
        else:
            self._started.text = line
        return len(text)

    def flush(self) -> None:
        super().write(getattr(self._started, "text", ""))
        self._started.text = ""
        super().flush()


def run(version: Version, delay: float) -> Run:
    """Run one version here, record it, and measure how long it took.

    A library that is missing gives a `Run` whose ``reason`` says what to install.
    """
    from plait.lab.timeline import record

    reason = None
    with record() as recording:
        began = time.perf_counter()
        try:
            version(delay)
        except ModuleNotFoundError as error:
            reason = f"not installed: pip install {error.name}"
        seconds = time.perf_counter() - began
    return Run(seconds, recording.timeline, reason)


def main(*versions: Version) -> None:
    """Run a lesson as a script: each version in turn, with its time and a lane chart.

    Args:
        versions: functions that take the delay in seconds.
    """
    from plait.lab.lanes import draw_text

    sys.stdout = WholeLines(1)
    module = sys.modules[versions[0].__module__]
    parser = argparse.ArgumentParser(description=(module.__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--delay", type=_delay, default=SHORT_DELAY, help="seconds that each step takes"
    )
    parser.add_argument(
        "--full", action="store_true", help=f"the tutorial's own delay, {FULL_DELAY:g} s"
    )
    options = parser.parse_args()
    print(inspect.getdoc(module))
    # ^C ends it with the one line below instead of a traceback through the waits.
    with contextlib.suppress(BrokenPipeError):
        for version in versions:
            print(f"\n=== {LABELS[version.__name__]} ===", flush=True)
            try:
                done = run(version, FULL_DELAY if options.full else options.delay)
            except KeyboardInterrupt:
                raise SystemExit("interrupted") from None
            if done.reason is not None:
                print(f"({done.reason})")
                continue
            print(f"\n{done.seconds:.3f} s\n{draw_text(done.timeline)}")


def _delay(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"{text} is not a time: at least 0 seconds")
    return value


def load(name: str, version: str) -> Version:
    """The function of a lesson, ready to run."""
    function: Version = getattr(importlib.import_module(f"plait.lessons.{name}"), version)
    return function
