"""Threads that hand back their target's value, on OS threads that are used again."""

from __future__ import annotations

import _thread
import atexit
import builtins
import contextvars
import functools
import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from threading import current_thread
from types import TracebackType
from typing import Any

from . import _core
from ._callables import NO_TARGET, check_target
from .errors import TaskTimeout

__all__ = ["Thread", "current_thread"]

_Base = threading.Thread
# Where threading keeps the end of a thread, since Python 3.13 and 3.14.
_HANDLE = next(
    (name for name in ("_os_thread_handle", "_handle") if hasattr(current_thread(), name)), None
)
# What threading starts threads with. A program that has replaced it, as gevent does, wants its own.
_START = "_start_new_thread" if _HANDLE is None else "_start_joinable_thread"
_ORIGINAL = getattr(_thread, _START.removeprefix("_"))

# Of runs that are not daemons: exit waits for them. Before Python 3.13 threading has such a set
# itself, and makes a new one after a fork.
_running: set[_core.RunEnd] = set()
_exiting = False


def _awaited_at_exit() -> set[Any]:
    return _running if _HANDLE is not None else threading._shutdown_locks  # type: ignore[attr-defined]


class Thread(threading.Thread):
    """A `threading.Thread` with `result`: the target's value, or its exception.

    Starting one costs a fraction, because the OS thread of one that has ended runs the next. All
    that Python knows of a thread is new for each: its `threading.local` values, context, trace
    functions. What only C libraries know (their own thread-specific data), and what the system
    keeps by thread (affinity, priority), stays with the OS thread: set ``reuse = False``, on the
    class or on a thread before its start, where that matters.

    Everything else is the standard library's: an exception still goes to
    `threading.excepthook`, `threading.enumerate` lists it, subclasses may override `run`, exit
    waits for those that are not daemons. A target that cannot be called is refused here, not in
    the thread. The system sees the thread's name (its first 15 bytes).

    Args:
        group: None.
        target: what to call.
        name: the thread's name.
        args: the target's arguments.
        kwargs: its keyword arguments.
        daemon: whether exit does not wait for it; None: as the current thread.
        context: the `contextvars.Context` that it runs in, on any version of Python. None: a
            copy of that of `start`'s caller; since 3.14 only if ``sys.flags`` says so
            (``thread_inherit_context``), and else an empty one.

    Raises:
        TypeError: ``target`` is not callable.

    >>> import plait
    >>> thread = plait.Thread(target=sum, args=([1, 2, 3],))
    >>> thread.start()
    >>> thread.result()
    6
    """

    reuse: bool = True
    _claim: object

    def __init__(
        self,
        group: None = None,
        target: Callable[..., object] | None = NO_TARGET,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        daemon: bool | None = None,
        context: contextvars.Context | None = None,
    ) -> None:
        # threading's own kinds call this when `threading.Thread` is this class.
        if not issubclass(type(self), Thread):
            _Base.__init__(self, group, target, name, args, kwargs or {}, daemon=daemon)
            return
        target = check_target(target, needed=type(self).run is Thread.run)
        self._value: object = None
        self._raised: tuple[BaseException, TracebackType | None] | None = None
        self._end: _core.RunEnd | None = None
        super().__init__(group, target, name, args, kwargs, daemon=daemon)
        self._context = context

    def start(self) -> None:
        """Start the thread; once only, as in the standard library."""
        if not self._initialized:  # type: ignore[attr-defined]
            raise RuntimeError("thread.__init__() not called")
        if self._started.is_set():  # type: ignore[attr-defined]
            raise RuntimeError("threads can only be started once")
        # Of several that start it in the same moment one does: without a GIL all may get here.
        claim = object()
        if vars(self).setdefault("_claim", claim) is not claim:
            raise RuntimeError("threads can only be started once")
        try:
            self._start_claimed()
        except BaseException:
            if not self._started.is_set():  # type: ignore[attr-defined]
                del self._claim  # no thread could be had: another start may
            raise

    def _start_claimed(self) -> None:
        if self._context is None:
            inherits = getattr(sys.flags, "thread_inherit_context", True)
            self._context = contextvars.copy_context() if inherits else contextvars.Context()
        if self.reuse and not _exiting and getattr(threading, _START) is _ORIGINAL and _CAN_REUSE:
            self._start_cached()
        else:
            self._start_new()

    def _start_cached(self) -> None:
        cached = _core.CachedThread(threading.stack_size())
        ident = cached.ident
        self._end = cached.end
        if _HANDLE is not None:
            setattr(self, _HANDLE, cached.end)
        self._ident, self._native_id = ident, cached.native_id
        if not self.daemon:
            _awaited_at_exit().add(cached.end)
        with threading._active_limbo_lock:  # type: ignore[attr-defined]
            threading._active[ident] = self  # type: ignore[attr-defined]
        # It is known by now, so start() need not wait until it runs.
        self._started.set()  # type: ignore[attr-defined]
        # The system's name for it may not have lone surrogates.
        cached.run(_serve, self, self.name.encode("utf-8", "replace").decode())

    def _start_new(self) -> None:
        """As the standard library does."""
        run: Any = self.run
        if sys.version_info < (3, 14):  # from then on threading does it
            assert self._context is not None
            run = functools.partial(self._context.run, self.run)

        def run_and_keep() -> None:
            del self.run  # the instance's attribute, below: a second start finds its own
            try:
                value = run()
            except BaseException as error:
                self._raised = (error, error.__traceback__)
                raise  # to threading.excepthook
            if value is not None:  # else what the target returned, if run() called it
                self._value = value

        self.run = run_and_keep  # type: ignore[method-assign]
        try:
            super().start()
        except RuntimeError:  # no thread could be had: another start may
            vars(self).pop("run", None)
            raise

    def run(self) -> Any:
        """Call the target. A subclass's own `run` may return the value for `result`."""
        target: Callable[..., object] | None = self._target  # type: ignore[attr-defined]
        try:
            if target is not None:
                self._value = target(*self._args, **self._kwargs)  # type: ignore[attr-defined]
        finally:
            # As in the standard library: a target's argument may refer to this thread.
            del self._target, self._args, self._kwargs  # type: ignore[attr-defined]
        return self._value

    def is_alive(self) -> bool:
        """Whether it was started and has not ended."""
        if self._end is None:
            return super().is_alive()
        is_done = self._end.is_done()
        if is_done and _HANDLE is None:
            self._is_stopped = True  # for its repr
        return not is_done

    def join(self, timeout: float | None = None) -> None:
        """Wait until the thread has ended, ``timeout`` seconds at most.

        Raises:
            RuntimeError: it was not started, or is the current thread.
            PythonFinalizationError: the interpreter ends, and no other thread goes on: a daemon
                thread that runs never will have ended. (Until 3.12: RuntimeError.)
        """
        end = self._end
        if end is None:
            super().join(timeout)
        elif self is current_thread():
            raise RuntimeError("cannot join current thread")
        elif sys.is_finalizing() and self.is_alive():
            kind = getattr(builtins, "PythonFinalizationError", RuntimeError)
            raise kind(f"cannot join {self.name!r} while the interpreter ends: it is stopped")
        else:
            end.join(timeout)

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the thread and give what its target returned.

        Args:
            timeout: seconds to wait at most; None: as long as it takes.

        Returns:
            The value of the target, or of an overridden `run`.

        Raises:
            BaseException: what the target raised, with its traceback.
            TaskTimeout: the thread is still running after ``timeout``.
            RuntimeError: it was not started, or is the current thread.
        """
        if not (self._initialized and self._started.is_set()):  # type: ignore[attr-defined]
            raise RuntimeError("cannot get the result of a thread before it is started")
        self.join(timeout if timeout is None else max(timeout, 0.0))
        if self.is_alive():
            raise TaskTimeout(f"thread {self.name!r} is still running after {timeout} s")
        if self._raised is not None:
            error, traceback = self._raised
            try:
                raise error.with_traceback(traceback)
            finally:
                del error, traceback  # no cycle through this frame
        return self._value


def _serve(thread: Thread) -> None:
    """What a cached thread calls; see threading.Thread._bootstrap_inner."""
    try:
        if threading._trace_hook:  # type: ignore[attr-defined]
            sys.settrace(threading._trace_hook)  # type: ignore[attr-defined]
        if threading._profile_hook:
            sys.setprofile(threading._profile_hook)
        try:
            value = thread._context.run(thread.run)  # type: ignore[union-attr]
        except BaseException as error:
            thread._raised = (error, error.__traceback__)
            thread._invoke_excepthook(thread)  # type: ignore[attr-defined]
        else:
            if value is not None:  # else what the target returned, if run() called it
                thread._value = value
    finally:
        thread._delete()  # type: ignore[attr-defined]
        _awaited_at_exit().discard(thread._end)


def _join_all() -> None:
    """Since Python 3.13: what threading does next, which knows its own threads only."""
    main = threading.main_thread()
    if main is current_thread():
        getattr(main, str(_HANDLE))._set_done()  # threads may wait for it
    while _running:
        for end in list(_running):
            end.join()
            _running.discard(end)


def _at_exit() -> None:
    """From now on threads start as threading's do."""
    global _exiting
    _exiting = True
    _core.close_threads()


_CAN_REUSE = hasattr(_core, "CachedThread")
if _CAN_REUSE:
    atexit.register(_at_exit)
    if _HANDLE is not None:
        threading._register_atexit(_join_all)  # type: ignore[attr-defined]
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_running.clear)
