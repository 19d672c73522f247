"""What every executor promises, plait's and, as the reference, the standard library's."""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import plait
import pytest
from conftest import PATIENCE, Gate, until
from light import (
    fail,
    fail_at_five,
    get_state,
    pass_gate,
    raise_timeout,
    set_state,
    square,
    stop_at_three,
)

KINDS: dict[str, Callable[..., cf.Executor]] = {
    "plait.process": lambda *a, **k: plait.ProcessPoolExecutor(*a, **k),
    "futures.thread": cf.ThreadPoolExecutor,
}


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest) -> Callable[..., cf.Executor]:
    return KINDS[request.param]


@pytest.fixture
def executor(make: Callable[..., cf.Executor]) -> Iterator[cf.Executor]:
    with make(2) as executor:
        yield executor


# ---- submit and futures --------------------------------------------------------------------------


def test_results_and_exceptions(executor: cf.Executor) -> None:
    assert executor.submit(square, 7).result(PATIENCE) == 49
    assert executor.submit(square, n=8).result(PATIENCE) == 64
    future = executor.submit(fail, 3)
    with pytest.raises(ValueError, match="no 3"):
        future.result(PATIENCE)
    assert repr(future.exception(PATIENCE)) == "ValueError('no 3')"
    assert future.done()
    assert not future.running()
    assert not future.cancelled()
    assert not future.cancel()
    assert executor.submit(int).exception(PATIENCE) is None


def test_a_result_is_one_object(executor: cf.Executor) -> None:
    future = executor.submit(list, (1, 2))
    assert future.result(PATIENCE) is future.result(PATIENCE)
    error = executor.submit(fail, 3)
    assert error.exception(PATIENCE) is error.exception(PATIENCE)


def test_a_tasks_own_timeout_error_is_not_the_callers(executor: cf.Executor) -> None:
    future = executor.submit(raise_timeout)
    with pytest.raises(TimeoutError, match="the task's own"):
        future.result(PATIENCE)
    assert isinstance(future.exception(), TimeoutError)


def test_an_exception_may_be_a_value(executor: cf.Executor) -> None:
    value = executor.submit(ValueError, "a value").result(PATIENCE)
    assert repr(value) == "ValueError('a value')"


def test_waiting_has_an_end(executor: cf.Executor, gate: Gate) -> None:
    future = executor.submit(pass_gate, gate.path, "through")
    with pytest.raises(cf.TimeoutError):
        future.result(0.01)
    with pytest.raises(cf.TimeoutError):
        future.exception(0)
    assert not future.done()
    gate.open(1)
    assert future.result(PATIENCE) == "through"


def test_states(executor: cf.Executor, gate: Gate) -> None:
    held = [executor.submit(pass_gate, gate.path) for _ in range(2)]
    until(lambda: all(future.running() for future in held))
    waiting = executor.submit(square, 3)
    # A pool may hand a task out ahead of time; it is cancelled all the same.
    assert waiting.cancel()
    assert waiting.cancelled()
    assert waiting.done()
    with pytest.raises(cf.CancelledError):
        waiting.result(PATIENCE)
    assert not held[0].cancel()
    gate.open(2)
    assert [future.result(PATIENCE) for future in held] == [None, None]


def test_callbacks(executor: cf.Executor, gate: Gate) -> None:
    future = executor.submit(pass_gate, gate.path, 5)
    seen: list[Any] = []
    future.add_done_callback(lambda f: seen.append(("first", f.result(0))))
    future.add_done_callback(lambda f: seen.append(("second", f is future)))
    gate.open(1)
    assert future.result(PATIENCE) == 5
    until(lambda: len(seen) == 2)
    assert seen == [("first", 5), ("second", True)]
    future.add_done_callback(lambda _: seen.append("at once"))
    assert seen[-1] == "at once"


def test_a_callback_that_raises_is_logged(
    executor: cf.Executor, caplog: pytest.LogCaptureFixture
) -> None:
    future = executor.submit(square, 1)
    done = threading.Event()

    def bad(_: object) -> None:
        raise ValueError("a callback's")

    future.add_done_callback(bad)
    future.add_done_callback(lambda _: done.set())
    assert done.wait(PATIENCE)
    assert "a callback's" in caplog.text


def test_submit_from_a_callback(executor: cf.Executor) -> None:
    values: list[int] = []
    done = threading.Event()

    def go_on(future: cf.Future[int]) -> None:
        values.append(future.result(0))
        if len(values) < 50:
            executor.submit(square, len(values)).add_done_callback(go_on)
        else:
            done.set()

    executor.submit(square, 0).add_done_callback(go_on)
    assert done.wait(PATIENCE)
    assert values == [n * n for n in range(50)]


@pytest.mark.parametrize(
    ("when", "failing", "pending"),
    [(cf.FIRST_COMPLETED, False, 2), (cf.FIRST_EXCEPTION, True, 2), (cf.ALL_COMPLETED, False, 0)],
)
def test_wait(executor: cf.Executor, gate: Gate, when: str, failing: bool, pending: int) -> None:
    held = {executor.submit(pass_gate, gate.path)}
    first = executor.submit(fail if failing else square, 2)
    held.add(executor.submit(pass_gate, gate.path))
    if pending == 0:
        gate.open(2)
    done, not_done = cf.wait({first, *held}, timeout=PATIENCE, return_when=when)
    assert first in done
    assert len(not_done) == pending
    gate.open(2)
    assert cf.wait(held, PATIENCE).not_done == set()
    # Done already: found at once, whoever it was that heard of it.
    assert cf.wait({first, *held}, timeout=0).not_done == set()


def test_as_completed(executor: cf.Executor, gate: Gate) -> None:
    held = executor.submit(pass_gate, gate.path, "held")
    futures = [held, *(executor.submit(square, n) for n in range(20))]
    seen = []
    for future in cf.as_completed(futures, PATIENCE):
        seen.append(future.result(0))
        if len(seen) == 20:
            gate.open(1)
    assert seen[-1] == "held"
    assert sorted(seen[:-1]) == [n * n for n in range(20)]
    with pytest.raises(cf.TimeoutError):
        list(cf.as_completed([executor.submit(pass_gate, gate.path)], timeout=0.01))
    gate.open(1)


def test_many_threads_submit_and_wait(executor: cf.Executor) -> None:
    sums: list[int] = []

    def work() -> None:
        sums.append(sum(executor.submit(square, n).result(PATIENCE) for n in range(100)))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sums == [sum(n * n for n in range(100))] * 6


def test_threads_wait_for_one_future(executor: cf.Executor, gate: Gate) -> None:
    future = executor.submit(pass_gate, gate.path, "all")
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda: found.append(future.result(PATIENCE))) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    gate.open(1)
    for thread in threads:
        thread.join()
    assert found == ["all"] * 5


# ---- with asyncio --------------------------------------------------------------------------------


def test_run_in_executor_and_wrap_future(executor: cf.Executor) -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        wrapped = asyncio.wrap_future(executor.submit(square, 3))
        values = await asyncio.gather(
            wrapped, *(loop.run_in_executor(executor, square, n) for n in range(50))
        )
        with pytest.raises(ValueError, match="no 4"):
            await loop.run_in_executor(executor, fail, 4)
        return values

    assert asyncio.run(main()) == [9, *(n * n for n in range(50))]


def test_a_cancelled_wait_cancels_the_future(executor: cf.Executor, gate: Gate) -> None:
    async def main() -> bool:
        held = [executor.submit(pass_gate, gate.path) for _ in range(2)]
        until(lambda: all(future.running() for future in held))
        waiting = executor.submit(square, 3)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(waiting), 0.01)
        gate.open(2)
        return waiting.cancelled()

    assert asyncio.run(main())


# ---- map -----------------------------------------------------------------------------------------


def test_map_keeps_the_order(executor: cf.Executor) -> None:
    assert list(executor.map(square, range(1000))) == [n * n for n in range(1000)]
    assert list(executor.map(pow, [2, 3, 4], [5, 6])) == [32, 729]
    assert list(executor.map(square, [])) == []
    assert list(executor.map(square, iter([3]))) == [9]


@pytest.mark.parametrize("chunksize", [1, 2, 7, 100, 5000])
def test_map_by_chunks(executor: cf.Executor, chunksize: int) -> None:
    found = executor.map(square, range(1000), chunksize=chunksize)
    assert list(found) == [n * n for n in range(1000)]


def test_map_raises_at_the_item(executor: cf.Executor) -> None:
    found = executor.map(fail_at_five, range(10))
    assert list(itertools.islice(found, 5)) == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="no 5"):
        next(found)
    assert list(found) == []
    assert executor.submit(square, 2).result(PATIENCE) == 4


def test_map_has_an_end(executor: cf.Executor, gate: Gate) -> None:
    found = executor.map(pass_gate, [gate.path], timeout=0.05)
    with pytest.raises(cf.TimeoutError):
        next(found)
    gate.open(1)


def test_a_function_that_raises_stop_iteration(executor: cf.Executor) -> None:
    # Inside map's generator it would be a RuntimeError, and must not be an early end.
    found = executor.map(stop_at_three, range(6))
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    with pytest.raises((StopIteration, RuntimeError)):
        next(found)
    with pytest.raises(StopIteration):
        executor.submit(stop_at_three, 3).result(PATIENCE)


def test_a_map_that_is_dropped(executor: cf.Executor) -> None:
    found = executor.map(square, range(5000))
    assert next(found) == 0
    del found
    assert executor.submit(square, 3).result(PATIENCE) == 9


def test_maps_side_by_side(executor: cf.Executor) -> None:
    one, two = executor.map(square, range(500)), executor.map(square, range(500))
    pairs = list(zip(one, two, strict=True))
    assert pairs == [(n * n, n * n) for n in range(500)]


# ---- shutdown ------------------------------------------------------------------------------------


def test_after_shutdown(make: Callable[..., cf.Executor]) -> None:
    executor = make(2)
    future = executor.submit(square, 3)
    executor.shutdown()
    executor.shutdown()
    assert future.result(0) == 9
    with pytest.raises(RuntimeError, match="shutdown"):
        executor.submit(square, 3)
    with pytest.raises(RuntimeError, match="shutdown"):
        list(executor.map(square, [3]))


def test_shutdown_that_does_not_wait(make: Callable[..., cf.Executor], gate: Gate) -> None:
    executor = make(2)
    futures = [executor.submit(pass_gate, gate.path, n) for n in range(6)]
    executor.shutdown(wait=False)
    assert not futures[-1].done()
    gate.open(6)
    assert [future.result(PATIENCE) for future in futures] == list(range(6))
    executor.shutdown()


def test_shutdown_that_cancels(make: Callable[..., cf.Executor], gate: Gate) -> None:
    executor = make(2)
    held = [executor.submit(pass_gate, gate.path, n) for n in range(2)]
    until(lambda: all(future.running() for future in held))
    waiting = [executor.submit(square, n) for n in range(50)]
    executor.shutdown(wait=False, cancel_futures=True)
    gate.open(2)
    executor.shutdown()
    assert [future.result(PATIENCE) for future in held] == [0, 1]
    assert all(future.cancelled() for future in waiting)


def test_dropped_without_shutdown(make: Callable[..., cf.Executor], gate: Gate) -> None:
    executor = make(2)
    futures = [executor.submit(pass_gate, gate.path, n) for n in range(6)]
    del executor
    gate.open(6)
    assert [future.result(PATIENCE) for future in futures] == list(range(6))


@pytest.mark.parametrize("workers", [0, -1])
def test_workers_are_counted_from_one(make: Callable[..., cf.Executor], workers: int) -> None:
    with pytest.raises(ValueError, match="max_workers must be greater than 0"):
        make(workers)


def test_the_initializer_runs_in_each_worker(make: Callable[..., cf.Executor]) -> None:
    with make(2, initializer=set_state, initargs=("a", "b")) as executor:
        assert set(executor.map(get_state, range(50))) == {("a", "b")}


def test_a_failing_initializer_breaks_the_executor(
    make: Callable[..., cf.Executor], caplog: pytest.LogCaptureFixture
) -> None:
    with make(2, initializer=fail, initargs=(1,)) as executor:
        future = executor.submit(square, 3)
        with pytest.raises(cf.BrokenExecutor):
            future.result(PATIENCE)
        with pytest.raises(cf.BrokenExecutor):
            executor.submit(square, 3).result(PATIENCE)
