"""`span`: the running code itself notes when a piece of work began and ended.

Apart from `plait.lab.timeline`, which collects the notes, so that a child process that only
runs a lesson's function need not import the lab.

Each thread writes to a memory-mapped file of its own, in a folder that children learn of by
the environment. So children of any kind hand their spans back without being asked to, even
those that get killed, and noting a span makes no system call that would release the GIL and
so disturb what is being measured. time.monotonic_ns is one clock for all processes on Linux.
"""

from __future__ import annotations

import json
import mmap
import os
import sys
import tempfile
import threading
import time
from types import TracebackType
from typing import Any, Literal, Self

__all__ = ["FOLDER", "State", "span"]

State = Literal["gil", "nogil", "wait_gil", "wait_lock", "wait_io", "sleep", "idle", "unknown"]

FOLDER = "PLAIT_SPANS"  # the environment variable that names the folder of a recording
_FIRST_SIZE = 1 << 16  # a file's first size in bytes; it doubles whenever it is full
_FREE_THREADED = not getattr(sys, "_is_gil_enabled", lambda: True)()
_ON_CPU = 0.9  # the share of a span that must be CPU time for "gil" or "nogil" to stand


class span:
    """Note when the block began and ended; does nothing outside of a `record`.

    Args:
        name: what the block does.
        state: what the code knows it to be, one of `plait.lab.timeline.STATES`; "gil" and
            "nogil" become "unknown" where the thread's CPU clock does not confirm them.
        lane: a name for the lane, by default the coroutine's, thread's or process's own.
        holder: whom the block waits for, if it waits.

    >>> import time
    >>> from plait.lab.timeline import record, span
    >>> with record() as recording:
    ...     with span("nap", "sleep"):
    ...         time.sleep(0.01)
    >>> [nap] = recording.timeline.spans
    >>> nap.state, nap.end_s - nap.start_s >= 0.01
    ('sleep', True)
    """

    __slots__ = ("_began", "_cpu", "_where", "holder", "name", "state")

    def __init__(
        self,
        name: str,
        state: State = "unknown",
        *,
        lane: str | None = None,
        holder: str | None = None,
    ) -> None:
        self.name = name
        self.state = state
        self.holder = holder
        self._where: str | None = lane

    def __enter__(self) -> Self:
        self._cpu = time.thread_time_ns()
        self._began = time.monotonic_ns()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        ended = time.monotonic_ns()
        folder = os.environ.get(FOLDER)
        if folder is None:
            return
        state = self.state
        if state in ("gil", "nogil"):
            cpu = time.thread_time_ns() - self._cpu
            if cpu < _ON_CPU * (ended - self._began):
                state = "unknown"
            elif _FREE_THREADED:
                state = "nogil"
        lane_kind, name = _whereabouts()
        tid = threading.get_native_id()
        line = [lane_kind, self._where or name, os.getpid(), tid]
        _writer(folder).write([*line, self.name, self._began, ended, state, self.holder])


def _whereabouts() -> tuple[str, str]:
    """The kind and name of the lane that is running, asking only modules already loaded."""
    asyncio: Any = sys.modules.get("asyncio")
    if asyncio is not None and asyncio._get_running_loop() is not None:
        task = asyncio.current_task()
        if task is not None:
            return "coroutine", task.get_name()
    greenlet: Any = sys.modules.get("greenlet")
    if greenlet is not None:
        current = greenlet.getcurrent()
        if current.parent is not None:
            return "greenlet", str(getattr(current, "name", "greenlet"))
    thread = threading.current_thread()
    if thread is not threading.main_thread():
        return "thread", thread.name
    multiprocessing: Any = sys.modules.get("multiprocessing.process")
    if multiprocessing is None:
        return "process", "MainProcess"
    return "process", str(multiprocessing.current_process().name)


class _Writer:
    """Appends lines to a file of its own through memory, so without a system call each."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.pid = os.getpid()
        self._used = 0
        descriptor, _ = tempfile.mkstemp(".spans", dir=folder)
        try:
            os.ftruncate(descriptor, _FIRST_SIZE)
            self._memory = mmap.mmap(descriptor, _FIRST_SIZE)
        finally:
            os.close(descriptor)

    def write(self, record: list[Any]) -> None:
        line = json.dumps(record).encode() + b"\n"
        end = self._used + len(line)
        if end > len(self._memory):
            self._memory.resize(max(2 * len(self._memory), end))
        self._memory[self._used : end] = line
        self._used = end


_mine = threading.local()


def _writer(folder: str) -> _Writer:
    writer: _Writer | None = getattr(_mine, "writer", None)
    # A forked child has its parent's writer, whose file is the parent's.
    if writer is None or writer.folder != folder or writer.pid != os.getpid():
        writer = _mine.writer = _Writer(folder)
    return writer
