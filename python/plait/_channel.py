"""`plait.aio.Channel`: messages between threads, coroutines and Rust tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from . import _core

__all__ = ["Channel"]

T = TypeVar("T")


class Channel(_core.BaseChannel, Generic[T]):
    """A queue that can be closed, for threads and coroutines of any loops at once.

    Where `queue.Queue` is for threads and `asyncio.Queue` for one loop, either end of a channel
    may be used by any of them: the plain methods wait in the calling thread, those that end in
    ``_async`` in the calling task. Messages are received in the order in which they were sent,
    each once; who waits is served in turn. Iterating, by ``for`` or ``async for``, ends when the
    channel was closed and is empty.

    A receive that is cancelled, timed out or interrupted loses no message: the next one gets it.
    A send that is cancelled has sent nothing.

    Args:
        capacity: messages that may wait in it, at least 1; None: any number, `send` never waits.

    Raises:
        ValueError: ``capacity`` is less than 1.

    >>> import asyncio, threading
    >>> from plait import aio
    >>> channel = aio.Channel(2)
    >>> def produce():
    ...     for n in range(5):
    ...         channel.send(n)
    ...     channel.close()
    >>> async def main():
    ...     threading.Thread(target=produce).start()
    ...     return [n async for n in channel]
    >>> asyncio.run(main())
    [0, 1, 2, 3, 4]
    """

    def __new__(cls, capacity: int | None) -> Channel[T]:
        return super().__new__(cls, capacity)  # type: ignore[return-value]

    async def send_async(self, value: T) -> None:
        """Put a message in; the task waits for a place.

        Args:
            value: any object.

        Raises:
            ChannelClosed: the channel is closed, perhaps while this waited.

        >>> import asyncio
        >>> from plait import aio
        >>> async def main():
        ...     channel = aio.Channel(1)
        ...     await channel.send_async("hello")
        ...     return await channel.recv_async()
        >>> asyncio.run(main())
        'hello'
        """
        # In two steps: between the second and the task's going on no cancellation can come.
        if not self._send_at_once(value):
            await self._reserve()
            self._fill(value)

    if TYPE_CHECKING:  # the methods are the base class's, in Rust; here they get T

        def send(self, value: T, timeout: float | None = None) -> None: ...
        def try_send(self, value: T) -> None: ...
        def recv(self, timeout: float | None = None) -> T: ...
        def try_recv(self) -> T: ...
        def recv_async(self) -> Coroutine[Any, Any, T]: ...  # type: ignore[override]
        def __iter__(self) -> Iterator[T]: ...  # type: ignore[override]
        def __next__(self) -> T: ...
        def __aiter__(self) -> AsyncIterator[T]: ...  # type: ignore[override]
        def __anext__(self) -> Coroutine[Any, Any, T]: ...  # type: ignore[override]
