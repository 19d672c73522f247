"""The parent's side of one child process, in the shape that multiprocessing wants."""

from __future__ import annotations

import contextlib
import io
import marshal
import os
import pickle
import select
import signal
import sys
import threading
import time
from multiprocessing import context, resource_tracker, util
from multiprocessing import process as mp_process

from . import _byvalue, _core, _mainmodule, _outcome, _state, _zygote
from .process import Process

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

    from ._forward import Forwarder

__all__ = ["Popen"]

# Encoding, errors, line_buffering, write_through.
_Stream = tuple[str, "str | None", bool, bool]

_NOT_FOR_CHILDREN = ("identity", "warnoptions", "directory", "preload", "learn", "pools")


class Popen:
    """A child of plait's; `multiprocessing.process.BaseProcess` drives it."""

    method = "plait"
    DupFd = _byvalue.DupFd

    def __init__(self, process: mp_process.BaseProcess) -> None:
        util._flush_std_streams()  # type: ignore[attr-defined]
        self.returncode: int | None = None
        self._owner = os.getpid()
        self._name = process.name
        self._fds: list[int] = []
        self._opened: list[int] = []  # of _fds, those that are ours to close
        self._forwarders: list[Forwarder] = []
        # ^C at the worst moment leaves a lock taken: then at least its thread goes on.
        self._lock = threading.RLock()
        self._outcome: bytes | None = None
        self._large: list[io.FileIO] = []  # holds the outcome, if it's large
        self._decoded: tuple[str, Any] | None = None
        self._pipes: list[tuple[int, Any]] = []
        try:
            self._launch(process)
        finally:
            for fd in self._opened + [reader for reader, _ in self._pipes]:
                os.close(fd)
            del self._fds, self._opened, self._pipes

    # ---- start ---------------------------------------------------------------------------

    def duplicate_for_child(self, fd: int) -> int:
        self._fds.append(fd)
        return len(self._fds) - 1

    def _pass_on(self, fd: int) -> int:
        """Sends along a descriptor that is closed here afterwards."""
        self._opened.append(fd)
        return self.duplicate_for_child(fd)

    def _launch(self, process: mp_process.BaseProcess) -> None:
        _zygote.ring()  # by the time that all is ready, it will be awake
        # Everything that can fail by the user's doing comes before the child runs, so that an
        # error leaves nothing behind.
        state = _state.of_process()
        state["main"] = _mainmodule.attributes()
        state["log"] = _log_settings()
        state["start_method"] = context._default_context.get_start_method(allow_none=True)
        state["authkey"] = bytes(mp_process.current_process().authkey)
        err: int | None
        state["stdout"], out = self._stream(sys.stdout)
        if sys.stderr is sys.stdout and out is not None:
            state["stderr"], err = state["stdout"], out
        else:
            state["stderr"], err = self._stream(sys.stderr)
        tracker: Any = resource_tracker._resource_tracker
        shared = [
            None if shared_fd is None else self.duplicate_for_child(shared_fd)
            for shared_fd in (tracker._fd, _definitions.kept())
        ]
        context.set_spawning_popen(self)  # type: ignore[arg-type]
        try:
            body = _pickled(process)
        finally:
            context.set_spawning_popen(None)
        self._start_forwarders()
        directory: int | None = None

        def head(lacking: _state.State) -> bytes:
            nonlocal directory
            if "directory" in lacking and directory is None:
                opened = _state.open_directory()
                directory = None if opened is None else self._pass_on(opened)
            # These are told to the zygote alone, or have just been dealt with.
            lacking = {n: v for n, v in lacking.items() if n not in _NOT_FOR_CHILDREN}
            rest = _byvalue.dumps(_state.sendable(lacking), name="state") if lacking else b""
            fields = (process.name, process.daemon, os.getpgrp(), out, err, *shared, directory)
            data = marshal.dumps((*fields, rest))
            return len(data).to_bytes(4, "little") + data

        child = _zygote.launch(state, head, body, self._fds)
        self.pid, self.sentinel, self._channel = child.pid, child.sentinel, child.channel
        self.finalizer = util.Finalize(self, _close, (child, self._large))
        # Until then it ends with this object, as when ^C comes.
        self.keep = child.release
        if not isinstance(process, Process):
            self.keep()  # as its start() does not
        _zygote.refill(only_if_out=True)

    def _stream(self, stream: Any) -> tuple[_Stream | None, int | None]:
        """How the child writes to one of our output streams, and to which descriptor."""
        if stream is None:
            return None, None
        # Only a text file of the io module is written to by its descriptor: other objects may
        # have one too (Jupyter's has the terminal's), which is not where their text goes.
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(OSError, ValueError):
                fd = stream.fileno()
                os.get_inheritable(fd)  # it may be closed
                how = stream.encoding, stream.errors, stream.line_buffering, stream.write_through
                return how, self.duplicate_for_child(fd)
        reader, writer = os.pipe()
        self._pipes.append((reader, stream))
        return ("utf-8", "backslashreplace", True, False), self._pass_on(writer)

    def _start_forwarders(self) -> None:
        if self._pipes:
            from ._forward import Forwarder

            while self._pipes:
                self._forwarders.append(Forwarder(*self._pipes[0]))
                del self._pipes[0]

    # ---- end -----------------------------------------------------------------------------

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        if self.returncode is None:
            self.wait(0 if flag & os.WNOHANG else None)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        # A forked copy of the parent has this object too, and must not take the outcome.
        if self.returncode is None and self._owner == os.getpid():
            if timeout is None or timeout > 0:
                _zygote.refill()  # while we wait
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
        return _outcome.UNKNOWN_STATUS if code is None else code

    def _fetch_outcome(self) -> None:
        if self._outcome is None:
            with contextlib.suppress(OSError):
                frame = _core.receive_frame(self._channel, wait=False)
                if frame is not None:
                    self._outcome, fds = frame
                    self._large += map(io.FileIO, fds)

    def result(self, timeout: float | None) -> Any:
        """The target's value, or its exception raised here."""
        if self._decoded is None:
            deadline = None if timeout is None else time.monotonic() + timeout
            _zygote.refill()  # while we wait
            if not _wait_readable([self._channel, self.sentinel], timeout):
                raise _outcome.late(self._name, self.pid, timeout)
            with self._lock:
                self._fetch_outcome()
                if self._large:
                    with self._large.pop() as file:
                        file.seek(0)  # which it shares with the child that wrote it
                        self._outcome = file.readall()
                if self._outcome is not None and self._decoded is None:
                    self._decoded = _outcome.decode(self._outcome)
                    self._outcome = b""
            if self._decoded is None:
                # The channel has ended, which the child itself may not have.
                left = None if deadline is None else deadline - time.monotonic()
                code = self.wait(left)
                if code is None:
                    raise _outcome.late(self._name, self.pid, timeout)
                raise _outcome.died(self._name, self.pid, code)
        kind, value = self._decoded
        if kind == "raised":
            raise value.with_traceback(None)  # not that of an earlier call too
        return value

    def _send_signal(self, number: int) -> None:
        if self.returncode is None and self._owner == os.getpid():
            _core.signal_process(self.sentinel, number)  # never another process's pid

    def interrupt(self) -> None:
        self._send_signal(signal.SIGINT)

    def terminate(self) -> None:
        self._send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self._send_signal(signal.SIGKILL)

    def close(self) -> None:
        self.finalizer()

    def abandon(self) -> None:
        """Ends a child that is not to be kept."""
        self.close()


def _pickled(process: mp_process.BaseProcess) -> bytes:
    packed = process._packed() if isinstance(process, Process) else None
    if packed is not None:
        with contextlib.suppress(pickle.PicklingError):  # it is to name process.args
            return _byvalue.dumps(packed, name="process")
    return _byvalue.dumps(process, name="process")


def _close(child: _core.Child, files: list[io.FileIO]) -> None:
    child.close()
    for file in files:
        file.close()


def _wait_readable(fds: list[int], timeout: float | None) -> bool:
    """Waits until one of the descriptors is ready; ^C ends the wait."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    # poll() takes whole milliseconds: round up, so as not to wake early and find nothing.
    # More than it can count is for ever.
    milliseconds = None
    if timeout is not None and timeout < 2_000_000:
        milliseconds = max(0, -int(-timeout * 1000 // 1))
    return bool(poll.poll(milliseconds))


def _log_settings() -> tuple[int, bool] | None:
    logger = util._logger  # type: ignore[attr-defined]
    return None if logger is None else (logger.getEffectiveLevel(), util._log_to_stderr)  # type: ignore[attr-defined]


def _in_memory(pickled: bytes, old: int | None) -> int:
    """Keeps the definitions of ``__main__`` in a file in memory that all children share; it is
    open for as long as this process lives."""
    if old is not None:
        os.close(old)
    fd = _core.memfd("plait-main")
    with open(fd, "wb", closefd=False) as file:
        file.write(pickled)
    return fd


_definitions = _mainmodule.Definitions(_in_memory)
