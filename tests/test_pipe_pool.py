"""The pool where there are no rings (Windows, macOS): over pipes, by PLAIT_START=spawn."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import plait
import pytest
from conftest import PATIENCE, wait_until_gone
from light import square
from plait import _pipe_pool, _zygote, executors
from plait.errors import SerializationError, TaskTimeout, WorkerDied

ROOT = Path(__file__).parents[1]

# Tests of plait's pool that are not for the one over pipes, by why.
NOT_PIPED = {
    "a hundred starts take a while": [
        "faults/test_pool_hard.py::test_workers_that_are_always_killed_break_the_pool"
    ],
    "what a signal handler raises in a finalizer, which is Python code here, is only reported": [
        "faults/test_pool_hard.py::test_exceptions_at_random_moments"
    ],
    "workers take longer to start than it leaves them to live": [
        "faults/test_pool_hard.py::test_workers_are_killed_from_outside_at_random"
    ],
}


@pytest.fixture(autouse=True)
def piped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAIT_START", "spawn")
    # Not needed here, and its spares, which come and go, would count as left behind.
    _zygote._shutdown()


@pytest.fixture
def pool(leaves_nothing: None) -> Iterator[plait.ProcessPoolExecutor]:
    with plait.ProcessPoolExecutor(2) as pool:
        assert isinstance(pool._helpers.core, _pipe_pool.Pool)
        yield pool


def is_fine(pool: plait.ProcessPoolExecutor) -> bool:
    return list(pool.map(square, range(50))) == [n * n for n in range(50)]


def die(*_: object) -> None:
    os._exit(5)


# ---- what every pool does ------------------------------------------------------------------------


@pytest.mark.once
@pytest.mark.timeout(1000)
@pytest.mark.parametrize(
    "names",
    [
        ["test_executors.py", "test_future.py", "test_pool.py"],
        ["test_pool_main.py", "test_pool_maps.py", "test_pool_output.py", "test_pool_values.py"],
        pytest.param(["faults/test_pool_hard.py"], marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_the_tests_of_pools_pass(names: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "not slow"]
        + [f"--deselect=tests/{name}" for names in NOT_PIPED.values() for name in names]
        + [f"tests/{name}" for name in names],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-5000:]


# ---- its own -------------------------------------------------------------------------------------


def test_nothing_is_used_that_other_systems_lack(run_script: Any) -> None:
    run_script(
        """
        import os, sys
        for name in ("resource", "fcntl", "termios"):
            sys.modules[name] = None  # cannot be imported
        for name in ("fork", "register_at_fork", "memfd_create", "eventfd", "posix_spawn"):
            if hasattr(os, name):
                delattr(os, name)
        from plait import _core
        for name in ("ProcessPool", "PoolWorker", "TaskOptions", "Watch", "PoolMap", "Zygote"):
            delattr(_core, name)
        import plait

        with plait.ProcessPoolExecutor(2) as pool:
            assert list(pool.map(lambda n: n + 1, range(100))) == list(range(1, 101))
            assert pool.options(timeout=30, retries=1).submit(abs, -4).result() == 4
            used = pool.submit(lambda: list(__import__("sys").modules)).result()
        for name in ("plait._rings", "plait._zygote", "plait._pool"):
            assert name not in used, name
        assert "plait._rings" not in sys.modules
        """
    )


def test_memory_is_not_limited_where_that_cannot_be(
    pool: plait.ProcessPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executors, "can_limit_memory", lambda: False)
    with pytest.raises(ValueError, match="memory= needs Linux"):
        pool.options(memory=1 << 20)
    assert pool.options(timeout=PATIENCE).submit(square, 2).result(PATIENCE) == 4


def test_both_kinds_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    with plait.ProcessPoolExecutor(1) as pipes:
        monkeypatch.delenv("PLAIT_START")
        with plait.ProcessPoolExecutor(1) as rings:
            assert type(rings._helpers.core) is not type(pipes._helpers.core)
            assert pipes.submit(square, 3).result(PATIENCE) == 9
            assert rings.submit(square, 3).result(PATIENCE) == 9


def test_workers_that_are_killed_while_idle_cost_no_task(pool: plait.ProcessPoolExecutor) -> None:
    for _ in range(4):
        (pid,) = {pool.submit(os.getpid).result(PATIENCE)}
        os.kill(pid, signal.SIGKILL)  # and at once:
        assert pool.submit(square, 3).result(PATIENCE) == 9
    assert is_fine(pool)


def test_tasks_with_random_kills(pool: plait.ProcessPoolExecutor) -> None:
    chance = random.Random(3)
    deadly = {n for n in range(500) if chance.random() < 0.02}
    stop, deaths = threading.Event(), 0

    def kill() -> None:  # one that has done something: others may be starting
        nonlocal deaths
        while not stop.wait(chance.random() * 0.3):
            pids = [line["pid"] for line in pool.stats() if line["tasks"]]
            if pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(chance.choice(pids), signal.SIGKILL)
                    deaths += 1

    killer = plait.Thread(target=kill)
    killer.start()
    try:
        futures = [pool.submit(die if n in deadly else square, n) for n in range(500)]
        errors = [future.exception(PATIENCE) for future in futures]
    finally:
        stop.set()
        killer.join()
    lost = {n for n, error in enumerate(errors) if error is not None}
    assert all(isinstance(errors[n], WorkerDied) for n in lost)
    assert deadly <= lost
    assert len(lost - deadly) <= deaths
    assert all(futures[n].result() == n * n for n in range(500) if n not in lost)
    assert is_fine(pool)


class Deadly:
    """Ends the process that unpickles it."""

    def __reduce__(self) -> Any:
        return os._exit, (7,)

    def __call__(self, *args: object) -> None: ...


def test_what_kills_while_it_is_unpickled(pool: plait.ProcessPoolExecutor) -> None:
    for future in (pool.submit(print, Deadly()), pool.submit(Deadly())):
        assert getattr(future.exception(PATIENCE), "exitcode", None) == 7
    assert "print(<_exit>)" in str(pool.submit(print, Deadly()).exception(PATIENCE))
    # A function for one map, which is sent on its own.
    with pytest.raises(WorkerDied, match="exit code 7"):
        list(pool.map(Deadly(), [1, 2]))
    assert is_fine(pool)


def test_a_task_that_writes_to_its_workers_pipe(pool: plait.ProcessPoolExecutor) -> None:
    future = pool.submit(spoil)
    assert isinstance(future.exception(PATIENCE), WorkerDied)
    assert is_fine(pool)


def spoil() -> None:
    import gc
    from multiprocessing.connection import Connection

    for found in gc.get_objects():
        if isinstance(found, Connection) and found.writable and not found.closed:
            found.send_bytes(b"no pickle")


def test_a_result_that_needs_the_pool_to_unpickle(pool: plait.ProcessPoolExecutor) -> None:
    global current
    current = pool
    try:
        assert pool.submit(Nested, 6).result(PATIENCE) == 36
    finally:
        del current


current: plait.ProcessPoolExecutor


class Nested:
    def __init__(self, n: int) -> None:
        self.n = n

    def __reduce__(self) -> Any:
        return ask_pool, (self.n,)


def ask_pool(n: int) -> int:
    return current.submit(square, n).result(PATIENCE)


def test_a_map_is_iterated_by_several_threads(pool: plait.ProcessPoolExecutor) -> None:
    found = pool.map(square, range(2000))
    seen: list[int] = []

    def take() -> None:
        seen.extend(found)

    threads = [plait.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.result(PATIENCE)
    assert sorted(seen) == [n * n for n in range(2000)]


def test_an_exception_of_a_map_reaches_async_for(pool: plait.ProcessPoolExecutor) -> None:
    async def main() -> None:
        with pytest.raises(TaskTimeout):
            async for _ in pool.options(timeout=0.2).map(time.sleep, [0, 60]):
                pass

    asyncio.run(main())
    assert is_fine(pool)


def test_a_worker_that_cannot_be_started(
    pool: plait.ProcessPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: object) -> Any:
        raise OSError("no more processes")

    with monkeypatch.context() as patch:
        patch.setattr(plait.Process, "_Popen", staticmethod(fails))
        with pytest.raises(WorkerDied, match="no more processes"):
            pool.submit(square, 2).result(PATIENCE)
    assert is_fine(pool)


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_other_start_methods(method: str) -> None:
    context = multiprocessing.get_context(method)
    with plait.ProcessPoolExecutor(2, mp_context=context) as pool:
        assert is_fine(pool)
        with pytest.raises(WorkerDied, match="exit code 5"):
            pool.submit(die).result(PATIENCE)
        with pytest.raises(SerializationError):
            pool.submit(square, sys._getframe()).result(PATIENCE)
        assert is_fine(pool)


PARENT = """
import os, sys, time, plait

def spin(n):
    while True:
        pass

pool = plait.ProcessPoolExecutor(2)
futures = [pool.submit(spin, n) for n in range(4)]
while sum(future.running() for future in futures) < 2:
    time.sleep(0.001)
print(*pool._processes, flush=True)
{then}
"""


@pytest.mark.parametrize("then", ["time.sleep(60)", "os._exit(0)", "futures[0].result()"])
def test_busy_workers_end_with_their_parent(then: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT.format(then=then)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as run:
        assert run.stdout is not None
        pids = [int(word) for word in run.stdout.readline().split()]
        assert len(pids) == 2
        if then == "time.sleep(60)":
            run.kill()
        elif then != "os._exit(0)":
            os.killpg(run.pid, signal.SIGINT)  # what a terminal does
        run.wait(PATIENCE)
        wait_until_gone(pids)


def test_a_forked_copy_of_the_parent(run_script: Any) -> None:
    done = run_script(
        """
        import os, plait, time
        pool = plait.ProcessPoolExecutor(1)
        future = pool.submit(time.sleep, 0.5)
        pid = os.fork()
        if pid == 0:
            for call in (lambda: pool.submit(abs, 1), future.result, lambda: pool.map(abs, [1])):
                try:
                    call()
                except RuntimeError as error:
                    print("forked from the one" in str(error))
            assert not future.cancel(running=True)
            pool.shutdown()
            raise SystemExit
        assert os.waitpid(pid, 0)[1] == 0
        print(future.result())
        """
    )
    assert done.stdout.split() == ["True"] * 3 + ["None"]
