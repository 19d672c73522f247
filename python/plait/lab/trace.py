"""`trace`: what every thread, task and process of a block really did, on one clock.

A sampler in Rust looks at each thread's CPU clock and system call, a thousand times a second by
default, and at who holds the GIL; nothing of it runs in the traced threads. Starts and
submissions, steps of asyncio's tasks and waits for plait's locks are noted as they happen.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import threading
import time
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from plait import _core, _tracing

from .scratch import Scratch
from .tapes import read_tapes
from .timeline import STATES, Arrow, Lane, Span, Timeline

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Trace", "trace"]

# What hooks look for, imported before the clock starts.
_HOOKED = [
    *("asyncio", "concurrent.futures.thread", "concurrent.futures.process"),
    *("multiprocessing.pool", "multiprocessing.spawn", "plait.thread", "plait.executors"),
    *("plait._thread_pool", "plait.process", "plait._bridge", "subprocess"),
]


class Trace:
    """What `trace` gives: lanes and spans, which are complete when its block has ended.

    Attributes:
        hz: looks a second.
        dropped: how many records were lost, the oldest, because there were too many.
        gil: how it was known who holds the GIL: "read" from the interpreter's memory, "inferred"
            from the CPU clocks, or "none" on an interpreter without one.
        cost_s: CPU seconds that the sampler used in this process.
    """

    def __init__(self, timeline: Timeline | None = None, hz: float = 1000.0) -> None:
        self._timeline = timeline
        self.hz = hz
        self.dropped = 0
        self.gil = "inferred"
        self.cost_s = 0.0

    @property
    def timeline(self) -> Timeline:
        """All of it; while the block runs, what there is so far."""
        return self._timeline or Timeline()

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """Threads, processes, tasks and Rust's workers; a process's are together."""
        return self.timeline.lanes

    @property
    def spans(self) -> tuple[Span, ...]:
        """What the lanes did, by start."""
        return self.timeline.spans

    @property
    def arrows(self) -> tuple[Arrow, ...]:
        """From where something was started or submitted to where it began."""
        return self.timeline.arrows

    def summary(self) -> dict[str, Any]:
        """Where the time went.

        Returns:
            ``seconds``, ``states`` (seconds of all lanes but tasks, which run in threads),
            ``decided`` (the share of that which isn't "unknown"), ``lanes`` (seconds in each state,
            by the lane's id), ``gil``, ``hz``, ``cost_s``, ``dropped``.
        """
        kinds = {lane.id: lane.kind for lane in self.lanes}
        states: Counter[str] = Counter()
        lanes: dict[str, Counter[str]] = {lane.id: Counter() for lane in self.lanes}
        for span in self.spans:
            length = span.end_s - span.start_s
            lanes[span.lane][span.state] += length  # type: ignore[assignment]
            if kinds[span.lane] != "coroutine":
                states[span.state] += length  # type: ignore[assignment]
        total = sum(states.values())
        return {
            "seconds": self.timeline.seconds,
            "states": {state: states[state] for state in STATES if state in states},
            "decided": 1 - states["unknown"] / total if total else 1.0,
            "lanes": {lane: dict(found) for lane, found in lanes.items()},
            "gil": self.gil,
            "hz": self.hz,
            "cost_s": self.cost_s,
            "dropped": self.dropped,
        }

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain lists and dicts."""
        return {**self.timeline.to_dict(), "summary": self.summary()}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file, whose ending says as what.

        Args:
            path: .html (a page of its own, which zooms), .svg or .png (pictures), .json (for
                ui.perfetto.dev and other viewers of Chrome's traces). Nothing is left there if
                it can't be written.

        Raises:
            ValueError: another ending.
            OSError: it can't be written.
        """
        from .trace_files import save

        save(self, Path(path))

    def __str__(self) -> str:
        from .trace_files import as_text

        return as_text(self)

    def __repr__(self) -> str:
        return (
            f"<plait.lab.Trace: {len(self.lanes)} lanes, {len(self.spans)} spans, "
            f"{self.timeline.seconds:.3f} s>"
        )

    def __rich__(self) -> RenderableType:
        from .trace_files import as_rich

        return as_rich(self)

    def _repr_html_(self) -> str:
        from .trace_page import fragment

        return fragment(self)


_lock = threading.Lock()


class trace(Trace):
    """Trace what a block does: ``with plait.lab.trace() as t:``.

    One trace at a time; processes that are started meanwhile are traced too: multiprocessing's,
    plait's, forked ones, and Python programs that `subprocess` runs, if they have plait and heed
    their environment (``python -I``, ``-E`` and ``-S`` don't). ``start()`` and ``stop()`` do the
    same without a block. A trace that is never stopped ends with the process, and is lost.

    Args:
        hz: looks a second, 1 to 100000.
        records: how many records each process keeps; then the oldest are dropped, and `dropped`
            says how many.

    Attributes:
        tracing: this process's part, while it runs.
        ended: is set when it has ended.

    Raises:
        ValueError: an argument is out of range.
        RuntimeError: when it is started: a trace is under way already.
        NotImplementedError: when it is started: this is not Linux.

    >>> import time, plait.lab
    >>> with plait.lab.trace() as t:
    ...     time.sleep(0.05)
    >>> slept = sum(s.end_s - s.start_s for s in t.spans if s.state == "sleep")
    >>> slept > 0.03
    True
    """

    def __init__(self, hz: float = 1000, *, records: int = 131_072) -> None:
        super().__init__(hz=float(hz))
        if not 1 <= hz <= 100_000:
            raise ValueError(f"hz must be from 1 to 100000 looks a second, got {hz}")
        if not 16 <= records <= 1 << 26:
            raise ValueError(f"records must be from 16 to {1 << 26}, got {records}")
        self._records = records
        self._began = 0
        self.ended = threading.Event()
        self._folder: str | None = None
        self.tracing: _tracing.Tracing | None = None

    def start(self) -> Self:
        """Begin; a trace begins once."""
        if self._began:
            raise RuntimeError("this trace has been started before; make a new one")
        if not hasattr(_core, "Sampler"):
            raise NotImplementedError("a trace reads Linux's clocks: it can't be had here")
        for name in _HOOKED:
            importlib.import_module(name)
        with _lock:
            running = _tracing.current
            if running is not None and running.pid == os.getpid():
                raise RuntimeError("a trace is under way already: one at a time")
            self._scratch = Scratch("plait-trace-")
            self._began = time.monotonic_ns()
            try:
                self.tracing = _tracing.begin(self._scratch.path, self.hz, self._records)
            except BaseException:
                self._scratch.remove()
                raise
            self._folder = self._scratch.path
        self.gil = self.tracing.sampler.source
        return self

    def stop(self) -> Self:
        """End it, and read what was noted; a second time it does nothing."""
        with _lock:
            tracing, self.tracing = self.tracing, None
            if tracing is None:
                return self
            if tracing.pid != os.getpid():  # a forked child left the block: its own part ends
                _tracing.end()
                return self
            ended = time.monotonic_ns()
            _tracing.end()
            assert self._folder is not None
            try:
                self._read(Path(self._folder), ended)
                self.cost_s = tracing.sampler.cost[1] / 1e9
            finally:
                self._scratch.remove()
                self.ended.set()
        return self

    def live(self, every: float = 0.5) -> Any:
        """A view for a notebook that is drawn anew while the work runs.

        Args:
            every: seconds between two drawings, 0.05 at least.

        Returns:
            An anywidget; where that is not installed, something that shows the trace as it is
            when it is shown.

        Raises:
            ValueError: ``every`` is too short.
        """
        from .trace_live import live_view

        return live_view(self, every)

    def _read(self, folder: Path, ended: int) -> None:
        reading = read_tapes(folder, self._began, ended)
        self._timeline, self.dropped = reading.timeline, reading.dropped

    @property
    def timeline(self) -> Timeline:
        """All of it; while the block runs, what there is so far."""
        if self._timeline is None and self._folder is not None:
            with contextlib.suppress(OSError):
                now = time.monotonic_ns()
                return read_tapes(Path(self._folder), self._began, now).timeline
        return self._timeline or Timeline()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
