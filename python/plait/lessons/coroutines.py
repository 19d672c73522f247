"""Coroutines

A coroutine is a function that can pause in its middle and be resumed. The program switches
between coroutines by itself, at each await, without asking the operating system; so a
switch is cheap, and one thread can hold thousands of them.

The standard library's are asyncio's. plait's are the same coroutines on the same loop, with
timers and other waits that run in Rust. The tutorial names gevent, whose greenlets switch
without being marked by await. All lanes below have one and the same thread.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable

from plait import aio
from plait.lessons.frame import main
from plait.lessons.spans import span

LABELS = "ABC"
MANY = 2_000
Waiter = Callable[..., Awaitable[object]]


async def worker(label: str, delay: float, sleep: Waiter) -> None:
    for i in range(3):
        print(f"Coroutine {label}{i} started in {threading.current_thread().name}")
        with span(f"{label}{i}", "sleep", lane=label):
            await sleep(delay)
        print(f"Coroutine {label}{i} finished")


async def everything(delay: float, sleep: Waiter, gather: Waiter) -> None:
    await gather(*(worker(label, delay, sleep) for label in LABELS))
    began = time.perf_counter()
    await gather(*(sleep(delay) for _ in range(MANY)))
    print(f"{MANY} sleeps of {delay:g} s: {time.perf_counter() - began:.3f} s")


def with_stdlib(delay: float) -> None:
    asyncio.run(everything(delay, asyncio.sleep, asyncio.gather))


def with_plait(delay: float) -> None:
    aio.run(everything(delay, aio.sleep, aio.gather))


def with_gevent(delay: float) -> None:
    import gevent

    def green_worker(label: str) -> None:
        for i in range(3):
            print(f"Greenlet {label}{i} started in {threading.current_thread().name}")
            with span(f"{label}{i}", "sleep", lane=label):
                gevent.sleep(delay)
            print(f"Greenlet {label}{i} finished")

    gevent.joinall([gevent.spawn(green_worker, label) for label in LABELS])
    began = time.perf_counter()
    gevent.joinall([gevent.spawn(gevent.sleep, delay) for _ in range(MANY)])
    print(f"{MANY} sleeps of {delay:g} s: {time.perf_counter() - began:.3f} s")


if __name__ == "__main__":
    main(with_stdlib, with_plait, with_gevent)
