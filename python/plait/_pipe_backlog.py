"""What a pool over pipes has to do: its tasks, maps and definitions, and what becomes of them."""

from __future__ import annotations

import contextvars
import functools
import heapq
import itertools
import os
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any

from . import _byvalue, _core, _pool_words
from ._glimpse import glimpse
from ._maps import MapResults
from ._pipe_map import Map, Plan
from ._pipe_state import Definition, Options, Reason, Task, decode
from .errors import SerializationError

__all__ = ["Backlog"]


class _Call:
    """A submitted call: what its future asks of the pool, and where its outcome goes."""

    def __init__(self, pool: Backlog) -> None:
        self._pool = pool
        self.promise = _core.Promise(self)
        self.task: Task | None = None

    def wait(self) -> None:
        self._pool.check_ours()

    def withdraw(self) -> bool:
        return self.task is not None and self._pool.withdraw(self.task)

    def has_begun(self) -> bool:
        return self.task is not None and self._pool.has_begun(self.task)

    def stop(self) -> bool:
        return self.task is not None and self._pool.stop(self.task)

    def deliver(self, index: int, decode: Callable[[], object], is_error: bool, size: int) -> None:
        self.promise.complete(decode, is_error)

    def cancel(self, index: int) -> None:
        self.promise.cancel()


class Backlog(ABC):
    """The half of a pool that knows of tasks; `_pipe_pool` has the other half, the workers."""

    def __init__(self, future: type[Any], max_workers: int, helpers: Any) -> None:
        self._future = future
        self.max_workers = max_workers
        self.helpers = helpers
        # A signal handler, or a finalizer, may come back while it is taken.
        self.lock = threading.RLock()
        self._inbox: deque[Task] = deque()
        self._pending: list[Task] = []  # a heap; those that were withdrawn are still in it
        self._serials = itertools.count(1)
        self._numbers = itertools.count(1)
        self._outstanding = 0
        self._known: dict[int, tuple[object, Definition, Any]] = {}
        self._outcomes: deque[Callable[[], object]] = deque()
        self.mean_s = 0.0  # what an item takes; 0.0: not known
        self._can_start = True
        self._extra = 0  # workers that no task is waiting for
        self._maps: list[Map] = []
        self.dropped: deque[Map] = deque()  # maps whose iterators are gone
        self._is_closed = False
        self._broken: str | None = None
        self._pid = os.getpid()

    @abstractmethod
    def call_driver(self) -> None:
        """Has the driver see what has changed."""

    @abstractmethod
    def _begin(self) -> None:
        """Has the driver look, the first time make one."""

    @abstractmethod
    def has_begun(self, task: Task) -> bool:
        """Whether a worker is at it."""

    @abstractmethod
    def stop(self, task: Task) -> bool:
        """Ends a task that has begun, by ending its worker; false: it is not running."""

    def submit(self, function: Any, args: Any, kwargs: Any, options: Any = None) -> object:
        self.check_ours()
        self._check_open()
        call = _Call(self)
        future: Any = call.promise.future(self._future)
        try:
            defined = self._defined(function)
            item = (
                b"" if defined else _byvalue.dumps(function, name="fn"),
                _byvalue.dumps(args, name="args"),
                _byvalue.dumps(kwargs, name="kwargs") if kwargs else b"",
            )
            context = self._context()
        except SerializationError as error:  # and nothing that a signal handler raises
            # As in the standard library, the future tells, and the pool grows all the same.
            future.set_exception(error)
            self._extra = 1
            self._begin()
            return future
        call.task = Task("call", defined, context, [item], options or Options(), call)
        self.enqueue(call.task)
        return future

    def map(
        self,
        function: Any,
        items: Any,
        *,
        star: bool,
        ordered: bool,
        options: Any = None,
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        length: int | None = None,
    ) -> MapResults:
        self.check_ours()
        plan = Plan(
            function=self._defined(function) or self.helpers.define_own(function),
            kind="starmap" if star else "map",
            context=self._context(),
            options=options or Options(),
            chunksize=chunksize,
            buffersize=buffersize,
            is_ordered=ordered,
            deadline=None if timeout is None else time.monotonic() + timeout,
            length=length,
        )
        mapped = Map(self, plan, items)
        with self.lock:
            self._maps.append(mapped)
        results = MapResults(mapped)
        mapped.feed()
        return results

    def finish_maps(self) -> None:
        for mapped in list(self._maps):
            if mapped.plan.length is not None:
                mapped.feed(everything=True)

    def map_ended(self, mapped: Map) -> None:
        """Nothing of it is wanted any more."""
        with self.lock:
            if mapped in self._maps:
                self._maps.remove(mapped)
            for task in (*self._pending, *self._inbox):
                if task.receiver is mapped:
                    task.is_pending = False
        self.call_driver()

    def enqueue(self, task: Task) -> None:
        """Takes a task."""
        with self.lock:
            self._check_open()
            self._can_start = True
            task.serial = next(self._serials)
            self._inbox.append(task)
        self._begin()

    def _check_open(self) -> None:
        if self._broken is not None:
            raise _pool_words.refusal("broken", self._broken)
        if self._is_closed:
            raise _pool_words.refusal("closed", None)

    def _put(self, task: Task) -> None:
        task.is_pending = True
        heapq.heappush(self._pending, task)

    def _pop(self) -> Task | None:
        self._tidy()
        if not self._pending:
            return None
        task = heapq.heappop(self._pending)
        task.is_pending = False
        return task

    def _tidy(self) -> None:
        """Takes in what came, and drops what was withdrawn."""
        while self._inbox:
            task = self._inbox[0]
            self._outstanding += len(task.items)
            heapq.heappush(self._pending, task)
            self._inbox.popleft()
        while self._pending and not self._pending[0].is_pending:
            self._outstanding -= len(heapq.heappop(self._pending).items)

    def withdraw(self, task: Task) -> bool:
        """Takes a task back that has not begun; true: it will never run."""
        if not self.is_ours():
            return False
        with self.lock:
            if not task.is_pending:
                return False
            task.is_pending = False
        self.call_driver()  # it may be all that there was
        return True

    # ---- what workers have to know -----------------------------------------------------------

    def _defined(self, function: Any) -> Definition | None:
        """None: it goes along with each task."""
        known = self._known.get(id(function))
        if known is not None and (known[2] is None or known[2].holds()):
            return known[1]
        defined: Definition | None = self.helpers.define(function)
        return defined

    def _context(self) -> Definition | None:
        """The current context's variables; None: there are none."""
        context = contextvars.copy_context()
        defined: Definition | None = self.helpers.context(context) if len(context) else None
        return defined

    def define(self, function: Any, name: str, watch: Any, keep: bool) -> Definition:
        data = _byvalue.dumps(function, name="fn")
        defined = Definition("function", next(self._numbers), name, data)
        if keep:
            if len(self._known) > 200:  # lambdas in a loop
                self._known.clear()
            self._known[id(function)] = function, defined, watch
        return defined

    def define_context(self, variables: Any) -> Definition:
        data = _byvalue.dumps(variables, name="context")
        return Definition("context", next(self._numbers), None, data)

    # ---- what becomes of them ----------------------------------------------------------------

    def _lose(self, task: Task, reason: Reason) -> None:
        """Tells a task's receiver that its items have no answer."""
        for index, item in enumerate(task.items, task.first):
            if reason.kind == "cancelled":
                told = functools.partial(task.receiver.cancel, index)
            else:
                why = functools.partial(self._loss, task, item, reason)
                told = functools.partial(task.receiver.deliver, index, why, True, 0)
            self._outcomes.append(told)
        self._outstanding -= len(task.items)

    def _loss(self, task: Task, item: Any, reason: Reason) -> Exception:
        try:
            function, args, kwargs = decode(task.kind, item, glimpse)
            name = task.name or (function and repr(function))
            arguments: Any = args, kwargs
        except Exception:
            name, arguments = task.name, None
        options = task.options
        seconds, memory = options.timeout or 0.0, options.memory
        error: Exception = _pool_words.lost(
            reason.kind,
            options.name or name,
            arguments,
            reason.pid,
            reason.exitcode,
            reason.text,
            seconds,
            memory,
        )
        return error

    def _lose_pending(self, reason: Reason) -> None:
        while (task := self._pop()) is not None:
            self._lose(task, reason)

    @property
    def broken(self) -> str | None:
        return self._broken

    @property
    def outstanding(self) -> int:
        return self._outstanding + sum(len(task.items) for task in list(self._inbox))

    def is_ours(self) -> bool:
        return os.getpid() == self._pid

    def check_ours(self) -> None:
        if not self.is_ours():
            raise RuntimeError(
                "this process was forked from the one that the executor belongs to; "
                "make a new executor here"
            )
