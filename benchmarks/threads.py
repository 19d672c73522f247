"""plait's threads and `map` against the standard library's: both in this run, in turns, the
best of some rounds of each.

Read the ratios; the absolute figures are this machine's.
"""

from __future__ import annotations

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


def main() -> None:
    rows: list[tuple[str, int, Callable[[], object], Callable[[], object]]] = [
        (
            "Thread: start and join",
            100,
            lambda: start_and_join(plait.Thread),
            lambda: start_and_join(threading.Thread),
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
