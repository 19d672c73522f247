"""What runs in the zygote, and in the children that it forks.

Imported by the zygote before it forks, so that a child finds ready what it needs to become a
`multiprocessing` process: little more than multiprocessing.process and pickle.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import io
import multiprocessing.context
import multiprocessing.process
import multiprocessing.util
import os
import pickle
import select
import signal
import socket
import sys

from . import _byvalue, _core, _mainmodule, _outcome, _state
from . import process as _process  # children unpickle plait.process.Process

TYPE_CHECKING = False  # typing is slow to import, and a child waits for it
if TYPE_CHECKING:
    from typing import Any, NoReturn

__all__ = ["zygote"]

# What many targets use. The first start doesn't wait for it, later children find it there.
_WARM_UP = (
    "traceback",
    "multiprocessing.connection",
    "multiprocessing.resource_tracker",
    "multiprocessing.synchronize",
    "multiprocessing.queues",
    "concurrent.futures.process",
)

# How long the zygote must have had nothing to do before it warms up or makes a spare: seconds.
_PAUSE = 0.002

_FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT)

_FORK, _SPARE, _STATE = ord("F"), ord("L"), ord("S")
# A result up to this size goes through the channel's own buffer, so that the child need not
# wait for its parent to read it; a larger one goes in a file in memory.
_INLINE = 64 * 1024


def zygote(parent: int) -> None:
    """The zygote's main loop. In each child that it forks, `_child` runs instead."""
    control = os.dup(0)  # close-on-exec, and out of the way of stdin
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    _close_all_but({0, 1, 2, control})
    pidfd = _parent_or_exit(parent)
    # ^C and ^\ at a terminal go to every process of the group; the user's own decides. Blocked,
    # not ignored: a child that was started but isn't ready yet gets them when it is, and our
    # parent can see that a spare was hit before it was started.
    signal.pthread_sigmask(signal.SIG_BLOCK, _FROM_TERMINAL)
    gc.collect()
    gc.freeze()
    _child(_serve(control, pidfd), parent)


def _parent_or_exit(parent: int) -> int:
    try:
        return _core.parent_pidfd(parent)
    except ProcessLookupError:  # it has died, and nobody waits for us
        os._exit(0)


def _serve(control: int, parent: int) -> int:
    """Answers requests. Returns in each child, with its channel."""
    cold = list(_WARM_UP)
    wanted: list[tuple[int, int]] = []  # spares: number and channel
    while True:
        # What is asked for comes first; then, a module at a time, what children will want;
        # then spares, which so have it.
        idle = _PAUSE if wanted else None
        request = _core.next_request(control, parent, idle)
        if request is None:
            os._exit(0)
        kind, number, channel = request
        if kind == _SPARE:
            wanted.append((number, channel))
            continue
        if kind == _STATE:
            frame = _core.receive_frame(channel)
            if frame is not None:
                _state.apply(pickle.loads(frame[0]))
                os.dup2(1, 2)  # started well: from here on its stderr is nobody's
            os.close(channel)
            continue
        if kind != _FORK:
            if cold:
                importlib.import_module(cold.pop(0))
                continue
            number, channel = wanted.pop(0)
        pid = _core.fork_sibling()
        if pid == 0:
            for other in (control, parent, *(fd for _, fd in wanted)):
                os.close(other)
            if kind != _FORK:
                _rehearse()
            return channel
        # No one to tell: next_request will see that the parent is gone.
        with contextlib.suppress(OSError):
            answer = number.to_bytes(4, "little") + pid.to_bytes(4, "little", signed=True)
            os.write(control, answer)
        os.close(channel)


def _rehearse() -> None:
    """Goes through the motions of a start in a spare, while nobody waits for it: memory that
    is shared with the zygote is copied on the first write, a page at a time."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        null = os.open(os.devnull, os.O_RDWR)
        _core.send_frame(ours.fileno(), pickle.dumps(_rehearsal()), [null, null])
        os.close(null)
        frame = _core.receive_frame(theirs.fileno())
        assert frame is not None
        setup = pickle.loads(frame[0])
        _set_streams(setup, frame[1])
        process = _take_over(setup, frame[1])
        process.run()
        send_outcome(ours.fileno(), "returned", None)
        _byvalue.inherited_fds = []


def _rehearsal() -> dict[str, Any]:
    """A payload like a user's; the real one replaces all that it sets."""
    context: Any = multiprocessing.context
    context.set_spawning_popen(object())  # else it would not let the process be pickled
    try:
        process = _byvalue.dumps(_process.Process(target=lambda: None))
    finally:
        context.set_spawning_popen(None)
    how = {
        "encoding": "utf-8",
        "errors": "strict",
        "line_buffering": False,
        "write_through": False,
    }
    return {
        "name": "",
        "authkey": bytes(32),
        "start_method": None,
        "blocked": signal.pthread_sigmask(signal.SIG_BLOCK, []),  # as they are
        "main": {},
        "log": None,
        "tracker": None,
        "stdout": {**how, "fd": 0},
        "stderr": {**how, "fd": 1},
        "state": pickle.dumps({}),
        "process": process,
    }


def _print_exception() -> None:
    import traceback

    traceback.print_exc()


def _close_all_but(keep: set[int]) -> None:
    """Closes what leaked into us: descriptors of the user's that are not close-on-exec."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in keep:
            with contextlib.suppress(OSError):
                os.close(int(name))


def _child(channel: int, parent: int) -> NoReturn:
    code = 1
    # As multiprocessing's own children: what the zygote registered is not theirs to run.
    atexit._clear()
    atexit.register(multiprocessing.util._exit_function)  # type: ignore[attr-defined]
    try:
        sentinel = _parent_or_exit(parent)
        # A spare may wait for long. Its parent's death doesn't close the channel if a process
        # that the parent forked still has a copy of the other end.
        waiting = select.poll()
        waiting.register(channel, select.POLLIN)
        waiting.register(sentinel, select.POLLIN)
        wanted = channel in dict(waiting.poll())
        frame = _core.receive_frame(channel) if wanted else None
        if frame is None:
            os._exit(0)
        code = _run(channel, sentinel, *frame)
    except BaseException:
        _print_exception()
    finally:
        atexit._run_exitfuncs()
        multiprocessing.util._flush_std_streams()  # type: ignore[attr-defined]
        os._exit(code)


def _run(channel: int, sentinel: int, payload: bytes, fds: list[int]) -> int:
    setup: dict[str, Any] = pickle.loads(payload)
    if "cwd" in setup:
        os.fchdir(fds[setup["cwd"]])
        os.close(fds[setup["cwd"]])
    _set_streams(setup, fds)
    if setup["daemon"]:
        _core.end_with_parent(os.dup(sentinel))
        os.register_at_fork(before=_core.pause_watch, after_in_parent=_core.resume_watch)
    try:
        process = _take_over(setup, fds)
    except BaseException as error:
        # As after start-up: the traceback on stderr, and the error for result().
        _print_exception()
        send_outcome(channel, "raised", error)
        return 1
    report = functools.partial(send_outcome, channel)
    return int(process._run_in_child(report, sentinel))


def _take_over(setup: dict[str, Any], fds: list[int]) -> Any:
    """Makes this process what the payload says; gives the process object that it is to run."""
    signal.pthread_sigmask(signal.SIG_SETMASK, setup["blocked"])
    _state.apply(pickle.loads(setup["state"]))
    entries = fds[setup["entries"]] if "entries" in setup else None
    fetch = None if entries is None else functools.partial(_read_whole, entries)
    _mainmodule.become(setup["main"], fetch)
    return _load_process(setup, fds)


def _load_process(setup: dict[str, Any], fds: list[int]) -> Any:
    _byvalue.inherited_fds = fds
    current = multiprocessing.process.current_process()
    current.name = setup["name"]
    current.authkey = setup["authkey"]
    if setup["tracker"] is not None:
        from multiprocessing import resource_tracker

        resource_tracker._resource_tracker._fd = fds[setup["tracker"]]  # type: ignore[attr-defined]
    if setup["log"] is not None:
        multiprocessing.util.get_logger().setLevel(setup["log"][0])
        if setup["log"][1]:
            multiprocessing.util.log_to_stderr()
    return _process.become_child(setup["start_method"], setup["process"])


def _set_streams(setup: dict[str, Any], fds: list[int]) -> None:
    _set_stream("stdout", 1, setup["stdout"], fds)
    _set_stream("stderr", 2, setup["stderr"], fds)
    for index in {how["fd"] for how in (setup["stdout"], setup["stderr"]) if how is not None}:
        os.close(fds[index])  # a pipe ends when the child closes 1 and 2


def _set_stream(name: str, fd: int, how: dict[str, Any] | None, fds: list[int]) -> None:
    """Points `fd` and the sys stream at what the parent has there, with its encoding."""
    if how is None:
        setattr(sys, name, None)
        return
    os.dup2(fds[how["fd"]], fd)
    raw = io.FileIO(fd, "w", closefd=False)
    stream = io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=how["encoding"],
        errors=how["errors"],
        line_buffering=how["line_buffering"] or raw.isatty() or name == "stderr",
        write_through=how["write_through"],
    )
    setattr(sys, name, stream)
    setattr(sys, f"__{name}__", stream)


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
