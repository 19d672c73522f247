"""The parent's side of one child process, in the shape that multiprocessing wants."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import select
import signal
import sys
import threading
import types
from multiprocessing import context, resource_tracker, util
from multiprocessing import process as mp_process
from typing import TYPE_CHECKING, Any

from . import _byvalue, _core, _zygote
from .errors import TaskTimeout, WorkerDied

if TYPE_CHECKING:
    from ._forward import Forwarder

__all__ = ["Popen"]

# Its exit status is not to be had: someone else has waited for it, or SIGCHLD is ignored.
_UNKNOWN_STATUS = 255


class RemoteTraceback(Exception):
    """The cause of an exception that was raised in another process: its traceback there."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


class Popen:
    """A child of plait's; `multiprocessing.process.BaseProcess` drives it."""

    method = "plait"
    DupFd = _byvalue.DupFd

    def __init__(self, process: mp_process.BaseProcess) -> None:
        util._flush_std_streams()  # type: ignore[attr-defined]
        self.returncode: int | None = None
        self._name = process.name
        self._fds: list[int] = []
        self._opened: list[int] = []  # of _fds, those that are ours to close
        self._forwarders: list[Forwarder] = []
        self._lock = threading.Lock()
        self._outcome: tuple[bytes, list[int]] | None = None
        self._decoded: tuple[str, Any] | None = None
        try:
            self._launch(process)
        finally:
            for fd in self._opened:
                os.close(fd)
            del self._fds, self._opened

    # ---- start ---------------------------------------------------------------------------

    def duplicate_for_child(self, fd: int) -> int:
        self._fds.append(fd)
        return len(self._fds) - 1

    def _pass_on(self, fd: int) -> int:
        """Sends along a descriptor that is closed here afterwards."""
        self._opened.append(fd)
        return self.duplicate_for_child(fd)

    def _launch(self, process: mp_process.BaseProcess) -> None:
        # Everything that can fail by the user's doing comes before the fork, so that an
        # error leaves nothing behind.
        setup = self._setup(process)
        context.set_spawning_popen(self)  # type: ignore[arg-type]
        try:
            setup["process"] = _byvalue.dumps(process, name="process")
        finally:
            context.set_spawning_popen(None)
        self._start_forwarders()
        self.pid, self.sentinel, self._channel, state = _zygote.fork()
        self.finalizer = util.Finalize(self, _close, (self.sentinel, self._channel))
        setup["state"] = _byvalue.dumps(state, name="state")
        # A child that was killed already: is told by join(), as for any other.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            _core.send_frame(self._channel, pickle.dumps(setup), self._fds)
        _zygote.refill()

    def _setup(self, process: mp_process.BaseProcess) -> dict[str, Any]:
        setup: dict[str, Any] = {
            "name": process.name,
            "daemon": process.daemon,
            "authkey": bytes(mp_process.current_process().authkey),
            "start_method": context._default_context.get_start_method(allow_none=True),
            "main": _main_attributes(),
            "log": _log_settings(),
            "tracker": None,
        }
        # Gone or forbidden: then the child stays where the zygote is.
        with contextlib.suppress(OSError):
            setup["cwd"] = self._pass_on(os.open(".", os.O_PATH | os.O_CLOEXEC))
        self._pipes: list[tuple[int, Any]] = []
        setup["stdout"] = self._stream(sys.stdout)
        same = sys.stderr is sys.stdout and setup["stdout"] is not None
        setup["stderr"] = setup["stdout"] if same else self._stream(sys.stderr)
        tracker: Any = resource_tracker._resource_tracker
        if tracker._fd is not None:
            setup["tracker"] = self.duplicate_for_child(tracker._fd)
        entries = _entries.file()
        if entries is not None:
            setup["entries"] = self.duplicate_for_child(entries)
        return setup

    def _stream(self, stream: Any) -> dict[str, Any] | None:
        """How the child gets at one of our output streams."""
        if stream is None:
            return None
        how = {
            "encoding": "utf-8",
            "errors": "backslashreplace",
            "line_buffering": True,
            "write_through": False,
        }
        # Only a text file of the io module is written to by its descriptor: other objects may
        # have one too (Jupyter's has the terminal's), which is not where their text goes.
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(OSError, ValueError):
                how["fd"] = self._pass_on(os.dup(stream.fileno()))
                for name in how.keys() - {"fd"}:
                    how[name] = getattr(stream, name)
                return how
        reader, writer = os.pipe()
        self._pipes.append((reader, stream))
        how["fd"] = self._pass_on(writer)
        return how

    def _start_forwarders(self) -> None:
        if self._pipes:
            from ._forward import Forwarder

            self._forwarders = [Forwarder(fd, stream) for fd, stream in self._pipes]
        del self._pipes

    # ---- end -----------------------------------------------------------------------------

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        if self.returncode is None:
            self.wait(0 if flag & os.WNOHANG else None)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        if self.returncode is None:
            if not _wait_readable([self.sentinel], timeout):
                return None
            with self._lock:
                if self.returncode is None:
                    self._fetch_outcome()
                    self.returncode = self._reap()
            for forwarder in self._forwarders:
                forwarder.drain()
        return self.returncode

    def _reap(self) -> int:
        code = _core.reap(self.sentinel)
        return _UNKNOWN_STATUS if code is None else code

    def _fetch_outcome(self) -> None:
        if self._outcome is None:
            with contextlib.suppress(OSError):
                self._outcome = _core.receive_frame(self._channel, wait=False)

    def result(self, timeout: float | None) -> Any:
        """The target's value, or its exception raised here."""
        if self._decoded is None:
            ready = _wait_readable([self._channel, self.sentinel], timeout)
            if not ready:
                raise TaskTimeout(
                    f"{self._name} (pid {self.pid}) has not ended within {timeout} seconds; "
                    "it goes on running"
                )
            with self._lock:
                self._fetch_outcome()
                if self._outcome is not None:
                    self._decoded = _decode(*self._outcome)
            if self._decoded is None:
                raise self._death()
        kind, value = self._decoded
        if kind == "raised":
            raise value
        return value

    def _death(self) -> WorkerDied:
        code = self.wait()
        assert code is not None
        how = f"was killed by {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
        return WorkerDied(
            f"{self._name} (pid {self.pid}) {how} before its target returned",
            pid=self.pid,
            signal=-code if code < 0 else None,
            exitcode=code,
            task=self._name,
        )

    def _send_signal(self, number: int) -> None:
        if self.returncode is None:
            _core.signal_process(self.sentinel, number)  # never another process's pid

    def interrupt(self) -> None:
        self._send_signal(signal.SIGINT)

    def terminate(self) -> None:
        self._send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self._send_signal(signal.SIGKILL)

    def close(self) -> None:
        self.finalizer()


def _close(sentinel: int, channel: int) -> None:
    os.close(sentinel)
    os.close(channel)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _wait_readable(fds: list[int], timeout: float | None) -> bool:
    """Waits until one of the descriptors is ready; ^C ends the wait."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    # poll() takes whole milliseconds: round up, so as not to wake early and find nothing.
    milliseconds = None if timeout is None else max(0, -int(-timeout * 1000 // 1))
    return bool(poll.poll(milliseconds))


def _decode(frame: bytes, fds: list[int]) -> tuple[str, Any]:
    if fds:
        with open(fds[0], "rb") as file:
            frame = os.pread(file.fileno(), os.fstat(fds[0]).st_size, 0)
    length = int.from_bytes(frame[:8], "little")
    trace, data = frame[8 : 8 + length], memoryview(frame)[8 + length :]
    try:
        kind, value = pickle.loads(data)
    except Exception as error:
        kind, value = "raised", error
    if trace:
        value.__cause__ = RemoteTraceback(trace.decode())
    return kind, value


def _main_attributes() -> dict[str, Any]:
    main = vars(sys.modules["__main__"])
    return {n: main[n] for n in ("__file__", "__doc__") if isinstance(main.get(n), str)}


def _log_settings() -> tuple[int, bool] | None:
    logger = util._logger  # type: ignore[attr-defined]
    return None if logger is None else (logger.getEffectiveLevel(), util._log_to_stderr)  # type: ignore[attr-defined]


class _Entries:
    """What ``__main__`` defines, in a file in memory that all children share."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] | None = None
        self._file: int | None = None  # open for as long as this process lives

    def file(self) -> int | None:
        """The file's descriptor; it is made anew when a definition came, went or changed."""
        namespace = vars(sys.modules["__main__"])
        kinds = (type, types.FunctionType)
        mine = [
            (name, value)
            for name, value in list(namespace.items())
            if isinstance(value, kinds) and value.__module__ in _byvalue.MAIN_NAMES
        ]
        if not mine:
            return None
        # By identity: the values themselves are kept alive by the key.
        if self._key != tuple(mine) or self._file is None:
            if self._file is not None:
                os.close(self._file)
            self._key, self._file = tuple(mine), _core.memfd("plait-main")
            with open(self._file, "wb", closefd=False) as file:
                file.write(pickle.dumps(_byvalue.main_entries(namespace)))
        return self._file


_entries = _Entries()
