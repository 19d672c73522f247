"""Hard times for plait's pool that other pools have no word for, or that need its insides."""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import contextlib
import functools
import gc
import itertools
import os
import random
import signal
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import plait
import pytest
from conftest import PATIENCE, Gate, until
from light import die_at_five, dies_once, kill_me, pass_gate, pid, say, say_and_die, square, work
from plait.errors import TaskTimeout, WorkerDied


@pytest.fixture
def pool(leaves_nothing: None) -> Iterator[plait.ProcessPoolExecutor]:
    with plait.ProcessPoolExecutor(2) as pool:
        yield pool


def is_fine(pool: plait.ProcessPoolExecutor) -> bool:
    return list(pool.map(square, range(200))) == [n * n for n in range(200)]


# ---- deaths, seen by every way to wait -----------------------------------------------------------


def test_a_death_in_a_map_is_that_items(pool: plait.ProcessPoolExecutor) -> None:
    for chunksize in (None, 1, 10):
        found = pool.map(die_at_five, range(20), chunksize=chunksize)
        assert list(itertools.islice(found, 5)) == [0, 1, 2, 3, 4]
        with pytest.raises(WorkerDied, match=r"die_at_five\(5\)"):
            next(found)
    assert is_fine(pool)


def test_a_death_is_seen_by_all_who_wait(pool: plait.ProcessPoolExecutor) -> None:
    assert isinstance(cf.wait([pool.submit(kill_me)], PATIENCE).done.pop().exception(), WorkerDied)
    (future,) = cf.as_completed([pool.submit(kill_me)], PATIENCE)
    assert isinstance(future.exception(), WorkerDied)
    heard = threading.Event()
    pool.submit(kill_me).add_done_callback(lambda _: heard.set())
    assert heard.wait(PATIENCE)

    async def main() -> None:
        with pytest.raises(WorkerDied):
            await pool.submit(kill_me)
        with pytest.raises(WorkerDied):
            async for _ in pool.map(die_at_five, range(9)):
                pass
        with pytest.raises(WorkerDied):
            await asyncio.get_running_loop().run_in_executor(pool, kill_me)

    asyncio.run(main())
    assert is_fine(pool)


def test_every_worker_dies_all_the_time(pool: plait.ProcessPoolExecutor) -> None:
    dead = [pool.submit(kill_me) for _ in range(40)]
    alive = [pool.submit(square, n) for n in range(40)]
    assert all(isinstance(future.exception(PATIENCE), WorkerDied) for future in dead)
    assert [future.result(PATIENCE) for future in alive] == [n * n for n in range(40)]


def test_workers_are_killed_from_outside_at_random(pool: plait.ProcessPoolExecutor) -> None:
    chance = random.Random(5)
    stop = threading.Event()
    deaths = 0

    def kill() -> None:
        nonlocal deaths
        while not stop.wait(chance.random() * 0.03):
            pids = list(pool._processes)
            if pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(chance.choice(pids), signal.SIGKILL)
                    deaths += 1

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        futures = [pool.submit(work, n, bytes(n % 7 * 20_000)) for n in range(1500)]
        errors = [future.exception(PATIENCE) for future in futures]
    finally:
        stop.set()
        killer.join()
    lost = [error for error in errors if error is not None]
    assert all(isinstance(error, WorkerDied) for error in lost)
    assert len(lost) <= deaths
    for n, (future, error) in enumerate(zip(futures, errors, strict=True)):
        assert error is not None or future.result() == (n, n % 7 * 20_000)
    assert is_fine(pool)


def test_a_worker_killed_while_it_starts_is_replaced(leaves_nothing: None, tmp_path: Path) -> None:
    def begin() -> None:
        if not (tmp_path / "began").exists():
            (tmp_path / "began").touch()
            kill_me()

    with plait.ProcessPoolExecutor(1, initializer=begin) as pool:
        assert pool.submit(square, 4).result(PATIENCE) == 16


def test_workers_that_are_always_killed_break_the_pool(leaves_nothing: None) -> None:
    with plait.ProcessPoolExecutor(2, initializer=kill_me) as pool:
        error = pool.submit(square, 4).exception(PATIENCE)
    assert isinstance(error, BrokenProcessPool)
    assert "in a row ended before they were ready, the last with exit code -9" in str(error)


# ---- retries -------------------------------------------------------------------------------------


def test_retries_have_their_data(pool: plait.ProcessPoolExecutor, tmp_path: Path) -> None:
    items = [(n, n.to_bytes(2, "little") * 100_000, str(tmp_path)) for n in range(24)]
    found = pool.options(retries=3).map(dies_once, items, chunksize=6)
    assert list(found) == [data for _, data, _ in items]


# ---- limits --------------------------------------------------------------------------------------


def test_a_limit_counts_from_the_start_of_the_task(leaves_nothing: None) -> None:
    with plait.ProcessPoolExecutor(1) as pool:
        pool.submit(time.sleep, 6)
        futures = [pool.options(timeout=5).submit(square, n) for n in range(3)]
        assert [future.result(PATIENCE) for future in futures] == [0, 1, 4]


def test_limits_that_are_met_by_a_hair(pool: plait.ProcessPoolExecutor) -> None:
    limited = pool.options(timeout=0.01)
    futures = [limited.submit(time.sleep, 0.005 + n % 10 * 0.001) for n in range(60)]
    for future in futures:
        assert isinstance(future.exception(PATIENCE), TaskTimeout | None)
    assert is_fine(pool)


def test_a_limit_in_a_map(pool: plait.ProcessPoolExecutor) -> None:
    found = pool.options(timeout=3).map(time.sleep, [0, 0, 60, 0], chunksize=4)
    assert [next(found), next(found)] == [None, None]
    with pytest.raises(TaskTimeout):
        next(found)
    assert is_fine(pool)


# ---- exceptions at any moment --------------------------------------------------------------------


class Alarm(BaseException):
    """As ^C: an Exception might be taken for that of an argument's `__reduce__`."""


@pytest.fixture
def alarms() -> Iterator[Any]:
    """Has Alarm raised in the main thread some time from now: seconds, or never (0)."""

    def ring(*_: object) -> None:
        raise Alarm

    old = signal.signal(signal.SIGALRM, ring)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, old)


def test_a_wait_that_is_interrupted_may_be_repeated(
    pool: plait.ProcessPoolExecutor, alarms: Any, gate: Gate
) -> None:
    future = pool.submit(pass_gate, gate.path, 1)
    found = pool.map(pass_gate, [gate.path])
    for wait in (functools.partial(future.result, PATIENCE), functools.partial(next, found)):
        with pytest.raises(Alarm):  # noqa: PT012
            alarms(0.1)
            wait()
    gate.open(2)
    assert future.result(PATIENCE) == 1
    assert is_fine(pool)


def test_a_signal_just_before_a_wait_ends_it(pool: plait.ProcessPoolExecutor, alarms: Any) -> None:
    chance = random.Random(2)
    pool.submit(square, 1).result(PATIENCE)
    for _ in range(60):
        future = pool.submit(time.sleep, 60)
        with pytest.raises(Alarm):  # noqa: PT012
            # The later it comes, the surer it ends the wait: the interesting ones come soon.
            alarms(chance.random() * 1e-4 + 1e-6)
            future.result(PATIENCE)
        future.cancel(running=True)


def test_exceptions_at_random_moments(pool: plait.ProcessPoolExecutor, alarms: Any) -> None:
    chance = random.Random(3)
    futures: list[cf.Future[int]] = []

    def use() -> None:
        try:
            alarms(chance.random() * 0.004 + 1e-5)
            for n in range(60):
                futures.append(pool.submit(square, n))  # noqa: PERF401
            for value in pool.map(square, range(300)):
                assert value is not None
            futures[-1].result(PATIENCE)
        finally:
            alarms(0)

    for _ in range(150):
        with contextlib.suppress(Alarm):
            use()
    assert cf.wait(futures, PATIENCE).not_done == set()
    assert {repr(future.exception()) for future in futures} == {"None"}
    assert is_fine(pool)


# ---- threads -------------------------------------------------------------------------------------


def test_shutdown_while_others_submit(leaves_nothing: None) -> None:
    for _ in range(20):
        pool = plait.ProcessPoolExecutor(2)
        pool.submit(square, 1).result(PATIENCE)
        futures: list[cf.Future[int]] = []

        def submit(pool: Any = pool, futures: Any = futures) -> None:
            with contextlib.suppress(RuntimeError):
                for n in range(10_000):
                    futures.append(pool.submit(square, n))

        threads = [threading.Thread(target=submit) for _ in range(3)]
        for thread in threads:
            thread.start()
        pool.shutdown()
        for thread in threads:
            thread.join()
        assert all(future.exception(0) is None for future in futures)


def test_shutdown_from_a_callback_and_from_many_threads(leaves_nothing: None) -> None:
    pool = plait.ProcessPoolExecutor(2)
    pool.submit(square, 2).add_done_callback(lambda _: pool.shutdown(wait=False))
    until(lambda: pool._shutdown)
    threads = [threading.Thread(target=pool.shutdown) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_cancelling_by_many_threads(pool: plait.ProcessPoolExecutor) -> None:
    for _ in range(20):
        futures = [pool.submit(square, n) for n in range(100)]
        won: list[int] = []

        def cancel(futures: Any = futures, won: Any = won) -> None:
            won.extend(n for n, future in enumerate(futures) if future.cancel())

        threads = [threading.Thread(target=cancel) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for n, future in enumerate(futures):
            if n in won:
                assert future.cancelled()
            else:
                assert future.result(PATIENCE) == n * n


def test_cancelling_what_runs_again_and_again(pool: plait.ProcessPoolExecutor) -> None:
    for seconds in [0.0, 0.001, 0.002, 0.01] * 8:
        future = pool.submit(time.sleep, seconds)
        others = [pool.submit(square, n) for n in range(4)]
        time.sleep(seconds)
        if future.cancel(running=True):
            with pytest.raises(cf.CancelledError):
                future.result(PATIENCE)
        else:
            assert future.result(PATIENCE) is None
        assert [other.result(PATIENCE) for other in others] == [0, 1, 4, 9]


# ---- what is held, and for how long --------------------------------------------------------------


def test_nothing_is_kept(pool: plait.ProcessPoolExecutor) -> None:
    class Value:
        def __reduce__(self) -> Any:
            return int, ()

    value = Value()
    gone = weakref.ref(value)
    assert pool.submit(square, value).result(PATIENCE) == 0  # type: ignore[arg-type]
    assert list(pool.map(square, [value])) == [0]  # type: ignore[list-item]
    del value
    gc.collect()
    assert gone() is None
    future = pool.submit(square, 3)
    future.result(PATIENCE)
    kept = weakref.ref(future)
    del future
    gc.collect()
    assert kept() is None


def test_many_pools(leaves_nothing: None) -> None:
    for _ in range(40):
        with plait.ProcessPoolExecutor(2) as pool:
            assert list(pool.map(square, range(10))) == [n * n for n in range(10)]
    pools = [plait.ProcessPoolExecutor(1) for _ in range(12)]
    futures = [pool.submit(square, n) for n, pool in enumerate(pools)]
    assert [future.result(PATIENCE) for future in futures] == [n * n for n in range(12)]
    for pool in pools:
        pool.shutdown()


def test_a_worker_for_each_task(leaves_nothing: None) -> None:
    with plait.ProcessPoolExecutor(2, max_tasks_per_child=1) as pool:
        pids = list(pool.map(pid, range(60), chunksize=1))
        assert len(set(pids)) == 60


def test_output_is_not_lost(pool: plait.ProcessPoolExecutor, capfd: Any) -> None:
    with pytest.raises(WorkerDied):
        pool.submit(say_and_die).result(PATIENCE)
    until(lambda: "last words" in (read := capfd.readouterr()).out + read.err)
    assert list(pool.map(say, range(500))) == [None] * 500


def test_output_without_end(pool: plait.ProcessPoolExecutor, capsys: Any) -> None:
    pool.submit(print, "x" * 5_000_000).result(PATIENCE)
    assert len(capsys.readouterr().out) == 5_000_001


def test_no_output_stream(pool: plait.ProcessPoolExecutor, monkeypatch: Any) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert pool.submit(say, 1).result(PATIENCE) is None
    assert is_fine(pool)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_soak(leaves_nothing: None) -> None:
    """Everything at once, for a minute; memory and descriptors are where they were."""
    end = time.monotonic() + 60
    chance = random.Random(1)
    with plait.ProcessPoolExecutor(2) as pool:
        sizes = []
        while time.monotonic() < end:
            futures = [pool.submit(work, n, bytes(chance.randrange(300_000))) for n in range(50)]
            dead = [pool.submit(kill_me) for _ in range(2)]
            limited = pool.options(timeout=0.05).submit(time.sleep, 60)
            assert sum(pool.map(square, range(3000))) == sum(n * n for n in range(3000))
            assert all(future.exception(PATIENCE) is None for future in futures)
            assert all(isinstance(f.exception(PATIENCE), WorkerDied) for f in dead)
            assert isinstance(limited.exception(PATIENCE), TaskTimeout)
            del futures, dead, limited
            gc.collect()
            resident = int(Path("/proc/self/statm").read_text().split()[1])
            sizes.append((resident * 4096 >> 20, len(os.listdir("/proc/self/fd"))))
        middle = sizes[len(sizes) // 2]
        assert sizes[-1][0] <= middle[0] + 20, sizes[:: len(sizes) // 10]
        assert sizes[-1][1] <= middle[1] + 4, sizes[:: len(sizes) // 10]
