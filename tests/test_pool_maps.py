"""Results of a process pool's maps: who takes them, and what becomes of those nobody takes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import plait
import pytest
from conftest import PATIENCE, Gate, until
from light import fail_at_five, first_waits, pass_gate, square
from plait.errors import SerializationError, TaskTimeout


@pytest.fixture
def pool() -> Iterator[plait.ProcessPoolExecutor]:
    with plait.ProcessPoolExecutor(1) as pool:
        yield pool


def _raise(*_: object) -> Any:
    raise ValueError("raised by unpickling")


class Unreadable:
    def __reduce__(self) -> tuple[Any, ...]:
        return _raise, ()


def unreadable_at_two(n: int) -> Any:
    return Unreadable() if n == 2 else n


@pytest.mark.parametrize("ordered", [True, False])
def test_threads_share_a_map(pool: plait.ProcessPoolExecutor, ordered: bool) -> None:
    for _ in range(20):
        results = (pool.map if ordered else pool.imap_unordered)(square, range(5))
        taken: list[int] = []
        takers = [plait.Thread(target=taken.extend, args=(results,)) for _ in range(3)]
        for taker in takers:
            taker.start()
        for taker in takers:
            taker.result(PATIENCE)
        assert sorted(taken) == [0, 1, 4, 9, 16]


def test_closing_a_map_ends_another_threads_wait(
    pool: plait.ProcessPoolExecutor, gate: Gate
) -> None:
    results: Any = pool.map(pass_gate, [gate.path] * 3)
    taker = plait.Thread(target=list, args=(results,))
    taker.start()
    until(lambda: any(not worker["idle"] for worker in pool.stats()))
    results.close()
    assert taker.result(PATIENCE) == []
    gate.open(1)


def test_coroutines_share_a_map(pool: plait.ProcessPoolExecutor) -> None:
    async def take(results: Any, taken: list[int]) -> None:
        taken.extend([result async for result in results])

    async def main() -> list[int]:
        taken: list[int] = []
        results = pool.map(square, range(7))
        takers = (take(results, taken) for _ in range(3))
        await asyncio.wait_for(asyncio.gather(*takers), PATIENCE)
        return taken

    for _ in range(10):
        assert sorted(asyncio.run(main())) == [n * n for n in range(7)]


@pytest.mark.parametrize(
    ("function", "error"), [(unreadable_at_two, SerializationError), (fail_at_five, ValueError)]
)
def test_a_map_ends_with_its_first_error(
    pool: plait.ProcessPoolExecutor, function: Any, error: type[Exception]
) -> None:
    results = pool.map(function, range(9))
    with pytest.raises(error):
        for _ in results:
            pass
    assert list(results) == []


def test_a_shutdown_lets_another_thread_feed_its_map(pool: plait.ProcessPoolExecutor) -> None:
    class Items:
        def __init__(self) -> None:
            self.begun, self.goes_on = threading.Event(), threading.Event()

        def __len__(self) -> int:
            return 10

        def __iter__(self) -> Iterator[int]:
            yield 0
            self.begun.set()
            assert self.goes_on.wait(PATIENCE)
            yield from range(1, 10)

    items = Items()
    taker = plait.Thread(target=lambda: list(pool.map(square, items)))
    taker.start()
    assert items.begun.wait(PATIENCE)
    ending = plait.Thread(target=pool.shutdown)
    ending.start()
    items.goes_on.set()
    ending.result(PATIENCE)
    assert taker.result(PATIENCE) == [n * n for n in range(10)]


@pytest.mark.skipif(sys.platform != "linux", reason="looks at the pool's shared memory")
def test_results_that_nobody_takes_are_not_kept(pool: plait.ProcessPoolExecutor) -> None:
    def shared() -> int:
        bytes_ = 0
        for entry in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):
                if "plait-pool" in os.readlink(entry):
                    bytes_ += entry.stat().st_blocks * 512
        return bytes_

    for _ in range(40):
        pool.map(bytes, [1_000_000])
        assert pool.submit(square, 2).result(PATIENCE) == 4
    assert shared() < 20_000_000


def test_functions_without_end_are_not_kept(pool: plait.ProcessPoolExecutor) -> None:
    shared: list[int] = []  # mutable, so that it is looked at anew for each task
    for closed_over in (7, shared):
        made = []
        for _ in range(400):
            function = lambda n, it=closed_over: (n, it)  # noqa: E731
            made.append(weakref.ref(function))
            assert pool.submit(function, 1).result(PATIENCE) == (1, closed_over)
        del function
        gc.collect()
        assert sum(ref() is not None for ref in made) < 300


def test_a_time_limit_ends_its_item_alone(pool: plait.ProcessPoolExecutor, gate: Gate) -> None:
    limited = pool.options(timeout=0.3)
    results = limited.imap_unordered(first_waits, [1, gate.path, 2, 3], chunksize=4)
    assert next(results) == 1
    with pytest.raises(TaskTimeout):
        next(results)
    assert list(results) == [2, 3]
