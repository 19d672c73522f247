"""plait.aio against asyncio: both in this run, in turns, the best of some rounds of each.

Read the ratios; the absolute figures are this machine's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from plait import aio

ROUNDS = 5


async def one_by_one(make: Callable[[], Awaitable[object]], count: int) -> None:
    for _ in range(count):
        await make()


def rows() -> list[
    tuple[str, int, Callable[[], Awaitable[object]], Callable[[], Awaitable[object]]]
]:
    """What is measured: its name, the operations in it, plait's way, asyncio's way."""

    def sleeps() -> Awaitable[object]:
        return asyncio.gather(*(asyncio.sleep(0.1) for _ in range(10_000)))

    return [
        (
            "to_thread, one by one",
            1000,
            lambda: one_by_one(lambda: aio.to_thread(int), 1000),
            lambda: one_by_one(lambda: asyncio.to_thread(int), 1000),
        ),
        (
            "10,000 to_thread gathered",
            10_000,
            lambda: aio.gather(*(aio.to_thread(int) for _ in range(10_000))),
            lambda: asyncio.gather(*(asyncio.to_thread(int) for _ in range(10_000))),
        ),
        (
            "sleep(0), one by one",
            5000,
            lambda: one_by_one(lambda: aio.sleep(0), 5000),
            lambda: one_by_one(lambda: asyncio.sleep(0), 5000),
        ),
        (
            "10,000 sleep(0.1) gathered",
            1,
            lambda: aio.gather(*(aio.sleep(0.1) for _ in range(10_000))),
            sleeps,
        ),
    ]


async def timed(make: Callable[[], Awaitable[object]]) -> float:
    start = time.perf_counter()
    await make()
    return time.perf_counter() - start


async def main() -> None:
    print(f"{'':28}{'plait':>12}{'asyncio':>12}{'ratio':>8}")
    for name, count, ours, theirs in rows():
        best = [float("inf"), float("inf")]
        for _ in range(ROUNDS):
            for side, make in enumerate((ours, theirs)):
                best[side] = min(best[side], await timed(make))
        plait_us, peer_us = (seconds / count * 1e6 for seconds in best)
        print(f"{name:28}{plait_us:9.1f} us{peer_us:9.1f} us{peer_us / plait_us:7.1f}x")


if __name__ == "__main__":
    asyncio.run(main())
