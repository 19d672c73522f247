"""plait's threads and `map` against the standard library's: both in this run, in turns, the
best of some rounds of each.

Read the ratios; the absolute figures are this machine's.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import plait

ROUNDS = 7


def start_and_join(kind: type[threading.Thread]) -> None:
    for _ in range(100):
        thread = kind(target=int)
        thread.start()
        thread.join()


def small(item: int) -> int:
    return item + 1


def computes(item: int) -> int:
    return sum(range(200_000)) + item


def naps(_: int) -> int:
    time.sleep(0.005)
    return 0


def in_pool(
    pool: type[ThreadPoolExecutor | ProcessPoolExecutor],
    fn: Callable[[int], int],
    count: int,
    workers: int | None = 2,
) -> None:
    with pool(workers) as executor:
        list(executor.map(fn, range(count)))


def batch(pool: type[ThreadPoolExecutor]) -> None:
    with pool(2) as executor:
        futures = [executor.submit(small, item) for item in range(20_000)]
        for future in futures:
            future.result()


def round_trips(pool: type[ThreadPoolExecutor]) -> None:
    with pool(2) as executor:
        for item in range(2000):
            executor.submit(small, item).result()


def wrapped(pool: type[ThreadPoolExecutor], *, gathered: bool) -> None:
    async def run() -> None:
        with pool(2) as executor:
            if gathered:
                calls = (executor.submit(small, item) for item in range(2000))
                await asyncio.gather(*map(asyncio.wrap_future, calls))
                return
            for item in range(2000):
                await asyncio.wrap_future(executor.submit(small, item))

    asyncio.run(run())


def main() -> None:
    rows: list[tuple[str, int, Callable[[], object], Callable[[], object]]] = [
        (
            "Thread: start and join",
            100,
            lambda: start_and_join(plait.Thread),
            lambda: start_and_join(threading.Thread),
        ),
        (
            "pool: submit and result, a batch",
            20_000,
            lambda: batch(plait.ThreadPoolExecutor),
            lambda: batch(ThreadPoolExecutor),
        ),
        (
            "pool: a task's round trip",
            2000,
            lambda: round_trips(plait.ThreadPoolExecutor),
            lambda: round_trips(ThreadPoolExecutor),
        ),
        (
            "wrap_future, one by one",
            2000,
            lambda: wrapped(plait.ThreadPoolExecutor, gathered=False),
            lambda: wrapped(ThreadPoolExecutor, gathered=False),
        ),
        (
            "wrap_future, gathered",
            2000,
            lambda: wrapped(plait.ThreadPoolExecutor, gathered=True),
            lambda: wrapped(ThreadPoolExecutor, gathered=True),
        ),
        (
            "map of 2000 tiny calls, threads",
            2000,
            lambda: plait.map(small, range(2000), how="thread", workers=2),
            lambda: in_pool(ThreadPoolExecutor, small, 2000),
        ),
        (
            "map of 20 sleeps of 5 ms, auto",
            20,
            lambda: plait.map(time.sleep, [0.005] * 20),
            lambda: in_pool(ThreadPoolExecutor, naps, 20, None),
        ),
        (
            "map of 60 calls that compute",
            60,
            lambda: plait.map(computes, range(60), how="process", workers=2),
            lambda: in_pool(ProcessPoolExecutor, computes, 60),
        ),
        (
            "the same, auto against serial",
            60,
            lambda: plait.map(computes, range(60)),
            lambda: [computes(item) for item in range(60)],
        ),
        (
            "2000 tiny calls, auto / serial",
            2000,
            lambda: plait.map(small, range(2000)),
            lambda: [small(item) for item in range(2000)],
        ),
    ]
    print(f"{'':34}{'plait':>12}{'stdlib':>12}{'ratio':>8}")
    for name, count, ours, theirs in rows:
        best = [float("inf"), float("inf")]
        for _ in range(ROUNDS):
            for side, run in enumerate((ours, theirs)):
                start = time.perf_counter()
                run()
                best[side] = min(best[side], time.perf_counter() - start)
        plait_us, peer_us = (seconds / count * 1e6 for seconds in best)
        print(f"{name:34}{plait_us:9.1f} us{peer_us:9.1f} us{peer_us / plait_us:7.1f}x")


if __name__ == "__main__":
    main()
