"""The session of gevent's model: greenlets in a process of their own.

Of their own, because gevent replaces the standard library's blocking calls for a whole process,
and must do so before anything has taken hold of them.
"""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection
from typing import Any

from .._greenlets import serve
from ..process import get_context
from .processes import ProcessSession
from .sessions import Job

__all__ = ["GreenletSession"]


class GreenletSession(ProcessSession):
    """One process that runs the task in as many greenlets as there are workers."""

    def __init__(self, job: Job, workers: int) -> None:
        super().__init__(job, workers, get_context())
        self._ours: Connection[Any, Any] | None = None

    @property
    def lanes(self) -> int:
        return 1

    def _start(self) -> None:
        import cloudpickle

        # Unpickled there once gevent has done its work: it may import what blocks.
        work = cloudpickle.dumps((self.job.task, self.job.items))
        self._ours, theirs = multiprocessing.Pipe()
        with self._starting():
            process = get_context().Process(
                target=serve, args=(theirs, work, self.workers), name="plait-lab-gevent"
            )
            process.start()
        theirs.close()
        self._answer()

    def dispatch_cost(self, tasks: int = 200) -> float | None:
        return None

    def _answer(self) -> Any:
        assert self._ours is not None
        try:
            succeeded, value = self._ours.recv()
        except EOFError:
            raise RuntimeError("gevent's process ended before it answered") from None
        if not succeeded:
            raise value
        return value

    def run(self) -> list[Any]:
        assert self._ours is not None
        self._ours.send(True)
        results: list[Any] = self._answer()
        return results

    def _stop(self, at_once: bool) -> None:
        if self._ours is not None:
            self._ours.close()  # its sign to end
        if at_once:
            for process in self._workers:
                process.kill()
