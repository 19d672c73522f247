"""What tracing at 1 kHz costs: each program untraced and traced, in turns, in this run.

The ratios are those of the best of some rounds and of the medians; beside them, the sampler's
CPU time as a share of one core, and the share of samples that were decided. A release build only.
"""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from plait.lab import trace

ROUNDS = 9


def count(n: int) -> int:
    x = 0
    for i in range(n):
        x += i
    return x


def one_thread() -> None:
    count(8_000_000)


def two_threads() -> None:
    threads = [threading.Thread(target=count, args=(3_000_000,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def pool_tasks() -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(count, [20_000] * 300))


def tasks() -> None:
    async def work() -> None:
        for _ in range(20):
            await asyncio.sleep(0.001)
            count(2_000)

    async def main() -> None:
        await asyncio.gather(*(work() for _ in range(60)))

    asyncio.run(main())


def naps() -> None:
    for _ in range(100):
        time.sleep(0.004)


def measure(name: str, program: Callable[[], None]) -> None:
    program()
    with trace():
        program()
    plain, traced, costs, decided = [], [], [], []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        program()
        plain.append(time.perf_counter() - began)
        with trace() as t:
            began = time.perf_counter()
            program()
            traced.append(time.perf_counter() - began)
        costs.append(t.cost_s / t.timeline.seconds)
        decided.append(t.summary()["decided"])
    best = min(traced) / min(plain)
    median = statistics.median(traced) / statistics.median(plain)
    print(
        f"{name:<34}{min(plain) * 1e3:8.1f} ms   best {best:6.3f}x   median {median:6.3f}x   "
        f"sampler {statistics.median(costs):5.1%} of a core   decided {min(decided):6.1%}",
        flush=True,
    )


if __name__ == "__main__":
    measure("one thread computes", one_thread)
    measure("two threads want the GIL", two_threads)
    measure("300 tasks of a thread pool", pool_tasks)
    measure("1,200 steps of asyncio's tasks", tasks)
    measure("naps", naps)
