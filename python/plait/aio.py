"""Coroutines over Rust futures: awaited from asyncio, run by plait's own tokio runtime.

What is awaited here behaves like a coroutine until it starts (nothing happens before it is
awaited, `asyncio.create_task` takes it) and like an `asyncio.Future` afterwards. Cancelling
the task that awaits it drops the Rust future. Many completions share one wake-up of the
loop, which is any asyncio loop that can watch a descriptor; asyncio itself is not patched.
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import functools
import math
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, cast, overload

from . import _bridge, _core
from ._callables import check_callable
from ._channel import Channel
from ._http import http_get
from ._run import run
from ._servers import Server, start_server, start_unix_server
from ._streams import open_connection, open_unix_connection
from ._tls import TLS
from ._watch import watch

if TYPE_CHECKING:
    from .executors import ProcessPoolExecutor

__all__ = [
    "TLS",
    "Channel",
    "Response",
    "Server",
    "call_soon",
    "gather",
    "http_get",
    "interval",
    "open_connection",
    "open_unix_connection",
    "read_file",
    "run",
    "sleep",
    "start_server",
    "start_unix_server",
    "timeout",
    "to_process",
    "to_thread",
    "watch",
    "write_file",
]

T = TypeVar("T")
P = ParamSpec("P")

Response = _core.Response
if sys.platform != "win32":  # where the streams' engine is not built
    StreamReader = _core.StreamReader
    StreamWriter = _core.StreamWriter
    __all__ += ["StreamReader", "StreamWriter"]

# Rust's threads never run Python, so this is tidiness: none is left when exit goes on.
atexit.register(_core.shut_down)


@overload
def sleep(delay: float) -> Coroutine[Any, Any, None]: ...
@overload
def sleep(delay: float, result: T) -> Coroutine[Any, Any, T]: ...
def sleep(delay: float, result: object = None) -> Coroutine[Any, Any, object]:
    """Suspend the task for some time, as `asyncio.sleep` does, on one of tokio's timers.

    Args:
        delay: seconds; 0 or less lets the loop go round once; any length is fine.
        result: what awaiting it gives.

    Returns:
        An awaitable of ``result``. Timers have a resolution of 1 ms and never end early.

    Raises:
        ValueError: ``delay`` is nan.

    >>> import asyncio
    >>> from plait import aio
    >>> asyncio.run(aio.sleep(0.001, "slept"))
    'slept'
    """
    return _core.sleep(delay, result)


@overload
def gather(
    *aws: Awaitable[T], return_exceptions: Literal[False] = False
) -> Coroutine[Any, Any, list[T]]: ...
@overload
def gather(
    *aws: Awaitable[T], return_exceptions: bool
) -> Coroutine[Any, Any, list[T | BaseException]]: ...
def gather(*aws: Awaitable[Any], return_exceptions: bool = False) -> Coroutine[Any, Any, list[Any]]:
    """Run awaitables at once and wait for all of them, as `asyncio.gather` does.

    plait's own awaitables are not wrapped in tasks, which makes thousands of them cheap;
    coroutines and other futures may be mixed in.

    Args:
        *aws: coroutines, futures, plait's awaitables.
        return_exceptions: put exceptions into the list instead of raising the first one.

    Returns:
        An awaitable of the list of results, in the order of ``aws``.

    >>> import asyncio
    >>> from plait import aio
    >>> async def main():
    ...     return await aio.gather(aio.sleep(0.002, "a"), aio.sleep(0.001, "b"))
    >>> asyncio.run(main())
    ['a', 'b']
    """
    running = asyncio._get_running_loop() is not None
    if not _are_ours(aws):
        aws = tuple(
            _core.await_future(one) if isinstance(one, _core.BaseFuture) else one for one in aws
        )
    if _are_ours(aws):
        native = cast("tuple[_core.Awaitable, ...]", aws)
        group = _core.gather(native, return_exceptions)
        if running:
            group.start()
        return group
    if not running:
        return _gather_when_awaited(aws, return_exceptions)
    for one in aws:
        if isinstance(one, _core.Awaitable):
            one.start()  # asyncio takes it for a future then, and makes no task for it
    mixed = asyncio.gather(*aws, return_exceptions=return_exceptions)
    return cast("Coroutine[Any, Any, list[Any]]", mixed)


def _are_ours(aws: tuple[Awaitable[Any], ...]) -> bool:
    return set(map(type, aws)) <= {_core.Awaitable}


async def _gather_when_awaited(aws: tuple[Awaitable[Any], ...], return_exceptions: bool) -> Any:
    return await gather(*aws, return_exceptions=return_exceptions)


def to_thread(fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
    """Call a blocking function on another thread, as `asyncio.to_thread` does.

    The threads are plait's own (``plait-thread-N``, at most as many as asyncio's default
    executor has). They are daemons: unlike asyncio's, neither ``asyncio.run`` nor the end of
    the program waits for a call that nobody awaits any more.

    Args:
        fn: what to call; it sees a copy of the caller's context variables.
        *args: its arguments.
        **kwargs: its keyword arguments.

    Returns:
        An awaitable of the call's value; it raises the call's exception. Cancelling it takes
        back a call that has not begun; one that has goes on, and its outcome is dropped.

    Raises:
        TypeError: ``fn`` is not callable.

    >>> import asyncio
    >>> from plait import aio
    >>> asyncio.run(aio.to_thread(sum, [1, 2, 3]))
    6
    """
    check_callable("fn", fn)
    call = functools.partial(contextvars.copy_context().run, fn, *args, **kwargs)
    return _core.to_thread(call)


def to_process(fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
    """Call a function in another process; asyncio has `loop.run_in_executor` for it.

    The processes are those of one `plait.ProcessPoolExecutor`, `plait.cpu_count()` of them, made
    on first use. Functions need not be importable: lambdas, closures and those of ``__main__``
    travel by value.

    Args:
        fn: what to call.
        *args: its arguments.
        **kwargs: its keyword arguments.

    Returns:
        An awaitable of the call's value; it raises the call's exception. Cancelling it takes
        back a call that has not begun, and ends the process of one that has.

    Raises:
        TypeError: ``fn`` is not callable.
        WorkerDied: when awaited: the process died.
        SerializationError: when awaited: something could not be sent to the process, or back.

    >>> import asyncio
    >>> from plait import aio
    >>> asyncio.run(aio.to_process(sum, [1, 2, 3]))
    6
    """
    check_callable("fn", fn)
    return _to_process(functools.partial(fn, *args, **kwargs))


async def _to_process(call: Callable[[], T]) -> T:
    future = _process_pool().submit(call)
    try:
        return await future
    except asyncio.CancelledError:
        future.cancel(running=True)
        raise


@functools.cache
def _process_pool() -> ProcessPoolExecutor:
    from .executors import ProcessPoolExecutor  # not above: it imports multiprocessing

    return ProcessPoolExecutor()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_process_pool.cache_clear)


def call_soon(
    loop: asyncio.AbstractEventLoop,
    fn: Callable[..., object],
    /,
    *args: Any,
    context: contextvars.Context | None = None,
) -> None:
    """Have a loop call a function, from any thread, as its ``call_soon_threadsafe`` does.

    Calls are made in the order in which they came, but not in order with those that the loop's
    own methods take; many of them share one wake-up of the loop, and none can be taken back.

    Args:
        loop: the loop, running or not.
        fn: what to call, in the loop's thread.
        *args: its arguments.
        context: the context to call it in; None: a copy of the caller's.

    Raises:
        RuntimeError: the loop is closed.

    >>> import asyncio, threading
    >>> from plait import aio
    >>> async def main():
    ...     loop, done = asyncio.get_running_loop(), asyncio.Event()
    ...     threading.Thread(target=aio.call_soon, args=(loop, done.set)).start()
    ...     return await done.wait()
    >>> asyncio.run(main())
    True
    """
    _bridge.bridge_of(loop).call(fn, context or contextvars.copy_context(), args)


def timeout(delay: float | None) -> asyncio.Timeout:
    """Limit how long a block of code may take: ``async with timeout(s):``.

    It is `asyncio.timeout`, which cancels what the block awaits, plait's awaitables too.

    Args:
        delay: seconds; None: no limit.

    Raises:
        ValueError: ``delay`` is nan.
        TimeoutError: at the end of a block that took too long.

    >>> import asyncio
    >>> from plait import aio
    >>> async def main():
    ...     try:
    ...         async with aio.timeout(0.001):
    ...             await aio.sleep(60)
    ...     except TimeoutError:
    ...         return "too late"
    >>> asyncio.run(main())
    'too late'
    """
    if delay is not None and math.isnan(delay):
        raise ValueError("delay must be a number of seconds or None, got nan")
    return asyncio.timeout(delay)


def interval(period: float) -> AsyncIterator[int]:
    """Tick regularly: ``async for n in interval(s):``; asyncio has no counterpart.

    The first tick comes at once. Ticks stay on the grid that the first one sets, however long
    the loop's body takes: it delays none after it, and those that it missed are skipped.

    Args:
        period: seconds from tick to tick, above 0.

    Returns:
        An async iterator over the ticks' numbers, 0, 1, 2, … with gaps where some were missed.

    Raises:
        ValueError: ``period`` is not a positive number.

    >>> import asyncio
    >>> from plait import aio
    >>> async def main():
    ...     async for n in aio.interval(0.001):
    ...         if n >= 3:
    ...             return "done"
    >>> asyncio.run(main())
    'done'
    """
    if not 0 < period < math.inf:
        raise ValueError(f"period must be a positive number of seconds, got {period}")
    return _ticks(period)


async def _ticks(period: float) -> AsyncIterator[int]:
    clock = asyncio.get_running_loop().time
    first, tick = clock(), 0
    while True:
        yield tick
        tick = max(tick + 1, math.ceil((clock() - first) / period))
        await sleep(first + tick * period - clock())


def read_file(path: str | os.PathLike[str]) -> Coroutine[Any, Any, bytes]:
    """Read a whole file, on a thread of Rust's; asyncio has no counterpart.

    Args:
        path: the file.

    Returns:
        An awaitable of its bytes.

    Raises:
        FileNotFoundError: there is none; other kinds of OSError: as of `open`.

    >>> import asyncio
    >>> from plait import aio
    >>> asyncio.run(aio.read_file("/dev/null"))
    b''
    """
    return _core.read_file(path)


def write_file(
    path: str | os.PathLike[str], data: bytes | bytearray | memoryview | str
) -> Coroutine[Any, Any, int]:
    """Make a file, or replace its contents, on a thread of Rust's; asyncio has no counterpart.

    Args:
        path: the file; its folder must be there.
        data: its bytes; text is written as UTF-8. They are copied when this is called.

    Returns:
        An awaitable of the number of bytes. If it is cancelled, the file may be written or not.

    Raises:
        OSError: it can't be written: as of `open`.

    >>> import asyncio
    >>> from plait import aio
    >>> asyncio.run(aio.write_file("/dev/null", b"hello"))
    5
    """
    return _core.write_file(
        path, data.encode() if isinstance(data, str) else bytes(memoryview(data))
    )
