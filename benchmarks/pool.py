"""plait's process pool against others: in one run, in turns, each the best of some rounds.

``python benchmarks/pool.py [--large] [--soak MINUTES]``. Each ratio stands beside the one that
is aimed at; the absolute figures are this machine's. All results are compared: a pool that
returns a wrong one is refused. `--large` measures memory: ten million items, an array of 1 GB.
`--soak` runs for so many minutes and tells whether memory and descriptors stay where they were.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import _pool_memory
import joblib
import numpy as np
import plait

FORK = multiprocessing.get_context("fork")
LENGTH = 100_000_000 // 8


def small(n: int) -> int:
    return n + 1


def echo(value: bytes) -> bytes:
    return value


def negate(array: np.ndarray) -> np.ndarray:
    return -array


def four_microseconds(n: int) -> int:
    total = n
    for k in range(250):
        total += k
    return total


# ---- the ways to use each pool -----------------------------------------------------------------


def mapped(count: int, **options: Any) -> Callable[[Any], list[int]]:
    return lambda pool: list(pool.map(small, range(count), **options))


def submitted(count: int) -> Callable[[Any], list[int]]:
    def run(pool: Any) -> list[int]:
        return [future.result() for future in [pool.submit(small, n) for n in range(count)]]

    return run


def round_trips(count: int) -> Callable[[Any], list[int]]:
    return lambda pool: [pool.submit(small, n).result() for n in range(count)]


def cold(pool: Callable[[], Any]) -> list[int]:
    with pool() as executor:
        return [future.result() for future in [executor.submit(small, n) for n in range(2)]]


@dataclass
class Side:
    """One pool's way to do a job: so many operations, and what must come of them."""

    run: Callable[[], Any]
    count: int
    expected: Any

    def seconds(self) -> float | None:
        """For one operation; None: the result was wrong."""
        began = time.perf_counter()
        result = self.run()
        took = time.perf_counter() - began
        same = np.array_equal if isinstance(self.expected, np.ndarray) else None
        right = same(result, self.expected) if same else result == self.expected
        return took / self.count if right else None


def compare(job: str, target: str, rounds: int, ours: Side, theirs: Side) -> None:
    best = [float("inf"), float("inf")]
    for _ in range(rounds):
        for number, side in enumerate((ours, theirs)):
            seconds = side.seconds()
            if seconds is None:
                print(f"{job:58} refused: {'the peer' if number else 'plait'} gave a wrong result")
                return
            best[number] = min(best[number], seconds)
    mine, peer = (seconds * 1e6 for seconds in best)
    print(f"{job:58}{mine:12.2f}{peer:12.2f}{peer / mine:8.1f}x   {target}", flush=True)


def ints(count: int) -> list[int]:
    return list(range(1, count + 1))


@contextlib.contextmanager
def pools() -> Iterator[tuple[Any, Any, Any]]:
    """plait's, ProcessPoolExecutor and Pool, two workers each, that have worked before."""
    executors = (
        plait.ProcessPoolExecutor(2),
        concurrent.futures.ProcessPoolExecutor(2, mp_context=FORK),
        FORK.Pool(2),
    )
    try:
        for pool in executors:
            list(pool.map(four_microseconds, range(200)))
        yield executors
    finally:
        executors[0].shutdown()
        executors[1].shutdown()
        executors[2].close()
        executors[2].join()


def small_tasks() -> None:
    compare(
        "cold pool, 2 tasks, shutdown / ProcessPoolExecutor, fork",
        "at least 4x",
        15,
        Side(lambda: cold(lambda: plait.ProcessPoolExecutor(2)), 1, ints(2)),
        Side(
            lambda: cold(lambda: concurrent.futures.ProcessPoolExecutor(2, mp_context=FORK)),
            1,
            ints(2),
        ),
    )
    with pools() as (ours, executor, pool):
        many, few = 20_000, 1500
        one = Side(lambda: mapped(many, chunksize=1)(ours), many, ints(many))
        compare(
            "map, chunksize 1, an item / ProcessPoolExecutor.map",
            "at least 100x",
            5,
            one,
            Side(lambda: mapped(few, chunksize=1)(executor), few, ints(few)),
        )
        compare(
            "map, chunksize 1, an item / Pool.map, chunksize 1",
            "at least 40x",
            5,
            one,
            Side(lambda: mapped(few * 3, chunksize=1)(pool), few * 3, ints(few * 3)),
        )
        payloads = [os.urandom(1024) for _ in range(many)]
        compare(
            "map, default chunks, 1 KB there and back / Pool.map",
            "at least 2x",
            7,
            Side(lambda: list(ours.map(echo, payloads)), many, payloads),
            Side(lambda: pool.map(echo, payloads), many, payloads),
        )
        compare(
            "submit + result, a batch, a task / ProcessPoolExecutor",
            "at least 50x",
            5,
            Side(lambda: submitted(many)(ours), many, ints(many)),
            Side(lambda: submitted(few)(executor), few, ints(few)),
        )
        compare(
            "one round trip / ProcessPoolExecutor",
            "at least 3x",
            9,
            Side(lambda: round_trips(300)(ours), 300, ints(300)),
            Side(lambda: round_trips(300)(executor), 300, ints(300)),
        )
        wanted = [four_microseconds(n) for n in range(many)]
        for label, options in (("default chunks", {}), ("chunksize 1", {"chunksize": 1})):
            compare(
                f"4 µs tasks, {label}, 2 workers / a serial loop",
                "more than 1x",
                7,
                Side(
                    lambda options=options: list(
                        ours.map(four_microseconds, range(many), **options)
                    ),
                    many,
                    wanted,
                ),
                Side(lambda: [four_microseconds(n) for n in range(many)], many, wanted),
            )


def large_arrays() -> None:
    array = np.arange(LENGTH, dtype=np.float64)
    with pools() as (ours, executor, _), joblib.Parallel(n_jobs=2) as parallel:
        mine = Side(lambda: ours.submit(negate, array).result(), 1, -array)
        mine.seconds()
        compare(
            "100 MB array there and back (-x) / ProcessPoolExecutor",
            "at least 20x",
            4,
            mine,
            Side(lambda: executor.submit(negate, array).result(), 1, -array),
        )
        compare(
            "100 MB array there and back (-x) / joblib",
            "at least 10x",
            4,
            mine,
            Side(lambda: parallel([joblib.delayed(negate)(array)])[0], 1, -array),
        )
        joblib.externals.loky.get_reusable_executor().shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", action="store_true", help="measure memory too")
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="run for so long")
    arguments = parser.parse_args()
    if arguments.soak is not None:
        sys.exit(not _pool_memory.soak(arguments.soak))
    with plait.ProcessPoolExecutor(1) as pool:
        pool.submit(small, 1).result()  # the zygote runs
    print(f"{'µs, best of some rounds':58}{'plait':>12}{'peer':>12}{'ratio':>9}   aim")
    small_tasks()
    large_arrays()
    fine = _pool_memory.idle()
    if arguments.large:
        fine = _pool_memory.generator() and _pool_memory.one_array() and fine
    sys.exit(not fine)


if __name__ == "__main__":
    main()
