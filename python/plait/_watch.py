"""`plait.aio.watch`: says what blocks an event loop.

Rust rings the loops that are watched and waits for their answers (src/aio/watch.rs); only when
one is missing does the thread below come back to Python, look at where the loop's thread stands,
and log that.
"""

from __future__ import annotations

import asyncio
import asyncio.base_events
import asyncio.events
import asyncio.runners
import dataclasses
import logging
import math
import sys
import threading
import traceback
from types import FrameType, TracebackType
from typing import Any

from . import _bridge, _core

__all__ = ["Standstill", "watch"]

logger = logging.getLogger("plait.aio")

# Frames from which on the loop, not what it runs, is at work.
_BELOW = {asyncio.events.Handle._run.__code__, _bridge.step_ready.__code__}
# Frames that have a running loop, and under which name.
_RUNS = {
    asyncio.base_events.BaseEventLoop.run_forever.__code__: lambda frame: frame.f_locals["self"],
    asyncio.runners.Runner.run.__code__: lambda frame: frame.f_locals["self"]._loop,
}


@dataclasses.dataclass
class Standstill:
    """One time that a loop stood still.

    Attributes:
        thread: the name of the loop's thread.
        task: the name of the task that blocked it, or None if it was a callback.
        stack: where it stood when that was noticed; the innermost call is last.
        seconds: for how long; until it goes on, for how long it had when that was noticed.
        over: whether it goes on.
    """

    thread: str
    task: str | None
    stack: traceback.StackSummary
    seconds: float
    over: bool = False


class watch:
    """Log a warning when a coroutine or callback blocks its event loop, and say where.

    asyncio's debug mode tells afterwards, and slows everything down; this tells while it
    happens, with the stack of what blocks, and costs a loop that goes round some microseconds
    in each quarter of the threshold. One warning for each standstill, to the logger
    ``plait.aio``; its length is logged there, as info, when it is over.

    In a coroutine it watches the running loop; elsewhere all loops that run during the block,
    in any thread (bare uvloop loops are seen only when run by `asyncio.Runner` or `asyncio.run`).
    ``async with`` does the same.

    Args:
        threshold: seconds that a loop may stand still. What lasts less is never reported, what
            lasts a quarter more always.

    Returns:
        As the block's variable, itself: ``standstills`` is the list of what it has reported.

    Raises:
        ValueError: ``threshold`` is not a positive number.

    >>> import asyncio, time
    >>> from plait import aio
    >>> async def main():
    ...     with aio.watch(0.02) as watched:
    ...         while not watched.standstills:
    ...             time.sleep(0.01)  # blocks; should be: await aio.sleep(0.01)
    ...     return watched.standstills[0].stack[-1].name
    >>> asyncio.run(main())
    'main'
    """

    def __init__(self, threshold: float = 0.1) -> None:
        if not 0 < threshold < math.inf:
            raise ValueError(f"threshold must be a positive number of seconds, got {threshold}")
        self.threshold = threshold
        self.standstills: list[Standstill] = []
        self._watches: dict[int, _Watched] = {}

    def __enter__(self) -> watch:
        if self._watches:
            raise RuntimeError("this watch is in use; make one for each block")
        loop = asyncio._get_running_loop()
        if loop is None:
            self._begin(_Seeker(self), None)
        else:
            self.add(loop, threading.get_ident())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        for number in list(self._watches):
            self._end(number)

    async def __aenter__(self) -> watch:
        return self.__enter__()

    async def __aexit__(self, *exc: Any) -> None:
        self.__exit__(*exc)

    def add(self, loop: asyncio.AbstractEventLoop, ident: int) -> None:
        """Watch this loop too, which runs in the thread of that number."""
        self._begin(_Loop(self, loop, ident), _bridge.bridge_of(loop))

    def loops(self) -> list[asyncio.AbstractEventLoop]:
        """Those that it watches."""
        watches = list(self._watches.values())
        return [watched.loop for watched in watches if isinstance(watched, _Loop)]

    def _begin(self, watched: _Watched, bridge: _core.Bridge | None) -> None:
        number, needs_thread = _core.watch_begin(bridge, self.threshold)
        self._watches[number] = _watched[number] = watched
        if needs_thread:
            _core.Lane(1).post(_report)

    def _end(self, number: int) -> None:
        _core.watch_end(number)
        watched = _watched.pop(number, None)
        self._watches.pop(number, None)
        if isinstance(watched, _Loop):
            watched.end()


class _Watched:
    """What the thread calls when Rust has news."""

    def __init__(self, owner: watch) -> None:
        self.owner = owner

    def tell(self, number: int, seconds: float | None, stands: bool) -> None:
        raise NotImplementedError


class _Seeker(_Watched):
    """Looks for loops that have begun, and for those that were closed."""

    def tell(self, number: int, seconds: float | None, stands: bool) -> None:
        owner = self.owner
        for known, watched in list(owner._watches.items()):
            if isinstance(watched, _Loop) and watched.loop.is_closed():
                owner._end(known)
        known_loops = owner.loops()
        for ident, frame in sys._current_frames().items():
            loop = _running_loop(frame)
            if loop is not None and not any(loop is known for known in known_loops):
                try:
                    owner.add(loop, ident)
                except RuntimeError:  # it has just been closed
                    continue


def _running_loop(frame: FrameType | None) -> asyncio.AbstractEventLoop | None:
    while frame is not None:
        find = _RUNS.get(frame.f_code)
        if find is not None:
            loop: asyncio.AbstractEventLoop | None = find(frame)
            if loop is not None and loop.is_running():
                return loop
        frame = frame.f_back
    return None


class _Loop(_Watched):
    def __init__(self, owner: watch, loop: asyncio.AbstractEventLoop, ident: int) -> None:
        super().__init__(owner)
        self.loop, self.ident = loop, ident
        self.now: Standstill | None = None

    def tell(self, number: int, seconds: float | None, stands: bool) -> None:
        assert seconds is not None
        if not stands:
            self.end(seconds)
            return
        if not self.loop.is_running():
            _core.watch_pause(number)
            return
        stack = _stack(sys._current_frames().get(self.ident))
        task = asyncio.current_task(self.loop)
        named = {thread.ident: thread.name for thread in threading.enumerate()}
        thread = named.get(self.ident, f"thread {self.ident}")
        name = task.get_name() if task is not None else None
        self.now = Standstill(thread, name, stack, seconds)
        self.owner.standstills.append(self.now)
        logger.warning(
            "the event loop in %s has stood still for %.3f s, blocked by %s at:\n%s",
            thread,
            seconds,
            "a callback" if name is None else f"the task {name!r}",
            "".join(stack.format()).rstrip(),
        )

    def end(self, seconds: float | None = None) -> None:
        """It goes on."""
        standstill, self.now = self.now, None
        if standstill is None:
            return
        if seconds is not None:
            standstill.seconds = seconds
        logger.info(
            "the event loop in %s goes on, after %.3f s", standstill.thread, standstill.seconds
        )
        standstill.over = True  # who waits for that finds all said


def _stack(frame: FrameType | None) -> traceback.StackSummary:
    """Where a thread stands, from what its loop runs inwards."""
    frames = []
    while frame is not None and frame.f_code not in _BELOW:
        frames.append((frame, frame.f_lineno))
        frame = frame.f_back
    return traceback.StackSummary.extract(reversed(frames))


_watched: dict[int, _Watched] = {}


def _report() -> None:
    """Serve the watches until there are none."""
    for number, seconds, stands in _core.WatchNews():
        watched = _watched.get(number)
        if watched is not None:
            try:
                watched.tell(number, seconds, stands)
            except Exception:
                logger.exception("a watch over an event loop failed")
