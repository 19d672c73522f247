"""plait.aio against asyncio and pyo3-async-runtimes: all in this run, in turns, the best of some
rounds of each. ``python benchmarks/aio.py [--soak MINUTES]``.

Read the ratios; the absolute figures are this machine's. The usual bridge between asyncio and
Rust, pyo3-async-runtimes, is built from benchmarks/bridge first (cargo, some minutes).
`--soak` runs for so many minutes instead, and tells whether memory, descriptors and threads stay.
"""

from __future__ import annotations

import argparse
import asyncio
import contextvars
import importlib.util
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import _aio_soak
import plait
from plait import _bridge, _core, aio

ROUNDS = 5
HERE = Path(__file__).parent

Make = Callable[[], Awaitable[object]]
Row = tuple[str, int, Make, str, Make | None, float]


def usual_bridge() -> Any:
    """pyo3-async-runtimes as an extension module; None if it can't be built here."""
    target = HERE.parent / "target" / "bridge"
    command = ["cargo", "build", "--quiet", "--release", "--target-dir", str(target)]
    command += ["--manifest-path", str(HERE / "bridge" / "Cargo.toml")]
    try:
        subprocess.run(command, check=True, env={**os.environ, "PYO3_PYTHON": sys.executable})
        built = next((target / "release").glob("libusual_bridge.*[os]"))
    except (OSError, subprocess.CalledProcessError, StopIteration) as error:
        print(f"(pyo3-async-runtimes is left out: {error})")
        return None
    path = built.with_name("usual_bridge.so")
    shutil.copy(built, path)
    spec = importlib.util.spec_from_file_location("usual_bridge", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def one_by_one(make: Callable[[], Awaitable[object]], count: int) -> None:
    for _ in range(count):
        await make()


def rows(usual: Any) -> list[Row]:
    """Name, operations in it, plait's way, the peer and its way, the ratio to reach."""
    peer = "pyo3-async-runtimes"
    pool = plait.ProcessPoolExecutor(1)

    def done() -> Any:
        future = plait.Future[int]()
        future.set_result(1)
        return future

    return [
        (
            "await of a ready future",
            2000,
            lambda: one_by_one(_core.probe_ready, 2000),
            peer,
            usual and (lambda: one_by_one(usual.ready, 500)),
            100,
        ),
        (
            "await of a spawned one",
            2000,
            lambda: one_by_one(_core.probe_spawned, 2000),
            peer,
            usual and (lambda: one_by_one(usual.ready, 500)),
            8,
        ),
        (
            "10,000 spawned, gathered",
            10_000,
            lambda: aio.gather(*(_core.probe_spawned() for _ in range(10_000))),
            peer,
            usual and (lambda: asyncio.gather(*(usual.ready() for _ in range(10_000)))),
            8,
        ),
        (
            "to_thread, one by one",
            1000,
            lambda: one_by_one(lambda: aio.to_thread(int), 1000),
            "asyncio",
            lambda: one_by_one(lambda: asyncio.to_thread(int), 1000),
            1.8,
        ),
        (
            "10,000 to_thread gathered",
            10_000,
            lambda: aio.gather(*(aio.to_thread(int) for _ in range(10_000))),
            "asyncio",
            lambda: asyncio.gather(*(asyncio.to_thread(int) for _ in range(10_000))),
            5,
        ),
        (
            "sleep(0), one by one",
            5000,
            lambda: one_by_one(lambda: aio.sleep(0), 5000),
            "asyncio",
            lambda: one_by_one(lambda: asyncio.sleep(0), 5000),
            1,
        ),
        (
            "await of a done future",
            2000,
            lambda: one_by_one(done, 2000),
            "wrap_future",
            lambda: one_by_one(lambda: asyncio.wrap_future(done()), 2000),
            1,
        ),
        (
            "await of a pool's future",
            300,
            lambda: one_by_one(lambda: pool.submit(int), 300),
            "wrap_future",
            lambda: one_by_one(lambda: asyncio.wrap_future(pool.submit(int)), 300),
            1,
        ),
        (
            "5,000 pool futures gathered",
            5_000,
            lambda: aio.gather(*(pool.submit(int) for _ in range(5_000))),
            "wrap_future",
            lambda: asyncio.gather(*(asyncio.wrap_future(pool.submit(int)) for _ in range(5_000))),
            1,
        ),
        (
            "100,000 calls, Rust thread",
            100_000,
            lambda: calls_from_rust(100_000),
            "..._threadsafe",
            lambda: calls_from_thread(20_000, lambda loop: loop.call_soon_threadsafe),
            3,
        ),
        (
            "20,000 calls, Python thread",
            20_000,
            lambda: calls_from_thread(20_000, lambda loop: lambda fn: aio.call_soon(loop, fn)),
            "..._threadsafe",
            lambda: calls_from_thread(20_000, lambda loop: loop.call_soon_threadsafe),
            1,
        ),
        (
            "channel, a message, one task",
            2000,
            lambda: through(aio.Channel[int](1), "send_async", "recv_async", 2000),
            "asyncio.Queue",
            lambda: through(asyncio.Queue(1), "put", "get", 2000),
            1,
        ),
        (
            "channel, between two tasks",
            2000,
            lambda: between(aio.Channel[int](1), "send_async", "recv_async", 2000),
            "asyncio.Queue",
            lambda: between(asyncio.Queue(1), "put", "get", 2000),
            1,
        ),
    ]


# How many of the peer's operations are in its row, where not as many as in plait's.
PEERS_COUNT = {
    "await of a ready future": 500,
    "await of a spawned one": 500,
    "100,000 calls, Rust thread": 20_000,
}


async def through(channel: Any, put: str, get: str, count: int) -> None:
    put_one, get_one = getattr(channel, put), getattr(channel, get)
    for n in range(count):
        await put_one(n)
        await get_one()


async def between(channel: Any, put: str, get: str, count: int) -> None:
    put_one, get_one = getattr(channel, put), getattr(channel, get)

    async def produce() -> None:
        for n in range(count):
            await put_one(n)

    task = asyncio.create_task(produce())
    for _ in range(count):
        await get_one()
    await task


class Counter:
    """Called so often, it sets an event."""

    def __init__(self, count: int) -> None:
        self.left, self.done = count, asyncio.Event()

    def __call__(self) -> None:
        self.left -= 1
        if not self.left:
            self.done.set()


async def calls_from_rust(count: int) -> None:
    counter = Counter(count)
    bridge = _bridge.bridge_of(asyncio.get_running_loop())
    await _core.probe_calls(bridge, counter, contextvars.copy_context(), count)
    await counter.done.wait()


async def calls_from_thread(count: int, method: Callable[[Any], Callable[[Any], object]]) -> None:
    counter, call = Counter(count), method(asyncio.get_running_loop())

    def work() -> None:
        for _ in range(count):
            call(counter)

    thread = threading.Thread(target=work)
    thread.start()
    await counter.done.wait()
    thread.join()


async def timed(make: Make) -> float:
    start = time.perf_counter()
    await make()
    return time.perf_counter() - start


async def sleeps(make: Callable[[], Awaitable[object]]) -> float:
    """10,000 sleeps of 0.1 s; how many times 0.1 s they take."""
    return await timed(make) / 0.1


async def worst_gap(sleep: Callable[[float], Awaitable[object]]) -> float:
    """While 20,000 tasks are stepped that end at about the same time: how long a heartbeat
    has to wait at worst, in seconds."""
    worst, stop = 0.0, False

    async def beat() -> None:
        nonlocal worst
        last = time.perf_counter()
        while not stop:
            await asyncio.sleep(0)
            now = time.perf_counter()
            worst, last = max(worst, now - last), now

    async def work() -> None:
        await sleep(0.2)
        sum(range(200))

    tasks = [asyncio.create_task(work()) for _ in range(20_000)]
    await asyncio.sleep(0.15)  # they have all begun
    heart = asyncio.create_task(beat())
    await asyncio.gather(*tasks)
    stop = True
    await heart
    return worst


async def main() -> None:
    usual = usual_bridge()
    print(f"{'':30}{'plait':>12}{'peer':>12}{'ratio':>8}{'wanted':>8}  peer")
    for name, count, ours, peer, theirs, wanted in rows(usual):
        best = [float("inf"), float("inf")]
        for _ in range(ROUNDS):
            for side, make in enumerate((ours, theirs)):
                if make:
                    best[side] = min(best[side], await timed(make))
        plait_us = best[0] / count * 1e6
        peer_us = best[1] / PEERS_COUNT.get(name, count) * 1e6
        ratio = f"{peer_us / plait_us:7.1f}x" if theirs else "       -"
        print(f"{name:30}{plait_us:9.2f} us{peer_us:9.2f} us{ratio}{wanted:7g}x  {peer}")

    naps = [
        ("plait.aio", lambda: aio.gather(*(aio.sleep(0.1) for _ in range(10_000)))),
        ("asyncio", lambda: asyncio.gather(*(asyncio.sleep(0.1) for _ in range(10_000)))),
    ]
    if usual:
        bridged: Make = lambda: asyncio.gather(*(usual.sleep(0.1) for _ in range(10_000)))  # noqa: E731
        naps.append(("pyo3-async-runtimes", bridged))
    print("\n10,000 sleeps of 0.1 s, gathered (wanted: within 1.1x of 0.1 s)")
    took = {name: float("inf") for name, _ in naps}
    for _ in range(ROUNDS):
        for name, make in naps:
            took[name] = min(took[name], await sleeps(make))
    for name, times in took.items():
        print(f"{name:30}{times:9.2f}x")

    print("\nA heartbeat's worst gap while 20,000 tasks end")
    gaps = {"plait.aio": float("inf"), "asyncio": float("inf")}
    for _ in range(ROUNDS):
        for name, sleep in (("plait.aio", aio.sleep), ("asyncio", asyncio.sleep)):
            gaps[name] = min(gaps[name], await worst_gap(sleep))
    for name, gap in gaps.items():
        print(f"{name:30}{gap * 1e3:9.1f} ms")

    with aio.watch():
        watched = min(
            [await timed(lambda: one_by_one(lambda: aio.sleep(0), 5000)) for _ in range(9)]
        )
    plain = min([await timed(lambda: one_by_one(lambda: aio.sleep(0), 5000)) for _ in range(9)])
    print(f"\nUnder aio.watch(): {watched / plain:.3f}x of the time without it")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="run for so long")
    minutes = parser.parse_args().soak
    if minutes is not None:
        sys.exit(not asyncio.run(_aio_soak.soak(minutes)))
    asyncio.run(main())
