"""The future that plait's executors share.

A future is a `concurrent.futures.Future`: `wait`, `as_completed`, `asyncio.wrap_future` and
`loop.run_in_executor` take it. Making and completing one costs a fraction of the standard
library's, because what that needs a lock and a condition for is an atomic word here, and the
condition is made when somebody asks for it.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, TypeVar

from . import _core

__all__ = ["Future"]

_core.install_shortcuts()

T = TypeVar("T")


class Future(_core.BaseFuture, concurrent.futures.Future[T]):
    """The outcome of a task, now or later.

    Everything of `concurrent.futures.Future`, and beyond that: it can be awaited, and
    ``cancel(running=True)`` ends a task that has begun. ``result()`` gives an exception the
    traceback that it came with each time, where the standard library's grows.

    Executors make futures; code that makes one itself completes it with `set_result` or
    `set_exception`.

    >>> from plait import Future
    >>> future = Future()
    >>> future.add_done_callback(lambda done: print("done:", done.result()))
    >>> future.set_result(42)
    done: 42
    >>> future.result(timeout=1)
    42
    """

    __slots__ = ()

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        # By it, it could refer to itself: the garbage collector is told of it from now on.
        attributes: dict[str, Any] = self._attributes()
        return attributes

    def __await__(self) -> Generator[Any, None, T]:
        """Wait for it in a coroutine; several tasks may, and each gets the outcome.

        As `asyncio.wrap_future`, at half the price (its end wakes the loop itself, by no
        callback): cancelling the task that awaits cancels the future.

        Returns:
            The task's value.

        Raises:
            asyncio.CancelledError: it was cancelled.
            RuntimeError: no event loop runs in this thread.
            BaseException: what the task raised.

        >>> import asyncio
        >>> from plait import Future
        >>> async def main() -> int:
        ...     future = Future()
        ...     asyncio.get_running_loop().call_soon(future.set_result, 7)
        ...     return await future
        >>> asyncio.run(main())
        7
        """
        awaitable: Any = _core.await_future(self)
        return awaitable  # type: ignore[no-any-return]

    if TYPE_CHECKING:  # the methods are the base class's, in Rust; here they get T

        def cancel(self, *, running: bool = False) -> bool: ...
        def result(self, timeout: float | None = None) -> T: ...  # type: ignore[override]
        def exception(  # type: ignore[override]
            self, timeout: float | None = None
        ) -> BaseException | None: ...
        def add_done_callback(self, fn: Callable[[Future[T]], object]) -> None: ...
        def set_result(self, result: T) -> None: ...
        def set_exception(self, exception: BaseException | None) -> None: ...
