"""Which of a host's addresses answers first: RFC 8305, "happy eyeballs".

One address after the other is tried, each a moment after the last one or as soon as that one
has failed; the first connection wins, and what else is under way is given up. (The standard
library's `asyncio.staggered` may, before 3.12.8, lose a connection that was made while the race
was cancelled.)
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

__all__ = ["DELAY", "first_to_answer", "interleaved"]

T = TypeVar("T")
Address = tuple[int, tuple[Any, ...]]

# Seconds from one attempt to the next; the RFC's.
DELAY = 0.25


def interleaved(addresses: Sequence[Address], first: int = 1) -> list[Address]:
    """Addresses of one family and the other in turns, after so many of the preferred one.

    >>> interleaved([(6, ("a",)), (6, ("b",)), (2, ("c",)), (6, ("d",))])
    [(6, ('a',)), (2, ('c',)), (6, ('b',)), (6, ('d',))]
    """
    families: dict[int, list[Address]] = {}
    for address in addresses:
        families.setdefault(address[0], []).append(address)
    groups = list(families.values())
    head = groups[0][: first - 1] if groups else []
    if groups:
        groups[0] = groups[0][first - 1 :]
    turns = itertools.zip_longest(*groups)
    return head + [one for turn in turns for one in turn if one is not None]


async def first_to_answer(
    attempts: Sequence[Callable[[], Coroutine[Any, Any, T]]],
    delay: float | None,
    discard: Callable[[T], object],
) -> tuple[T | None, list[OSError]]:
    """The first attempt's value that comes, and the errors of those that failed before.

    Args:
        attempts: what to try, each at most once.
        delay: seconds until the next one is tried beside the last; None: only when that failed.
        discard: what to do with a value that came second.
    """
    errors: list[OSError] = []
    running: set[asyncio.Task[T]] = set()
    winner: asyncio.Task[T] | None = None
    waiting = iter(attempts)
    try:
        more = True
        while winner is None:
            attempt = next(waiting, None)
            if attempt is not None:
                running.add(asyncio.create_task(attempt()))
            elif not running:
                return None, errors
            else:
                more = False
            limit = delay if more else None
            done, _ = await asyncio.wait(
                running, timeout=limit, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                error = task.exception()
                if error is None:
                    winner = winner or task
                    continue
                running.discard(task)
                if not isinstance(error, OSError):
                    raise error
                errors.append(error)
        return winner.result(), errors
    finally:
        running -= {winner}
        for task in running:
            task.cancel()
            task.add_done_callback(lambda ended: _give_up(ended, discard))
        if running:
            await asyncio.wait(running)  # so that no socket of theirs outlives this


def _give_up(task: asyncio.Task[T], discard: Callable[[T], object]) -> None:
    if not task.cancelled() and task.exception() is None:
        discard(task.result())
