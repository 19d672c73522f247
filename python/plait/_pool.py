"""The Python half of a process pool: its workers' processes, and what needs Python objects.

The engine (see `plait._pool_engine`) calls the methods of `Helpers` by name. They must not refer
to the executor: it shall be collected when its user drops it.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import pickle
import reprlib
import signal
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError
from concurrent.futures.process import BrokenProcessPool, _RemoteTraceback
from multiprocessing import process as mp_process
from typing import Any

from . import _byvalue, _contextvars
from ._functions import survey
from ._pool_engine import Kind
from .errors import SerializationError, TaskTimeout, WorkerDied
from .process import has_zygote

__all__ = ["Helpers", "join"]

# A function with lists, dicts and objects in its globals is pickled again for each task, to see
# whether they have changed; one with more than this in them is not: bytes.
_COMPARED = 64 * 1024

_pools: weakref.WeakSet[Helpers] = weakref.WeakSet()
_is_exiting = False


def _kind() -> Kind:
    """The engine of new pools: where processes are spawned, there are no rings either."""
    if has_zygote():
        from ._rings import KIND
    else:
        from ._pipe_pool import KIND
    return KIND


class Helpers:
    """A pool's workers and its words."""

    def __init__(
        self,
        future: type[Any],
        max_workers: int,
        context: Any,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        max_tasks: int | None,
    ) -> None:
        self.context_ = context
        self._initializer = initializer
        self._initargs = initargs
        self.max_workers = max_workers
        self.workers: dict[int, Any] = {}  # by key
        self.processes: dict[int, Any] = {}  # by pid
        self._lock = threading.RLock()
        self._volatile: dict[int, tuple[object, bytes, int]] = {}
        self._contexts: dict[frozenset[tuple[Any, int]], tuple[int, object]] = {}
        self.kind = _kind()
        self.core = self.kind.engine(future, max_workers, max_tasks, _Caller(self))
        self.driver: threading.Thread | None = None
        _pools.add(self)

    # ---- workers ---------------------------------------------------------------------------

    def start(self) -> None:
        """Starts a worker, if there is room for one."""
        with self._lock:
            if len(self.workers) >= self.max_workers:
                return
            key, *ends = self.core.add_worker()
            try:
                process = self.context_.Process(
                    target=self.kind.main,
                    args=(self.kind.ends(*ends), key, self._initializer, self._initargs),
                )
                process.start()
            except BaseException:
                self.core.ended(key, 0)
                raise
            self.workers[key] = process
            self.processes[process.pid] = process
            self.core.watch(key, process.pid, process.sentinel)
            if self.driver is None:
                self.driver = threading.Thread(
                    target=_drive, args=(self,), name="plait-pool", daemon=True
                )
                self.driver.start()

    def bury(self, key: int) -> None:
        """Reaps a worker that has ended."""
        process = self.workers[key]
        process.join()
        code = process.exitcode
        with self._lock:
            del self.workers[key], self.processes[process.pid]
            self.core.ended(key, 255 if code is None else code)
        process.close()

    def do(self, what: str, key: int) -> None:
        """A duty that `drive` has returned."""
        if what == "start":
            try:
                self.start()
            except Exception as error:
                if not self.workers:  # and nobody is left to do the tasks
                    self.core.break_down(f"no worker process can be started: {error}")
        elif what == "bury":
            self.bury(key)
        else:
            with contextlib.suppress(KeyError, ValueError):  # it has ended meanwhile
                self.workers[key].kill()

    def interrupt(self) -> None:
        """Ends all tasks and workers."""
        self.core.abort()

    # ---- functions and contexts --------------------------------------------------------------

    def define(self, function: Any) -> int:
        """A function's number in the pool; 0: it has to go along with each task."""
        found = survey(function)
        if found is None:
            return 0
        name = getattr(function, "__qualname__", None) or repr(function)
        if found.is_volatile:
            return self._define_volatile(function, name, found)
        watch = self.kind.watch(found.parts) if found.parts else None
        return self.core.define(function, name, watch, True)

    def _define_volatile(self, function: Any, name: str, found: Any) -> int:
        data = _byvalue.dumps(function, name="fn")
        if len(data) > _COMPARED:
            return self.core.define(function, name, self.kind.watch(found.parts), True)
        known = self._volatile.get(id(function))
        if known is not None and known[1] == data:
            return known[2]
        number = self.core.define(function, name, None, False)
        self._volatile[id(function)] = function, data, number
        return number

    def define_own(self, function: Any) -> int:
        """Defines a callable with a state of its own for one map."""
        inner = getattr(function, "func", function)  # of a partial
        name = getattr(inner, "__qualname__", None) or type(function).__qualname__
        return self.core.define(function, name, None, False)

    def context(self, context: contextvars.Context) -> int:
        """The number of the context's variables in the pool; 0: none of them can travel."""
        variables = _contextvars.portable(context)
        if not variables:
            return 0
        key = frozenset((var, id(value)) for var, value in variables.items())
        known = self._contexts.get(key)
        if known is None:
            if len(self._contexts) > 100:
                self._contexts.clear()
            number = self.core.define_context(_contextvars.pack(variables))
            known = self._contexts[key] = number, variables  # which keeps the ids' objects
        return known[0]

    # ---- exceptions and output ---------------------------------------------------------------

    def refusal(self, kind: str, text: str | None) -> Exception:
        """Why the pool takes no task, or has none any more."""
        if kind == "broken":
            return BrokenProcessPool(text)
        if kind == "cancelled":
            return CancelledError()
        after = "interpreter shutdown" if _is_exiting else "shutdown"
        return RuntimeError(f"cannot schedule new futures after {after}")

    def exception(self, data: bytes, trace: str) -> BaseException:
        """A task's exception, as the worker has pickled it."""
        try:
            error: BaseException = pickle.loads(data)
        except Exception as failure:
            what = f"{type(failure).__name__}: {failure}"
            error = SerializationError(
                f"the task raised an exception that could not be unpickled ({what})",
                path="exception",
            )
        # The standard library's class, by which some know it. Not by assignment, which an
        # exception that is a frozen dataclass refuses.
        cause = _RemoteTraceback(f'\n"""\n{trace}"""')  # type: ignore[arg-type]
        BaseException.__setattr__(error, "__cause__", cause)
        return error

    def undecodable(self, error: BaseException) -> BaseException:
        """For a result that arrived, but can't be unpickled."""
        if isinstance(error, KeyboardInterrupt):
            return error
        what = f"{type(error).__name__}: {error}"
        told = SerializationError(
            f"the result arrived, but could not be unpickled ({what}); see its __reduce__",
            path="result",
        )
        told.__cause__ = error
        return told

    def lost(
        self,
        kind: str,
        name: str | None,
        arguments: tuple[tuple[Any, ...], dict[str, Any] | None] | None,
        pid: int,
        exitcode: int,
        text: str | None,
        seconds: float,
        memory: int | None,
    ) -> Exception:
        """Why a task has no result."""
        if kind in ("broken", "cancelled"):
            return self.refusal(kind, text)
        task = _describe(name, arguments)
        if kind == "late":
            return TaskTimeout(f"task {task} took longer than {seconds:g} s and was ended")
        if exitcode < 0:
            number: int | None = -exitcode
            how = f"was killed by {_signal_name(-exitcode)}"
        else:
            number, how = None, f"ended with exit code {exitcode}"
        limit = f" (its memory limit was {memory} bytes)" if memory else ""
        return WorkerDied(
            f"task {task} did not finish: its worker process {pid} {how}{limit}",
            pid=pid,
            signal=number,
            exitcode=exitcode,
            task=task,
        )

    def output(self, is_stderr: bool, data: bytes) -> None:
        """Text that a worker printed, to where ours goes now."""
        stream = sys.stderr if is_stderr else sys.stdout
        # Closed, or gone: as for a print() of our own, but nobody is there to be told.
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.write(data.decode("utf-8", "replace"))
            stream.flush()


class _Caller:
    """What the core calls: it must not keep a pool alive, which keeps it. Futures may outlive
    their pool, and then need no more than the words for what has happened."""

    def __init__(self, helpers: Helpers) -> None:
        self._helpers = weakref.ref(helpers)

    def __getattr__(self, name: str) -> Any:
        helpers = self._helpers()
        return getattr(Helpers.__new__(Helpers) if helpers is None else helpers, name)


def _describe(name: str | None, arguments: Any) -> str:
    if arguments is None:
        return f"{name or 'call'}(...)"
    short = reprlib.Repr()
    short.maxother = short.maxstring = 60
    positional, keywords = arguments
    parts = [_safe_repr(short, value) for value in positional]
    parts += [f"{key}={_safe_repr(short, value)}" for key, value in (keywords or {}).items()]
    return f"{name or 'call'}({', '.join(parts)})"


def _safe_repr(short: reprlib.Repr, value: object) -> str:
    try:
        return short.repr(value)
    except Exception:
        return f"<{type(value).__name__}>"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _drive(helpers: Helpers) -> None:
    """The driver thread."""
    core = helpers.core
    while True:
        try:
            duties = core.drive()
        except BaseException:  # a callback's, which must not end the pool
            sys.excepthook(*sys.exc_info())
            continue
        if duties is None:
            return
        for what, key in duties:
            helpers.do(what, key)


def _at_exit() -> None:
    """Before threads are joined: pools finish what they have, as in the standard library; after
    an unhandled ^C, or at another one now, they don't."""
    global _is_exiting
    _is_exiting = True
    pools = list(_pools)
    interrupted = isinstance(getattr(sys, "last_value", None), KeyboardInterrupt)
    for pool in pools:
        if interrupted:
            pool.interrupt()
        else:
            pool.core.close()
    try:
        for pool in pools:
            join(pool)
    except BaseException:
        for pool in pools:
            pool.interrupt()
        for pool in pools:
            join(pool)
        raise


def join(pool: Helpers) -> None:
    """Waits until a closed pool has finished. An unfinished one is another process's if we were
    forked: there is nothing to wait for."""
    if pool.driver is not None and pool.core.is_ours():
        pool.driver.join()


def _after_fork_in_child() -> None:
    """The workers are not this process's to wait for at its exit."""
    for pool in list(_pools):
        mp_process._children.difference_update(pool.workers.values())  # type: ignore[attr-defined]


threading._register_atexit(_at_exit)  # type: ignore[attr-defined]
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
