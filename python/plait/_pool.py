"""The Python half of a process pool: its workers' processes, and what needs Python objects.

The engine (see `plait._pool_engine`) calls the methods of `Helpers` by name. They must not refer
to the executor: it shall be collected when its user drops it.
"""

from __future__ import annotations

import _thread
import contextlib
import contextvars
import os
import sys
import threading
import weakref
from collections.abc import Callable
from multiprocessing import process as mp_process
from typing import Any

from . import _byvalue, _contextvars, _pool_words
from ._functions import survey
from ._outlast import outlast
from ._pool_engine import Defined, Kind
from .process import has_zygote

__all__ = ["Helpers"]

# A function with lists, dicts and objects in its globals is pickled again for each task, to see
# whether they have changed; one with more than this in them is not: bytes.
_COMPARED = 64 * 1024

_pools: weakref.WeakSet[Helpers] = weakref.WeakSet()


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
        self._volatile: dict[int, tuple[object, bytes, Defined]] = {}
        self._contexts: dict[frozenset[tuple[Any, int]], tuple[Defined, object]] = {}
        self.kind = _kind()
        # A `_Finished` in the end.
        self.core: Any = self.kind.engine(future, max_workers, max_tasks, self)
        # Their threads: a callback may be called by one.
        self.drivers: set[int] = set()
        self._ended = threading.Event()
        _pools.add(self)
        if _pool_words.is_exiting:  # a daemon thread's: `_at_exit` may not know it
            self.core.close()

    # ---- workers ---------------------------------------------------------------------------

    def begin(self) -> None:
        """Has the driver run. Not as a threading.Thread, whose start() waits: what a signal
        handler raises there would leave us not knowing whether it runs. One too many returns."""
        _thread.start_new_thread(_drive, (self,))

    def start(self) -> None:
        """Starts a worker, if there is room for one; the driver does."""
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

    def settled_processes(self) -> dict[int, Any]:
        """The workers' processes, by pid, after those that are to be started."""
        while self.core.needed and not self._ended.wait(0.001):
            pass
        return self.processes

    def bury(self, key: int) -> None:
        """Reaps a worker that has ended."""
        process = self.workers[key]
        process.join()
        code = process.exitcode
        del self.workers[key], self.processes[process.pid]
        self.core.ended(key, 255 if code is None else code)
        process.close()

    def do(self, what: str, key: int) -> None:
        """A duty that `drive` has returned."""
        if what == "start":
            try:
                self.start()
            except Exception as error:
                self.core.cannot_start(f"{type(error).__name__}: {error}")
        elif what == "bury":
            self.bury(key)
        elif what == "write":
            try:
                _thread.start_new_thread(_write, (self.core,))
            except RuntimeError:  # a limit is met
                _write(self.core)
        else:
            with contextlib.suppress(KeyError, ValueError):  # it has ended meanwhile
                self.workers[key].kill()

    def finish(self) -> None:
        """Lets go of the shared memory, which a finished pool that is still referred to would
        keep."""
        self.core = _Finished(self.core.broken)
        self._ended.set()

    def join(self) -> None:
        """Waits until a closed pool has finished. A copy in a forked process has nothing to wait
        for."""
        if self.core.is_ours() and _thread.get_ident() not in self.drivers:
            if not self.core.is_driven:
                if self.core.outstanding:
                    _drive(self)  # no thread could be started for it
                else:
                    self.finish()  # it never had a task
            outlast(self._ended.wait)

    def interrupt(self) -> None:
        """Ends all tasks and workers."""
        self.core.abort()

    # ---- functions and contexts --------------------------------------------------------------

    def define(self, function: Any) -> Defined | None:
        """Gives a function to the workers; None: it has to go along with each task."""
        found = survey(function)
        if found is None:
            return None
        name = getattr(function, "__qualname__", None) or repr(function)
        if found.is_volatile:
            return self._define_volatile(function, name, found)
        watch = self.kind.watch(found.parts) if found.parts else None
        return self._give(function, name, watch, True)

    def _define_volatile(self, function: Any, name: str, found: Any) -> Defined:
        data = _byvalue.dumps(function, name="fn")
        if len(data) > _COMPARED:
            return self._give(function, name, self.kind.watch(found.parts), True)
        known = self._volatile.get(id(function))
        if known is not None and known[1] == data:
            return known[2]
        defined = self._give(function, name, None, False)
        if len(self._volatile) > 100:  # lambdas in a loop
            self._volatile.clear()
        self._volatile[id(function)] = function, data, defined
        return defined

    def _give(self, function: Any, name: str, watch: object, keep: bool) -> Defined:
        defined: Defined = self.core.define(function, name, watch, keep)
        return defined

    def define_own(self, function: Any) -> Defined:
        """Defines a callable with a state of its own for one map."""
        inner = getattr(function, "func", function)  # of a partial
        name = getattr(inner, "__qualname__", None) or type(function).__qualname__
        return self._give(function, name, None, False)

    def context(self, context: contextvars.Context) -> Defined | None:
        """Gives the context's variables to the workers; None: none of them can travel."""
        variables = _contextvars.portable(context)
        if not variables:
            return None
        key = frozenset((var, id(value)) for var, value in variables.items())
        known = self._contexts.get(key)
        if known is None:
            if len(self._contexts) > 100:
                self._contexts.clear()
            defined = self.core.define_context(_contextvars.pack(variables))
            known = self._contexts[key] = defined, variables  # which keeps the ids' objects
        return known[0]


class _Finished:
    """A pool after its end: it has no workers and takes no tasks."""

    outstanding = needed = 0
    is_driven = False

    def __init__(self, broken: str | None) -> None:
        self.broken = broken

    def submit(self, *args: Any) -> Any:
        kind = "closed" if self.broken is None else "broken"
        raise _pool_words.refusal(kind, self.broken)

    def map(self, *args: Any, **options: Any) -> Any:
        return self.submit()

    def workers(self) -> list[Any]:
        return []

    def is_ours(self) -> bool:
        return True

    def finish_maps(self) -> None:
        pass

    def close(self, cancel: bool = False) -> None:
        pass

    def claim(self) -> bool:
        return False

    def abort(self) -> None:
        pass


def _drive(helpers: Helpers) -> None:
    """The driver thread."""
    core, me = helpers.core, _thread.get_ident()
    if not core.claim():
        return
    helpers.drivers.add(me)
    try:
        while True:
            try:
                duties = core.drive()
            except BaseException:  # of a callback: nobody else is there to be told
                sys.excepthook(*sys.exc_info())
                continue
            if duties is None:
                helpers.finish()
                return
            for what, key in duties:
                helpers.do(what, key)
    finally:
        helpers.drivers.discard(me)


def _write(core: Any) -> None:
    """Writes what workers have printed. A thread's: a stdout that nobody reads must not keep the
    driver from what else it has to do. Here rather than in Rust, where nothing may wait above
    frames that the interpreter's exit would cut off."""
    while (found := core.next_output()) is not None:
        try:
            _pool_words.output(*found)
        except BaseException:  # of a stdout of the user's: nobody else is there to be told
            sys.excepthook(*sys.exc_info())
        finally:
            core.written()


def _at_exit() -> None:
    """Before threads are joined: pools finish what they have, as in the standard library; after
    an unhandled ^C, or at another one now, they don't."""
    _pool_words.is_exiting = True
    pools = list(_pools)
    interrupted = isinstance(getattr(sys, "last_value", None), KeyboardInterrupt)
    for pool in pools:
        if interrupted:
            pool.interrupt()
        else:
            pool.core.close()
    try:
        for pool in pools:
            pool.join()
    except BaseException:
        for pool in pools:
            pool.interrupt()
        for pool in pools:
            pool.join()
        raise


def _after_fork_in_child() -> None:
    """The workers are not this process's to wait for at its exit."""
    for pool in list(_pools):
        mp_process._children.difference_update(pool.workers.values())  # type: ignore[attr-defined]


threading._register_atexit(_at_exit)  # type: ignore[attr-defined]
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
