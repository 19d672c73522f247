"""What a process pool says: exceptions for tasks that have no result, and workers' output.

`_core.ProcessPool` calls these by name.
"""

from __future__ import annotations

import contextlib
import pickle
import reprlib
import signal
import sys
from concurrent.futures import CancelledError
from concurrent.futures.process import BrokenProcessPool, _RemoteTraceback
from typing import Any

from .errors import SerializationError, TaskTimeout, WorkerDied

__all__ = ["exception", "lost", "output", "refusal", "undecodable"]

# Set when the interpreter's exit begins.
is_exiting = False


def refusal(kind: str, text: str | None) -> Exception:
    """Why the pool takes no task, or has none any more."""
    if kind == "broken":
        return BrokenProcessPool(text)
    if kind == "cancelled":
        return CancelledError()
    after = "interpreter shutdown" if is_exiting else "shutdown"
    return RuntimeError(f"cannot schedule new futures after {after}")


def exception(data: bytes, trace: str) -> BaseException:
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
    cause: Any = _RemoteTraceback(f'\n"""\n{trace}"""')  # type: ignore[arg-type]
    BaseException.__setattr__(error, "__cause__", cause)
    return error


def undecodable(error: BaseException) -> BaseException:
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
        return refusal(kind, text)
    task = _describe(name, arguments)
    if kind == "unstarted":
        return WorkerDied(f"no worker process could be started for task {task}: {text}", task=task)
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


def output(is_stderr: bool, data: bytes) -> None:
    """Text that a worker printed, to where ours goes now."""
    stream = sys.stderr if is_stderr else sys.stdout
    # Closed, or gone: as for a print() of our own, but nobody is there to be told.
    with contextlib.suppress(AttributeError, ValueError, OSError):
        stream.write(data.decode("utf-8", "replace"))
        stream.flush()


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
