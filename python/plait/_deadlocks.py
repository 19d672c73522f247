"""What the wait-for graph needs of Python: who else runs, and the `DeadlockError`.

The engine (``src/sync/graph/``) calls these when it has found a cycle of waits, or when all waits
that it knows of stand still; never otherwise, so nothing here need be quick.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import threading
import types
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _core
from ._deadlock_words import describe, name_of
from ._deadlock_words import message as worded

if TYPE_CHECKING:
    import asyncio
    from traceback import StackSummary

    from .errors import DeadlockError

_PACKAGE = os.path.dirname(__file__)
_LAB = os.path.join(_PACKAGE, "lab", "")  # whose exhibits are there to be looked at

# For the machines on which Linux's system call "futex" has these numbers.
_FUTEX = {"x86_64": 202, "aarch64": 98, "riscv64": 98, "ppc64le": 221, "s390x": 238}


class Wait(NamedTuple):
    """One party, as the engine tells of it."""

    party: int
    task: Any
    event_loop: Any
    kind: str | None
    address: int
    thing: Any
    needs: list[int] | None
    seconds: float
    goes_on: bool

    @property
    def is_thread(self) -> bool:
        return self.party & 7 == 2

    @property
    def ident(self) -> int:
        return self.party & ~7


# ---- does anyone else run? ---------------------------------------------------------------


def is_quiet(seats: list[tuple[int, int]], records: list[tuple[Any, ...]]) -> bool:
    """Whether nothing in this process can run but what the engine knows to wait.

    Args:
        seats: the ident and the native id of each thread that waits in plait or is idle.
        records: the waits.
    """
    if _handles_signals():
        return False
    waits = [Wait(*record) for record in records]
    known = {ident for ident, _ in seats}
    natives = {native for _, native in seats}
    if os.getpid() in natives and not _main_thread_sleeps():
        return False
    loops = {getattr(loop, "_thread_id", None): loop for loop in _loops()}
    frames = sys._current_frames()
    if any(ident not in known and ident not in frames for ident in list(threading._active)):  # type: ignore[attr-defined]
        return False  # it is about to begin
    for ident, frame in frames.items():
        if ident in known:
            continue
        loop, thread = loops.get(ident), threading._active.get(ident)  # type: ignore[attr-defined]
        if loop is None or thread is None or not _is_idle(loop, frame, waits):
            return False
        natives.add(thread.native_id)
    return not _native_threads_run(natives)


def _loops() -> list[Any]:
    """The event loops that plait has to do with."""
    bridge: Any = sys.modules.get("plait._bridge")
    return [] if bridge is None else list(bridge.loops)


def _handles_signals() -> bool:
    """Whether a signal may run code of the user's, which may free somebody."""
    import _signal  # type: ignore[import-not-found]

    for number in signal.valid_signals():
        handler: Any = _signal.getsignal(number)
        # asyncio.run's, which cancels its main task upon ^C.
        runner = getattr(getattr(handler, "func", None), "__qualname__", "") == "Runner._on_sigint"
        if callable(handler) and handler is not signal.default_int_handler and not runner:
            return True
    return False


def _main_thread_sleeps() -> bool:
    """Whether the main thread, which waits, is not about to handle a signal, such as ^C."""
    if threading.get_ident() == threading.main_thread().ident:
        return True
    try:
        with open(f"/proc/self/task/{os.getpid()}/syscall") as file:
            return file.read().split()[0] == str(_FUTEX.get(os.uname().machine))
    except OSError:
        return False


def _is_idle(loop: Any, frame: types.FrameType, waits: list[Wait]) -> bool:
    """Whether an event loop waits for nothing that comes of itself; its tasks wait, then."""
    try:
        # The caller's own loop calls us, having nothing else ready; another one must be asleep.
        here = loop._thread_id == threading.get_ident()
        asleep = frame.f_code.co_name == "select" and "selectors" in frame.f_code.co_filename
        timers = [handle for handle in loop._scheduled if not handle._cancelled]
        bridge = loop._plait_bridge
        watched = {loop._ssock.fileno(), bridge.fileno()}
        others = [fd for fd in loop._selector.get_map() if fd not in watched]
    except (AttributeError, RuntimeError, ValueError):
        return False  # a loop that isn't asyncio's own, or that changes while we look
    of_sync = sum(wait.event_loop is loop for wait in waits if not wait.is_thread)
    return (
        (here or asleep)
        and not loop._ready
        and all(handle._callback is _look for handle in timers)
        and not others
        and bridge.count_waiting() <= of_sync
    )


def _native_threads_run(known: set[int]) -> bool:
    """Whether there is a thread that isn't Python's, and does more than wait for another one."""
    try:
        tasks = os.listdir("/proc/self/task")
    except OSError:
        return True  # nobody knows
    return any(_runs(task) for task in tasks if int(task) not in known)


def _runs(task: str) -> bool:
    try:
        with open(f"/proc/self/task/{task}/comm") as file:
            if file.read().startswith("plait-"):
                return False  # what it completes, somebody waits for outside of the graph
        with open(f"/proc/self/task/{task}/syscall") as file:
            call = file.read().split()
    except (FileNotFoundError, ProcessLookupError):
        return False  # it has just ended
    except OSError:
        return True
    if len(call) < 5 or int(call[0]) != _FUTEX.get(os.uname().machine):
        return True
    # Until another thread of this process wakes it: FUTEX_WAIT or FUTEX_WAIT_BITSET, private
    # (128), without a time limit.
    operation, limit = int(call[2], 16), int(call[4], 16)
    return operation & 0x7F not in (0, 9) or not operation & 128 or limit != 0


# ---- tasks and their loops ---------------------------------------------------------------


def tasks_of(loops: list[Any]) -> list[tuple[int, int]]:
    """The addresses of the loops' tasks, and of their loops."""
    import asyncio

    return [(id(task), id(loop)) for loop in loops for task in asyncio.all_tasks(loop)]


def look_soon(delay: float) -> None:
    """Has the loops look for a deadlock when they had that many seconds to come to rest."""
    for loop in _loops():
        if loop.is_running():
            with contextlib.suppress(RuntimeError):  # it was closed meanwhile
                loop.call_soon_threadsafe(loop.call_later, delay, _look)


def _look() -> None:
    _core.look_for_deadlock()


def _is_limited(task: asyncio.Task[Any], is_running: bool) -> bool:
    """Whether a task in a wait may be cancelled by a timer, or isn't in that wait at all: what it
    has begun to wait for is in the hands of something else, such as `asyncio.wait_for`."""
    if not is_running and type(getattr(task, "_fut_waiter", None)) is not _core.Awaitable:
        return True
    timers = getattr(task.get_loop(), "_scheduled", None)
    if timers is None:
        return True  # not asyncio's own loop: its timers can't be looked at
    concerned = {id(one) for one in _waiting_for(task)}
    return any(
        id(one) in concerned
        for handle in list(timers)
        if not handle._cancelled
        for callee in (handle._callback, *(handle._args or ()))
        for one in _members(callee)
    )


def _waiting_for(task: asyncio.Task[Any]) -> Iterator[Any]:
    """The task, and the tasks and futures that wait for it, directly or not."""
    import asyncio

    found: set[int] = {id(task)}
    left: list[Any] = [task]
    while left:
        one: Any = left.pop()
        yield one
        for callback in getattr(one, "_callbacks", None) or ():
            callee = callback[0] if type(callback) is tuple else callback
            for member in _members(callee):
                if isinstance(member, asyncio.Future) and id(member) not in found:
                    found.add(id(member))
                    left.append(member)


def _members(callee: Any) -> Iterator[Any]:
    """What a callback is about: itself, its object or what that is for, what it encloses."""
    import gc

    yield callee
    if isinstance(callee, functools.partial):
        yield from callee.args
        callee = callee.func
    if isinstance(callee, types.FunctionType):
        for cell in callee.__closure__ or ():
            try:
                yield cell.cell_contents
            except ValueError:
                continue  # not assigned yet
        return
    owner = getattr(callee, "__self__", None)
    if owner is None:
        yield from gc.get_referents(callee)  # asyncio's own, in C: the task that it wakes
        return
    yield owner
    for name in ("_task", "_parent_task"):  # of a Timeout, of a TaskGroup
        yield getattr(owner, name, None)


# ---- the error ---------------------------------------------------------------------------


def of_cycle(records: list[tuple[Any, ...]], caller: int) -> DeadlockError | None:
    """The error for a cycle of parties, each of which waits for the next; None: it may end by a
    time limit."""
    waits = [Wait(*record) for record in records]
    for wait, following in zip(waits, waits[1:] + waits[:1], strict=True):
        by_itself = wait.needs is not None and following.party in wait.needs
        if wait.is_thread or not by_itself:
            continue  # a thread; or a task whose loop is blocked, and its timers with it
        if wait.task is None or _is_limited(wait.task, wait.party == caller):
            return None
    return _error(waits, caller, in_cycle=True)


def of_all(records: list[tuple[Any, ...]], caller: int) -> DeadlockError:
    """The error for the case that all parties wait."""
    waits = [Wait(*record) for record in records]
    waits.sort(key=lambda wait: wait.party != caller)
    return _error(waits, caller, in_cycle=False)


def suspects() -> list[DeadlockError]:
    """An error, not raised, for each wait that nobody is known to end; the longest first."""
    waits = [Wait(*record) for record in _core.untimed_waits()]
    needed = {party for wait in waits for party in wait.needs or ()}
    # Who waits for a process, which ends of itself, is one only if others wait for it.
    suspected = [w for w in waits if not w.goes_on or (w.kind == "Process" and w.party in needed)]
    return [_error([wait], 0, in_cycle=False) for wait in suspected]


def order_report() -> str:
    """For `lock_order_report`."""
    inversions = _core.lock_inversions()
    things = _things({taken[1] for pairs in inversions for _, *both in pairs for taken in both})
    lines = []
    for pairs in inversions:
        lines.append("2 locks were taken in both orders: this can become a deadlock")
        for party, *both in pairs:
            first, second = (
                f"{describe(things.get(address, f'{kind} at {address:#x}'))} ({file}:{line})"
                for kind, address, file, line in both
            )
            lines.append(f"  {name_of(party, None)!r} took {first}, then {second}")
    return "\n".join(lines)


def _things(addresses: set[int]) -> dict[int, Any]:
    """The locks and their kin whose engines have these addresses."""
    import gc

    from . import sync

    if not addresses:
        return {}
    kinds: tuple[Any, ...] = tuple(
        kind for name in sync.__all__ if isinstance(kind := getattr(sync, name), type)
    )
    found = {}
    for one in gc.get_objects():
        if issubclass(type(one), kinds) and hasattr(one, "_engine"):
            found[one._engine] = one
    return {address: found[address] for address in addresses & found.keys()}


def _error(waits: list[Wait], caller: int, *, in_cycle: bool) -> DeadlockError:
    from .errors import DeadlockError, DeadlockParty  # it imports multiprocessing

    frames = sys._current_frames()
    tasks = _tasks_by_address(waits)
    names = {wait.party: name_of(wait.party, wait.task or tasks.get(wait.party)) for wait in waits}
    parties = []
    everything = [Wait(*record) for record in _core.untimed_waits()]
    things = _things({wait.address for wait in (*waits, *everything) if wait.thing is None})
    for wait in waits:
        task = wait.task or tasks.get(wait.party)
        holds = {
            other.address: _thing(other, things)
            for other in everything
            if wait.party in (other.needs or ()) and other.kind not in ("Thread", "Future")
        }
        parties.append(
            DeadlockParty(
                name=names[wait.party],
                holds=list(holds.values()),
                waits_for=None if wait.kind is None else _thing(wait, things),
                stack=_stack(wait, task, frames),
            )
        )
    message = worded(waits, parties, names, caller, in_cycle)
    return DeadlockError(message, cycle=parties)


def _tasks_by_address(waits: list[Wait]) -> dict[int, Any]:
    """Tasks in no wait of their own, of loops whose threads are in one."""
    loops = [wait.event_loop for wait in waits if wait.is_thread and wait.event_loop is not None]
    if not loops:
        return {}
    import asyncio

    return {id(task): task for loop in loops for task in asyncio.all_tasks(loop)}


def _thing(wait: Wait, things: dict[int, Any]) -> Any:
    """What is waited for: the object, or if that cannot be had its description."""
    if wait.thing is not None:
        return wait.thing
    if wait.kind == "Thread":
        return threading._active.get(wait.address, f"thread {wait.address}")  # type: ignore[attr-defined]
    if wait.kind == "Future":
        return "the result of a task"
    return things.get(wait.address, f"{wait.kind} at {wait.address:#x}")


def _stack(wait: Wait, task: Any, frames: dict[int, types.FrameType]) -> StackSummary:
    from traceback import FrameSummary, StackSummary, walk_stack

    walked: list[tuple[types.FrameType, int]]
    if wait.is_thread:
        walked = list(walk_stack(frames.get(wait.ident)))[::-1] if wait.ident in frames else []
    elif task is None:
        walked = []
    else:
        walked = [(frame, frame.f_lineno or 0) for frame in _frames_of(task)]
    while walked and (file := walked[-1][0].f_code.co_filename).startswith(_PACKAGE):
        if file.startswith(_LAB):
            break
        walked.pop()
    found = StackSummary.extract(walked, lookup_lines=True)
    plain = [FrameSummary(f.filename, f.lineno, f.name, line=f.line) for f in found]
    return StackSummary.from_list(plain)


def _frames_of(task: Any) -> Iterator[types.FrameType]:
    """A task's frames, the outermost first."""
    coroutine = task.get_coro()
    outermost = getattr(coroutine, "cr_frame", None)
    if getattr(coroutine, "cr_running", False):
        running: list[types.FrameType] = []
        frame: types.FrameType | None = sys._getframe()
        while frame is not None and frame is not outermost:
            running.append(frame)
            frame = frame.f_back
        if frame is not None:
            yield from [frame, *running[::-1]]
            return
    while coroutine is not None:
        inner = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if inner is None:
            return
        yield inner
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
