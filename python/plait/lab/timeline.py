"""What ran when: the spans of a run, collected from all of its threads and processes.

`span` notes when a piece of work began and ended and which lane (process, thread or
coroutine) it ran in; `record` collects the spans of everything that its block runs, child
processes included, on one clock. A label such as "sleep" is the word of the code that
measured; nothing is guessed, and "gil" and "nogil" are kept only where the thread's CPU
clock confirms that it computed; whatever is not known is "unknown".
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from plait.lessons.spans import FOLDER, State, span

__all__ = ["STATES", "Arrow", "Lane", "Recording", "Span", "State", "Timeline", "record", "span"]

STATES: dict[State, str] = {
    "gil": "computing in Python",
    "nogil": "computing without the GIL",
    "wait_gil": "waiting for the GIL",
    "wait_lock": "waiting for a lock",
    "wait_io": "waiting for input or output",
    "sleep": "sleeping",
    "idle": "waiting for another lane",
    "unknown": "not decided",
}

_TOUCHING_S = 0.0002  # equal spans with less than this between them are one


@dataclass(frozen=True, slots=True)
class Lane:
    """One line of execution: a process's main thread, another thread, a coroutine or task.

    Attributes:
        id: unique within a timeline.
        kind: "process", "thread", "coroutine", "greenlet", "rayon" or "tokio".
        name: what the program calls it.
        pid: its process id.
        tid: the operating system's id of its thread.
    """

    id: str
    kind: str
    name: str
    pid: int
    tid: int


@dataclass(frozen=True, slots=True)
class Span:
    """Something that a lane did, from ``start_s`` to ``end_s`` (seconds since the record began).

    Attributes:
        name: what it was.
        lane: the id of its lane.
        start_s: when it began.
        end_s: when it ended.
        state: one of `STATES`; "unknown" where nothing was known for sure.
        holder: whom it waited for, where that is known.
    """

    name: str
    lane: str
    start_s: float
    end_s: float
    state: State
    holder: str | None = None


@dataclass(frozen=True, slots=True)
class Arrow:
    """From where something was started or submitted to where it began to run.

    Attributes:
        name: what it was.
        lane: the id of the lane that submitted it.
        at_s: when that was.
        to_lane: the id of the lane that ran it.
        to_s: when it began there.
        end_s: when that work had ended; None: it had not, or that isn't known, as for a thread.
    """

    name: str
    lane: str
    at_s: float
    to_lane: str
    to_s: float
    end_s: float | None = None


@dataclass(frozen=True, slots=True)
class Timeline:
    """The lanes of a recording, in order of their first span, and their spans by start.

    Attributes:
        lanes: as above.
        spans: as above.
        arrows: by their start; a recording of `span` has none.
    """

    lanes: tuple[Lane, ...] = ()
    spans: tuple[Span, ...] = ()
    arrows: tuple[Arrow, ...] = ()

    @property
    def seconds(self) -> float:
        """When the last span ended, in seconds."""
        return max((span.end_s for span in self.spans), default=0.0)

    def of(self, lane: Lane) -> list[Span]:
        """The spans of one lane, by start."""
        return [span for span in self.spans if span.lane == lane.id]

    def to_dict(self) -> dict[str, Any]:
        """The timeline as plain lists and dicts, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Timeline:
        """The timeline that `to_dict` made ``data`` from."""
        return cls(
            tuple(Lane(**lane) for lane in data["lanes"]),
            tuple(Span(**span) for span in data["spans"]),
            tuple(Arrow(**arrow) for arrow in data.get("arrows", ())),
        )


class Recording:
    """What `record` hands out: its `timeline` is filled when the block ends."""

    def __init__(self) -> None:
        self.timeline = Timeline()


@contextlib.contextmanager
def record() -> Iterator[Recording]:
    """Collect the spans that the block and every process started in it note.

    Yields:
        A `Recording`, whose ``timeline`` is there when the block has ended. What is still
        running by then is cut off.

    Raises:
        RuntimeError: a recording is under way already.
    """
    if FOLDER in os.environ:
        raise RuntimeError("a recording is under way already: one at a time")
    recording = Recording()
    with tempfile.TemporaryDirectory(prefix="plait-spans-", ignore_cleanup_errors=True) as folder:
        os.environ[FOLDER] = folder
        began = time.monotonic_ns()
        try:
            yield recording
        finally:
            del os.environ[FOLDER]
            recording.timeline = _load(Path(folder), began)


def _load(folder: Path, began: int) -> Timeline:
    lanes: dict[str, Lane] = {}
    spans: list[Span] = []
    for file in folder.glob("*.spans"):
        for line in file.read_bytes().rstrip(b"\0").splitlines():
            kind, lane_name, pid, tid, name, start, end, state, holder = json.loads(line)
            lane = Lane(f"{pid}.{tid}.{lane_name}", kind, lane_name, pid, tid)
            lanes[lane.id] = lane
            times = ((start - began) / 1e9, (end - began) / 1e9)
            spans.append(Span(name, lane.id, *times, state, holder))
    spans = _merge(sorted(spans, key=lambda span: (span.start_s, span.end_s)))
    order = [lanes[lane] for lane in dict.fromkeys(span.lane for span in spans)]
    # First the lane that starts the others: this process's main thread. sorted() keeps the rest.
    order.sort(key=lambda lane: (lane.pid != os.getpid(), lane.kind != "process"))
    return Timeline(tuple(order), tuple(spans))


def _merge(spans: list[Span]) -> list[Span]:
    """Join spans of a lane that follow each other closely and say the same."""
    merged: list[Span] = []
    last: dict[str, int] = {}  # lane -> the index of its latest span in merged
    for one in spans:
        index = last.get(one.lane)
        if index is not None:
            before = merged[index]
            alike = replace(one, start_s=before.start_s, end_s=before.end_s) == before
            if alike and 0 <= one.start_s - before.end_s < _TOUCHING_S:
                merged[index] = replace(before, end_s=one.end_s)
                continue
        last[one.lane] = len(merged)
        merged.append(one)
    return merged
