"""What a process's target returned or raised, as bytes, and what is said of one that died."""

from __future__ import annotations

import pickle
import signal

from . import _byvalue

TYPE_CHECKING = False  # typing is slow to import, and a child waits for it
if TYPE_CHECKING:
    from typing import Any

    from .errors import TaskTimeout, WorkerDied

__all__ = ["UNKNOWN_STATUS", "RemoteTraceback", "decode", "died", "encode", "late"]


# Its exit status is not to be had: someone else has waited for it, or SIGCHLD is ignored.
UNKNOWN_STATUS = 255

# Values for which pickle needs no help of ours.
_SIMPLE = {type(None), bool, int, float, str, bytes}


class RemoteTraceback(Exception):
    """The cause of an exception that was raised in another process: its traceback there."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


def encode(kind: str, value: object) -> bytes:
    """In the child: the target's value (kind ``returned``) or its exception (``raised``). What
    cannot be pickled becomes the SerializationError that says so."""
    try:
        if type(value) in _SIMPLE:
            data = pickle.dumps((kind, value))
        else:
            data = _byvalue.dumps((kind, value), name="result", to_sender=True)
        if kind == "raised":
            pickle.loads(data)  # some exceptions pickle but fail to unpickle
    except Exception as error:
        from .errors import SerializationError

        path = (getattr(error, "path", None) or "result").replace("result[1]", "result")
        text = str(error).replace("result[1]", "result")
        if kind == "raised":
            text = f"{type(value).__name__} was raised, but could not be sent back: {text}"
        data = _byvalue.dumps(("raised", SerializationError(text, path=path)))
    trace = b""
    if kind == "raised" and isinstance(value, BaseException):
        import traceback

        trace = "".join(traceback.format_exception(value)).encode(errors="backslashreplace")
    return len(trace).to_bytes(8, "little") + trace + data


def decode(frame: bytes) -> tuple[str, Any]:
    """In the parent: the kind, and the value or exception."""
    length = int.from_bytes(frame[:8], "little")
    trace, data = frame[8 : 8 + length], memoryview(frame)[8 + length :]
    try:
        kind, value = pickle.loads(data)
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        text = f"the result arrived, but could not be unpickled ({what}); see its __reduce__"
        from .errors import SerializationError

        kind, value = "raised", SerializationError(text, path="result")
        value.__cause__ = error
    if trace:
        # Not by assignment, which an exception that is a frozen dataclass refuses.
        BaseException.__setattr__(value, "__cause__", RemoteTraceback(trace.decode()))
    return kind, value


def late(name: str, pid: int, timeout: float | None) -> TaskTimeout:
    """For a process that has not ended within `timeout` seconds."""
    from .errors import TaskTimeout

    return TaskTimeout(
        f"{name} (pid {pid}) has not ended within {timeout} seconds; it goes on running"
    )


def died(name: str, pid: int, code: int) -> WorkerDied:
    """For a process that ended, with this exit code, without an outcome."""
    from .errors import WorkerDied

    how = f"was killed by {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
    return WorkerDied(
        f"{name} (pid {pid}) {how} before its target returned",
        pid=pid,
        signal=-code if code < 0 else None,
        exitcode=code,
        task=name,
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
