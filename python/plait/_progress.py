"""A bar on stderr, for work whose results come one by one. Needs rich."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

__all__ = ["bar", "shown"]

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


def shown(results: Iterator[T], total: int | None) -> Iterator[T]:
    """The same results; the bar advances with each one."""
    with bar(total) as advance:
        for result in results:
            yield result
            advance(1)
