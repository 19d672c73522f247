"""plait.ThreadPoolExecutor: what the contract of all executors (test_executors.py) leaves open."""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import contextvars
import gc
import os
import subprocess
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import plait
import pytest
from plait import _thread_pool

Script = Callable[..., subprocess.CompletedProcess[str]]

PATIENCE = 60.0
variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)


@pytest.fixture
def pool() -> Iterator[plait.ThreadPoolExecutor]:
    with plait.ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    gate = threading.Event()
    yield gate
    gate.set()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


# ---- the standard library's interface ------------------------------------------------------------


def test_is_the_standard_librarys(pool: plait.ThreadPoolExecutor) -> None:
    assert isinstance(pool, cf.ThreadPoolExecutor)
    assert pool._max_workers == 2
    assert pool.submit(int).result(PATIENCE) == 0
    assert all(isinstance(thread, threading.Thread) for thread in pool._threads)
    assert pool._work_queue.empty()


def test_is_a_default_executor() -> None:
    loop = asyncio.new_event_loop()
    loop.set_default_executor(plait.ThreadPoolExecutor(1, thread_name_prefix="weft"))
    name = loop.run_in_executor(None, lambda: threading.current_thread().name)
    assert loop.run_until_complete(name) == "weft_0"
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def test_threads_are_started_as_needed(pool: plait.ThreadPoolExecutor) -> None:
    assert not pool._threads
    for _ in range(20):
        pool.submit(int).result(PATIENCE)
    assert 1 <= len(pool._threads) <= 2


def test_names(gate: threading.Event) -> None:
    with plait.ThreadPoolExecutor(3, thread_name_prefix="warp") as pool:
        for _ in range(5):
            pool.submit(gate.wait)
        assert sorted(thread.name for thread in pool._threads) == ["warp_0", "warp_1", "warp_2"]
        gate.set()


def test_a_dropped_pool_ends_its_threads() -> None:
    pool = plait.ThreadPoolExecutor(2)
    pool.submit(int).result(PATIENCE)
    threads, gone = list(pool._threads), weakref.ref(pool)
    del pool
    gc.collect()
    assert gone() is None
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_nothing_is_kept_of_a_task(pool: plait.ThreadPoolExecutor) -> None:
    class Thing:
        def method(self) -> None:
            pass

    thing = Thing()
    gone = weakref.ref(thing)
    pool.submit(thing.method).result(PATIENCE)
    del thing
    until(lambda: gc.collect() is not None and gone() is None)


def test_a_cancelled_task_keeps_nothing(
    pool: plait.ThreadPoolExecutor, gate: threading.Event
) -> None:
    class Thing:
        pass

    for _ in range(2):
        pool.submit(gate.wait)
    thing = Thing()
    gone = weakref.ref(thing)
    future = pool.submit(id, thing)
    del thing
    assert future.cancel()
    gc.collect()
    assert gone() is None


def test_base_exceptions_are_the_futures(pool: plait.ThreadPoolExecutor) -> None:
    def leave(error: BaseException) -> None:
        raise error

    for error in (SystemExit(3), KeyboardInterrupt(), GeneratorExit()):
        assert pool.submit(leave, error).exception(PATIENCE) is error
    assert pool.submit(int).result(PATIENCE) == 0


def test_tracebacks_begin_in_the_task(pool: plait.ThreadPoolExecutor) -> None:
    def fails() -> None:
        raise ValueError("here")

    error = pool.submit(fails).exception(PATIENCE)
    assert error is not None
    assert error.__traceback__ is not None
    assert error.__traceback__.tb_frame.f_code.co_name == "fails"


# ---- contexts ------------------------------------------------------------------------------------


def test_tasks_see_their_submitters_context_and_change_only_a_copy(
    pool: plait.ThreadPoolExecutor,
) -> None:
    def change() -> int:
        before = variable.get()
        variable.set(before + 1)
        return before

    def inside() -> list[int]:
        variable.set(7)
        seen = [pool.submit(change).result(PATIENCE) for _ in range(5)]
        return [*seen, *pool.map(lambda _: change(), range(5)), variable.get()]

    assert contextvars.Context().run(inside) == [7] * 11
    bare = contextvars.Context()
    assert [bare.run(pool.submit, change).result(PATIENCE) for _ in range(5)] == [0] * 5


# ---- tasks that wait for tasks -------------------------------------------------------------------


def by_result(pool: plait.ThreadPoolExecutor, future: cf.Future[Any]) -> Any:
    return future.result()


def by_result_with_timeout(pool: plait.ThreadPoolExecutor, future: cf.Future[Any]) -> Any:
    return future.result(PATIENCE)


def by_exception(pool: plait.ThreadPoolExecutor, future: cf.Future[Any]) -> Any:
    assert future.exception() is None
    return future.result(0)


def by_wait(pool: plait.ThreadPoolExecutor, future: cf.Future[Any]) -> Any:
    done, _ = cf.wait([future], PATIENCE)
    return done.pop().result(0)


def by_as_completed(pool: plait.ThreadPoolExecutor, future: cf.Future[Any]) -> Any:
    return next(cf.as_completed([future], PATIENCE)).result(0)


WAYS = [by_result, by_result_with_timeout, by_exception, by_wait, by_as_completed]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_pool_is_not_brought_to_a_halt_by_its_own_tasks(workers: int, way: Any) -> None:
    def nested(depth: int) -> int:
        if depth == 0:
            return 0
        futures = [pool.submit(nested, depth - 1) for _ in range(2)]
        return 1 + max(way(pool, future) for future in futures)

    with plait.ThreadPoolExecutor(workers) as pool:
        assert pool.submit(nested, 4).result(PATIENCE) == 4


def test_a_waiting_task_runs_what_it_waits_for() -> None:
    def fibonacci(n: int) -> int:
        if n < 2:
            return n
        one, two = pool.submit(fibonacci, n - 1), pool.submit(fibonacci, n - 2)
        return one.result() + two.result()

    with plait.ThreadPoolExecutor(2) as pool:
        assert pool.submit(fibonacci, 12).result(PATIENCE) == 144
        # Another one for a wait for what runs already, in a thread that waits itself: as many
        # as the calls are deep, at most, not as many as there are calls (465).
        assert len(pool._threads) <= 2 + 12


def test_a_deep_chain_ends() -> None:
    def chain(n: int) -> int:
        return 0 if n == 0 else 1 + pool.submit(chain, n - 1).result()

    with plait.ThreadPoolExecutor(1) as pool:
        assert pool.submit(chain, 100).result(PATIENCE) == 100


def test_pools_that_wait_for_each_other() -> None:
    def there(n: int) -> int:
        return 0 if n == 0 else 1 + two.submit(back, n - 1).result()

    def back(n: int) -> int:
        return 0 if n == 0 else 1 + one.submit(there, n - 1).result()

    with plait.ThreadPoolExecutor(1) as one, plait.ThreadPoolExecutor(1) as two:
        assert one.submit(there, 10).result(PATIENCE) == 10


def test_maps_inside_of_maps() -> None:
    def leaves(depth: int) -> int:
        return 1 if depth == 0 else sum(pool.map(leaves, [depth - 1] * 3))

    with plait.ThreadPoolExecutor(1) as pool:
        assert pool.submit(leaves, 3).result(PATIENCE) == 27
        assert list(pool.map(leaves, [2, 2])) == [9, 9]


def test_a_loop_inside_of_a_task_waits_for_a_task_with_a_loop() -> None:
    async def inner() -> str:
        await asyncio.sleep(0)
        return "inner"

    async def outer() -> str:
        return pool.submit(lambda: asyncio.run(inner())).result()

    with plait.ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: asyncio.run(outer())).result(PATIENCE) == "inner"


def test_surplus_threads_leave(gate: threading.Event) -> None:
    def wait_for(future: cf.Future[Any]) -> Any:
        return future.result(PATIENCE)

    with plait.ThreadPoolExecutor(1) as pool:
        futures = [pool.submit(gate.wait)]
        for _ in range(5):
            futures.append(pool.submit(wait_for, futures[-1]))
        gate.set()
        assert futures[-1].result(PATIENCE) is True
        pool.submit(int).result(PATIENCE)
        until(lambda: len(pool.stats()) == 1)


# ---- options, stats, progress --------------------------------------------------------------------


def test_a_timeout_fails_the_future_and_the_thread_goes_on(gate: threading.Event) -> None:
    ended = threading.Event()

    def slow() -> None:
        gate.wait()
        ended.set()

    with plait.ThreadPoolExecutor(1) as pool:
        future = pool.options(timeout=0.01, name="slow").submit(slow)
        with pytest.raises(plait.errors.TaskTimeout, match=r"task 'slow' took longer than 0\.01 s"):
            future.result(PATIENCE)
        assert pool.submit(int).result(PATIENCE) == 0  # by one thread more
        assert not ended.is_set()
        gate.set()
        assert ended.wait(PATIENCE)
        fast = pool.options(timeout=PATIENCE)
        assert fast.submit(int, "7", base=8).result(PATIENCE) == 7
        assert list(fast.map(abs, [-1, -2])) == [1, 2]
        assert sorted(fast.imap_unordered(abs, [-1, -2])) == [1, 2]


def test_a_timeout_is_told_to_callbacks(gate: threading.Event) -> None:
    told = threading.Event()
    with plait.ThreadPoolExecutor(1) as pool:
        future = pool.options(timeout=0.01).submit(gate.wait)
        future.add_done_callback(lambda _: told.set())
        assert told.wait(PATIENCE)
        gate.set()


def test_retries(gate: threading.Event) -> None:
    attempts: list[int] = []

    def hangs_at_first() -> str:
        attempts.append(1)
        if len(attempts) == 1:
            gate.wait()
        return "again"

    with plait.ThreadPoolExecutor(1) as pool:
        # A minute for the second, whatever the machine is at.
        limited = pool.options(timeout=0.5, retries=100)
        assert limited.submit(hangs_at_first).result(PATIENCE) == "again"
        gate.set()


@pytest.mark.parametrize(
    ("limits", "error", "text"),
    [
        ({"memory": 1 << 20}, ValueError, "cannot be limited for a thread"),
        ({"timeout": -1}, ValueError, "at least 0 seconds, got -1"),
        ({"timeout": "1"}, TypeError, "a number of seconds, got '1'"),
        ({"retries": -1}, ValueError, "at least 0, got -1"),
    ],
)
def test_limits_that_make_no_sense(
    pool: plait.ThreadPoolExecutor, limits: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        pool.options(**limits)


def test_stats(pool: plait.ThreadPoolExecutor) -> None:
    assert pool.stats() == []
    for _ in range(10):
        pool.submit(sum, range(1000)).result(PATIENCE)
    until(lambda: sum(row["tasks"] for row in pool.stats()) == 10)
    for row in pool.stats():
        assert set(row) == {"ident", "tasks", "busy", "wait", "start", "idle"}
        assert 0 <= row["busy"] <= row["start"]


def test_cancel_running() -> None:
    began, log = threading.Event(), []

    def spin() -> None:
        try:
            began.set()
            while True:
                pass
        except Exception:
            log.append("swallowed")
        finally:
            log.append("finally")

    with plait.ThreadPoolExecutor(1) as pool:
        future = pool.submit(spin)
        assert began.wait(PATIENCE)
        assert not future.cancel()
        assert future.cancel(running=True)
        assert future.cancelled()
        # Whatever comes next is not hit.
        assert [pool.submit(len, "abc").result(PATIENCE) for _ in range(100)] == [3] * 100
    assert log == ["finally"]


def test_cancel_running_hits_the_task_it_is_meant_for() -> None:
    began, release = threading.Event(), threading.Event()

    def inner() -> str:
        began.set()
        while not release.wait(0.001):
            pass
        seen.append("inner")
        return "inner"

    def outer() -> None:
        pool.submit(inner).result()
        while True:
            pass

    seen: list[str] = []
    with plait.ThreadPoolExecutor(1) as pool:
        future = pool.submit(outer)
        assert began.wait(PATIENCE)
        assert future.cancel(running=True)
        release.set()
    assert seen == ["inner"]


def test_async_for(pool: plait.ThreadPoolExecutor) -> None:
    async def main() -> tuple[list[int], list[int], int]:
        in_order = [value async for value in pool.map(abs, [-1, 2, -3])]  # type: ignore[attr-defined]
        found = [value async for value in pool.imap_unordered(abs, [-1, 2, -3])]  # type: ignore[attr-defined]
        return in_order, sorted(found), await pool.submit(pow, 2, 3)

    assert asyncio.run(main()) == ([1, 2, 3], [1, 2, 3], 8)


def test_maps_take_endless_iterables(pool: plait.ThreadPoolExecutor) -> None:
    def count() -> Iterator[int]:
        while True:
            taken.append(1)
            yield len(taken)

    taken: list[int] = []
    found = pool.map(abs, count(), buffersize=3)
    assert len(taken) == 3
    assert [next(found) for _ in range(10)] == list(range(1, 11))
    assert len(taken) <= 13
    found.close()  # type: ignore[attr-defined]


def test_items_are_taken_by_the_caller(pool: plait.ThreadPoolExecutor) -> None:
    def items() -> Iterator[int]:
        for n in range(50):
            takers.add(threading.get_ident())
            yield n

    takers: set[int] = set()
    assert list(pool.map(abs, items())) == list(range(50))
    assert takers == {threading.get_ident()}


def test_a_map_is_cancelled_with_its_pool(gate: threading.Event) -> None:
    pool = plait.ThreadPoolExecutor(1)
    pool.submit(gate.wait)
    found = pool.map(abs, range(5))
    pool.shutdown(wait=False, cancel_futures=True)
    gate.set()
    with pytest.raises(cf.CancelledError):
        next(found)
    pool.shutdown()


# ---- faults --------------------------------------------------------------------------------------


def test_a_thread_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("can't start new thread")

    with plait.ThreadPoolExecutor(2) as pool:
        for name in ("_start_new_thread", "_start_joinable_thread"):
            monkeypatch.setattr(threading, name, fail, raising=False)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            pool.submit(int)
        monkeypatch.undo()
        assert pool.submit(int).result(PATIENCE) == 0


def test_one_thread_is_enough(monkeypatch: pytest.MonkeyPatch, gate: threading.Event) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("can't start new thread")

    with plait.ThreadPoolExecutor(2) as pool:
        first = pool.submit(gate.wait)
        for name in ("_start_new_thread", "_start_joinable_thread"):
            monkeypatch.setattr(threading, name, fail, raising=False)
        second = pool.submit(int)
        monkeypatch.undo()
        gate.set()
        assert first.result(PATIENCE) is True
        assert second.result(PATIENCE) == 0


def test_a_failing_initializer_breaks_the_pool(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ValueError("not today")

    with plait.ThreadPoolExecutor(2, initializer=fail) as pool:
        future = pool.submit(int)
        with pytest.raises(cf.thread.BrokenThreadPool, match="initializer failed"):
            future.result(PATIENCE)
        with pytest.raises(cf.thread.BrokenThreadPool):
            pool.submit(int)
        with pytest.raises(cf.thread.BrokenThreadPool):
            pool.map(abs, [1])
    assert "not today" in caplog.text


def test_a_callback_that_leaves(pool: plait.ThreadPoolExecutor, gate: threading.Event) -> None:
    def leave(_: object) -> None:
        raise SystemExit

    future = pool.submit(gate.wait)
    future.add_done_callback(leave)
    gate.set()
    assert future.result(PATIENCE) is True
    assert [pool.submit(int).result(PATIENCE) for _ in range(10)] == [0] * 10


def test_used_from_a_forked_child(pool: plait.ThreadPoolExecutor) -> None:
    lost = pool.submit(threading.Event().wait, 0.01)
    if (pid := os.fork()) == 0:
        code = 1
        try:
            if not lost.done():
                with pytest.raises(RuntimeError, match="process that was forked"):
                    lost.result()
            code = 0 if pool.submit(pow, 2, 5).result(PATIENCE) == 32 else 2
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert pool.submit(pow, 2, 5).result(PATIENCE) == 32


def test_a_task_that_forks(run_script: Script) -> None:
    # In a program of its own: other libraries' (uvloop's) exit handlers fail in such a child.
    done = run_script("""
        import os
        import plait

        with plait.ThreadPoolExecutor(1) as pool:
            pid = pool.submit(os.fork).result()
            print(os.waitpid(pid, 0)[1])  # the child's thread ends, and the child with it
    """)
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_many_threads_submit(pool: plait.ThreadPoolExecutor) -> None:
    def work() -> None:
        sums.append(sum(future.result(PATIENCE) for future in map(submit, range(300))))

    def submit(n: int) -> cf.Future[int]:
        return pool.submit(abs, n)

    sums: list[int] = []
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sums == [sum(range(300))] * 8


def test_pools_are_forgotten() -> None:
    before = len(_thread_pool._pools)
    for _ in range(5):
        plait.ThreadPoolExecutor(1).submit(int).result(PATIENCE)
    gc.collect()
    assert len(_thread_pool._pools) <= before + 1


@pytest.mark.parametrize(
    "wait",
    [
        "future.result()",
        "future.exception()",
        "cf.wait([future])",
        "list(cf.as_completed([future]))",
        "list(pool.map(lambda _: future.result(), [0]))",
        "pool.shutdown()",
    ],
)
def test_an_interrupt_ends_the_wait_and_not_the_task(wait: str, run_script: Script) -> None:
    done = run_script(f"""
        import concurrent.futures as cf
        import os
        import signal
        import plait

        waits, gate = plait.Event(), plait.Event()

        def task():
            waits.wait()
            os.kill(os.getpid(), signal.SIGINT)
            # The standard library's own waits miss a signal that comes just before they sleep.
            while not gate.wait(3.0 if {"cf." in wait} else None):
                os.kill(os.getpid(), signal.SIGINT)
            return "done"

        pool = plait.ThreadPoolExecutor(2)
        future = pool.submit(task)
        try:
            waits.set()
            {wait}
        except KeyboardInterrupt:
            print("interrupted", future.running())
        gate.set()
        print(future.result())
    """)
    assert (done.stdout, done.stderr) == ("interrupted True\ndone\n", "")


def test_a_task_that_was_stopped_too_late_leaves_nothing_behind(run_script: Script) -> None:
    """Until 3.12, CPython never forgets an exception that was taken back: each instruction of all
    threads looks for it, and on 3.11 a traced thread does nothing else."""
    done = run_script(
        """
        import sys, threading
        import plait

        lock = threading.Lock()
        lock.acquire()
        pool = plait.ThreadPoolExecutor(1)
        future = pool.submit(lock.acquire)  # no bytecode of it is left for the exception
        while not future.running():
            pass
        assert future.cancel(running=True)
        lock.release()
        assert pool.submit(int).result(60) == 0

        def traced():
            sys.settrace(lambda *event: None)
            int()
            (lambda: None)()

        thread = threading.Thread(target=traced, daemon=True)
        thread.start()
        thread.join(60)
        print("hangs" if thread.is_alive() else "ends", flush=True)
        """
    )
    assert done.stdout.strip() == "ends"
