"""Random programs of threads and coroutines that wait, give up and are cancelled: whatever the
interleaving, nothing is lost and nothing comes twice.

Each program ends by itself, however its threads run: a queue is shut down in the end, and a lock
is let go of by whoever has it. Only what must be true in every interleaving is checked.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import plait
import pytest
from hypothesis import given
from hypothesis import strategies as st
from interleavings import Action, patience, programs, run_all, unless_cancelled

QUEUE_ACTIONS = st.lists(st.tuples(st.sampled_from(["put", "get"]), patience), max_size=12)
LOCK_ACTIONS = st.lists(st.tuples(st.just("hold"), patience), max_size=10)


class User:
    """An actor's use of a queue, and what came of it."""

    def __init__(self, name: int, channel: plait.Queue[Any], actions: list[Action]) -> None:
        self.name, self.channel, self.actions = name, channel, actions
        self.put: list[tuple[int, int]] = []
        self.got: list[tuple[int, int]] = []

    def run(self) -> None:
        for number, (action, limit) in enumerate(self.actions):
            timeout = None if limit is None else limit / 1000
            try:
                if action == "put":
                    self.channel.put((number, self.name), timeout=timeout)
                    self.put.append((number, self.name))
                else:
                    self.got.append(self.channel.get(timeout=timeout))
                    self.channel.task_done()
            except (plait.Empty, plait.Full):
                pass
            except plait.ShutDown:
                return

    async def run_async(self) -> None:
        for number, (action, limit) in enumerate(self.actions):
            try:
                if action == "put":
                    item = (number, self.name)
                    await unless_cancelled(self.channel.put_async(item), limit)
                    self.put.append(item)
                else:
                    getting = self.channel.get_async()
                    self.got.append(await unless_cancelled(getting, limit))
                    self.channel.task_done()
            except asyncio.CancelledError:
                pass
            except plait.ShutDown:
                return


def in_one_loop(users: list[User]) -> Callable[[], None]:
    async def main() -> None:
        await asyncio.gather(*(user.run_async() for user in users))

    return lambda: asyncio.run(main())


@pytest.mark.parametrize("opened", [False, True], ids=["native", "open"])
@programs
@given(
    kind=st.sampled_from([plait.Queue, plait.LifoQueue, plait.PriorityQueue]),
    maxsize=st.integers(0, 3),
    threads=st.lists(QUEUE_ACTIONS, max_size=3),
    loops=st.lists(st.lists(QUEUE_ACTIONS, max_size=3), max_size=2),
    ends_after_ms=st.integers(0, 5),
    immediate=st.booleans(),
)
def test_queues(
    opened: bool,
    kind: type[plait.Queue[Any]],
    maxsize: int,
    threads: list[list[Action]],
    loops: list[list[list[Action]]],
    ends_after_ms: int,
    immediate: bool,
) -> None:
    channel = kind(maxsize)
    if opened:
        assert channel.mutex is not None
    users: list[User] = []

    def user(actions: list[Action]) -> User:
        users.append(User(len(users), channel, actions))
        return users[-1]

    actors: list[Callable[[], object]] = [user(actions).run for actions in threads]
    actors += [in_one_loop([user(actions) for actions in loop]) for loop in loops]

    def end() -> None:
        time.sleep(ends_after_ms / 1000)  # any moment will do
        channel.shutdown(immediate)

    run_all(actors, end)
    put = Counter(item for each in users for item in each.put)
    got = Counter(item for each in users for item in each.got)
    left = Counter(channel.get() for _ in range(channel.qsize()))
    assert max([*put.values(), *got.values(), 0]) <= 1
    if immediate:
        assert not left
        assert got <= put
        assert channel.unfinished_tasks == 0
    else:
        assert got + left == put
        assert channel.unfinished_tasks == left.total()
    if kind is plait.Queue:
        for each in users:
            for producer in users:
                numbers = [number for number, name in each.got if name == producer.name]
                assert numbers == sorted(numbers)
    with pytest.raises(plait.ShutDown):
        channel.get_nowait()


class Held:
    """Who is inside of something that admits so many at once."""

    def __init__(self, most: int) -> None:
        self.most, self.inside, self.guard = most, 0, threading.Lock()

    def enter(self) -> None:
        with self.guard:
            self.inside += 1
            assert self.inside <= self.most

    def leave(self) -> None:
        with self.guard:
            self.inside -= 1


def holds(lock: Any, held: Held, actions: list[Action]) -> None:
    for _, limit in actions:
        if lock.acquire(timeout=30 if limit is None else limit / 1000):
            held.enter()
            held.leave()
            lock.release()
        else:
            assert limit is not None, "it was never had"


async def holds_async(lock: Any, held: Held, actions: list[Action]) -> None:
    for _, limit in actions:
        try:
            await unless_cancelled(lock.acquire_async(), limit)
        except asyncio.CancelledError:
            continue
        held.enter()
        await asyncio.sleep(0)
        held.leave()
        lock.release()


@programs
@given(
    most=st.integers(0, 3),
    threads=st.lists(LOCK_ACTIONS, max_size=3),
    loops=st.lists(st.lists(LOCK_ACTIONS, max_size=3), max_size=2),
)
def test_locks_and_semaphores(
    most: int, threads: list[list[Action]], loops: list[list[list[Action]]]
) -> None:
    lock: Any = plait.Lock() if most == 0 else plait.BoundedSemaphore(most)
    held = Held(max(most, 1))

    def loop_of(tasks: list[list[Action]]) -> Callable[[], None]:
        async def main() -> None:
            await asyncio.gather(*(holds_async(lock, held, actions) for actions in tasks))

        return lambda: asyncio.run(main())

    actors: list[Callable[[], object]] = [
        lambda actions=actions: holds(lock, held, actions)  # type: ignore[misc]
        for actions in threads
    ]
    run_all([*actors, *map(loop_of, loops)], lambda: None)
    assert held.inside == 0
    for _ in range(held.most):
        assert lock.acquire(blocking=False)
    assert not lock.acquire(blocking=False)
