"""Processes where there is no zygote (Windows, macOS): spawned, with the same public behaviour.

The child is started by the standard library's own spawn Popen. What it is handed in place of
the user's process object brings all that `plait._child` brings: the target by value, the main
module as definitions instead of a second run, the interpreter's state, the output streams. A
thread of the parent takes in what the child reports, so that no child waits for its parent to
ask, and it alone touches these connections: Windows wants it so.

What differs from the zygote's children: they take an interpreter's start, some 50 ms; output
below `sys.stdout` goes where the parent's descriptor goes; a daemonic child may outlive a
parent that was killed, if a process that the parent forked is still there.
"""

from __future__ import annotations

import codecs
import contextlib
import contextvars
import importlib
import io
import os
import pickle
import sys
import threading
import time
from multiprocessing import connection, context, spawn, util
from multiprocessing import process as mp_process

from . import _byvalue, _mainmodule, _outcome, _state
from . import process as _process

TYPE_CHECKING = False  # typing is slow to import, and a child waits for it
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Popen"]

_stdlib: Any = importlib.import_module(
    "multiprocessing.popen_spawn_" + ("win32" if os.name == "nt" else "posix")
)

# How long join() takes in what is in the pipes of a child that has ended: a process that the
# child left behind may write on and on, or half a message be the last that came.
_LAST_WORDS_S = 1.0
# A child's pipes end in the moment that it does.
_MOMENT_S = 0.05

# A signal that arrives just before a wait begins does not end it: so look up now and then.
_LOOK_UP_S = 0.5


# ---- in the parent -----------------------------------------------------------------------


class _Name(str):
    """A process's name that brings along what the standard library is to tell the child: with
    its own choice, the child would run the main module again."""

    data: dict[str, Any]


_standard: Any = spawn.get_preparation_data


def _preparation_data(name: str) -> Any:
    return name.data if isinstance(name, _Name) else _standard(name)


spawn.get_preparation_data = _preparation_data


class _Payload:
    """What the standard library pickles in place of the process object."""

    def __init__(self, process: mp_process.BaseProcess, setup: dict[str, Any]) -> None:
        self._process = process
        self._setup = setup
        self._name = _Name(process.name)
        self._name.data = {
            "name": process.name,
            "authkey": mp_process.current_process().authkey,
            "sys_path": list(sys.path),  # it has to find plait
            "log_to_stderr": util._log_to_stderr,  # type: ignore[attr-defined]
        }
        if util._logger is not None:  # type: ignore[attr-defined]
            self._name.data["log_level"] = util._logger.getEffectiveLevel()  # type: ignore[attr-defined]
        self.error: Exception | None = None

    def __reduce__(self) -> Any:
        # Descriptors and handles can be passed on only now. On Windows the child runs by now:
        # so an error waits until the start has ended, and the child is told to end.
        try:
            pickled = _byvalue.dumps(self._process, name="process")
        except Exception as error:
            self.error, pickled = error, b""
        return _Arrived, (pickled, self._setup)


class _Output:
    """What a child writes to one of its streams, on the way to ours."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def take(self, data: bytes) -> None:
        try:
            self._stream.write(self._decoder.decode(data))
            self._stream.flush()
        except Exception:
            # Closed since, or broken: the child must not be held up by it.
            self._stream = io.StringIO()


class _Pipes:
    """The connections that a child writes to, and what takes its messages."""

    def __init__(self) -> None:
        self._writers: list[Any] = []
        self.takers: dict[Any, Callable[[bytes], None]] = {}

    def open(self, take: Callable[[bytes], None]) -> Any:
        """Gives the child's end."""
        reader, writer = connection.Pipe(duplex=False)
        self._writers.append(writer)
        self.takers[reader] = take
        return writer

    def stream(self, stream: Any, fd: int) -> dict[str, Any] | None:
        """How the child gets at one of our output streams: it has our descriptors 1 and 2."""
        if stream is None:
            return None
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(OSError, ValueError):
                if stream.fileno() == fd:
                    names = ("encoding", "errors", "line_buffering", "write_through")
                    return {name: getattr(stream, name) for name in names}
        return {"connection": self.open(_Output(stream).take)}

    def close_writers(self) -> None:
        while self._writers:
            self._writers.pop().close()

    def close(self) -> None:
        for reader in self.takers:
            reader.close()


class Popen(_stdlib.Popen):  # type: ignore[misc]
    """A spawned child of plait's; `multiprocessing.process.BaseProcess` drives it."""

    def __init__(self, process: mp_process.BaseProcess) -> None:
        if not spawn.get_executable():  # as in a program with Python inside
            raise RuntimeError(
                "cannot start an interpreter: sys.executable tells of none; "
                "multiprocessing.set_executable() tells which one to use"
            )
        util._flush_std_streams()  # type: ignore[attr-defined]
        self._process_name = process.name
        self._owner = os.getpid()
        self._lock = threading.RLock()  # a signal handler may ask while it is taken
        self._frame: bytes | None = None
        self._decoded: tuple[str, Any] | None = None
        # Set when the outcome is here or won't come; when the child has ended and its last words
        # are here too.
        self._settled = threading.Event()
        self._drained = threading.Event()
        self.returncode: int | None = None
        pipes = _Pipes()
        try:
            payload = _Payload(process, self._setup(process, pipes))
            super().__init__(payload)
        except BaseException:
            pipes.close()
            raise
        finally:
            pipes.close_writers()
        self._watch(pipes)
        if payload.error is not None:
            self.wait()
            self.close()
            raise payload.error

    def _setup(self, process: mp_process.BaseProcess, pipes: _Pipes) -> dict[str, Any]:
        stdout = pipes.stream(sys.stdout, 1)
        same = sys.stderr is sys.stdout and stdout is not None and "connection" in stdout
        return {
            "daemon": process.daemon,
            "report": pipes.open(self._take_outcome),
            "stdout": stdout,
            "stderr": stdout if same else pipes.stream(sys.stderr, 2),
            "state": _byvalue.dumps(_state.of_interpreter(), name="state"),
            "main": _mainmodule.attributes(),
            "definitions": _definitions.kept(),
            "start_method": context._default_context.get_start_method(allow_none=True),
        }

    def _take_outcome(self, frame: bytes) -> None:
        self._frame = frame
        self._settled.set()

    def _watch(self, pipes: _Pipes) -> None:
        # The context tells Jupyter which cell the output belongs to.
        run = contextvars.copy_context().run
        arguments = (self._follow, pipes.takers)
        try:
            threading.Thread(target=run, args=arguments, name="plait-spawned", daemon=True).start()
        except BaseException:
            pipes.close()
            self._drained.set()
            self.abandon()
            raise

    def keep(self) -> None:
        """It was started."""

    def abandon(self) -> None:
        """Ends a child that is not to be kept."""
        self.kill()
        self._drained.wait(2 * _LAST_WORDS_S)  # until then a thread looks at what is closed here
        self._reap(block=True)
        self.close()

    def _follow(self, takers: dict[Any, Callable[[bytes], None]]) -> None:
        """Takes what the child says, until it has ended and nobody else can say anything."""
        ended = False
        while takers or not ended:
            ready: list[Any] = connection.wait([*takers] if ended else [*takers, self.sentinel])
            if self.sentinel not in ready:
                _take(ready, takers)
                continue
            ended = True
            deadline = time.monotonic() + _LAST_WORDS_S
            while takers and time.monotonic() < deadline:
                last = connection.wait([*takers], _MOMENT_S)
                if not last:
                    break  # a process that the child left behind holds them open
                _take(last, takers)
            self._settled.set()
            self._drained.set()

    def poll(self, flag: int = 0) -> int | None:
        return self.wait(0)

    def wait(self, timeout: float | None = None) -> int | None:
        # A forked copy of the parent has this object too, and must not wait for its child.
        if self.returncode is None and self._owner == os.getpid():
            deadline = None if timeout is None else time.monotonic() + timeout
            if not connection.wait([self.sentinel], timeout):
                return None
            self._drained.wait(2 * _LAST_WORDS_S)
            self._reap(block=deadline is None)
            # The sentinel of a child that has closed all it had tells nothing.
            while self.returncode is None and deadline and time.monotonic() < deadline:
                time.sleep(0.001)
                self._reap(block=False)
        code: int | None = self.returncode
        return code

    def _reap(self, *, block: bool) -> None:
        with self._lock:
            if os.name == "nt":
                super().wait(None if block else 0)
            elif self.returncode is None:
                try:
                    pid, status = os.waitpid(self.pid, 0 if block else os.WNOHANG)
                except ChildProcessError:
                    self.returncode = _outcome.UNKNOWN_STATUS
                else:
                    self.returncode = os.waitstatus_to_exitcode(status) if pid else None

    def result(self, timeout: float | None) -> Any:
        """The target's value, or its exception raised here."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._settled.wait(
            _LOOK_UP_S if deadline is None else min(_LOOK_UP_S, max(0, deadline - time.monotonic()))
        ):
            if deadline is not None and time.monotonic() >= deadline:
                raise _outcome.late(self._process_name, self.pid, timeout)
        with self._lock:
            if self._frame is not None and self._decoded is None:
                self._decoded = _outcome.decode(self._frame)
                self._frame = b""
        if self._decoded is None:
            code = self.wait(None if deadline is None else max(0, deadline - time.monotonic()))
            if code is None:
                raise _outcome.late(self._process_name, self.pid, timeout)
            raise _outcome.died(self._process_name, self.pid, code)
        kind, value = self._decoded
        if kind == "raised":
            raise value.with_traceback(None)  # not that of an earlier call too
        return value


def _take(ready: list[Any], takers: dict[Any, Callable[[bytes], None]]) -> None:
    for reader in ready:
        try:
            takers[reader](reader.recv_bytes())
        except (EOFError, OSError):
            del takers[reader]
            reader.close()


_definitions = _mainmodule.Definitions(lambda pickled, old: pickled)


# ---- in the child ------------------------------------------------------------------------


class _Arrived:
    """In the child: what the standard library takes for the process object."""

    def __init__(self, pickled: bytes, setup: dict[str, Any]) -> None:
        self._pickled = pickled
        self._setup = setup

    def _bootstrap(self, parent_sentinel: Any) -> int:
        if not self._pickled:
            return 0  # it could not be sent, and the parent knows
        setup = self._setup
        try:
            if setup["daemon"]:
                threading.Thread(
                    target=_end_with_parent,
                    args=(parent_sentinel,),
                    name="plait-orphan",
                    daemon=True,
                ).start()
            _set_stream("stdout", setup["stdout"])
            _set_stream("stderr", setup["stderr"])
            _state.apply(pickle.loads(setup["state"]))
            definitions = setup["definitions"]
            _mainmodule.become(setup["main"], definitions and (lambda: definitions))
            process = _process.become_child(setup["start_method"], self._pickled)
        except BaseException as error:
            # As after start-up: the traceback on stderr, and the error for result().
            import traceback

            traceback.print_exc()
            self._report("raised", error)
            return 1
        return int(process._run_in_child(self._report, parent_sentinel))

    def _report(self, kind: str, value: object) -> None:
        frame = _outcome.encode(kind, value)
        with contextlib.suppress(OSError):  # the parent may be gone
            self._setup["report"].send_bytes(frame)


def _end_with_parent(sentinel: Any) -> None:
    connection.wait([sentinel])
    os._exit(1)


class _ToParent(io.RawIOBase):
    """A binary stream to an `_Output`."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._writer.send_bytes(data)
        return len(data)


def _set_stream(name: str, how: dict[str, Any] | None) -> None:
    if how is None:
        setattr(sys, name, None)
    elif "connection" not in how:
        getattr(sys, name).reconfigure(**how)
    else:
        stream = io.TextIOWrapper(
            io.BufferedWriter(_ToParent(how["connection"])),
            encoding="utf-8",
            errors="backslashreplace",
            line_buffering=True,
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
