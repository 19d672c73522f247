"""plait's synchronization and queues against the standard library's, janus, culsans and
aiologic: both sides in this run, in turns, the best of some rounds of each.

Read the ratios; the absolute figures are this machine's. Run it with a release build (`make
bench`), and on a free-threaded Python for what contention costs where threads run in parallel.
"""

from __future__ import annotations

import asyncio
import queue
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import plait

ROUNDS = 7
THREADS = 8
MESSAGES = 20_000

# A row: its name, the operations in it, plait's way, the peer's name, the peer's way.
Row = tuple[str, int, Callable[[], object], str, Callable[[], object]]


def acquire_and_release(lock: Any, count: int = 20_000) -> None:
    acquire, release = lock.acquire, lock.release
    for _ in range(count):
        acquire()
        release()


def enter_and_leave(lock: Any, count: int = 20_000) -> None:
    for _ in range(count):
        with lock:
            pass


def notify(condition: Any, count: int = 20_000) -> None:
    for _ in range(count):
        with condition:
            condition.notify()


def set_and_clear(event: Any, count: int = 20_000) -> None:
    for _ in range(count):
        event.set()
        event.clear()


def put_and_get(channel: Any, count: int = 20_000) -> None:
    for _ in range(count):
        channel.put(None)
        channel.get()


def fill_and_drain(channel: Any, count: int = 20_000) -> None:
    for number in range(count):
        channel.put(number)
    for _ in range(count):
        channel.get()


def one_to_one(channel: Any, count: int = 100_000) -> None:
    """One thread puts, this one gets."""

    def produce() -> None:
        put = channel.put
        for number in range(count):
            put(number)

    producer = threading.Thread(target=produce)
    producer.start()
    get = channel.get
    for _ in range(count):
        get()
    producer.join()


def ping_pong(there: Any, back: Any, count: int = 2_000) -> None:
    """One item goes to another thread and comes back."""

    def answer() -> None:
        for _ in range(count):
            back.put(there.get())

    other = threading.Thread(target=answer)
    other.start()
    for number in range(count):
        there.put(number)
        back.get()
    other.join()


def to_coroutine(
    make: Callable[[], Any], side: Callable[[Any], tuple[Any, Any]], count: int = MESSAGES
) -> None:
    """A thread puts, a coroutine gets; `side` gives the two functions for that."""

    async def main() -> None:
        channel = make()
        put, get = side(channel)

        def produce() -> None:
            for number in range(count):
                put(number)

        producer = threading.Thread(target=produce)
        producer.start()
        for _ in range(count):
            await get()
        await asyncio.to_thread(producer.join)
        closed = getattr(channel, "aclose", None)
        if closed is not None:
            await closed()

    asyncio.run(main())


def in_coroutines(make: Callable[[], Any], enter: Callable[[Any], Awaitable[object]]) -> None:
    """Uncontended acquire and release in a coroutine."""

    async def main() -> None:
        lock = make()
        for _ in range(5_000):
            await enter(lock)
            lock.release()

    asyncio.run(main())


def contend(lock: Any, seconds: float = 0.25) -> tuple[int, float]:
    """Threads that all want one lock, with a little work inside and outside.

    Returns:
        How often it was acquired, and the longest that a thread waited for it, in seconds.
    """
    counts, longest = [0] * THREADS, [0.0] * THREADS
    begin, clock = threading.Barrier(THREADS), time.perf_counter

    def work(index: int) -> None:
        begin.wait()
        end = clock() + seconds
        count, worst = 0, 0.0
        while (asked := clock()) < end:
            with lock:
                worst = max(worst, clock() - asked)
                for _ in range(10):
                    pass
            count += 1
        counts[index], longest[index] = count, worst

    threads = [threading.Thread(target=work, args=(index,)) for index in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts), max(longest)


def uncontended() -> list[Row]:
    pairs: list[tuple[str, Callable[[Any], None], str, Callable[[], Any], Callable[[], Any]]] = [
        ("Lock: acquire, release", acquire_and_release, "threading", plait.Lock, threading.Lock),
        ("Lock: with", enter_and_leave, "threading", plait.Lock, threading.Lock),
        ("RLock: acquire, release", acquire_and_release, "threading", plait.RLock, threading.RLock),
        (
            "Semaphore: acquire, release",
            acquire_and_release,
            "threading",
            plait.Semaphore,
            threading.Semaphore,
        ),
        (
            "Condition.notify, no waiter",
            notify,
            "threading",
            plait.Condition,
            threading.Condition,
        ),
        ("Event: set, clear", set_and_clear, "threading", plait.Event, threading.Event),
        ("Queue: put, get", put_and_get, "queue", plait.Queue, queue.Queue),
        ("LifoQueue: put, get", put_and_get, "queue", plait.LifoQueue, queue.LifoQueue),
        (
            "PriorityQueue: put, get",
            fill_and_drain,
            "queue",
            plait.PriorityQueue,
            queue.PriorityQueue,
        ),
        ("SimpleQueue: put, get", put_and_get, "queue", plait.SimpleQueue, queue.SimpleQueue),
    ]
    return [
        (
            name,
            20_000,
            lambda run=run, ours=ours: run(ours()),  # type: ignore[misc]
            peer,
            lambda run=run, theirs=theirs: run(theirs()),  # type: ignore[misc]
        )
        for name, run, peer, ours, theirs in pairs
    ]


def between_threads() -> list[Row]:
    name = "one producer, one consumer"
    return [
        (
            name,
            100_000,
            lambda: one_to_one(plait.Queue()),
            "SimpleQueue",
            lambda: one_to_one(queue.SimpleQueue()),
        ),
        (
            name,
            100_000,
            lambda: one_to_one(plait.SimpleQueue()),
            "SimpleQueue",
            lambda: one_to_one(queue.SimpleQueue()),
        ),
        (
            name,
            100_000,
            lambda: one_to_one(plait.Queue()),
            "Queue",
            lambda: one_to_one(queue.Queue()),
        ),
        (
            "the same, 64 items at most",
            100_000,
            lambda: one_to_one(plait.Queue(64)),
            "Queue",
            lambda: one_to_one(queue.Queue(64)),
        ),
        (
            "there and back",
            2_000,
            lambda: ping_pong(plait.Queue(), plait.Queue()),
            "Queue",
            lambda: ping_pong(queue.Queue(), queue.Queue()),
        ),
    ]


def hand_over(count: int = 2_000) -> None:
    """Two threads give each other their turn, each waiting for the other's."""
    mine, yours = plait.Lock(), plait.Lock()
    mine.acquire()

    def answer() -> None:
        for _ in range(count):
            mine.acquire()
            yours.release()

    yours.acquire()
    other = threading.Thread(target=answer)
    other.start()
    for _ in range(count):
        mine.release()
        yours.acquire()
    other.join()


def without_search(run: Callable[[], object]) -> None:
    plait.sync.find_deadlocks(False)
    try:
        run()
    finally:
        plait.sync.find_deadlocks(True)


def of_the_search() -> list[Row]:
    """What looking for deadlocks costs: the same without it."""
    jobs: list[tuple[str, int, Callable[[], object]]] = [
        ("Lock: acquire, release", 20_000, lambda: acquire_and_release(plait.Lock())),
        ("Lock: each waits for the other", 2_000, hand_over),
    ]
    return [
        (name, count, run, "no search", lambda run=run: without_search(run))  # type: ignore[misc]
        for name, count, run in jobs
    ]


def with_coroutines() -> list[Row]:
    """Needs the extra `peers`; without it these rows are left out."""
    try:
        import aiologic
        import culsans
        import janus
    except ImportError as missing:
        print(f"(no rows for coroutines: {missing})")
        return []

    def ours() -> None:
        to_coroutine(plait.Queue, lambda queue: (queue.put, queue.get_async))

    def two_sides(channel: Any) -> tuple[Any, Any]:
        return channel.sync_q.put, channel.async_q.get

    return [
        (
            "thread to coroutine",
            MESSAGES,
            ours,
            "janus",
            lambda: to_coroutine(janus.Queue, two_sides),
        ),
        (
            "thread to coroutine",
            MESSAGES,
            ours,
            "culsans",
            lambda: to_coroutine(culsans.Queue, two_sides),
        ),
        (
            "thread to coroutine",
            MESSAGES,
            ours,
            "aiologic",
            lambda: to_coroutine(
                aiologic.SimpleQueue, lambda queue: (queue.green_put, queue.async_get)
            ),
        ),
        (
            "Lock in a coroutine",
            5_000,
            lambda: in_coroutines(plait.Lock, lambda lock: lock.acquire_async()),
            "asyncio",
            lambda: in_coroutines(asyncio.Lock, lambda lock: lock.acquire()),
        ),
        (
            "Lock in a coroutine",
            5_000,
            lambda: in_coroutines(plait.Lock, lambda lock: lock.acquire_async()),
            "aiologic",
            lambda: in_coroutines(_AiologicLock, lambda lock: lock.acquire()),
        ),
    ]


class _AiologicLock:
    def __init__(self) -> None:
        import aiologic

        lock = aiologic.Lock()
        self.acquire, self.release = lock.async_acquire, lock.async_release


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def report(rows: list[Row]) -> None:
    for name, count, ours, peer, theirs in rows:
        best = [float("inf"), float("inf")]
        for _ in range(ROUNDS):
            for side, run in enumerate((ours, theirs)):
                best[side] = min(best[side], seconds(run))
        plait_ns, peer_ns = (duration / count * 1e9 for duration in best)
        print(
            f"{name:31}{peer:12}{plait_ns:9.0f} ns{peer_ns:9.0f} ns{peer_ns / plait_ns:8.2f}x",
            flush=True,
        )


def report_contention() -> None:
    print(f"\n{THREADS} threads that want one lock{'':8}acquired per ms, longest wait in ms")
    kinds: list[tuple[str, Callable[[], Any], Callable[[], Any]]] = [
        ("Lock", plait.Lock, threading.Lock),
        ("RLock", plait.RLock, threading.RLock),
        ("Semaphore", plait.Semaphore, threading.Semaphore),
    ]
    for name, ours, theirs in kinds:
        found: list[list[tuple[int, float]]] = [[], []]
        for _ in range(3):
            for side, make in enumerate((ours, theirs)):
                found[side].append(contend(make()))
        (count, wait), (peer_count, peer_wait) = (
            (max(count for count, _ in side), max(wait for _, wait in side)) for side in found
        )
        print(
            f"{name:20}plait{count / 250:9.0f}{wait * 1e3:9.2f}     threading"
            f"{peer_count / 250:9.0f}{peer_wait * 1e3:9.2f}{count / peer_count:8.2f}x",
            flush=True,
        )


def main() -> None:
    parallel = not getattr(sys, "_is_gil_enabled", lambda: True)()
    print(f"Python {sys.version.split()[0]}{', free-threaded' if parallel else ''}")
    print(f"{'':31}{'peer':12}{'plait':>12}{'peer':>12}{'ratio':>9}")
    report(uncontended())
    report(between_threads())
    report(of_the_search())
    report(with_coroutines())
    report_contention()


if __name__ == "__main__":
    main()
