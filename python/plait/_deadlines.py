"""Time limits of tasks that run in threads: one thread that watches over all of them.

A thread can't be ended from outside, so what has a limit is the future: it fails, and the thread
goes on to the end of the call.
"""

from __future__ import annotations

import heapq
import itertools
import os
import sys
import threading
import time
from typing import TYPE_CHECKING

from .errors import TaskTimeout

if TYPE_CHECKING:
    from ._core import Attempt

__all__ = ["watch"]

# Without a deadline to wait for, the watcher ends: seconds.
_PATIENCE = 10.0


class _Watcher:
    def __init__(self) -> None:
        self._changed = threading.Condition()
        # By when; the number keeps attempts from being compared.
        self._heap: list[tuple[float, int, Attempt]] = []
        self._numbers = itertools.count()
        self._is_running = False

    def watch(self, attempt: Attempt) -> None:
        entry = time.monotonic() + attempt.timeout, next(self._numbers), attempt
        with self._changed:
            heapq.heappush(self._heap, entry)
            if self._heap[0] is entry:
                self._changed.notify()
            if self._is_running:
                return
            threading.Thread(target=self._run, name="plait-deadlines", daemon=True).start()
            self._is_running = True

    def _run(self) -> None:
        while True:
            attempt = self._next()
            if attempt is None:
                return
            named = "a task" if attempt.name is None else f"task {attempt.name!r}"
            error = TaskTimeout(
                f"{named} took longer than {attempt.timeout:g} s; its thread goes on to its end"
            )
            try:
                attempt.expire(error)
            except BaseException:  # of a callback: nobody else is there to be told
                sys.excepthook(*sys.exc_info())

    def _next(self) -> Attempt | None:
        """The next one whose time is over."""
        with self._changed:
            while True:
                left = self._heap[0][0] - time.monotonic() if self._heap else _PATIENCE
                if self._heap and left <= 0:
                    return heapq.heappop(self._heap)[2]
                if not self._changed.wait(min(left, threading.TIMEOUT_MAX)) and not self._heap:
                    self._is_running = False
                    return None


_watcher = _Watcher()


def watch(attempt: Attempt) -> None:
    """Calls ``attempt.expire`` when its time is over; ``attempt.timeout`` seconds from now."""
    _watcher.watch(attempt)


def _forget() -> None:
    global _watcher
    _watcher = _Watcher()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
