"""What the process pool offers beyond the standard library's."""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import contextvars
import gc
import io
import itertools
import multiprocessing
import os
import signal
import sys
import threading
import weakref
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import plait
import pytest
from conftest import PATIENCE, Gate, until, wait_until_gone
from light import (
    complain,
    fail_at_five,
    first_waits,
    get_state,
    kill_me,
    length_of_new,
    note_and_pass_gate,
    pass_gate,
    square,
)
from plait.errors import SerializationError, TaskTimeout, WorkerDied


@pytest.fixture
def pool() -> Iterator[plait.ProcessPoolExecutor]:
    with plait.ProcessPoolExecutor(2) as pool:
        yield pool


# ---- the type ------------------------------------------------------------------------------------


def test_it_is_the_standard_librarys() -> None:
    with plait.ProcessPoolExecutor() as pool:
        assert isinstance(pool, cf.ProcessPoolExecutor)
        assert pool._max_workers == plait.cpu_count()
        future = pool.submit(square, 2)
        assert isinstance(future, cf.Future)
        assert isinstance(future, plait.Future)
        assert plait.wait([future]).done == {future}
        assert list(plait.as_completed([future])) == [future]
    assert plait.wait is not None
    with pytest.raises(TypeError):
        plait.ProcessPoolExecutor("two")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="callable"):
        plait.ProcessPoolExecutor(2, initializer=3)  # type: ignore[arg-type]


def test_workers_are_started_on_demand_and_end(pool: plait.ProcessPoolExecutor) -> None:
    assert not pool._processes
    assert pool.submit(os.getpid).result(PATIENCE) != os.getpid()
    assert 1 <= len(pool._processes) <= 2
    pids = list(pool._processes)
    pool.shutdown()
    assert not pool._processes
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)


def test_in_a_default_executor() -> None:
    async def main() -> int:
        loop = asyncio.get_running_loop()
        with plait.ProcessPoolExecutor(1) as pool:
            return await loop.run_in_executor(pool, os.getpid)

    assert asyncio.run(main()) != os.getpid()


# ---- await, async for ----------------------------------------------------------------------------


def test_futures_are_awaitable(pool: plait.ProcessPoolExecutor) -> None:
    async def main() -> list[int]:
        with pytest.raises(ValueError, match="no 5"):
            await pool.submit(fail_at_five, 5)
        done = pool.submit(square, 9)
        done.result(PATIENCE)
        return [await done, await done, *await asyncio.gather(*map(one, range(20)))]

    async def one(n: int) -> int:
        return await pool.submit(square, n)

    assert asyncio.run(main()) == [81, 81, *(n * n for n in range(20))]


def test_a_cancelled_await_leaves_the_loop_fine(
    pool: plait.ProcessPoolExecutor, gate: Gate
) -> None:
    async def main() -> str:
        future = pool.submit(pass_gate, gate.path, "late")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(await_it(future), 0.01)
        gate.open(2)
        return await pool.submit(pass_gate, gate.path, "in time")

    async def await_it(future: Any) -> Any:
        return await future

    assert asyncio.run(main()) == "in time"


def test_async_for(pool: plait.ProcessPoolExecutor) -> None:
    async def main() -> None:
        assert [n async for n in pool.map(square, range(300))] == [n * n for n in range(300)]
        found = [n async for n in pool.imap_unordered(square, range(300))]
        assert sorted(found) == [n * n for n in range(300)]
        ticks = 0
        async for n in pool.map(square, itertools.count()):
            ticks += 1
            if n > 10_000:
                break
        assert ticks == 102

    asyncio.run(main())


def test_async_for_leaves_the_loop_running(pool: plait.ProcessPoolExecutor, gate: Gate) -> None:
    async def main() -> list[Any]:
        async def open_it() -> None:
            gate.open(3)

        opener = asyncio.create_task(open_it())  # runs only if the loop does
        found = [value async for value in pool.map(pass_gate, [gate.path] * 3)]
        await opener
        return found

    assert asyncio.run(main()) == [None] * 3


# ---- map -----------------------------------------------------------------------------------------


def test_map_is_lazy(pool: plait.ProcessPoolExecutor) -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        while True:
            yield taken
            taken += 1

    found = pool.map(square, items(), buffersize=4)
    assert next(found) == 0
    assert taken <= 6
    assert list(itertools.islice(found, 100)) == [n * n for n in range(1, 101)]
    assert taken <= 106
    found.close()
    endless = pool.map(square, itertools.count())
    assert list(itertools.islice(endless, 3000)) == [n * n for n in range(3000)]


def test_map_takes_from_one_thread_at_a_time(pool: plait.ProcessPoolExecutor) -> None:
    threads = set()

    def items() -> Iterator[int]:
        for n in range(2000):
            threads.add(threading.get_ident())
            yield n

    assert list(pool.map(square, items())) == [n * n for n in range(2000)]
    assert threads == {threading.get_ident()}


@pytest.mark.parametrize("name", ["chunksize", "buffersize"])
@pytest.mark.parametrize("value", [0, -3])
def test_bad_sizes(pool: plait.ProcessPoolExecutor, name: str, value: int) -> None:
    with pytest.raises(ValueError, match=name):
        pool.map(square, [1], **{name: value})
    with pytest.raises(TypeError):
        pool.map(square, [1], **{name: "1"})


def test_imap_unordered(pool: plait.ProcessPoolExecutor, gate: Gate) -> None:
    found = pool.imap_unordered(square, range(500))
    assert sorted(found) == [n * n for n in range(500)]
    mixed = pool.imap_unordered(first_waits, [gate.path, 1, 2, 3], chunksize=1)
    assert sorted(itertools.islice(mixed, 3)) == [1, 2, 3]
    gate.open(1)
    assert list(mixed) == ["waited"]


def test_an_item_that_cannot_travel_is_named(pool: plait.ProcessPoolExecutor) -> None:
    found = pool.map(str, [*range(7), sys._getframe(), 8])
    with pytest.raises(SerializationError, match=r"\b7\b"):
        list(found)
    assert pool.submit(square, 2).result(PATIENCE) == 4


def test_an_iterator_that_raises(pool: plait.ProcessPoolExecutor) -> None:
    def items() -> Iterator[int]:
        yield from range(7)
        raise LookupError("no more")

    seen = []
    with pytest.raises(LookupError, match="no more") as caught:
        seen.extend(pool.map(square, items()))
    assert any("7" in note for note in getattr(caught.value, "__notes__", []))
    assert list(pool.map(square, range(3))) == [0, 1, 4]


def test_progress(pool: plait.ProcessPoolExecutor, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(pool.map(square, range(100), progress=True)) == [n * n for n in range(100)]
    captured = capsys.readouterr()
    assert "100" in captured.err
    assert captured.out == ""


# ---- options -------------------------------------------------------------------------------------


def test_a_time_limit(pool: plait.ProcessPoolExecutor, gate: Gate) -> None:
    slow = pool.options(timeout=0.2, name="the slow one").submit(pass_gate, gate.path)
    others = [pool.submit(square, n) for n in range(20)]
    with pytest.raises(TaskTimeout, match=r"the slow one.*0\.2"):
        slow.result(PATIENCE)
    assert [future.result(PATIENCE) for future in others] == [n * n for n in range(20)]
    # Its worker is gone with it, and does not wait at the gate.
    gate.open(1)
    assert pool.submit(pass_gate, gate.path, "next").result(PATIENCE) == "next"


@pytest.mark.parametrize(
    ("option", "value"), [("timeout", -1), ("retries", -1), ("memory", -5), ("timeout", "1")]
)
def test_bad_options(pool: plait.ProcessPoolExecutor, option: str, value: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=option):
        pool.options(**{option: value}).submit(square, 1)


def test_retries(pool: plait.ProcessPoolExecutor, tmp_path: Any) -> None:
    def dies_twice() -> int:
        for name in ("once", "twice"):
            if not (tmp_path / name).exists():
                (tmp_path / name).touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return 3

    assert pool.options(retries=2).submit(dies_twice).result(PATIENCE) == 3
    for name in ("once", "twice"):
        (tmp_path / name).unlink()
    with pytest.raises(WorkerDied):
        pool.options(retries=1).submit(dies_twice).result(PATIENCE)


def test_a_memory_limit_counts_from_the_baseline(pool: plait.ProcessPoolExecutor) -> None:
    options = pool.options(memory=100 << 20)
    assert options.submit(bytearray, 10 << 20).result(PATIENCE) == bytearray(10 << 20)
    with pytest.raises(MemoryError):
        options.submit(bytearray, 1 << 30).result(PATIENCE)
    # The limit was that task's alone.
    assert pool.submit(length_of_new, 300 << 20).result(PATIENCE) == 300 << 20


def test_map_with_options(pool: plait.ProcessPoolExecutor) -> None:
    assert list(pool.options(timeout=30).map(square, range(100))) == [n * n for n in range(100)]


def test_cancelling_what_runs(pool: plait.ProcessPoolExecutor, gate: Gate) -> None:
    future = pool.submit(pass_gate, gate.path)
    until(future.running)
    assert not future.cancel()
    assert future.cancel(running=True)
    assert cf.wait([future], PATIENCE).done == {future}
    assert future.cancelled()
    with pytest.raises(cf.CancelledError):
        future.result(PATIENCE)
    assert pool.submit(square, 3).result(PATIENCE) == 9
    done = pool.submit(square, 4)
    done.result(PATIENCE)
    assert not done.cancel(running=True)


def test_cancelling_what_has_just_ended_leaves_the_next_task_alone(
    gate: Gate, tmp_path: Path
) -> None:
    with plait.ProcessPoolExecutor(1) as pool:
        assert pool.submit(square, 1).result(PATIENCE) == 1
        for number in range(20):
            began = tmp_path / str(number)
            first = [pool.submit(square, 3) for _ in range(3)]
            second = pool.submit(note_and_pass_gate, str(began), gate.path)
            until(began.exists)
            assert not first[-1].cancel(running=True)
            gate.open(1)
            assert second.result(PATIENCE) == "passed"
            assert [future.result(PATIENCE) for future in first] == [9, 9, 9]
            assert began.read_text() == "once "


def test_a_dead_worker_is_described(pool: plait.ProcessPoolExecutor) -> None:
    with pytest.raises(WorkerDied, match=r"_exit\(3\).*exit code 3") as caught:
        pool.submit(os._exit, 3).result(PATIENCE)
    assert (caught.value.exitcode, caught.value.signal) == (3, None)
    with pytest.raises(WorkerDied, match=r"kill_me\(9\).*SIGKILL") as caught:
        pool.submit(kill_me, 9).result(PATIENCE)
    assert (caught.value.exitcode, caught.value.signal) == (-9, 9)
    assert "kill_me" in (caught.value.task or "")
    assert caught.value.pid not in (None, os.getpid())


def test_arguments_of_a_dead_worker_are_not_unpickled_to_describe_them() -> None:
    class Deadly:
        def __reduce__(self) -> Any:
            return kill_me, (9,)

    with plait.ProcessPoolExecutor(1) as pool:
        future = pool.submit(len, [Deadly(), {"a": Decimal(1)}, "text"])
        with pytest.raises(WorkerDied, match=r"len\(\[<.*>, {'a': <Decimal>}, 'text'\]\)"):
            future.result(PATIENCE)


def test_a_task_that_exits_is_told_and_the_caller_goes_on(pool: plait.ProcessPoolExecutor) -> None:
    class Exits:
        def __reduce__(self) -> Any:
            sys.exit(4)

    with pytest.raises(WorkerDied, match="exit"):
        pool.submit(sys.exit, 3).result(PATIENCE)
    with pytest.raises(WorkerDied, match="exit"):
        pool.submit(Exits).result(PATIENCE)
    assert pool.submit(abs, -1).result(PATIENCE) == 1


def test_a_pool_that_has_ended_is_forgotten() -> None:
    class Precious:
        pass

    precious = Precious()
    forgotten = weakref.ref(precious)
    with plait.ProcessPoolExecutor(1, initializer=lambda _: None, initargs=(precious,)) as pool:
        failed = pool.submit(divmod, 1, 0)
    del pool, precious
    gc.collect()
    assert forgotten() is None
    with pytest.raises(ZeroDivisionError):  # which has the words for it all the same
        failed.result()


def test_the_childs_traceback_is_the_cause(pool: plait.ProcessPoolExecutor) -> None:
    with pytest.raises(ValueError, match="no 5") as caught:
        pool.submit(fail_at_five, 5).result(PATIENCE)
    assert "in fail_at_five" in str(caught.value.__cause__)


# ---- workers -------------------------------------------------------------------------------------


def test_a_worker_serves_so_many_tasks(pool: plait.ProcessPoolExecutor) -> None:
    with plait.ProcessPoolExecutor(1, max_tasks_per_child=3) as single:
        pids = [single.submit(os.getpid).result(PATIENCE) for _ in range(9)]
        assert [len(list(group)) for _, group in itertools.groupby(pids)] == [3, 3, 3]
        assert list(single.map(square, range(20))) == [n * n for n in range(20)]
    with pytest.raises(ValueError, match="max_tasks_per_child"):
        plait.ProcessPoolExecutor(1, max_tasks_per_child=0)


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_other_start_methods(method: str) -> None:
    context = multiprocessing.get_context(method)
    with plait.ProcessPoolExecutor(2, mp_context=context) as pool:
        assert list(pool.map(square, range(100))) == [n * n for n in range(100)]
        with pytest.raises(WorkerDied):
            pool.submit(os._exit, 3).result(PATIENCE)
        assert pool.submit(len, bytes(1 << 20)).result(PATIENCE) == 1 << 20
        assert pool._mp_context is context


def test_nested_pools(pool: plait.ProcessPoolExecutor) -> None:
    assert list(pool.map(nested, range(4))) == [sum(k * k for k in range(n)) for n in range(4)]


def nested(n: int) -> int:
    with plait.ProcessPoolExecutor(2) as pool:
        return sum(pool.map(square, range(n)))


def test_contextvars_come_along(pool: plait.ProcessPoolExecutor) -> None:
    token = VARIABLE.set("the parent's")
    future = pool.submit(get_variable)
    found = pool.map(get_variable, [1, 2])
    VARIABLE.reset(token)
    assert future.result(PATIENCE) == "the parent's"
    assert list(found) == ["the parent's"] * 2
    assert pool.submit(get_variable).result(PATIENCE) == "unset"


VARIABLE = contextvars.ContextVar("VARIABLE", default="unset")


def get_variable(_: int = 0) -> str:
    return VARIABLE.get()


def test_what_is_printed(
    pool: plait.ProcessPoolExecutor,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool.submit(print, "to capsys").result(PATIENCE)
    assert capsys.readouterr().out == "to capsys\n"
    # Set after the workers began: it goes to where the parent's output goes now.
    other, errors = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", other)
    monkeypatch.setattr(sys, "stderr", errors)
    list(pool.map(print, ["a", "b"]))
    pool.submit(complain).result(PATIENCE)
    monkeypatch.undo()
    # Two workers: a line arrives whole, which print() writes in two parts.
    assert sorted(other.getvalue().splitlines()) == ["a", "b"]
    assert errors.getvalue() == "a complaint\n"
    pool.submit(print, "no line", end="").result(PATIENCE)
    pool.submit(print, "to capsys again").result(PATIENCE)
    assert capsys.readouterr().out == "no lineto capsys again\n"


def test_stats(pool: plait.ProcessPoolExecutor) -> None:
    list(pool.map(square, range(100)))
    pool.submit(len, bytes(100_000)).result(PATIENCE)
    stats = pool.stats()
    assert stats


def test_an_executor_that_is_dropped_ends_its_workers() -> None:
    pool = plait.ProcessPoolExecutor(2)
    processes = pool._processes
    pids = {future.result(PATIENCE) for future in [pool.submit(os.getpid) for _ in range(4)]}
    cycle: list[Any] = [pool]
    cycle.append(cycle)
    gone = weakref.ref(pool)
    del pool, cycle, processes
    gc.collect()
    assert gone() is None
    wait_until_gone(pids)


def test_state_is_seen_by_tasks() -> None:
    with plait.ProcessPoolExecutor(2, initializer=lambda: None) as pool:
        assert list(pool.map(get_state, [1])) == [None]


# ---- what tasks name ----


def test_a_function_that_changes_while_tasks_wait(pool: plait.ProcessPoolExecutor) -> None:
    factor = 0

    def times(number: int) -> int:
        return number * factor

    def submit(number: int) -> Any:
        nonlocal factor
        factor = number
        return pool.submit(times, 2)

    futures = [submit(number) for number in range(300)]
    assert [future.result(PATIENCE) for future in futures] == [2 * n for n in range(300)]


def test_threads_that_submit_a_function_for_the_first_time(pool: plait.ProcessPoolExecutor) -> None:
    for _ in range(20):
        begun = threading.Barrier(4)
        sums: list[int] = []

        def new(number: int) -> int:
            return number

        def submit(new: Any = new, begun: Any = begun, sums: Any = sums) -> None:
            begun.wait(PATIENCE)
            sums.append(sum(pool.submit(new, n).result(PATIENCE) for n in range(20)))

        threads = [threading.Thread(target=submit) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sums == [190] * 4


def test_context_variables_that_change_while_tasks_wait(pool: plait.ProcessPoolExecutor) -> None:
    def submit(number: int) -> Any:
        VARIABLE.set(str(number))
        return pool.submit(VARIABLE.get)

    futures = [contextvars.copy_context().run(submit, number) for number in range(300)]
    assert [future.result(PATIENCE) for future in futures] == [str(n) for n in range(300)]
