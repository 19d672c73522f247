"""The zygote's own loop: it is told what children are to be like, prepares, and forks them.

It imports ahead what they need: little more than multiprocessing.process and pickle at first.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import os
import pickle
import signal
import sys

from . import _child, _core, _rehearsals
from . import process as _process  # children unpickle plait.process.Process
from ._learning import learning

TYPE_CHECKING = False  # typing is slow to import, and a child waits for it
if TYPE_CHECKING:
    from typing import Any

__all__ = ["zygote"]

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


def zygote(parent: int) -> None:
    """The zygote's main loop. In each child that it forks, `_child.live` runs instead."""
    control = os.dup(0)  # close-on-exec, and out of the way of stdin
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    _close_all_but({0, 1, 2, control})
    pidfd = _child.parent_or_exit(parent)
    # ^C and ^\ at a terminal go to every process of the group; the user's own decides. Blocked,
    # not ignored: a child that was started but isn't ready yet gets them when it is, and our
    # parent can see that a spare was hit before it was started.
    signal.pthread_sigmask(signal.SIG_BLOCK, _FROM_TERMINAL)
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), "utf-8")
    _process.install()
    _child.shut_down_quickly()
    gc.freeze()
    gc.enable()
    _child.live(*_serve(control, pidfd), parent, _rehearsals.skim)


def _serve(control: int, parent: int) -> tuple[int, int | None]:
    """Answers requests. Returns in each child: its channel, and for how long it may wait."""
    has_pools = False  # whether our parent has pools, and so will want workers
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
                if news.get("pools") and not has_pools:
                    has_pools = True
                    cold.append(_WORKER)
                if "learn" in news:
                    learning.switch(news["learn"])
                os.dup2(1, 2)  # started well: from here on its stderr is nobody's
            os.close(channel)
            continue
        if kind != _FORK:
            cold += learning.heard()
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
                _child.note_atexits()
                rehearsals += 1
                _rehearsals.rehearse()
                while has_pools and worker_rehearsals < _REHEARSALS:
                    worker_rehearsals += 1
                    _rehearsals.rehearse_worker(None)
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
            if has_pools:
                _rehearsals.rehearse_worker(parent)
            _rehearsals.rehearse()
            _rehearsals.rehearse()
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
    _child.apply(news)
    return news


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


def _close_all_but(keep: set[int]) -> None:
    """Closes what leaked into us: descriptors of the user's that are not close-on-exec."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in keep:
            with contextlib.suppress(OSError):
                os.close(int(name))
