"""What a pool's worker process runs. The loop itself is `_core.PoolWorker.serve`."""

from __future__ import annotations

import concurrent.futures
import contextvars
import io
import multiprocessing.process
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from multiprocessing import util
from typing import TYPE_CHECKING, Any, Protocol

from . import _byvalue, _contextvars, _core, _orphan
from ._limits import limited
from .errors import SerializationError, WorkerDied

if TYPE_CHECKING:
    from ._rings import Ends

__all__ = ["Helpers", "begin", "main", "rehearse"]


class Link(Protocol):
    """A worker's end of a pool, whatever it is made of."""

    def ready(self) -> None: ...
    def broken(self, reason: str) -> None: ...
    def output(self, stderr: bool, text: bytes) -> None: ...
    def holds_output(self) -> None: ...  # `Helpers.flush` is due before the next result


def main(
    ends: Ends,
    key: int,
    initializer: Callable[..., object] | None,
    initargs: tuple[Any, ...],
) -> None:
    """A worker, from its start to its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what ^C means
    parent = multiprocessing.process.parent_process()
    if parent is not None and parent.sentinel is not None:
        try:
            _orphan.end_with(parent.sentinel)
        except BlockingIOError as error:  # no thread can be started, which says nothing of others
            print(f"plait: a pool's worker cannot start: {error}", file=sys.stderr)
            sys.exit(os.EX_TEMPFAIL)
    file, board, bell = ends.take()
    core = _core.PoolWorker(key, file, board, bell, Helpers())
    if begin(core, initializer, initargs):
        core.serve()


def begin(link: Link, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]) -> bool:
    """What every worker does before its first task. False: the initializer has failed."""
    _redirect(link)
    if initializer is not None:
        try:
            initializer(*initargs)
        except BaseException as error:
            log = concurrent.futures._base.LOGGER
            log.critical("Exception in initializer:", exc_info=True)
            what = f"{type(error).__name__}: {error}"
            text = f"the initializer {initializer!r} of a worker failed: {what}"
            # Last of all: who sees that the pool is broken finds the log in its queue.
            util.Finalize(None, link.broken, (text,), exitpriority=-100)
            return False
    link.ready()
    return True


# ---- output ------------------------------------------------------------------------------------


# The longest part of a line that is held: bytes.
_LINE_MAX = 8192


class _Output(io.RawIOBase):
    """A stream whose text goes to where the parent's goes, by lines: print() writes a line in
    two parts, and another worker's must not come between them."""

    def __init__(self, link: Link, fd: int) -> None:
        self._link = link
        self._fd = fd
        self._held = b""
        self._lock = threading.RLock()  # a task's threads may print; so may a signal handler

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd  # for subprocesses: where the parent's went when this one started

    def isatty(self) -> bool:
        return False

    def write(self, data: Any) -> int:
        data = bytes(data)
        with self._lock:
            self._held += data
            if data.endswith(b"\n") or len(self._held) > _LINE_MAX:
                self.flush()
            else:
                _holding.append(self)
                self._link.holds_output()
        return len(data)

    def flush(self) -> None:
        with self._lock:
            held, self._held = self._held, b""
            if held:
                self._link.output(self._fd == 2, held)


_holding: list[_Output] = []


_before: tuple[Any, Any] | None = None


def _redirect(link: Link) -> None:
    global _before
    _before = sys.stdout, sys.stderr
    for name, fd in (("stdout", 1), ("stderr", 2)):
        errors = "strict" if fd == 1 else "backslashreplace"
        raw: Any = _Output(link, fd)
        stream = io.TextIOWrapper(
            raw,
            encoding="utf-8",
            errors=errors,
            write_through=True,
        )
        setattr(sys, name, stream)


def _restore() -> None:
    global _before
    if _before is not None:
        (sys.stdout, sys.stderr), _before = _before, None


# A process that a task forks is no worker of the pool.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_restore)


def rehearse(play: Callable[[], None]) -> None:
    """Has `play` run this module's `main`, and undoes what that does to the process."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        play()
    finally:
        _restore()
        _orphan.forget()
        signal.signal(signal.SIGINT, handler)


# ---- called by the loop ------------------------------------------------------------------------


class Helpers:
    """What `_core.PoolWorker` leaves to Python."""

    def flush(self) -> None:
        """Sends what is held of a line: a result comes after what its task has printed."""
        while _holding:
            _holding.pop().flush()

    def context(self, variables: Any) -> contextvars.Context:
        return _contextvars.unpack(variables)

    def call(
        self,
        context: contextvars.Context | None,
        memory: int,
        function: Callable[..., object],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> object:
        """Calls a task's function in a context of its own, or with a limit of memory."""
        with limited(memory):
            if context is None:
                return function(*args, **kwargs)
            return context.copy().run(function, *args, **kwargs)

    def forked(self, error: BaseException | None) -> None:
        """Ends a copy of the worker, which a task has forked and which returns from it: the
        task's result is the original's to send."""
        code = 0
        if isinstance(error, SystemExit):
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
        elif error is not None:
            traceback.print_exception(error)
            code = 1
        util._flush_std_streams()  # type: ignore[attr-defined]
        os._exit(code)

    def failure(self, error: BaseException, memory: int) -> tuple[bytes, str]:
        """The pickle of a task's exception, and its traceback as text."""
        trace = "".join(traceback.format_exception(error))
        if isinstance(error, SystemExit):
            error = _exited(error)
        elif isinstance(error, MemoryError) and memory and not error.args:
            error = MemoryError(f"the task needed more memory than its limit of {memory} bytes")
        try:
            data = _byvalue.dumps(error, name="exception", to_sender=True)
            pickle.loads(data)  # some exceptions pickle but fail to unpickle
        except Exception as failure:
            text = (
                f"{type(error).__name__} was raised, but could not be sent back: "
                f"{type(failure).__name__}: {failure}"
            )
            path = getattr(failure, "path", None) or "exception"
            data = pickle.dumps(SerializationError(text, path=path))
        return data, trace


def _exited(error: SystemExit) -> WorkerDied:
    """For a task that called sys.exit(): the worker goes on, but there is no result."""
    inside = error.__traceback__
    name = "task" if inside is None else f"task {inside.tb_frame.f_code.co_name}()"
    code = error.code if isinstance(error.code, int) else int(error.code is not None)
    return WorkerDied(
        f"{name} called sys.exit({error.code!r}) in worker process {os.getpid()}",
        pid=os.getpid(),
        exitcode=code,
        task=name,
    )
