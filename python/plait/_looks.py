"""What the threads of a traced process are at, as their Python frames tell it.

The sampler (in Rust) knows that a thread waits, not for what. So a thread of Python's looks at
all frames a few dozen times a second: which of the program's functions runs, which of the standard
library's it waits in, and, where that is a lock, which one and who holds it. What is only
likely is labelled "(inferred)".
"""

from __future__ import annotations

import _thread
import ctypes
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, NamedTuple

__all__ = ["Look", "Looker", "look_at"]

PERIOD = 0.02  # seconds between two looks


class Look(NamedTuple):
    """What a thread's frames say.

    Attributes:
        doing: the program's function.
        state: what a wait in this place is; None: what the kernel says.
        wait: what it waits for, if it waits.
        holder: whom it waits for.
    """

    doing: str
    state: str | None = None
    wait: str | None = None
    holder: str | None = None


def _name_of_self(frame: FrameType) -> str | None:
    name = getattr(frame.f_locals.get("self"), "name", None)
    return name if isinstance(name, str) else None


# Where the standard library waits: (module, function) -> the state, and what to call it. Of
# nested ones the outermost counts: a queue's get waits in a condition, which waits for a lock.
_PLACES: dict[tuple[str, str], tuple[str, str]] = {
    ("threading", "join"): ("idle", "join"),
    ("threading", "_shutdown"): ("idle", "the exit waits for threads"),
    ("threading", "start"): ("idle", "start"),
    ("threading", "wait"): ("wait_lock", "wait"),
    ("threading", "wait_for"): ("wait_lock", "wait"),
    ("threading", "acquire"): ("wait_lock", "acquire"),
    ("queue", "get"): ("idle", "Queue.get"),
    ("queue", "put"): ("wait_lock", "Queue.put"),
    ("queue", "join"): ("idle", "Queue.join"),
    ("concurrent.futures._base", "result"): ("idle", "Future.result"),
    ("concurrent.futures._base", "exception"): ("idle", "Future.exception"),
    ("concurrent.futures._base", "wait"): ("idle", "futures.wait"),
    ("concurrent.futures._base", "as_completed"): ("idle", "as_completed"),
    ("concurrent.futures._base", "result_iterator"): ("idle", "Executor.map"),
    ("concurrent.futures.thread", "_worker"): ("idle", "waits for work"),
    ("concurrent.futures.process", "_process_worker"): ("idle", "waits for work"),
    ("concurrent.futures.process", "wait_result_broken_or_wakeup"): ("idle", "waits for results"),
    ("multiprocessing.process", "join"): ("idle", "join"),
    ("multiprocessing.pool", "worker"): ("idle", "waits for work"),
    ("multiprocessing.pool", "get"): ("idle", "AsyncResult.get"),
    ("multiprocessing.pool", "wait"): ("idle", "AsyncResult.wait"),
    ("multiprocessing.pool", "next"): ("idle", "Pool.imap"),
    ("multiprocessing.pool", "_handle_workers"): ("idle", "looks after workers"),
    ("multiprocessing.pool", "_handle_tasks"): ("idle", "waits for tasks"),
    ("multiprocessing.pool", "_handle_results"): ("idle", "waits for results"),
    ("multiprocessing.queues", "get"): ("idle", "Queue.get"),
    ("multiprocessing.queues", "_feed"): ("idle", "waits for items"),
    ("subprocess", "wait"): ("idle", "waits for a process"),
    ("subprocess", "communicate"): ("idle", "waits for a process"),
    ("plait.thread", "join"): ("idle", "join"),
    ("plait.thread", "result"): ("idle", "Thread.result"),
    ("plait._thread_pool", "_work"): ("idle", "waits for work"),
    ("plait._workers", "work"): ("idle", "waits for work"),
    ("plait._pool_worker", "main"): ("idle", "waits for work"),
    ("plait._pipe_worker", "main"): ("idle", "waits for work"),
}
_LIBRARY = frozenset(module for module, _ in _PLACES) | {
    "asyncio.base_events",
    "asyncio.runners",
    "asyncio.unix_events",
    "multiprocessing.connection",
    "multiprocessing.popen_fork",
    "multiprocessing.synchronize",
    "plait._bridge",
    "plait.aio",
    "selectors",
    "socket",
    "ssl",
}


def _event_loop(frame: FrameType) -> tuple[str, str]:
    """What a loop that is in its selector waits for."""
    loop = frame.f_locals.get("self")
    selector = getattr(loop, "_selector", None)
    try:
        watched = len(selector.get_map()) if selector is not None else 2
    except (AttributeError, RuntimeError, TypeError):
        watched = 2
    if watched > 1:  # besides its own wake-up
        return "wait_io", "the loop waits for input or output"
    if getattr(loop, "_scheduled", None):
        return "sleep", "the loop waits for a timer"
    return "idle", "the loop has nothing to do"


def look_at(frame: FrameType, others: dict[int, FrameType], tid: int = 0) -> Look:
    """What a thread is at.

    Args:
        frame: its innermost frame.
        others: the frames of the other threads, by ident.
        tid: the operating system's number of the thread.
    """
    state = wait = holder = None
    at: FrameType | None = frame
    while at is not None:
        module = str(at.f_globals.get("__name__", ""))
        name = at.f_code.co_name
        found = _PLACES.get((module, name))
        if found is not None:
            state, wait = found
            if name == "join":
                holder = _name_of_self(at)
        elif name == "_run_once" and module == "asyncio.base_events":
            state, wait = _event_loop(at)
        elif module == "plait.kernels":
            state, wait = "idle", name  # its work is on rayon's threads
        if module not in _LIBRARY:
            break
        at = at.f_back
    if at is None:
        return Look(frame.f_code.co_qualname, state, wait, holder)
    doing = at.f_code.co_qualname
    if doing == "<module>":
        doing = "main program"
    if at is frame and (lock := _lock_of(frame, tid)) is not None:
        wait, kept = lock
        holder = _holder(kept, others)
    return Look(doing, state, wait, holder)


_LOCKS = (_thread.LockType, _thread.RLock)
# Until 3.13 a lock is a pointer to the semaphore that its waiters sleep on.
_VERSION: tuple[int, ...] = sys.version_info[:2]  # so that mypy checks all of it
_HAS_SEMAPHORE = _VERSION < (3, 14) and sys.platform == "linux"


def _lock_of(frame: FrameType, tid: int) -> tuple[str, Any] | None:
    """The lock that a frame uses and that is taken, with its name there."""
    found: dict[int, tuple[str, Any]] = {}
    code = frame.f_code
    local = frame.f_locals
    for name in (*code.co_names, *local):
        value = local.get(name, frame.f_globals.get(name))
        if isinstance(value, _LOCKS):
            found.setdefault(id(value), (name, value))
        elif name in local and hasattr(value, "__dict__"):
            for key, inner in list(vars(value).items()):
                if isinstance(inner, _LOCKS):
                    found.setdefault(id(inner), (f"{name}.{key}", inner))
    taken = [(name, lock) for name, lock in found.values() if "<locked" in repr(lock)]
    if not taken:
        return None
    if _HAS_SEMAPHORE and (word := _waits_on(tid)):
        for name, lock in taken:
            if ctypes.c_void_p.from_address(id(lock) + 16).value == word:
                return name, lock
        return None
    return (f"{taken[0][0]} (inferred)", taken[0][1]) if len(taken) == 1 else None


def _waits_on(tid: int) -> int:
    """The word in memory that a thread sleeps on; 0: it does something else."""
    try:
        with open(f"/proc/self/task/{tid}/syscall", "rb") as file:
            words = file.read().split()
        return int(words[1], 16) if len(words) > 2 else 0
    except (OSError, ValueError):
        return 0


def _holder(lock: Any, others: dict[int, FrameType]) -> str | None:
    """Who has it: an RLock knows; for a Lock, the one other thread that uses it just now."""
    text = repr(lock)
    if "owner=" in text:
        owner = threading._active.get(int(text.split("owner=")[1].split()[0]))  # type: ignore[attr-defined]
        return None if owner is None else str(owner.name)
    users = [ident for ident, frame in others.items() if _uses(frame, lock)]
    if len(users) != 1:
        return None
    thread = threading._active.get(users[0])  # type: ignore[attr-defined]
    return None if thread is None else f"{thread.name} (inferred)"


def _uses(frame: FrameType | None, lock: Any) -> bool:
    """Whether a function of this stack uses it, and is past its beginning with it."""
    for depth in range(12):
        if frame is None:
            break
        # The module that defines a lock names it too.
        if frame.f_code.co_name != "<module>":
            local = frame.f_locals
            for name in (*frame.f_code.co_names, *local):
                value = local.get(name, frame.f_globals.get(name))
                if value is lock or (name in local and lock in _members(value)):
                    return depth > 0 or not _waits_here(frame)
        frame = frame.f_back
    return False


def _members(value: Any) -> list[Any]:
    try:
        return [one for one in vars(value).values() if isinstance(one, _LOCKS)]
    except TypeError:
        return []


def _waits_here(frame: FrameType) -> bool:
    """Whether it is just taking a lock: at the beginning of a ``with``, or in an ``acquire``."""
    import linecache
    import opcode

    code = frame.f_code
    name = opcode.opname[code.co_code[frame.f_lasti]]
    text = linecache.getline(code.co_filename, frame.f_lineno or 0)
    if "acquire" in text:
        return name.startswith("CALL")
    if _VERSION < (3, 14):
        return name == "BEFORE_WITH"
    return text.lstrip().startswith("with ")


class Looker:
    """The thread that looks; one that `threading` does not list.

    Args:
        tell: is called with the operating system's number of a thread, and what it is at, when
            that has changed.
        goes_on: is called first, and twice a second; it ends if that is false.
    """

    def __init__(self, tell: Callable[[int, Look], None], goes_on: Callable[[], bool]) -> None:
        self._tell = tell
        self._goes_on = goes_on
        self._stop = _thread.allocate_lock()
        self._ended = _thread.allocate_lock()
        self._last: dict[int, Look] = {}
        self._stop.acquire()
        self._ended.acquire()
        _thread.start_new_thread(self._run, ())

    def stop(self) -> None:
        """End it, and wait for that."""
        if self._stop.locked():
            self._stop.release()
        self._ended.acquire()

    def _run(self) -> None:
        own = _thread.get_ident()
        try:
            looks = 0
            while looks % 25 or self._goes_on():
                looks += 1
                self._look(own)
                if self._stop.acquire(timeout=PERIOD):
                    self._look(own)
                    break
        finally:
            self._ended.release()

    def _look(self, own: int) -> None:
        frames = sys._current_frames()
        frames.pop(own, None)
        seen = set()
        for ident, frame in frames.items():
            thread = threading._active.get(ident)  # type: ignore[attr-defined]
            tid = getattr(thread, "native_id", None)
            if tid is None:
                continue
            seen.add(tid)
            others = {other: one for other, one in frames.items() if other != ident}
            try:
                look = look_at(frame, others, tid)
            except Exception:  # a frame that changed as it was looked at: the next look does
                continue
            if self._last.get(tid) != look:
                self._last[tid] = look
                self._tell(tid, look)
        # What has no frames any more has ended, or is kept for plait's next thread.
        for tid in self._last.keys() - seen:
            del self._last[tid]
            self._tell(tid, Look("", "idle", "waits for work"))
