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
import marshal
import multiprocessing.context
import multiprocessing.process
import multiprocessing.util
import os
import pickle
import select
import signal
import socket
import sys
import threading
import types

from . import _byvalue, _core, _mainmodule, _orphan, _outcome, _state
from . import process as _process  # children unpickle plait.process.Process

TYPE_CHECKING = False  # typing is slow to import, and a child waits for it
if TYPE_CHECKING:
    from typing import Any, NoReturn

__all__ = ["zygote"]

_util: Any = multiprocessing.util
_threading: Any = threading

# What many targets use. The first start doesn't wait for it, later children find it there.
_WARM_UP = (
    "traceback",
    "multiprocessing.connection",
    "multiprocessing.resource_tracker",
    "multiprocessing.synchronize",
    "multiprocessing.queues",
    "concurrent.futures.process",
    "plait._pool_worker",
    "plait._rings",
)
# Imported last, and again when there are pools, upon which there are rehearsals with them.
_WORKER = _WARM_UP[-1]

# How long the zygote must have had nothing to do before it warms up or makes a spare: seconds.
_PAUSE = 0.002

_FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT)

_FORK, _SPARE, _STATE = ord("F"), ord("L"), ord("S")
# The zygote's exit code when a module that it was to import has left threads running: this, and
# the module's number; one less for a module that it learned of. (In `_zygote` too, which is not
# imported here.)
_SPOILT = 64

# Rehearsals in the zygote: after some, the interpreter has specialised what is run.
_REHEARSALS = 12

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
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), "utf-8")
    _process.install()
    _threading._shutdown = _shut_down
    gc.freeze()
    gc.enable()
    _child(*_serve(control, pidfd), parent)


def _parent_or_exit(parent: int) -> int:
    try:
        return _core.parent_pidfd(parent)
    except ProcessLookupError:  # it has died, and nobody waits for us
        os._exit(0)


def _serve(control: int, parent: int) -> tuple[int, int | None]:
    """Answers requests. Returns in each child: its channel, and for how long it may wait."""
    global _has_pools
    cold = list(_WARM_UP)
    asked: tuple[str, ...] = ()  # what the user wants to be imported ahead
    rehearsals = worker_rehearsals = 0
    wanted: list[tuple[int, int]] = []  # spares: patience and channel
    while True:
        # What is asked for comes first; then, a module at a time, what children will want;
        # then rehearsals; then spares, which so have it all.
        idle = _PAUSE if wanted or cold else None
        request = _core.next_request(control, parent, idle)
        if request is None:
            os._exit(0)
        kind, patience, channel = request
        if kind == _SPARE:
            wanted.append((patience, channel))
            continue
        if kind == _STATE:
            frame = _core.receive_frame(channel)
            if frame is not None:
                news = _be_told(*frame)
                if "preload" in news:
                    asked = news["preload"]
                    cold += asked
                if news.get("pools") and not _has_pools:
                    _has_pools = True
                    cold.append(_WORKER)
                if "learn" in news:
                    _learning.switch(news["learn"])
                os.dup2(1, 2)  # started well: from here on its stderr is nobody's
            os.close(channel)
            continue
        if kind != _FORK:
            cold += _learning.heard()
            if cold:
                name = cold.pop(0)
                _import_ahead(name)
                if not _is_single_threaded():
                    # Cannot be forked any more. The parent starts another one, without it.
                    os._exit(_SPOILT + asked.index(name) if name in asked else _SPOILT - 1)
                if not cold:
                    rehearsals = min(rehearsals, _REHEARSALS - 1)  # once more, with these
                continue
            if rehearsals < _REHEARSALS:
                global _inherited_atexits
                _inherited_atexits = len(_threading._threading_atexits)
                rehearsals += 1
                _rehearse()
                while _has_pools and worker_rehearsals < _REHEARSALS:
                    worker_rehearsals += 1
                    _rehearse_worker(None)
                if rehearsals == _REHEARSALS:
                    gc.unfreeze()
                    gc.collect()
                    gc.freeze()
                continue
            if not wanted:
                continue
            patience, channel = wanted.pop(0)
        pid = _core.fork_sibling()
        if pid == 0:
            _core.send_hello(channel, os.getpid())
            for other in (control, *(fd for _, fd in wanted)):
                os.close(other)
            if kind == _FORK:
                os.close(parent)
                return channel, None
            if _has_pools:
                _rehearse_worker(parent)
            _rehearse()
            _rehearse()
            os.close(parent)
            return channel, patience
        if pid < 0:
            # Its parent may be gone: next_request will see it.
            with contextlib.suppress(OSError):
                _core.send_hello(channel, pid)
        os.close(channel)


def _be_told(data: bytes, fds: list[int]) -> dict[str, Any]:
    """Takes over the state that children are to start with."""
    for directory in fds:
        os.fchdir(directory)
        os.close(directory)
    news: dict[str, Any] = pickle.loads(data)
    _apply(news)
    return news


class _Learning:
    """What children had to import: they tell the zygote by a pipe, as they end."""

    def __init__(self) -> None:
        self._pipe: tuple[int, int] | None = None
        self._known: set[str] = set()

    def switch(self, on: bool) -> None:
        if on and self._pipe is None:
            self._pipe = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        elif not on and self._pipe is not None:
            for fd in self._pipe:
                os.close(fd)
            self._pipe = None

    def heard(self) -> list[str]:
        """In the zygote: the names that are new."""
        names: list[str] = []
        if self._pipe is not None:
            with contextlib.suppress(BlockingIOError):
                while data := os.read(self._pipe[0], 1 << 16):
                    names += dict.fromkeys(data.decode().split())
        new = [name for name in names if name not in self._known and name not in sys.modules]
        self._known.update(new)
        return new

    def begin(self) -> None:
        """In a child that is about to run."""
        if self._pipe is not None:
            self._known = set(sys.modules)

    def tell(self) -> None:
        """In a child that has run: writes what came, as long as that is not torn apart."""
        if self._pipe is None:
            return
        text = ""
        for name, module in list(sys.modules.items()):
            spec = getattr(module, "__spec__", None)
            if name in self._known or spec is None or spec.name != name or not name.isascii():
                continue
            if len(text) + len(name) >= select.PIPE_BUF:
                break
            text += name + "\n"
        if text:
            with contextlib.suppress(OSError):  # full, or the zygote is gone
                os.write(self._pipe[1], text.encode())


_learning = _Learning()


def _import_ahead(name: str) -> None:
    # As multiprocessing's forkserver: who needs it will be told what is wrong with it.
    with contextlib.suppress(Exception, SystemExit):
        importlib.import_module(name)


def _is_single_threaded() -> bool:
    """Whether this process has one thread. Libraries that start threads when they are imported,
    such as NumPy's OpenBLAS, end them before a fork, and start them again when they are used:
    but they hear only of the C library's fork(), not of our own. So one is thrown away."""
    if _count_threads() == 1:
        return True
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return _count_threads() == 1


def _count_threads() -> int:
    return len(os.listdir("/proc/self/task"))


# ---- rehearsals --------------------------------------------------------------------------


# Whether our parent has pools, and so will want workers.
_has_pools = False

# What rehearsals start: a process, and a pool's worker.
_script = b""
_worker_script = b""
_worker_task: _core.Rehearsal | None = None

# What a user's script might send: the names that it uses are modules and values.
_PLAY = """
def play(connection, *args, scale=1.5, **options):
    time.monotonic()
    connection.fileno()
    return values, nested(1)
values = {"a": [1, 2.5], "b": (None, True), "c": b"bytes"}
def nested(x):
    return x
"""


def _write_scripts() -> None:
    global _script, _worker_script, _worker_task
    import time

    from . import _rings

    main = types.ModuleType("__main__")
    exec(_PLAY, vars(main))
    vars(main)["time"] = time
    before, sys.modules["__main__"] = sys.modules["__main__"], main
    try:
        reader, writer = multiprocessing.connection.Pipe(duplex=False)
        with reader, writer:
            arguments = writer, 1, "text", [1, 2], {"key": 0.5}
            _script = _packed(vars(main)["play"], arguments)
        ends = _rings.KIND.ends(0, 0, 0)
        _worker_script = _packed(_rings.KIND.main, (ends, 0, None, ()))
        _worker_task = _core.Rehearsal(vars(main)["nested"], (1,))
    finally:
        sys.modules["__main__"] = before


def _packed(target: Any, args: tuple[Any, ...]) -> bytes:
    popen: Any = _Parcel()
    multiprocessing.context.set_spawning_popen(popen)
    try:
        return _byvalue.dumps(_process.Process(target=target, args=args)._packed())
    finally:
        multiprocessing.context.set_spawning_popen(None)


def _frame(script: bytes) -> bytes:
    head = marshal.dumps(("", False, 0, 0, 0, None, None, None, b""))
    return len(head).to_bytes(4, "little") + head + script


def _rehearse() -> None:
    """Goes through the motions of a start, while nobody waits for it: what is done for the
    first time takes long. In a spare, memory that is shared with the zygote is copied on the
    first write, a page at a time."""
    if not _script:
        _write_scripts()
    reader, writer = os.pipe()
    _perform(writer)
    os.close(writer)
    os.close(reader)
    _perform(0)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        _core.send_frame(ours.fileno(), _frame(_script), [0])
        told: Any = _core.await_frame(theirs.fileno(), 0, 1, True)
        os.close(told[1][0])
        send_outcome(theirs.fileno(), "returned", None)
        ours.recv(100)


def _rehearse_worker(sentinel: int | None) -> None:
    """The same for a pool's worker; `sentinel` is its parent's pidfd. None: there is to be no
    thread that watches it, which the zygote must not have."""
    # A process has its large arrays made in one arena, which must be that of its real pool.
    if _worker_task is not None and "numpy" not in sys.modules:
        from . import _pool_worker

        files = _worker_task.files()
        _pool_worker.rehearse(lambda: _perform(0, _worker_script, files, sentinel))


def _perform(
    output: int,
    script: bytes | None = None,
    fds: tuple[int, ...] | None = None,
    sentinel: int | None = 0,
) -> None:
    """Plays a start. Files and pipes for output differ in what the streams find out."""
    main, current = sys.modules["__main__"], multiprocessing.process.current_process()
    try:
        given = (os.dup(output),) if fds is None else fds
        frame = _frame(_script if script is None else script)
        _run(0, sentinel, frame, [os.dup(output), *given], rehearsal=True)
    finally:
        _util._exiting = False
        _byvalue.inherited_fds = []
        multiprocessing.process._current_process = current  # type: ignore[attr-defined]
        multiprocessing.process._parent_process = None  # type: ignore[attr-defined]
        sys.modules["__main__"] = main
        os.dup2(0, 1)
        os.dup2(0, 2)


def _skim() -> None:
    """The longest part of a start once more, since its parent is about to ask for it: by now
    it has left the processor's caches."""
    current: Any = multiprocessing.process.current_process()
    _byvalue.inherited_fds = [-1, os.dup(0)]
    current._inheriting = True
    pickle.loads(_script)
    del current._inheriting


class _Parcel:
    """Stands for the parent's side of a start, which sends a stream first of all."""

    DupFd = _byvalue.DupFd

    def __init__(self) -> None:
        self._sent = 0

    def duplicate_for_child(self, fd: int) -> int:
        self._sent += 1
        return self._sent


def _print_exception() -> None:
    import traceback

    traceback.print_exc()


def _close_all_but(keep: set[int]) -> None:
    """Closes what leaked into us: descriptors of the user's that are not close-on-exec."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in keep:
            with contextlib.suppress(OSError):
                os.close(int(name))


def _child(channel: int, patience: int | None, parent: int) -> NoReturn:
    code = 1
    # As multiprocessing's own children: what the zygote registered is not theirs to run.
    atexit._clear()
    atexit.register(_util._exit_function)
    try:
        sentinel = _parent_or_exit(parent)
        if patience is not None:
            _core.send_hello(channel, os.getpid())  # ready
        may_spin = len(os.sched_getaffinity(0)) > 1
        told: Any = _core.await_frame(channel, sentinel, patience, False)
        while told is True:
            if may_spin:  # else its parent needs the processor
                _skim()
            told = _core.await_frame(channel, sentinel, patience, may_spin)
        if told is False:
            os._exit(0)
        code = _run(channel, sentinel, *told)
        _learning.tell()
    except BaseException:
        _print_exception()
    finally:
        atexit._run_exitfuncs()
        _util._flush_std_streams()
        os._exit(code & 0xFF)  # all that the system keeps; _exit() refuses what is no C int


def _run(
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
            _apply(pickle.loads(state))
        _set_streams(out, err, fds)
        if daemon:
            _orphan.end_with(sentinel)
        if not rehearsal:
            _learning.begin()
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


def _apply(state: dict[str, Any]) -> None:
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
