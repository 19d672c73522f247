"""`plait.aio.run`: a loop for one coroutine, in a thread of its own where one runs already."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import queue
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar, cast

from . import _core, _workers

__all__ = ["run"]

T = TypeVar("T")


def run(coro: Awaitable[T], *, debug: bool | None = None) -> T:
    """Run a coroutine to its end, also where a loop is already running, as in Jupyter.

    Without a running loop this is `asyncio.run`. Inside one (where that raises), a new loop
    runs in another thread, with a copy of the caller's context variables, and the caller
    waits; ^C cancels the coroutine. Something bound to the outer loop raises when it is awaited
    inside, as asyncio has it.

    Args:
        coro: a coroutine or any other awaitable.
        debug: asyncio's debug mode; None leaves it as it is.

    Returns:
        What the coroutine returns.

    Raises:
        TypeError: ``coro`` is not awaitable.

    >>> from plait import aio
    >>> aio.run(aio.sleep(0.001, 42))
    42
    """
    given: object = coro
    if not isinstance(given, Awaitable):
        hint = "; call it: run(f())" if callable(given) else ""
        raise TypeError(f"coro must be awaitable, got {given!r}{hint}")
    whole = coro if asyncio.iscoroutine(coro) else _await(coro)
    if asyncio._get_running_loop() is None:
        return asyncio.run(whole, debug=debug)
    return _run_in_thread(whole, debug)


async def _await(awaitable: Awaitable[T]) -> T:
    return await awaitable


def _run_in_thread(coro: Coroutine[Any, Any, T], debug: bool | None) -> T:
    runner = asyncio.Runner(debug=debug)
    started: queue.SimpleQueue[asyncio.Task[T] | None] = queue.SimpleQueue()
    ended: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    async def main() -> T:
        started.put(asyncio.current_task())
        return await coro

    def work() -> None:
        try:
            with runner:
                outcome: tuple[T | None, BaseException | None] = (runner.run(main()), None)
        except BaseException as error:
            outcome = (None, error)
        started.put(None)
        ended.put(outcome)

    caller = asyncio.current_task()
    cancels = caller.cancelling() if caller is not None else 0

    def look() -> None:
        """Under `asyncio.run` the first ^C is no exception: it cancels the main task, which
        sees it when it awaits next. It waits here."""
        if caller is not None and caller.cancelling() > cancels:
            raise asyncio.CancelledError

    _core.Lane(1).post(functools.partial(contextvars.copy_context().run, work))
    try:
        value, error = _workers.receive(ended, look)
    except BaseException:  # ^C, most of all: end the coroutine, then pass it on
        task = _workers.receive(started)
        if task is not None:
            with contextlib.suppress(RuntimeError):  # the loop has just been closed
                task.get_loop().call_soon_threadsafe(task.cancel)
            _workers.receive(ended)
        raise
    if error is not None:
        raise error
    return cast("T", value)
