"""What runs in the children that the zygote forks: each becomes a `multiprocessing` process."""

from __future__ import annotations

import atexit
import contextlib
import functools
import io
import marshal
import multiprocessing.process
import multiprocessing.util
import os
import pickle
import sys
import threading

from . import _byvalue, _core, _mainmodule, _orphan, _outcome, _state
from . import process as _process
from ._learning import learning

TYPE_CHECKING = False  # typing is slow to import, and a child waits for it
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

__all__ = [
    "apply",
    "live",
    "note_atexits",
    "parent_or_exit",
    "run",
    "send_outcome",
    "shut_down_quickly",
]

_util: Any = multiprocessing.util
_threading: Any = threading

# A result up to this size goes through the channel's own buffer, so that the child need not
# wait for its parent to read it; a larger one goes in a file in memory.
_INLINE = 64 * 1024


def _print_exception() -> None:
    import traceback

    traceback.print_exc()


def parent_or_exit(parent: int) -> int:
    try:
        return _core.parent_pidfd(parent)
    except ProcessLookupError:  # it has died, and nobody waits for us
        os._exit(0)


def live(channel: int, patience: int | None, parent: int, skim: Callable[[], None]) -> NoReturn:
    code = 1
    # As multiprocessing's own children: what the zygote registered is not theirs to run.
    atexit._clear()
    atexit.register(_util._exit_function)
    try:
        sentinel = parent_or_exit(parent)
        if patience is not None:
            _core.send_hello(channel, os.getpid())  # ready
        may_spin = len(os.sched_getaffinity(0)) > 1
        told: Any = _core.await_frame(channel, sentinel, patience, False)
        while told is True:
            if may_spin:  # else its parent needs the processor
                skim()
            told = _core.await_frame(channel, sentinel, patience, may_spin)
        if told is False:
            os._exit(0)
        code = run(channel, sentinel, *told)
        learning.tell()
    except BaseException:
        _print_exception()
    finally:
        atexit._run_exitfuncs()
        _util._flush_std_streams()
        os._exit(code & 0xFF)  # all that the system keeps; _exit() refuses what is no C int


def run(
    channel: int, sentinel: Any, payload: bytes, fds: list[int], rehearsal: bool = False
) -> int:
    data = memoryview(payload)
    size = 4 + int.from_bytes(data[:4], "little")
    name, daemon, group, out, err, tracker, entries, directory, state = marshal.loads(data[4:size])
    if directory is not None:
        os.fchdir(fds[directory])
        os.close(fds[directory])
    if group and os.getpgrp() != group:
        # The group may have ended since, if its leader left it: then stay in ours.
        with contextlib.suppress(OSError):
            os.setpgid(0, group)
    try:
        if state:
            apply(pickle.loads(state))
        _set_streams(out, err, fds)
        if daemon:
            _orphan.end_with(sentinel)
        if not rehearsal:
            learning.begin()
            _core.unblock(_attributes)
            if "PLAIT_TRACE" in os.environ:  # see _tracing.FOLDER
                from ._tracing import begin_child

                begin_child()
        process = _load_process(name, tracker, entries, data[size:], fds)
    except BaseException as error:
        # As after start-up: the traceback on stderr, and the error for result(). (Of ^C, which
        # its parent gets too, nothing is to be told: none of the user's code has begun.)
        if not isinstance(error, KeyboardInterrupt):
            _print_exception()
        send_outcome(channel, "raised", error)
        return 1
    return int(process._run_in_child(functools.partial(send_outcome, channel), sentinel))


_attributes = b""
_start_method: str | None = None


def apply(state: dict[str, Any]) -> None:
    """Puts a state in force, in the zygote for all later children, or in a child."""
    global _attributes, _start_method
    _state.apply(state)
    _attributes = state.get("attributes", _attributes)
    if "stdout" in state:
        _output["stdout"] = state["stdout"]
    if "stderr" in state:
        _output["stderr"] = state["stderr"]
    if "main" in state:
        _mainmodule.become(state["main"], None)
    if "authkey" in state:
        multiprocessing.process.current_process().authkey = state["authkey"]
    _start_method = state.get("start_method", _start_method)
    if state.get("log") is not None:
        level, to_stderr = state["log"]
        _util.get_logger().setLevel(level)
        if to_stderr and not _util._log_to_stderr:
            _util.log_to_stderr()


def _load_process(
    name: str, tracker: int | None, entries: int | None, pickled: memoryview, fds: list[int]
) -> Any:
    _byvalue.inherited_fds = fds
    current = multiprocessing.process.current_process()
    current.name = name
    if tracker is not None:
        from multiprocessing import resource_tracker

        resource_tracker._resource_tracker._fd = fds[tracker]  # type: ignore[attr-defined]
    if entries is not None:
        _mainmodule.fetch_by(functools.partial(_read_whole, fds[entries]))
    process = _process.become_child(_start_method, pickled)
    _util._close_stdin = _keep_stdin
    return process


_shut_threads_down = _threading._shutdown
_inherited_atexits = 0


def note_atexits() -> None:
    """In the zygote, which has imported something."""
    global _inherited_atexits
    _inherited_atexits = len(_threading._threading_atexits)


def shut_down_quickly() -> None:
    """In the zygote: for its children."""
    _threading._shutdown = _shut_down


def _shut_down() -> None:
    """Instead of threading's own, which the usual child, having no threads, need not run: it
    takes 0.1 ms. (What the zygote's modules registered there has nothing to end either.)"""
    if threading.active_count() > 1 or len(_threading._threading_atexits) > _inherited_atexits:
        _shut_threads_down()


_close_stdin = _util._close_stdin


def _keep_stdin() -> None:
    """Once in a child: its stdin is /dev/null already."""
    _util._close_stdin = _close_stdin


# How the parent writes to its streams: encoding, errors, line_buffering, write_through; and
# streams that were made ahead, by their name and whether they can seek.
_output: dict[str, Any] = {"stdout": None, "stderr": None}
_made: dict[tuple[str, bool], tuple[Any, Any]] = {}

# Where the stream's beginning isn't special.
_PLAIN = {"utf-8", "utf8", "ascii", "iso8859-1", "latin-1", "cp1252"}


def _set_streams(out: int | None, err: int | None, fds: list[int]) -> None:
    _set_stream("stdout", 1, out, fds)
    _set_stream("stderr", 2, err, fds)
    for index in {out, err}:
        if index is not None:
            os.close(fds[index])  # a pipe ends when the child closes 1 and 2


def _set_stream(name: str, fd: int, index: int | None, fds: list[int]) -> None:
    """Points `fd` and the sys stream at what the parent has there, with its encoding."""
    how, stream = _output[name], None
    if index is not None and how is not None:
        os.dup2(fds[index], fd)
        try:
            os.lseek(fd, 0, os.SEEK_CUR)
            seekable = True
        except OSError:
            seekable = False
        made, stream = _made.get((name, seekable), (None, None))
        if made != how:
            stream = _make_stream(name, fd, how)
            if how[0] in _PLAIN:
                _made[name, seekable] = how, stream
    setattr(sys, name, stream)
    setattr(sys, f"__{name}__", stream)


def _make_stream(name: str, fd: int, how: tuple[str, str | None, bool, bool]) -> Any:
    encoding, errors, line_buffering, write_through = how
    return io.TextIOWrapper(
        io.BufferedWriter(io.FileIO(fd, "w", closefd=False)),
        encoding=encoding,
        errors=errors,
        line_buffering=line_buffering or name == "stderr",
        write_through=write_through,
    )


def _read_whole(fd: int) -> bytes:
    with open(fd, "rb") as file:
        # The file's position is shared with other children, so read from its start.
        return os.pread(file.fileno(), os.fstat(fd).st_size, 0)


def send_outcome(channel: int, kind: str, value: object) -> None:
    """Hands the target's value, or its exception, to the parent.

    The parent may be gone, or not interested: neither is an error here.
    """
    frame = _outcome.encode(kind, value)
    with contextlib.suppress(OSError):
        if len(frame) <= _INLINE:
            _core.send_frame(channel, frame, [])
            return
        fd = _core.memfd("plait-result")
        with open(fd, "wb") as file:
            file.write(frame)
            file.flush()
            _core.send_frame(channel, b"", [fd])
