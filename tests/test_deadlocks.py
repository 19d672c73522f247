"""Deadlocks: each kind is told, to one of the parties, and what may end by itself never is.

Cycles are found whatever else runs; that nothing in the process can run, only where nothing
does, so those programs run alone.
"""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import plait
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plait import sync
from plait.errors import DeadlockError, DeadlockParty, PlaitError

Runs = Callable[..., CompletedProcess[str]]


@pytest.fixture(autouse=True)
def looks_for_deadlocks() -> Iterator[None]:
    was = sync.find_deadlocks(True)
    yield
    sync.find_deadlocks(was)


def together(*bodies: Callable[[], Any]) -> list[Any]:
    """Runs each body in a thread of its own, named A, B, ...; what they return or raise."""
    outcomes: list[Future[Any]] = [Future() for _ in bodies]

    def run(body: Callable[[], Any], outcome: Future[Any]) -> None:
        try:
            outcome.set_result(body())
        except BaseException as error:
            outcome.set_exception(error)

    for index, (body, outcome) in enumerate(zip(bodies, outcomes, strict=True)):
        name = chr(ord("A") + index)
        threading.Thread(target=run, args=(body, outcome), name=name, daemon=True).start()
    return [outcome.exception(40) or outcome.result() for outcome in outcomes]


def in_cycle(locks: list[Any]) -> list[Any]:
    """One thread a lock, which holds it and takes the next one."""
    meet = threading.Barrier(len(locks))

    def body(index: int) -> str:
        with locks[index]:
            meet.wait(30)
            with locks[(index + 1) % len(locks)]:
                return "done"

    return together(*(lambda index=index: body(index) for index in range(len(locks))))


def only_error(outcomes: list[Any]) -> DeadlockError:
    """All but one are done, and that one was told."""
    errors = [outcome for outcome in outcomes if outcome != "done"]
    assert len(errors) == 1, outcomes
    assert isinstance(errors[0], DeadlockError), errors
    return errors[0]


def names(error: DeadlockError) -> set[str]:
    return {party.name for party in error.cycle}


@pytest.mark.parametrize("kinds", ["LL", "LLL", "RR", "RL", "LRLRL"])
def test_locks_in_a_cycle(kinds: str) -> None:
    locks: list[Any] = [plait.Lock() if kind == "L" else plait.RLock() for kind in kinds]
    error = only_error(in_cycle(locks))
    assert names(error) == set("ABCDE"[: len(kinds)])
    for party in error.cycle:
        mine = ord(party.name) - ord("A")
        assert party.holds == [locks[mine]]
        assert party.waits_for is locks[(mine + 1) % len(locks)]
        assert party.stack[-1].filename == __file__
        assert party.stack[-1].name == "body"
        assert f"thread {party.name!r} waits for" in str(error)
    following = error.cycle[1:] + error.cycle[:1]
    for party, holder in zip(error.cycle, following, strict=True):
        assert party.waits_for in holder.holds
    assert f"{Path(__file__).name}:{error.cycle[0].stack[-1].lineno}" in str(error)
    assert not any(lock.locked() for lock in locks if isinstance(lock, plait.Lock))
    assert only_error(in_cycle(locks))  # they are as good as before


def test_the_error_is_what_it_promises() -> None:
    error = only_error(in_cycle([plait.Lock(), plait.Lock()]))
    assert isinstance(error, PlaitError)
    assert isinstance(error, RuntimeError)
    assert "same order" in str(error)
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error)
    assert [party.name for party in copy.cycle] == [party.name for party in error.cycle]
    assert "Lock" in copy.cycle[0].waits_for
    assert all(isinstance(party, DeadlockParty) for party in copy.cycle)
    assert [frame.lineno for frame in copy.cycle[0].stack]


def test_it_can_be_turned_off() -> None:
    assert sync.find_deadlocks(False) is True
    a, b = plait.Lock(), plait.Lock()
    meet = threading.Barrier(2)

    def body(first: Any, second: Any) -> str:
        with first:
            meet.wait(30)
            if second.acquire():
                second.release()
            return "done"

    def free() -> str:
        meet.wait(30)
        while not sync_waiters(a) and not sync_waiters(b):
            pass
        a.release()  # which its holder then finds free
        return "done"

    meet = threading.Barrier(3)
    outcomes = together(lambda: body(a, b), lambda: body(b, a), free)
    assert not any(isinstance(outcome, DeadlockError) for outcome in outcomes)
    assert sync.deadlocks() == []


def sync_waiters(lock: Any) -> int:
    return int(lock._statistics()[0])


# ---- RWLock ------------------------------------------------------------------------------


def test_reading_cannot_become_writing() -> None:
    rw = plait.RWLock()
    with rw.read():
        with pytest.raises(DeadlockError, match="Let go of it") as caught:
            rw.acquire_write()
        assert rw.acquire_write(timeout=0.001) is False
    assert len(caught.value.cycle) == 1
    with rw.write():
        pass


def test_two_readers_that_both_want_to_write() -> None:
    rw, meet = plait.RWLock(), threading.Barrier(2)

    def body() -> str:
        with rw.read():
            meet.wait(30)
            with rw.write():
                return "done"

    outcomes = together(body, body)
    # By contract one's own read access is enough to be told.
    assert all(isinstance(outcome, DeadlockError) for outcome in outcomes)
    with rw.write():
        pass


def test_a_reader_and_a_lock() -> None:
    rw, lock, meet = plait.RWLock(), plait.RLock(), threading.Barrier(2)

    def reader() -> str:
        with rw.read():
            meet.wait(30)
            with lock:
                return "done"

    def writer() -> str:
        with lock:
            meet.wait(30)
            with rw.write():
                return "done"

    error = only_error(together(reader, writer))
    assert names(error) == {"A", "B"}


# ---- joins -------------------------------------------------------------------------------


def test_join_of_a_thread_that_waits_for_my_lock() -> None:
    lock = plait.Lock()

    def worker() -> str:
        try:
            with lock:
                return "done"
        except DeadlockError as error:
            return f"told: {error}"

    thread = plait.Thread(target=worker, name="worker")
    told = None
    with lock:
        thread.start()
        try:
            thread.join()
        except DeadlockError as error:
            told = error
    outcome = thread.result(30)
    if told is None:
        assert outcome.startswith("told")
    else:
        assert outcome == "done"
        assert names(told) == {threading.current_thread().name, "worker"}
        assert any(party.waits_for is thread for party in told.cycle)


def test_threads_that_join_each_other() -> None:
    threads: list[plait.Thread] = []
    ready = threading.Event()

    def body(other: int) -> str:
        ready.wait(30)
        threads[other].join()
        return "done"

    threads += [plait.Thread(target=body, args=(other,), name=f"joins {other}") for other in (1, 0)]
    for thread in threads:
        thread.start()
    hook, threading.excepthook = threading.excepthook, lambda _: None  # result() tells it too
    try:
        ready.set()
        for thread in threads:
            thread.join(30)
    finally:
        threading.excepthook = hook
    outcomes: list[Any] = []
    for thread in threads:
        try:
            outcomes.append(thread.result(30))
        except DeadlockError as error:
            outcomes.append(error)
    assert names(only_error(outcomes)) == {"joins 0", "joins 1"}


def test_a_joined_thread_that_runs_is_no_deadlock() -> None:
    go = threading.Event()
    thread = plait.Thread(target=go.wait, args=(30,))
    thread.start()
    joiner = plait.Thread(target=thread.join)
    joiner.start()
    go.set()
    joiner.join()
    assert not thread.is_alive()


def test_a_childs_deadlock_is_its_result() -> None:
    def child() -> None:
        lock = plait.Lock()
        lock.acquire()
        lock.acquire()

    process = plait.Process(target=child)
    import io
    import sys

    kept, sys.stderr = sys.stderr, io.StringIO()  # where its traceback goes
    try:
        process.start()
        with pytest.raises(DeadlockError, match="nobody is left to release it") as caught:
            process.result()
        process.join()
    finally:
        sys.stderr = kept
    assert [party.name for party in caught.value.cycle] == ["MainThread"]


# ---- tasks -------------------------------------------------------------------------------


async def task_body(first: Any, second: Any, mine: asyncio.Event, theirs: asyncio.Event) -> str:
    async with first:
        mine.set()
        await theirs.wait()
        async with second:
            return "done"


def test_two_tasks_of_one_loop() -> None:
    async def main() -> tuple[list[Any], list[Any]]:
        a, b = plait.Lock(), plait.RLock()
        one, two = asyncio.Event(), asyncio.Event()
        tasks = [
            asyncio.create_task(task_body(a, b, one, two), name="one"),
            asyncio.create_task(task_body(b, a, two, one), name="two"),
        ]
        return await asyncio.gather(*tasks, return_exceptions=True), [a, b]

    outcomes, (a, b) = asyncio.run(main())
    error = only_error(outcomes)
    assert names(error) == {"one", "two"}
    assert {id(party.waits_for) for party in error.cycle} == {id(a), id(b)}
    assert all(party.stack[-1].name == "task_body" for party in error.cycle)


def test_tasks_of_two_loops() -> None:
    a, b, meet = plait.Lock(), plait.Lock(), threading.Barrier(2)

    def loop(first: Any, second: Any) -> Any:
        async def main() -> str:
            async with first:
                meet.wait(30)
                async with second:
                    return "done"

        return asyncio.run(main())

    only_error(together(lambda: loop(a, b), lambda: loop(b, a)))


def test_a_task_and_a_thread() -> None:
    a, b, meet = plait.Lock(), plait.Lock(), threading.Barrier(2)

    def thread() -> str:
        with a:
            meet.wait(30)
            with b:
                return "done"

    def loop() -> str:
        async def main() -> str:
            async with b:
                meet.wait(30)
                async with a:
                    return "done"

        return asyncio.run(main())

    only_error(together(thread, loop))


def test_a_thread_that_blocks_its_loop_waits_for_its_tasks() -> None:
    async def main() -> str:
        lock, ready = plait.Lock(), asyncio.Event()

        async def holder() -> str:
            async with lock:
                ready.set()
                await asyncio.sleep(0)
                return "done"

        task = asyncio.create_task(holder(), name="holder")
        await ready.wait()
        with pytest.raises(DeadlockError, match="async with") as caught:
            lock.acquire()  # instead of: await lock.acquire_async()
        assert names(caught.value) == {threading.current_thread().name, "holder"}
        blocked = next(party for party in caught.value.cycle if party.name == "holder")
        assert blocked.waits_for is None
        assert blocked.holds == [lock]
        return await task

    assert asyncio.run(main()) == "done"


@pytest.mark.parametrize("limit", ["timeout", "wait_for", "outer", "group", "call_later"])
def test_tasks_with_a_time_limit_are_no_deadlock(limit: str) -> None:
    async def take(lock: Any) -> None:
        async with lock:
            pass

    async def limited(second: Any) -> None:
        if limit == "wait_for":
            await asyncio.wait_for(take(second), 0.05)
        elif limit == "timeout":
            async with asyncio.timeout(0.05):
                await take(second)
        elif limit == "call_later":
            task = asyncio.current_task()
            assert task is not None
            asyncio.get_running_loop().call_later(0.05, task.cancel)
            await take(second)
        else:
            await take(second)

    async def body(first: Any, second: Any, mine: asyncio.Event, theirs: asyncio.Event) -> str:
        async with first:
            mine.set()
            await theirs.wait()
            await limited(second)
            return "done"

    async def main() -> Any:
        a, b = plait.Lock(), plait.Lock()
        one, two = asyncio.Event(), asyncio.Event()
        bodies = body(a, b, one, two), body(b, a, two, one)
        if limit == "outer":
            async with asyncio.timeout(0.05):
                return await asyncio.gather(*bodies)
        if limit == "group":
            async with asyncio.timeout(0.05):
                async with asyncio.TaskGroup() as group:
                    for one_body in bodies:
                        group.create_task(one_body)
                return None
        return await asyncio.gather(*bodies, return_exceptions=True)

    try:
        outcomes = asyncio.run(main())
    except TimeoutError:
        assert limit in ("outer", "group")
    else:
        told = [type(outcome) for outcome in outcomes if outcome != "done"]
        assert told
        assert set(told) <= {TimeoutError, asyncio.CancelledError}


# ---- when nobody is left -----------------------------------------------------------------

NOBODY_LEFT = {
    "a lock taken twice": "lock.acquire(); lock.acquire()",
    "a semaphore": "plait.Semaphore(0).acquire()",
    "an event": "plait.Event().wait()",
    "a condition": """
        condition = plait.Condition()
        with condition:
            condition.wait()
    """,
    "a barrier": "plait.Barrier(2).wait()",
    "an empty queue": "plait.Queue().get()",
    "a full queue": "queue = plait.Queue(1); queue.put(1); queue.put(2)",
    "items that nobody is done with": "queue = plait.Queue(); queue.put(1); queue.join()",
    "an empty simple queue": "plait.SimpleQueue().get()",
    "the last other thread ended": """
        thread = plait.Thread(target=time.sleep, args=(0.2,))
        thread.start()
        plait.Event().wait()
    """,
    "threads that wait for each other's signal": """
        one, two = plait.Event(), plait.Event()
        thread = plait.Thread(target=lambda: (one.wait(), two.set()), daemon=True)
        thread.start()
        two.wait()
        one.set()
    """,
    "a task": "asyncio.run(waits())",
    "a task that holds its lock": "asyncio.run(twice())",
    "tasks": "asyncio.run(gathered())",
    "a task and a thread": """
        threading.Thread(target=lambda: event.wait(), daemon=True).start()
        asyncio.run(waits())
    """,
    "a thread, after a task": """
        thread = plait.Thread(target=lambda: asyncio.run(waits()), daemon=True)
        thread.start()
        while not event._statistics()[0]:
            pass
        time.sleep(0.01)  # so that its loop sleeps
        event2.wait()
    """,
}

COMMON = """
    import asyncio, threading, time
    import plait
    lock, event, event2 = plait.Lock(), plait.Event(), plait.Event()
    threading.excepthook = lambda told: print(told.exc_type.__name__, flush=True)

    async def waits():
        await event.wait_async()

    async def twice():
        async with lock:
            async with lock:
                pass

    async def gathered():
        await asyncio.gather(waits(), waits())
"""


def script(*parts: str) -> str:
    import textwrap

    return "\n".join(textwrap.dedent(part) for part in parts)


@pytest.mark.parametrize("program", NOBODY_LEFT.values(), ids=NOBODY_LEFT.keys())
def test_nobody_is_left(program: str, run_script: Runs) -> None:
    done = run_script(script(COMMON, program), check=False)
    assert "DeadlockError" in done.stdout + done.stderr


SOMEBODY_LEFT = {
    "a thread of another make": """
        threading.Thread(target=lambda: (time.sleep(0.3), lock.release())).start()
        lock.acquire(); lock.acquire()
    """,
    "a thread that waits with a limit": """
        def other():
            plait.Event().wait(0.3)
            lock.release()

        plait.Thread(target=other).start()
        lock.acquire(); lock.acquire()
    """,
    "a timer of the loop": """
        async def main():
            asyncio.get_running_loop().call_later(0.3, event.set)
            await event.wait_async()

        asyncio.run(main())
    """,
    "plait's own timer": """
        async def later():
            await plait.aio.sleep(0.3)
            event.set()

        async def main():
            task = asyncio.create_task(later())
            await event.wait_async()

        asyncio.run(main())
    """,
    "a socket": """
        import socket
        async def main():
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            asyncio.get_running_loop().add_reader(ours, event.set)
            threading.Timer(0.3, theirs.send, (b"x",)).start()
            await event.wait_async()

        asyncio.run(main())
    """,
    "a signal": """
        import signal
        signal.signal(signal.SIGALRM, lambda *_: event.set())
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        event.wait()
    """,
    "a process": """
        process = plait.Process(target=time.sleep, args=(0.3,))
        process.start()
        thread = plait.Thread(target=lambda: (process.join(), event.set()))
        thread.start()
        event.wait()
    """,
    "a thread of C's": """
        import ctypes
        libc = ctypes.CDLL(None)
        CALLBACK = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
        main = CALLBACK(lambda _: event.set())
        # A thread that Python does not know of sleeps, and calls back: timer_create's.
        class SigEvent(ctypes.Structure):
            _fields_ = [("value", ctypes.c_void_p), ("signo", ctypes.c_int),
                        ("notify", ctypes.c_int), ("function", CALLBACK),
                        ("attribute", ctypes.c_void_p), ("pad", ctypes.c_long * 8)]
        timer, spec = ctypes.c_void_p(), (ctypes.c_long * 4)(0, 0, 0, 300_000_000)
        told = SigEvent(None, 0, 2, main, None)
        assert libc.timer_create(1, ctypes.byref(told), ctypes.byref(timer)) == 0
        assert libc.timer_settime(timer, 0, spec, None) == 0
        event.wait()
    """,
}


@pytest.mark.parametrize("program", SOMEBODY_LEFT.values(), ids=SOMEBODY_LEFT.keys())
def test_somebody_is_left(program: str, run_script: Runs) -> None:
    done = run_script(script(COMMON, program, "print('went on')"))
    assert done.stdout == "went on\n"
    assert done.stderr == ""


# ---- no false alarms ---------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    programs=st.lists(
        st.lists(
            st.tuples(st.sampled_from("LRSW"), st.sets(st.integers(0, 3), min_size=1)),
            min_size=1,
            max_size=8,
        ),
        min_size=2,
        max_size=4,
    )
)
def test_programs_that_take_locks_in_one_order_end(
    programs: list[list[tuple[str, set[int]]]],
) -> None:
    locks = [plait.Lock() for _ in range(4)]
    rlocks = [plait.RLock() for _ in range(4)]
    semaphores = [plait.Semaphore(2) for _ in range(4)]
    rws = [plait.RWLock() for _ in range(4)]

    def run(program: list[tuple[str, set[int]]]) -> str:
        for kind, which in program:
            held = []
            for index in sorted(which):
                one: Any = {
                    "L": locks[index],
                    "R": rlocks[index],
                    "S": semaphores[index],
                    "W": rws[index].write() if len(which) % 2 else rws[index].read(),
                }[kind]
                one.__enter__()
                held.append(one)
            for one in reversed(held):
                one.__exit__(None, None, None)
        return "done"

    outcomes = together(*(lambda program=program: run(program) for program in programs))
    assert outcomes == ["done"] * len(programs)


@settings(max_examples=40, deadline=None)
@given(rounds=st.integers(1, 60), pairs=st.integers(1, 3))
def test_locks_that_others_release_are_signals(rounds: int, pairs: int) -> None:
    """Each thread waits for its Lock, which the other one releases."""
    bodies: list[Callable[[], str]] = []

    def ping(mine: Any, other: Any) -> str:
        for _ in range(rounds):
            mine.acquire()
            other.release()
        return "done"

    for _ in range(pairs):
        one, two = plait.Lock(), plait.Lock()
        two.acquire()
        bodies += [
            lambda one=one, two=two: ping(one, two),  # type: ignore[misc]
            lambda one=one, two=two: ping(two, one),  # type: ignore[misc]
        ]
    assert together(*bodies) == ["done"] * len(bodies)


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 40), room=st.integers(1, 3), takers=st.integers(1, 3))
def test_condition_and_queue_hand_overs(count: int, room: int, takers: int) -> None:
    queue = plait.Queue(room)
    condition, seen = plait.Condition(), []

    def give() -> str:
        for index in range(count * takers):
            queue.put(index)
        return "done"

    def take() -> str:
        for _ in range(count):
            item = queue.get()
            with condition:
                seen.append(item)
                condition.notify_all()
        return "done"

    def watch() -> str:
        with condition:
            condition.wait_for(lambda: len(seen) == count * takers)
        return "done"

    assert set(together(give, watch, *[take] * takers)) == {"done"}


# ---- suspects ----------------------------------------------------------------------------


def test_suspects_are_listed() -> None:
    event = plait.Event()
    thread = plait.Thread(target=event.wait, name="waits long")
    thread.start()
    while not sync_waiters(event):
        pass
    mine = [one for one in sync.deadlocks() if names(one) == {"waits long"}]
    event.set()
    thread.join()
    assert len(mine) == 1
    assert mine[0].cycle[0].waits_for is event
    assert "suspected" in str(mine[0])
    assert not any(names(one) == {"waits long"} for one in sync.deadlocks())


def test_a_lock_that_another_thread_holds_is_not_said_to_be_taken_twice() -> None:
    lock = plait.Lock()
    thread = plait.Thread(target=lambda: lock.acquire() and lock.release(), name="waits long")
    with lock:
        thread.start()
        while not sync_waiters(lock):
            pass
        mine = [one for one in sync.deadlocks() if names(one) == {"waits long"}]
    thread.join()
    assert len(mine) == 1
    assert "held by 'MainThread'" in str(mine[0])
    assert "twice" not in str(mine[0])


# ---- places ------------------------------------------------------------------------------


def test_the_order_of_locks_is_reported() -> None:
    a, b, rw = plait.Lock(), plait.RLock(), plait.RWLock()
    assert sync.record_places(True) is False
    try:
        with a, b, rw.write():
            pass
        assert sync.lock_order_report() == ""

        async def other_way() -> None:
            async with b:
                async with a:
                    pass

        asyncio.run(other_way())
        with b, b, rw.read():
            pass
    finally:
        assert sync.record_places(False) is True
    report = sync.lock_order_report()
    assert report.count("both orders") == 1
    assert report.count(f"{Path(__file__).name}:") == 4
    assert f"Lock at {id(a):#x}" in report
    assert f"RLock at {id(b):#x}" in report


def test_the_error_tells_where_a_lock_was_taken() -> None:
    was = sync.record_places(True)
    try:
        error = only_error(in_cycle([plait.Lock(), plait.Lock()]))
        assert str(error).count("taken at") == 2
        assert sync.lock_order_report().count("both orders") == 1
    finally:
        sync.record_places(was)


def test_example() -> None:
    import subprocess
    import sys

    example = Path(__file__).parents[1] / "examples" / "more" / "deadlock.py"
    done = subprocess.run(
        [sys.executable, str(example)], capture_output=True, text=True, timeout=40, check=True
    )
    assert done.stderr == ""
    assert "2 parties wait for each other" in done.stdout
    assert "taken in both orders" in done.stdout
    assert done.stdout.count(": done") == 1


# ---- executors ---------------------------------------------------------------------------


def test_a_task_that_waits_for_the_lock_of_who_waits_for_it() -> None:
    lock = plait.RLock()

    def task() -> str:
        try:
            with lock:
                return "done"
        except DeadlockError:
            return "told"

    with plait.ThreadPoolExecutor(2) as pool:
        told = None
        with lock:
            future = pool.submit(task)
            try:
                future.result()
            except DeadlockError as error:
                told = error
        outcome = future.result(30)
    assert outcome == ("told" if told is None else "done")


def test_a_worker_may_wait_for_its_own_pool() -> None:
    with plait.ThreadPoolExecutor(1) as pool:
        outer = pool.submit(lambda: pool.submit(lambda: 7).result())
        assert outer.result(30) == 7
