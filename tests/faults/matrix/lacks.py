"""What a pool cannot have (descriptors, room), and what it should not be given."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import pools, tasks
from .cases import memory
from .pools import Outcome
from .trial import Trial, case

# ---- resources run out ----------------------------------------------------------------------


@contextlib.contextmanager
def limited(kind: int, soft: int) -> Iterator[None]:
    old = resource.getrlimit(kind)
    resource.setrlimit(kind, (soft, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, old)


def judge_lack(trial: Trial, outcomes: list[Outcome], wanted: list[Any], cause: str) -> None:
    """Each has its value, or an error that tells what was lacking."""
    for outcome, value in zip(outcomes, wanted, strict=True):
        if not outcome.is_value(value):
            trial.judge(outcome, cause)


@case("no descriptor is left, for a pool that runs", group="pool")
def descriptors(trial: Trial) -> None:
    with trial.pool() as pool:
        pool.batch([(tasks.nap, (0.2,)) for _ in range(2)])
        with exhausted():
            outcomes = pool.batch([(tasks.square, (n,)) for n in range(6)])
            outcomes += pool.batch([(tasks.size, (bytes(8 << 20),))])
        judge_lack(trial, outcomes, [0, 1, 4, 9, 16, 25, 8 << 20], r"too many open files|EMFILE")


@case("no descriptor is left, for a pool that begins", group="pool")
def descriptors_at_start(trial: Trial) -> None:
    with trial.pool():
        with exhausted():
            try:
                second = trial.open()
                outcomes = second.batch([(tasks.square, (n,)) for n in range(6)])
            except OSError as error:
                second, outcomes = None, [Outcome(error=error)] * 6
        judge_lack(trial, outcomes, [n * n for n in range(6)], r"too many open files|EMFILE")
        if second is not None:
            trial.usable(second)
            with trial.step("close"):
                second.close()
            second.forget()


@contextlib.contextmanager
def exhausted() -> Iterator[None]:
    used = max(int(name) for name in os.listdir("/proc/self/fd"))
    with limited(resource.RLIMIT_NOFILE, used + 1):
        held = []
        with contextlib.suppress(OSError):
            while True:
                held.append(os.dup(0))
        try:
            yield
        finally:
            for fd in held:
                os.close(fd)


@case("files, in memory too, may not grow beyond 32 MB", group="pool")
def no_room(trial: Trial) -> None:
    lack = r"file too large|EFBIG|memory|space"
    with limited(resource.RLIMIT_FSIZE, 32 << 20), trial.pool() as pool:
        value = bytes(200 << 20)
        calls = [(tasks.size, (value,)), (tasks.bytes_of, (200 << 20,)), (tasks.square, (5,))]
        outcomes = pool.batch(calls)  # type: ignore[arg-type]
        judge_lack(trial, outcomes, [200 << 20, value, 25], lack)
        trial.check("rest", outcomes[2].is_value(25), outcomes[2].text())


@case("no address space for large arguments", group="pool")
def no_address_space(trial: Trial) -> None:
    with trial.pool() as pool:
        pool.batch([(tasks.nap, (0.2,)) for _ in range(2)])
        value = bytes(300 << 20)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + (100 << 20)
        with limited(resource.RLIMIT_AS, limit):
            outcomes = pool.batch([(tasks.size, (value,)), (tasks.square, (5,))])
        judge_lack(trial, outcomes[:1], [len(value)], "memory")
        trial.check("rest", outcomes[1].is_value(25), outcomes[1].text())


@case("an argument of 2 GB", seconds=170, group="input")
def huge(trial: Trial) -> None:
    with trial.pool() as pool, trial.step("2 GB", 120 * pools.slack):
        pool.patience = 110 * pools.slack
        (outcome,) = pool.batch([(tasks.size, (bytearray(2 << 30),))])
        judge_lack(trial, [outcome], [2 << 30], "memory|large")


# ---- bad input --------------------------------------------------------------------------------


@case("no workers, and fewer", group="input")
def workers(trial: Trial) -> None:
    for count in (0, -1):
        try:
            pool = trial.open(count)
            with trial.step("close"):
                pool.close()
            error = None
        except (ValueError, TypeError, AssertionError) as raised:
            error = raised
        trial.check("fails", error is not None, f"{count} workers: {error}")
        trial.check(
            "named",
            re.search("worker|process|number|jobs|node", str(error)) is not None,
            f"{count} workers: {error}",
        )


@case("a negative time limit", group="input")
def negative_timeout(trial: Trial) -> None:
    with trial.pool() as pool:
        trial.among(pool, "negative|timeout", tasks.nap, 0.2, timeout=-1)


@case("`submit` after the pool was shut down", group="input")
def after_shutdown(trial: Trial) -> None:
    with trial.step("run"):
        pool = trial.open()
        pool.batch([(tasks.square, (2,))])
        pool.close()
    began = time.monotonic()
    with trial.step("submit"):
        (outcome,) = pool.batch([(tasks.square, (2,))])
    trial.judge(outcome, "shut ?down|not running|closed|stopped|terminated|not open|not accept")
    trial.check("prompt", time.monotonic() - began < 2 * pools.slack)


def mapped(trial: Trial, pool: pools.Pool, items: Any, cause: str) -> list[Any]:
    found: list[Any] = []
    error = None
    try:
        found.extend(pool.map(tasks.square, items))
    except Exception as raised:
        error = raised
    trial.judge(Outcome(value=found, error=error), cause)
    return found


@case("`map` meets an item that cannot be pickled", group="input")
def item(trial: Trial) -> None:
    with trial.pool() as pool:
        mapped(trial, pool, [*range(7), tasks.ReduceRaises(), 8, 9], r"this one stays here")


@case("... and its error tells which item", group="input")
def item_index(trial: Trial) -> None:
    with trial.pool() as pool:
        mapped(
            trial, pool, [*range(7), tasks.ReduceRaises(), 8, 9], r"(item|index|number|#|\[)\s*7\b"
        )


@case("`map` over a generator that raises", group="input")
def generator(trial: Trial) -> None:
    def items() -> Iterator[int]:
        yield from range(7)
        raise ValueError("the generator broke")

    with trial.pool() as pool:
        mapped(trial, pool, items(), "the generator broke")


@case("`map` over 1.6 GB in items of 4 MB keeps the program below 600 MB", group="many tasks")
def backpressure(trial: Trial) -> None:
    def items() -> Iterator[bytes]:
        for n in range(400):
            yield tasks.payload(n, 4 << 20)

    with trial.pool() as pool, trial.step("map", 40 * pools.slack):
        peak, count = 0, 0
        # Its results are small, and looked at without haste.
        for length in pool.map(tasks.size, items()):
            count += length == 4 << 20
            if count % 20 == 1:
                peak = max(peak, memory("VmRSS"))
        trial.check("rest", count == 400, count)
        trial.check("memory", peak < 600 << 20, f"{peak >> 20} MB")
