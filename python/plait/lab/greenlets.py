"""The session of gevent's model: greenlets in a process of their own.

Of their own, because gevent replaces the standard library's blocking calls for a whole process,
and must do so before anything has taken hold of them.
"""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import warnings
from multiprocessing.connection import Connection
from typing import Any

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


def serve(connection: Connection[Any, Any], work: bytes, workers: int) -> None:
    """Run in the process: a round each time that it is asked for, until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles it
    import gevent
    from gevent import monkey

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some modules were there before; the tasks use others
        monkey.patch_all()
    from gevent.pool import Pool

    hub: Any = gevent.get_hub()
    hub.NOT_ERROR = (Exception,)  # what a task raises is a row's reason, and not printed here
    task, items = pickle.loads(work)
    pool = Pool(workers)
    connection.send((True, None))
    while True:
        try:
            connection.recv()
        except EOFError:
            return
        try:
            answer = (True, pool.map(task, items))
        except BaseException as error:
            answer = (False, error)
        try:
            connection.send(answer)
        except Exception as error:  # it cannot be pickled
            connection.send((False, RuntimeError(f"cannot send {answer[1]!r}: {error}")))
