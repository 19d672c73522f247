"""What the executors of processes and of threads have in common: maps, and limits of tasks."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from ._callables import check_callable

__all__ = ["PoolMaps", "check_limits"]

T = TypeVar("T")


class PoolMaps:
    """`map` and `imap_unordered`, on what a subclass does to start one."""

    def _start_map(self, fn: Callable[..., T], items: Iterator[Any], **how: Any) -> Iterator[T]:
        raise NotImplementedError

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        progress: bool = False,
    ) -> Iterator[T]:
        """Like ``map(fn, *iterables)``, in the pool's workers; results in order.

        Unlike the standard library's it is lazy: items are taken from the iterables as results
        are asked for, some of them ahead, so that they may be endless. Of iterables with a
        length all items are done even if no result is ever asked for.

        Args:
            fn: takes as many arguments as there are iterables.
            iterables: the arguments.
            timeout: seconds from now for all of it, None for as long as it takes.
            chunksize: items that are sent together; None: as measured.
            buffersize: items that are on their way, or done and not yet taken, at most; None:
                as measured.
            progress: shows a bar on stderr.

        Returns:
            An iterator, for ``for`` and ``async for``. It raises the first item's exception
            that there is, and ends there.

        Raises:
            TimeoutError: when iterated, after `timeout`.
        """
        return self._map(fn, iterables, timeout, chunksize, buffersize, progress, ordered=True)

    def imap_unordered(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        progress: bool = False,
    ) -> Iterator[T]:
        """As `map`, but results as they come; an item's exception does not end it."""
        return self._map(fn, iterables, timeout, chunksize, buffersize, progress, ordered=False)

    def _map(
        self,
        fn: Callable[..., T],
        iterables: tuple[Iterable[Any], ...],
        timeout: float | None,
        chunksize: int | None,
        buffersize: int | None,
        progress: bool,
        *,
        ordered: bool,
    ) -> Iterator[T]:
        check_callable("fn", fn)
        for name, value in (("chunksize", chunksize), ("buffersize", buffersize)):
            if value is None:
                continue
            if not hasattr(value, "__index__"):
                raise TypeError(f"{name} must be an integer or None, got {value!r}")
            if value < 1:
                raise ValueError(f"{name} must be None or > 0, got {value}")
        length = None
        if all(hasattr(iterable, "__len__") for iterable in iterables):
            length = min((len(iterable) for iterable in iterables), default=0)  # type: ignore[arg-type]
        star = len(iterables) != 1  # without any there are no items, as in the standard library
        items = zip(*iterables) if star else iter(iterables[0])  # noqa: B905
        results: Any = self._start_map(
            fn,
            items,
            star=star,
            ordered=ordered,
            timeout=timeout,
            chunksize=chunksize,
            buffersize=buffersize,
            length=length,
        )
        if progress:
            from ._progress import Shown

            return Shown(results, length)
        return results  # type: ignore[no-any-return]


def check_limits(timeout: float | None, retries: int, memory: int | None) -> None:
    """Refuses limits that make no sense."""
    if timeout is not None and not _number("timeout", timeout) >= 0:
        raise ValueError(f"timeout must be at least 0 seconds, got {timeout}")
    if _number("retries", retries) < 0:
        raise ValueError(f"retries must be at least 0, got {retries}")
    if memory is not None and _number("memory", memory) <= 0:
        raise ValueError(f"memory must be at least 1 byte, got {memory}")


def _number(name: str, value: Any) -> Any:
    kind = numbers.Real if name == "timeout" else numbers.Integral
    if not isinstance(value, kind):
        wanted = "a number of seconds" if name == "timeout" else "an integer"
        raise TypeError(f"{name} must be {wanted}, got {value!r}")
    return value
