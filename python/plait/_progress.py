"""A bar on stderr, for work whose results come one by one. Needs rich."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Generic, Self, TypeVar

from ._pool_engine import Results

__all__ = ["Shown", "bar"]

T = TypeVar("T")


@contextlib.contextmanager
def bar(total: int | None) -> Iterator[Callable[[int], None]]:
    """Shows a bar while the block runs; what it gives advances it.

    Raises:
        ImportError: rich is not installed.
    """
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
    except ImportError as error:
        raise ImportError("progress=True needs rich: pip install 'plait[lab]'") from error
    columns = BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("map", total=total)
        yield lambda count: progress.advance(task, count)


class Shown(Generic[T]):
    """A map's results, with a bar that advances with each one that is taken, from the first on."""

    def __init__(self, results: Results, total: int | None) -> None:
        self._results, self._total = results, total
        self._advance: Callable[[int], None] | None = None
        self._shows = contextlib.ExitStack()
        # If it is dropped half-way, too: a bar has a thread.
        self._end = weakref.finalize(self, self._shows.close)

    def _taken(self, count: int = 1) -> None:
        if self._advance is None:
            self._advance = self._shows.enter_context(bar(self._total))
        self._advance(count)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        self._taken(0)
        try:
            result: T = next(self._results)
        except BaseException:
            self._end()
            raise
        self._taken()
        return result

    async def __aiter__(self) -> AsyncIterator[T]:
        self._taken(0)
        try:
            async for result in self._results:
                self._taken()
                yield result
        finally:
            self._end()

    def close(self) -> None:
        """Takes back what has not begun; there are no further results."""
        self._results.close()
        self._end()
