"""Threads that hand back their target's value."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from threading import current_thread
from types import TracebackType
from typing import Any

from ._callables import NO_TARGET, check_target
from .errors import TaskTimeout

__all__ = ["Thread", "current_thread"]


class Thread(threading.Thread):
    """A `threading.Thread` with `result`: the target's value, or its exception.

    Everything else is the standard library's: an exception still goes to
    `threading.excepthook`, `threading.enumerate` lists it, subclasses may override `run`.
    A target that cannot be called is refused here, not in the thread.

    Args:
        group: None.
        target: what to call.
        name: the thread's name.
        args: the target's arguments.
        kwargs: its keyword arguments.
        daemon: whether exit does not wait for it; None: as the current thread.
        **options: what later Pythons add, such as ``context`` (3.14).

    Raises:
        TypeError: ``target`` is not callable.

    >>> import plait
    >>> thread = plait.Thread(target=sum, args=([1, 2, 3],))
    >>> thread.start()
    >>> thread.result()
    6
    """

    def __init__(
        self,
        group: None = None,
        target: Callable[..., object] | None = NO_TARGET,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        daemon: bool | None = None,
        **options: Any,
    ) -> None:
        target = check_target(target, needed=type(self).run is Thread.run)
        self._value: object = None
        self._raised: tuple[BaseException, TracebackType | None] | None = None
        super().__init__(group, target, name, args, kwargs, daemon=daemon, **options)

    def start(self) -> None:
        """Start the thread; once only, as in the standard library."""
        run = self.run

        def run_and_keep() -> None:
            del self.run  # the instance's attribute, below: a second start finds its own
            try:
                value = run()
            except BaseException as error:
                self._raised = (error, error.__traceback__)
                raise  # to threading.excepthook
            if value is not None:  # else what the target returned, if run() called it
                self._value = value

        if self._initialized and not self._started.is_set():  # type: ignore[attr-defined]
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
