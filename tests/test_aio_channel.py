"""plait.aio.Channel: between threads and coroutines, closed, cancelled, interrupted."""

from __future__ import annotations

import asyncio
import collections
import gc
import os
import pickle
import queue
import random
import signal
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import plait
import pytest
from plait import aio
from plait.errors import ChannelClosed


def test_messages_come_in_order_and_wait_for_places() -> None:
    channel: aio.Channel[int] = aio.Channel(2)
    channel.send(1)
    channel.try_send(2)
    with pytest.raises(queue.Full):
        channel.try_send(3)
    with pytest.raises(TimeoutError, match="place"):
        channel.send(3, timeout=0.001)
    assert (len(channel), channel.capacity, bool(channel)) == (2, 2, True)
    assert [channel.recv(), channel.try_recv()] == [1, 2]
    with pytest.raises(queue.Empty):
        channel.try_recv()
    with pytest.raises(TimeoutError, match="message"):
        channel.recv(timeout=0.001)


def test_a_closed_channel_gives_what_it_has_and_ends() -> None:
    channel: aio.Channel[int] = aio.Channel(None)
    for n in range(3):
        channel.send(n)
    channel.close()
    assert channel.closed
    for send in (channel.send, channel.try_send):
        with pytest.raises(ChannelClosed, match="takes no more"):
            send(3)
    with pytest.raises(EOFError):
        asyncio.run(channel.send_async(3))
    assert channel.recv() == 0
    assert list(channel) == [1, 2]
    with pytest.raises(ChannelClosed, match="no messages"):
        channel.recv()
    with pytest.raises(ChannelClosed):
        asyncio.run(channel.recv_async())


def test_bad_arguments_are_refused() -> None:
    for capacity in (0, -1):
        with pytest.raises(ValueError, match=str(capacity)):
            aio.Channel(capacity)
    channel: aio.Channel[int] = aio.Channel(1)
    with pytest.raises(ValueError, match="NaN"):
        channel.recv(timeout=float("nan"))
    with pytest.raises(TypeError, match="get_context"):
        pickle.dumps(channel)


def test_closing_wakes_all_who_wait() -> None:
    channel: aio.Channel[int] = aio.Channel(1)
    full: aio.Channel[int] = aio.Channel(1)
    full.send(0)
    ended: queue.SimpleQueue[str] = queue.SimpleQueue()

    def wait(call: Any, *args: Any) -> None:
        try:
            call(*args)
        except ChannelClosed:
            ended.put("thread")

    threads = [threading.Thread(target=wait, args=(channel.recv,)) for _ in range(3)]
    threads += [threading.Thread(target=wait, args=(full.send, 1)) for _ in range(3)]
    for thread in threads:
        thread.start()

    async def main() -> list[Any]:
        waits = [asyncio.ensure_future(channel.recv_async()) for _ in range(3)]
        waits += [asyncio.ensure_future(full.send_async(1)) for _ in range(3)]
        loops = asyncio.ensure_future(_collect(channel))
        await aio.sleep(0.002)
        channel.close()
        full.close()
        assert await loops == []
        return await asyncio.gather(*waits, return_exceptions=True)

    outcomes = asyncio.run(main())
    for thread in threads:
        thread.join()
    assert [type(outcome) for outcome in outcomes] == [ChannelClosed] * 6
    assert [ended.get() for _ in threads] == ["thread"] * 6


async def _collect(channel: aio.Channel[Any]) -> list[Any]:
    return [message async for message in channel]


def test_threads_and_loops_at_both_ends() -> None:
    channel: aio.Channel[tuple[int, int]] = aio.Channel(3)
    each, seen = 200, []

    async def produce(number: int) -> None:
        for n in range(each):
            await channel.send_async((number, n))

    async def consume() -> None:
        seen.extend(await _collect(channel))

    def produce_here(number: int) -> None:
        for n in range(each):
            channel.send((number, n))

    jobs: list[Any] = [lambda k=k: produce_here(k) for k in range(2)]
    jobs += [lambda k=k: asyncio.run(produce(k)) for k in range(2, 4)]
    producers = [threading.Thread(target=job) for job in jobs]
    ends: list[Any] = [lambda: seen.extend(channel)] * 2 + [lambda: asyncio.run(consume())] * 2
    consumers = [threading.Thread(target=end) for end in ends]
    for thread in producers + consumers:
        thread.start()
    for thread in producers:
        thread.join()
    channel.close()
    for thread in consumers:
        thread.join()
    assert sorted(seen) == [(k, n) for k in range(4) for n in range(each)]


def test_a_receive_that_is_cancelled_at_the_last_moment_gives_the_message_back() -> None:
    async def main() -> None:
        channel: aio.Channel[str] = aio.Channel(1)
        task = asyncio.ensure_future(channel.recv_async())
        await aio.sleep(0.001)
        channel.send("kept")  # wakes the task, which does not run yet
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert channel.recv(timeout=5) == "kept"
        # One that has the message and was not stepped.
        task = asyncio.ensure_future(_wait(channel))
        await aio.sleep(0.001)
        channel.send("kept too")
        asyncio.get_running_loop().call_soon(task.cancel)
        try:
            assert await task == "kept too"  # it was stepped before it was cancelled
        except asyncio.CancelledError:
            assert channel.recv(timeout=5) == "kept too"
        assert len(channel) == 0

    asyncio.run(main())


async def _wait(channel: aio.Channel[Any]) -> Any:
    return await channel.recv_async()


def test_what_nobody_awaits_takes_nothing() -> None:
    async def main() -> None:
        channel: aio.Channel[int] = aio.Channel(1)
        channel.send(1)
        with pytest.warns(RuntimeWarning, match="'recv_async' was never awaited"):
            del [channel.recv_async()][:]
        started = channel.recv_async()
        started.start()  # type: ignore[attr-defined]
        assert len(channel) == 0
        del started
        gc.collect()
        assert await channel.recv_async() == 1

    asyncio.run(main())


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="POSIX timers")
def test_a_signal_ends_a_wait_and_takes_nothing() -> None:
    class Alarm(Exception):
        pass

    def ring(*_: object) -> None:
        raise Alarm

    channel: aio.Channel[int] = aio.Channel(1)
    before = signal.signal(signal.SIGALRM, ring)
    try:
        for call in (channel.recv, lambda: (channel.send(1), channel.send(2))):
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            with pytest.raises(Alarm):
                call()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert channel.try_recv() == 1
    with pytest.raises(queue.Empty):
        channel.try_recv()


def test_a_channel_in_a_cycle_is_collected() -> None:
    class Message:
        pass

    channel: aio.Channel[Any] = aio.Channel(None)
    message = Message()
    message.channel = channel  # type: ignore[attr-defined]
    channel.send(message)
    gone = weakref.ref(message)
    del channel, message
    gc.collect()
    assert gone() is None


def possessions() -> tuple[int, int]:
    """Open descriptors, and memory in use, in bytes."""
    gc.collect()
    descriptors = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
    memory = 0
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        memory = pages * os.sysconf("SC_PAGE_SIZE")
    return descriptors, memory


async def storm(cancels: int, seed: int) -> tuple[collections.Counter[int], int]:
    """Cancels tasks at random moments, that sleep, send or receive; what was received how often,
    and how many were sent."""
    rng, channel = random.Random(seed), aio.Channel[int](4)
    received: collections.Counter[int] = collections.Counter()
    sent = cancelled = 0
    tasks: set[asyncio.Task[Any]] = set()

    async def sleep() -> None:
        await aio.gather(aio.sleep(rng.random() * 0.002), aio.sleep(rng.random() * 0.001))

    async def send() -> None:
        nonlocal sent
        number = sent
        sent += 1
        while True:
            try:
                await channel.send_async(number)
                return
            except asyncio.CancelledError:
                continue  # it was not sent, or it would be received twice

    async def receive() -> None:
        received[await channel.recv_async()] += 1

    kinds = (sleep, send, receive, receive)
    while cancelled < cancels:
        while len(tasks) < 60:
            task = asyncio.create_task(rng.choice(kinds)())
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        for task in rng.sample(sorted(tasks, key=id), 20):
            cancelled += task.cancel()
        await (aio.sleep(0.0001) if rng.random() < 0.1 else asyncio.sleep(0))
    while tasks:  # those that send go on until they have sent
        for task in tasks:
            if task.get_coro().__name__ != "send":  # type: ignore[union-attr]
                task.cancel()
        try:
            received[channel.try_recv()] += 1
        except queue.Empty:
            await asyncio.sleep(0)
    channel.close()
    async for number in channel:
        received[number] += 1
    assert asyncio.all_tasks() == {asyncio.current_task()}
    return received, sent


@pytest.mark.parametrize(
    "cancels",
    [5_000, pytest.param(100_000, marks=[pytest.mark.slow, pytest.mark.timeout(600)])],
)
def test_a_storm_of_cancels_loses_nothing(cancels: int) -> None:
    asyncio.run(storm(1_000, 1))
    descriptors, memory = possessions()
    received, sent = asyncio.run(storm(cancels, 2))
    assert received == collections.Counter(range(sent))
    after = possessions()
    assert after[0] <= descriptors
    assert after[1] - memory < 20_000_000


def test_threads_that_give_up_lose_no_message() -> None:
    channel: aio.Channel[int] = aio.Channel(1)
    received: list[int] = []
    count = 300

    def receive() -> None:
        while True:
            try:
                received.append(channel.recv(timeout=0.0002))
            except TimeoutError:
                continue
            except ChannelClosed:
                return

    threads = [plait.Thread(target=receive) for _ in range(3)]
    for thread in threads:
        thread.start()
    sent = 0
    while sent < count:
        try:
            channel.send(sent, timeout=0.0002)
            sent += 1
        except TimeoutError:
            time.sleep(0)
    channel.close()
    for thread in threads:
        thread.join()
    assert sorted(received) == list(range(count))
