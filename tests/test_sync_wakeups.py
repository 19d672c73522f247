"""Conditions, events, barriers and read-write locks in random programs of threads and coroutines:
whoever gives up, no token and no wake-up is lost.

Each program is brought to where nobody moves any more, and then all who should have gone on must
have. Only what must be true in every interleaving is checked.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import plait
import pytest
from hypothesis import given
from hypothesis import strategies as st
from interleavings import patience, programs, run_all, unless_cancelled
from plait.sync import statistics

Limit = int | None
LIMITS = st.lists(patience, max_size=4)
LOOPS = st.lists(LIMITS, max_size=2)


def until(true: Callable[[], object]) -> None:
    """Waits for what other threads are about to do."""
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.0002)


def seconds(limit: Limit) -> float | None:
    return None if limit is None else limit / 1000


def loop_of(actor: Callable[[Limit], Any], limits: list[Limit]) -> Callable[[], None]:
    """A thread with a loop, in which so many tasks act."""

    async def main() -> None:
        await asyncio.gather(*map(actor, limits))

    return lambda: asyncio.run(main())


def actors(
    thread: Callable[[Limit], object],
    task: Callable[[Limit], Any],
    threads: list[Limit],
    loops: list[list[Limit]],
) -> list[Callable[[], object]]:
    alone: list[Callable[[], object]] = [
        lambda limit=limit: thread(limit)  # type: ignore[misc]
        for limit in threads
    ]
    return [*alone, *(loop_of(task, limits) for limits in loops)]


@pytest.mark.parametrize("make", [plait.Lock, plait.RLock], ids=lambda make: make.__name__)
@programs
@given(threads=LIMITS, loops=LOOPS, tokens=st.integers(0, 8), at_once=st.integers(1, 3))
def test_a_notification_is_never_lost(
    make: Callable[[], Any],
    threads: list[Limit],
    loops: list[list[Limit]],
    tokens: int,
    at_once: int,
) -> None:
    condition = plait.Condition(make())
    here, taken, closed = 0, 0, False

    def take() -> None:
        nonlocal here, taken
        if here:
            here, taken = here - 1, taken + 1

    def consume(limit: Limit) -> None:
        with condition:
            if condition.wait_for(lambda: here or closed, seconds(limit)):
                take()

    async def consume_async(limit: Limit) -> None:
        async def wait() -> None:
            async with condition:
                while not here and not closed:
                    await condition.wait_async()
                take()

        with contextlib.suppress(asyncio.CancelledError):
            await unless_cancelled(wait(), limit)

    def produce() -> None:
        nonlocal here, closed
        left = tokens
        while left:
            count = min(at_once, left)
            left -= count
            with condition:
                here += count
                condition.notify(count)

        def nobody_moves() -> bool:
            with condition:
                return not here or not statistics(condition).waiters

        until(nobody_moves)
        with condition:
            closed = True
            condition.notify_all()

    run_all(actors(consume, consume_async, threads, loops), produce)
    assert here + taken == tokens
    assert statistics(condition).waiters == 0
    with condition:  # nobody has kept the lock
        pass


@programs
@given(threads=LIMITS, loops=LOOPS)
def test_who_waits_when_an_event_is_set_goes_on(
    threads: list[Limit], loops: list[list[Limit]]
) -> None:
    event = plait.Event()
    passed: list[Limit] = []
    given_up: list[Limit] = []

    def wait(limit: Limit) -> None:
        (passed if event.wait(seconds(limit)) else given_up).append(limit)

    async def wait_async(limit: Limit) -> None:
        try:
            assert await unless_cancelled(event.wait_async(), limit) is True
        except asyncio.CancelledError:
            given_up.append(limit)
        else:
            passed.append(limit)

    everybody = [*threads, *(limit for limits in loops for limit in limits)]
    patient = everybody.count(None)

    def set_and_clear() -> None:
        until(lambda: len(given_up) + patient == len(everybody))
        until(lambda: statistics(event).waiters == patient)
        event.set()
        event.clear()

    run_all(actors(wait, wait_async, threads, loops), set_and_clear)
    assert passed == [None] * patient
    assert statistics(event).waiters == 0


@programs
@given(parties=st.integers(1, 3), threads=LIMITS, loops=LOOPS)
def test_barriers(parties: int, threads: list[Limit], loops: list[list[Limit]]) -> None:
    acted: list[None] = []
    barrier = plait.Barrier(parties, action=lambda: acted.append(None))
    passed: list[int] = []
    given_up: list[None] = []
    broken: list[None] = []

    def wait(limit: Limit) -> None:
        try:
            passed.append(barrier.wait(seconds(limit)))
        except threading.BrokenBarrierError:
            broken.append(None)

    async def wait_async(limit: Limit) -> None:
        try:
            passed.append(await unless_cancelled(barrier.wait_async(), limit))
        except asyncio.CancelledError:
            given_up.append(None)
        except threading.BrokenBarrierError:
            broken.append(None)

    everybody = len(threads) + sum(map(len, loops))

    def nobody_moves() -> bool:
        ended = len(passed) + len(given_up) + len(broken)
        return ended + barrier.n_waiting == everybody

    def end() -> None:
        until(nobody_moves)
        assert barrier.broken or barrier.n_waiting < parties
        barrier.abort()

    run_all(actors(wait, wait_async, threads, loops), end)
    # Each round lets one pass of each number; one that was cancelled just then says nothing.
    rounds, counts = statistics(barrier).acquisitions, Counter(passed)
    assert len(acted) >= rounds  # it may have been broken while the last one acted
    assert set(counts) <= set(range(parties))
    assert all(count <= rounds for count in counts.values())
    assert len(passed) <= parties * rounds <= len(passed) + len(given_up)
    assert barrier.n_waiting == 0


class Table:
    """Who reads and who writes."""

    def __init__(self) -> None:
        self.readers, self.writers, self.guard = 0, 0, threading.Lock()

    def change(self, kind: str, by: int) -> None:
        with self.guard:
            if kind == "read":
                self.readers += by
            else:
                self.writers += by
            assert self.writers == 0 or (self.writers, self.readers) == (1, 0)


ACCESSES = st.lists(st.tuples(st.sampled_from(["read", "write"]), patience), max_size=8)


@programs
@given(
    threads=st.lists(ACCESSES, max_size=3),
    loops=st.lists(st.lists(ACCESSES, max_size=3), max_size=2),
)
def test_read_write_locks(
    threads: list[list[tuple[str, Limit]]], loops: list[list[list[tuple[str, Limit]]]]
) -> None:
    lock, table = plait.RWLock(), Table()

    def use(accesses: list[tuple[str, Limit]]) -> None:
        for kind, limit in accesses:
            if getattr(lock, f"acquire_{kind}")(timeout=30 if limit is None else limit / 1000):
                table.change(kind, 1)
                table.change(kind, -1)
                getattr(lock, f"release_{kind}")()
            else:
                assert limit is not None, "it was never had"

    async def use_async(accesses: list[tuple[str, Limit]]) -> None:
        async def once(kind: str) -> None:
            async with lock.read() if kind == "read" else lock.write():
                table.change(kind, 1)
                try:
                    await asyncio.sleep(0)
                finally:
                    table.change(kind, -1)

        for kind, limit in accesses:
            with contextlib.suppress(asyncio.CancelledError):
                await unless_cancelled(once(kind), limit)

    def loop(users: list[list[tuple[str, Limit]]]) -> Callable[[], None]:
        async def main() -> None:
            await asyncio.gather(*map(use_async, users))

        return lambda: asyncio.run(main())

    alone: list[Callable[[], object]] = [
        lambda accesses=accesses: use(accesses)  # type: ignore[misc]
        for accesses in threads
    ]
    run_all([*alone, *map(loop, loops)], lambda: None)
    assert (table.readers, table.writers) == (0, 0)
    assert lock.acquire_write(blocking=False)
    assert not lock.acquire_read(blocking=False)
    lock.release_write()
    assert statistics(lock).waiters == 0
