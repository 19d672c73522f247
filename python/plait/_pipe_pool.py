"""The pool's engine where there are no rings (Windows, macOS): over `multiprocessing`'s pipes.

Each worker has one pipe and one task at a time (of a map: some items), so that a death costs
what it was at and nothing else: a worker says "begun" before it touches a task, and a task
that it had not begun, like the items after the one that it was at, is done by another. One
thread, the driver, does all that is done with pipes and sentinels; others leave it a note (one
assignment or one append each: what a signal handler raises may come between any two) and ring
its bell. Futures and maps get their outcomes from the driver, with no lock held.

To a worker: ``(definitions, forgotten, kind, function, context, memory, items)``, None to
leave. From it: ``("ready",)``, ``("broken", reason)``, ``("output", is_stderr, text)``,
``("begun",)``, and for each item ``("value" or "error", pickle, traceback, busy, waited)``.
"""

from __future__ import annotations

import functools
import os
import pickle
import signal
import time
from collections import deque
from multiprocessing import connection
from threading import get_ident
from typing import Any

from . import _pool_words
from ._pipe_backlog import Backlog
from ._pipe_state import LATE, Options, Reason, Task, Watch, Worker
from ._pool_engine import Kind

__all__ = ["KIND", "Pool"]

# How long a worker may take to leave: seconds.
_LEAVE_S = 5.0
# Workers in a row that die before they are ready until the pool gives up; that were killed.
_FALSE_STARTS, _KILLED_STARTS = 3, 100
_KILLS = {-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT} if os.name == "posix" else set()
_CANCELLED = Reason("cancelled")


class Pool(Backlog):
    """See `plait._pool_engine.Engine`."""

    def __init__(
        self, future: type[Any], max_workers: int, max_tasks: int | None, helpers: Any
    ) -> None:
        super().__init__(future, max_workers, helpers)
        self._max_tasks = max_tasks
        self._workers: dict[int, Worker] = {}
        self._duties: list[tuple[str, int]] = []
        self._is_driven = self._is_over = False
        self._is_cancelled = self._is_aborted = False
        self._false_starts = 0
        self._ear, self._bell = connection.Pipe(duplex=False)
        self._is_rung = False
        # What workers have printed; whose is being written.
        self._outputs: deque[tuple[Worker, bool, bytes]] = deque()
        self._is_writer_called = False
        self._speaker: Worker | None = None
        self._writer: int | None = None  # that thread

    # ---- workers -----------------------------------------------------------------------------

    def has_begun(self, task: Task) -> bool:
        return self.is_ours() and any(
            worker.task is task and worker.has_begun for worker in self._all()
        )

    def stop(self, task: Task) -> bool:
        """Ends a task that has begun, by ending its worker; false: it is not running."""
        if not self.is_ours():
            return False
        with self.lock:
            for worker in self._workers.values():
                if worker.task is task:
                    return self._doom(worker, _CANCELLED)
        return False

    def _all(self) -> list[Worker]:
        return list(self._workers.values())

    def add_worker(self) -> tuple[Any, ...]:
        self.check_ours()
        ours, theirs = connection.Pipe()
        with self.lock:
            key = next(key for key in range(len(self._workers) + 1) if key not in self._workers)
            self._extra = 0
            self._workers[key] = Worker(key, ours, theirs, self._max_tasks)
        return key, theirs

    def watch(self, key: int, pid: int, sentinel: int) -> None:
        with self.lock:
            self._workers[key].started(pid, sentinel)
        self.call_driver()

    def ended(self, key: int, exitcode: int) -> None:
        with self.lock:
            worker = self._workers.pop(key, None)
            if worker is None:
                return
            worker.close()
            self._can_start = True
            if worker.task is not None:
                self._settle(worker, worker.task, worker.verdict(exitcode))
            if worker.is_ready or exitcode == 0 or worker.doomed is not None:
                self._false_starts = 0
            else:
                self._false_starts += 1
                count, was_killed = self._false_starts, exitcode in _KILLS
                if count >= (_KILLED_STARTS if was_killed else _FALSE_STARTS):
                    self.break_down(
                        f"{count} worker processes in a row ended before they were ready, the "
                        f"last with exit code {exitcode}; what they printed to stderr says why"
                    )
        self.call_driver()

    def _settle(self, worker: Worker, task: Task, reason: Reason | None) -> None:
        """Of a task that a worker had: the item that it was at is lost, for `reason`, unless it
        may be tried again; those without an answer are done anew."""
        if reason is None:
            self._put(task.part(worker.answered))
            return
        single = task.part(worker.answered, worker.answered + 1)
        rest = task.part(worker.answered + 1)
        if rest.items:
            self._put(rest)
        if single.attempts < task.options.retries and reason.kind != "cancelled":
            single.attempts += 1
            self._put(single)
        else:
            self._lose(single, reason)

    def _doom(self, worker: Worker, reason: Reason) -> bool:
        """Has a worker killed, for the item that it is at. False: it is being killed already."""
        if worker.doomed is not None:
            return False
        worker.doomed = worker.task, worker.answered, reason
        self.call_driver()
        return True

    # ---- the driver --------------------------------------------------------------------------

    def call_driver(self) -> None:
        with self.lock:
            if not self._is_rung and not self._is_over:
                self._bell.send_bytes(b"")
                self._is_rung = True

    def _begin(self) -> None:
        """Has the driver look, the first time make one."""
        if self._writer == get_ident():  # a stdout that uses the pool waits for who speaks, too
            with self.lock:
                self._hear_on(self._speaker)
        if not self._is_driven:
            self.helpers.begin()
        else:
            self.call_driver()

    def claim(self) -> bool:
        with self.lock:
            if self._is_driven:
                self.call_driver()
                return False
            self._is_driven = True
            return True

    def drive(self) -> list[tuple[str, int]] | None:
        while self.dropped:
            self.dropped.popleft().close()
        while self._outcomes:
            self._outcomes.popleft()()
        with self.lock:
            due, messages = self._schedule()
            duties, self._duties = self._duties, []
            if not duties and self._is_finished():
                self._is_over = True
                self._ear.close()
                self._bell.close()
                return None
            sources: dict[Any, Worker | None] = {self._ear: None}
            for worker in self._all():
                sources.update((source, worker) for source in worker.sources())
        for worker, message in messages:
            worker.send(message)
        if duties:
            return duties
        timeout = None if due is None else max(0.0, due - time.monotonic())
        for source in connection.wait(list(sources), timeout):
            found = sources[source]
            if found is None:
                self._answer_bell()
            elif source is found.pipe:
                self._hear(found)
            else:
                while found.has_mail() and not found.is_speaking:
                    self._hear(found)
                if not found.is_speaking:  # else when that is written
                    found.is_buried = True
                    duties.append(("bury", found.key))
        return duties

    def next_output(self) -> tuple[bool, bytes] | None:
        with self.lock:
            self._is_writer_called = bool(self._outputs)
            if not self._outputs:
                self.call_driver()
                return None
            self._speaker, is_stderr, text = self._outputs.popleft()
            self._writer = get_ident()
            return is_stderr, text

    def written(self) -> None:
        with self.lock:
            self._hear_on(self._speaker)
            self._speaker = self._writer = None
            self.call_driver()

    def _hear_on(self, worker: Worker | None) -> None:
        if worker is not None:
            worker.is_speaking = any(worker is other for other, *_ in self._outputs)

    def _answer_bell(self) -> None:
        with self.lock:
            while self._ear.poll():
                self._ear.recv_bytes()
            self._is_rung = False

    def _hear(self, worker: Worker) -> None:
        try:
            kind, *content = worker.pipe.recv()
        except (EOFError, OSError):
            worker.is_deaf = True
            return
        except Exception:  # no message: what it is at has written to its pipe
            worker.is_deaf = True
            with self.lock:
                self._doom(worker, Reason("died", worker.pid, -9))
            return
        if kind == "output":
            with self.lock:
                worker.is_speaking = True
                self._outputs.append((worker, *content))
            return
        with self.lock:
            self._can_start = True
            if kind == "broken":
                self.break_down(*content)
            elif kind == "ready":
                worker.is_ready = True
            elif kind == "begun":
                worker.begin()
            elif worker.task is not None:
                self._take(worker, worker.task, kind == "error", *content)

    def _take(
        self,
        worker: Worker,
        task: Task,
        is_error: bool,
        data: bytes,
        trace: str,
        busy: int,
        waited: int,
    ) -> None:
        """An item's outcome."""
        decode = (
            functools.partial(_pool_words.exception, data, trace)
            if is_error
            else functools.partial(self._value, data)
        )
        index = task.first + worker.answered
        deliver = functools.partial(task.receiver.deliver, index, decode, is_error, len(data))
        self._outcomes.append(deliver)
        self._outstanding -= 1
        worker.answer(len(data), busy, waited)
        # Quick to believe that items take longer, slow to believe that they don't.
        seconds = busy / 1e9
        weight = 0.7 if seconds > self.mean_s else 0.3
        self.mean_s = (self.mean_s or seconds) * (1 - weight) + weight * seconds

    def _value(self, data: bytes) -> object:
        try:
            return pickle.loads(data)
        except BaseException as error:
            raise _pool_words.undecodable(error) from error

    @property
    def is_driven(self) -> bool:
        return self._is_driven

    @property
    def needed(self) -> int:
        if self._broken is not None or not self._can_start:
            return 0
        free = sum(worker.task is None and worker.is_usable() for worker in self._all())
        waiting = len(self._pending) + len(self._inbox)
        wanted = waiting - free if waiting else min(self._extra, 1 - free)
        return max(0, min(wanted, self.max_workers - len(self._workers)))

    def cannot_start(self, reason: str) -> None:
        with self.lock:
            self._can_start, self._extra = False, 0  # until something has changed
            if not self._workers:
                self._lose_pending(Reason("unstarted", text=reason))

    def _schedule(self) -> tuple[float | None, list[tuple[Worker, object]]]:
        """What the state asks for: when to look again, and what to send."""
        if self._is_cancelled or self._is_aborted:
            self._lose_pending(_CANCELLED)
        if self._is_aborted:
            for worker in self._all():
                self._doom(worker, _CANCELLED)
        self._tidy()
        now = time.monotonic()
        messages: list[tuple[Worker, object]] = []
        due: list[float] = []
        is_done = self._is_closed and not self._outstanding
        for worker in self._all():
            if worker.doomed is not None or worker.is_buried:
                continue
            if worker.task is None and worker.is_ready and worker.is_usable():
                task = self._pop()
                if task is not None:
                    messages.append((worker, worker.give(task)))
            if worker.task is None and worker.leaves is None and (is_done or worker.left == 0):
                worker.leaves = now + _LEAVE_S
                messages.append((worker, None))
            late = worker.late_at()
            if late is not None and late <= now:
                self._doom(worker, LATE if worker.task is not None else _CANCELLED)
            elif late is not None:
                due.append(late)
        for worker in self._all():
            if worker.doomed is not None and not worker.is_killed:
                worker.is_killed = True
                self._duties.append(("kill", worker.key))
        if self._outputs and not self._is_writer_called:
            self._is_writer_called = True
            self._duties.append(("write", 0))
        if self.needed:
            self._duties.append(("start", 0))
        return min(due, default=None), messages

    # ---- the end -----------------------------------------------------------------------------

    def close(self, cancel: bool = False) -> None:
        if not self.is_ours():
            return
        with self.lock:
            self._is_closed = True
            self._is_cancelled |= cancel
        self.call_driver()

    def abort(self) -> None:
        if not self.is_ours():
            return
        with self.lock:
            self._is_closed = True
            self._is_aborted = True
        self.call_driver()

    def break_down(self, reason: str) -> None:
        with self.lock:
            if self._broken is not None:
                return
            self._broken = reason
            why = Reason("broken", text=reason)
            self._lose_pending(why)
            for worker in self._all():
                if worker.task is not None:
                    self._lose(worker.task.part(worker.answered), why)
                    worker.task = None
                self._doom(worker, _CANCELLED)
        self.call_driver()

    def _is_finished(self) -> bool:
        return (
            (self._is_closed or self._broken is not None)
            and not self._outstanding
            and not self._inbox
            and not self._workers
            and not self._outcomes
            and not self._is_writer_called
        )

    def workers(self) -> list[tuple[int, int, bool, int, int, int, int, int]]:
        return [worker.line() for worker in self._all()]


def _work(*args: Any) -> None:
    from ._pipe_worker import main  # needed in the worker alone

    main(*args)


KIND = Kind(Pool, Options, Watch, lambda pipe: pipe, _work)
