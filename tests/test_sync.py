"""Locks and their kin: one contract for all of them, and what is each one's own."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import pickle
import random
import signal
import subprocess
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import plait
import pytest
from plait import sync
from plait.sync import statistics

# A test that waits for so long has failed; nothing is judged by less.
LONG = 30.0


def until(true: Callable[[], bool]) -> None:
    """Waits for something that other threads are about to do."""
    deadline = time.monotonic() + LONG
    while not true():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.0005)


class Kind:
    """A primitive that is busy: whoever waits for it waits, until somebody lets one go on."""

    name: str

    def __init__(self, other: ThreadPoolExecutor) -> None:
        self.other = other  # one thread, which holds what there is to hold
        self.object = self.make()
        self.begin()

    def make(self) -> Any:
        return getattr(plait, self.name)()

    def on_other(self, call: Callable[[], object]) -> None:
        self.other.submit(call).result(LONG)

    def begin(self) -> None:
        self.on_other(self.object.acquire)

    def go(self) -> None:
        self.on_other(self.object.release)

    def wait(self, timeout: float | None = None) -> bool:
        return bool(self.object.acquire(timeout=self.for_ever if timeout is None else timeout))

    for_ever: float | None = -1

    async def wait_async(self) -> None:
        await self.object.acquire_async()

    def done(self) -> None:
        """What a thread does that has waited: lets the next one go on."""
        self.object.release()

    async def done_async(self) -> None:
        self.object.release()

    def waiters(self) -> int:
        return statistics(self.object).waiters


class Lock(Kind):
    name = "Lock"


class RLock(Kind):
    name = "RLock"


class Semaphore(Kind):
    name = "Semaphore"
    for_ever = None


class BoundedSemaphore(Kind):
    name = "BoundedSemaphore"
    for_ever = None


class Readers(Kind):
    name = "RWLock"

    def begin(self) -> None:
        self.on_other(self.object.acquire_write)

    def go(self) -> None:
        self.on_other(self.object.release_write)

    def wait(self, timeout: float | None = None) -> bool:
        return bool(self.object.acquire_read(timeout=-1 if timeout is None else timeout))

    async def wait_async(self) -> None:
        await self.object.acquire_read_async()

    def done(self) -> None:
        self.object.release_read()

    async def done_async(self) -> None:
        self.object.release_read()


class Writers(Readers):
    def wait(self, timeout: float | None = None) -> bool:
        return bool(self.object.acquire_write(timeout=-1 if timeout is None else timeout))

    async def wait_async(self) -> None:
        await self.object.acquire_write_async()

    def done(self) -> None:
        self.object.release_write()

    async def done_async(self) -> None:
        self.object.release_write()


class Event(Kind):
    name = "Event"

    def begin(self) -> None:
        pass

    def go(self) -> None:
        self.object.set()

    def wait(self, timeout: float | None = None) -> bool:
        return bool(self.object.wait(timeout))

    async def wait_async(self) -> None:
        await self.object.wait_async()

    def done(self) -> None:
        pass

    async def done_async(self) -> None:
        pass


class Condition(Event):
    name = "Condition"

    def make(self) -> Any:
        return plait.Condition(plait.Lock())

    def go(self) -> None:
        with self.object:
            self.object.notify()

    def wait(self, timeout: float | None = None) -> bool:
        with self.object:
            return bool(self.object.wait(timeout))

    async def wait_async(self) -> None:
        async with self.object:
            await self.object.wait_async()

    def done(self) -> None:
        self.go()

    async def done_async(self) -> None:
        async with self.object:
            self.object.notify()


class ReentrantCondition(Condition):
    def make(self) -> Any:
        return plait.Condition()


class Barrier(Event):
    name = "Barrier"

    def make(self) -> Any:
        return plait.Barrier(self.parties)

    parties = 2

    def go(self) -> None:
        self.other.submit(self.object.wait)

    def wait(self, timeout: float | None = None) -> bool:
        try:
            self.object.wait(timeout)
        except threading.BrokenBarrierError:
            return False
        return True


KINDS = [
    Lock,
    RLock,
    Semaphore,
    BoundedSemaphore,
    Readers,
    Writers,
    Event,
    Condition,
    ReentrantCondition,
    Barrier,
]
ONE_BY_ONE = [kind for kind in KINDS if kind not in (Readers, Event, Barrier)]


@pytest.fixture
def other() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as one:
        yield one


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def busy(request: pytest.FixtureRequest, other: ThreadPoolExecutor) -> Kind:
    kind: Kind = request.param(other)
    return kind


@pytest.fixture(params=ONE_BY_ONE, ids=lambda kind: kind.__name__)
def single(request: pytest.FixtureRequest, other: ThreadPoolExecutor) -> Kind:
    """One that each turn lets one waiter of go on."""
    kind: Kind = request.param(other)
    return kind


def in_thread(call: Callable[[], Any]) -> Future[Any]:
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def run(main: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(main, LONG))


def test_a_wait_ends_at_its_limit(busy: Kind) -> None:
    start = time.monotonic()
    assert not busy.wait(0.02)
    assert time.monotonic() - start >= 0.02
    assert busy.waiters() == 0


def test_a_thread_goes_on(busy: Kind) -> None:
    waiting = in_thread(busy.wait)
    until(lambda: busy.waiters() == 1)
    busy.go()
    assert waiting.result(LONG)
    assert busy.waiters() == 0


def test_a_task_goes_on(busy: Kind) -> None:
    async def main() -> None:
        task = asyncio.create_task(busy.wait_async())
        while busy.waiters() == 0:
            await asyncio.sleep(0)
        busy.go()
        await task

    run(main())
    assert busy.waiters() == 0


def test_threads_and_tasks_of_several_loops(single: Kind) -> None:
    passed = []

    def thread() -> None:
        single.wait()
        passed.append(1)
        single.done()

    async def task() -> None:
        await single.wait_async()
        passed.append(1)
        await single.done_async()

    async def tasks() -> None:
        await asyncio.gather(*(task() for _ in range(5)))

    everybody = [in_thread(thread) for _ in range(5)]
    everybody += [in_thread(lambda: asyncio.run(tasks())) for _ in range(3)]
    until(lambda: single.waiters() == 20)
    single.go()
    for one in everybody:
        one.result(LONG)
    assert len(passed) == 20
    assert single.waiters() == 0


def test_a_barrier_of_threads_and_tasks() -> None:
    barrier = plait.Barrier(8)

    async def tasks() -> list[int]:
        return list(await asyncio.gather(*(barrier.wait_async() for _ in range(3))))

    for _ in range(20):
        loops = [in_thread(lambda: asyncio.run(tasks())) for _ in range(2)]
        threads = [in_thread(barrier.wait) for _ in range(2)]
        places = [place for loop in loops for place in loop.result(LONG)]
        places += [thread.result(LONG) for thread in threads]
        assert sorted(places) == list(range(8))


def test_a_cancelled_task_leaves_the_line(busy: Kind) -> None:
    async def main() -> None:
        task = asyncio.create_task(busy.wait_async())
        while busy.waiters() == 0:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert busy.waiters() == 0

    run(main())
    waiting = in_thread(busy.wait)
    until(lambda: busy.waiters() == 1)
    busy.go()
    assert waiting.result(LONG)


def test_what_a_cancelled_task_was_given_goes_to_the_next(single: Kind) -> None:
    """Cancelled at each moment: in line, when it has been given, when it is about to go on."""

    async def turn() -> None:
        await single.wait_async()
        await single.done_async()

    async def main(rounds: int) -> None:
        tasks = [asyncio.create_task(turn()) for _ in range(2)]
        while single.waiters() < 2:
            await asyncio.sleep(0)
        single.go()
        for _ in range(rounds):
            await asyncio.sleep(0)
        tasks[0].cancel()
        await asyncio.wait(tasks[:1])
        await tasks[1]

    for rounds in range(6):
        run(main(rounds))
        single.object = single.make()
        single.begin()


def test_a_signal_handler_ends_a_wait(busy: Kind) -> None:
    class Alarm(Exception):
        pass

    def ring(*_: object) -> None:
        raise Alarm

    def alarm() -> None:
        until(lambda: busy.waiters() == 1)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, ring)
    try:
        rung = in_thread(alarm)
        with pytest.raises(Alarm):
            busy.wait()
        rung.result(LONG)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert busy.waiters() == 0


def test_limits_that_are_none(busy: Kind) -> None:
    for limit, error in [
        (float("nan"), ValueError),
        (1e100, OverflowError),
        (threading.TIMEOUT_MAX * 2, OverflowError),
        (10**400, OverflowError),
        ("1", TypeError),
    ]:
        with pytest.raises(error):
            busy.wait(limit)  # type: ignore[arg-type]
    assert busy.waiters() == 0


def test_they_stay_in_their_process(busy: Kind) -> None:
    name = type(busy.object).__name__
    for copying in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match=rf"plait\.get_context\(\)\.{name}\(\)"):
            copying(busy.object)


def test_references(busy: Kind) -> None:
    assert weakref.ref(busy.object)() is busy.object
    assert busy.object.__class__.__doc__
    assert repr(busy.object).startswith(("<plait.", "<locked plait.", "<unlocked plait."))


def test_statistics_count_the_waits(busy: Kind) -> None:
    assert statistics(busy.object).contended == 0
    assert not busy.wait(0)
    assert statistics(busy.object).contended == 1
    with pytest.raises(AttributeError):
        statistics(busy.object).contended = 2  # type: ignore[misc]


def test_statistics_of_a_lock() -> None:
    for lock in (plait.Lock(), plait.RLock()):
        for _ in range(3):
            with lock:
                assert statistics(lock).owner == threading.get_ident()
        now = statistics(lock)
        assert (now.waiters, now.owner, now.acquisitions, now.contended) == (0, None, 3, 0)
    with pytest.raises(TypeError, match=r"plait\.sync"):
        statistics(threading.Lock())  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_lost_under_random_cancels(seed: int) -> None:
    """Threads and loops take and give back, with time limits and cancelled at random: what
    excludes excludes, and in the end all is free."""
    rnd = random.Random(seed)
    lock, rlock, permits, table = (
        plait.Lock(),
        plait.RLock(),
        plait.BoundedSemaphore(2),
        plait.RWLock(),
    )
    inside = {"lock": 0, "rlock": 0, "permits": 0, "write": 0}
    most = {"lock": 1, "rlock": 1, "permits": 2, "write": 1}
    guard = threading.Lock()

    @contextlib.contextmanager
    def one(name: str) -> Iterator[None]:
        with guard:
            inside[name] += 1
            assert inside[name] <= most[name]
        try:
            yield
        finally:
            with guard:
                inside[name] -= 1

    guards = {"lock": lock, "rlock": rlock, "permits": permits, "write": table.write()}

    def thread(seed: int) -> None:
        rnd = random.Random(seed)
        for _ in range(60):
            name = rnd.choice(list(guards))
            if rnd.random() < 0.5 and name != "write":
                if guards[name].acquire(timeout=rnd.random() * 0.002):
                    with one(name):
                        time.sleep(rnd.random() * 0.0002)
                    guards[name].release()
            else:
                with guards[name], one(name):
                    time.sleep(rnd.random() * 0.0002)

    async def task(rnd: random.Random) -> None:
        name = rnd.choice(list(guards))
        async with guards[name]:
            with one(name):
                await asyncio.sleep(rnd.random() * 0.0002)

    async def tasks(seed: int) -> None:
        rnd = random.Random(seed)
        for _ in range(20):
            running = [asyncio.create_task(task(rnd)) for _ in range(8)]
            for one_task in running:
                if rnd.random() < 0.6:
                    one_task.cancel()
                if rnd.random() < 0.5:
                    await asyncio.sleep(rnd.random() * 0.0003)
            for outcome in await asyncio.gather(*running, return_exceptions=True):
                assert outcome is None or isinstance(outcome, asyncio.CancelledError), outcome

    seeds = [rnd.random() for _ in range(4)]
    work = [in_thread(lambda s=s: thread(s)) for s in seeds[:2]]  # type: ignore[misc]
    work += [in_thread(lambda s=s: asyncio.run(tasks(s))) for s in seeds[2:]]  # type: ignore[misc]
    for one_of_them in work:
        one_of_them.result(LONG)
    assert lock.acquire(blocking=False)
    assert rlock.acquire(blocking=False)
    assert permits.acquire(blocking=False)
    assert permits.acquire(blocking=False)
    assert table.acquire_write(blocking=False)
    for primitive in (lock, rlock, permits, table):
        assert statistics(primitive).waiters == 0


def test_releasing_what_is_not_held(other: ThreadPoolExecutor) -> None:
    with pytest.raises(RuntimeError, match="unlocked"):
        plait.Lock().release()
    rlock, table = plait.RLock(), plait.RWLock()
    for release in (rlock.release, table.release_read, table.release_write):
        with pytest.raises(RuntimeError):
            release()
    other.submit(rlock.acquire).result(LONG)
    other.submit(table.acquire_read).result(LONG)
    for release in (rlock.release, table.release_read, table.release_write):
        with pytest.raises(RuntimeError):
            release()
    other.submit(rlock.release).result(LONG)
    other.submit(table.release_read).result(LONG)
    with pytest.raises(ValueError, match="too many"):
        plait.BoundedSemaphore(1).release()
    with pytest.raises(ValueError, match="one or more"):
        plait.Semaphore().release(0)
    for count in (-1, -(2**63)):
        with pytest.raises(ValueError, match=">= 0"):
            plait.Semaphore(count)
    with pytest.raises(ValueError, match="> 0"):
        plait.Barrier(0)
    with pytest.raises(ValueError, match="non-blocking"):
        plait.Lock().acquire(False, 1)
    with pytest.raises(ValueError, match="non-negative"):
        plait.Lock().acquire(timeout=-2)


def test_conditions_that_are_not_held() -> None:
    condition = plait.Condition()
    for call in (condition.wait, condition.notify, condition.notify_all):
        with pytest.raises(RuntimeError, match="un-acquired"):
            call()

    async def main() -> None:
        with pytest.raises(RuntimeError, match="un-acquired"):
            await condition.wait_async()

    run(main())


def test_a_predicate_that_raises() -> None:
    condition = plait.Condition()
    with condition:
        with pytest.raises(ZeroDivisionError):
            condition.wait_for(lambda: 1 / 0)
        assert condition._is_owned()
    assert not condition._is_owned()

    async def main() -> None:
        async with condition:
            with pytest.raises(ZeroDivisionError):
                await condition.wait_for_async(lambda: 1 / 0)

    run(main())
    assert condition.acquire(blocking=False)


def test_a_cancelled_wait_has_its_lock_again() -> None:
    condition = plait.Condition()

    async def wait() -> str:
        async with condition:
            try:
                await condition.wait_async()
            except asyncio.CancelledError:
                condition.notify_all()  # raises if the lock is not held
                return "held"
        return "notified"

    async def main() -> str:
        task = asyncio.create_task(wait())
        while statistics(condition).waiters == 0:
            await asyncio.sleep(0)
        async with condition:  # it is taken when the task is cancelled
            task.cancel()
            for _ in range(5):
                await asyncio.sleep(0)
            assert not task.done()
        return await task

    assert run(main()) == "held"
    assert condition.acquire(blocking=False)


def test_a_condition_of_a_foreign_lock() -> None:
    condition = plait.Condition(threading.Lock())  # type: ignore[arg-type]
    waiting = in_thread(lambda: Condition.wait(_Held(condition)))  # type: ignore[arg-type]
    until(lambda: statistics(condition).waiters == 1)
    with condition:
        condition.notify()
    assert waiting.result(LONG)

    async def main() -> None:
        with pytest.raises(TypeError, match=r"plait\.Lock"):
            await condition.wait_async()

    run(main())


class _Held:
    def __init__(self, condition: object) -> None:
        self.object = condition


def test_an_rlock_belongs_to_the_thread_or_to_the_task() -> None:
    lock = plait.RLock()

    async def other_task() -> bool:
        return lock._is_owned()

    async def main() -> None:
        async with lock:
            async with lock:
                assert lock._recursion_count() == 2
            assert not await asyncio.create_task(other_task())
            assert not in_thread(lambda: lock.acquire(blocking=False)).result(LONG)
        assert not lock.locked()
        await lock.acquire_async()
        lock.release()

    run(main())
    with lock:
        assert lock._recursion_count() == 1
    assert not lock.locked()


def test_an_rlock_excludes_tasks_of_one_loop() -> None:
    lock, inside = plait.RLock(), 0

    async def task() -> None:
        nonlocal inside
        async with lock, lock:
            inside += 1
            assert inside == 1
            await asyncio.sleep(0)
            inside -= 1

    async def main() -> None:
        await asyncio.gather(*(task() for _ in range(10)))

    run(main())


def test_a_barrier_breaks_and_is_reset(other: ThreadPoolExecutor) -> None:
    barrier = plait.Barrier(2)
    assert (barrier.parties, barrier.n_waiting, barrier.broken) == (2, 0, False)
    for breaking in (barrier.reset, barrier.abort):
        waiting = other.submit(barrier.wait)
        until(lambda: barrier.n_waiting == 1)
        breaking()
        with pytest.raises(threading.BrokenBarrierError):
            waiting.result(LONG)
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait()
    assert barrier.broken
    barrier.reset()
    waiting = other.submit(barrier.wait)
    assert {barrier.wait(), waiting.result(LONG)} == {0, 1}


def test_a_barriers_action(other: ThreadPoolExecutor) -> None:
    calls: list[int] = []
    barrier = plait.Barrier(2, action=lambda: calls.append(barrier.n_waiting))
    waiting = other.submit(barrier.wait)
    barrier.wait()
    waiting.result(LONG)
    assert calls == [1]
    failing = plait.Barrier(2, action=lambda: 1 / 0)
    waiting = other.submit(failing.wait)
    until(lambda: failing.n_waiting == 1)
    with pytest.raises(ZeroDivisionError):
        failing.wait()
    with pytest.raises(threading.BrokenBarrierError):
        waiting.result(LONG)
    assert failing.broken


def test_readers_read_together_and_writers_do_not_starve() -> None:
    table = plait.RWLock()

    def read() -> bool:
        taken = table.acquire_read(blocking=False)
        if taken:
            table.release_read()
        return taken

    with table.read():
        assert in_thread(read).result(LONG)
        writing = in_thread(lambda: table.acquire_write())
        until(lambda: statistics(table).waiters == 1)
        # Who comes now waits behind the writer; who reads already may read again.
        assert not in_thread(read).result(LONG)
        assert table.acquire_read(blocking=False)
        table.release_read()
        assert not writing.done()


def test_a_writer_that_gives_up_lets_readers_in() -> None:
    table = plait.RWLock()
    with table.read():
        writing = in_thread(lambda: table.acquire_write(timeout=0.05))
        until(lambda: statistics(table).waiters == 1)
        reading = in_thread(table.acquire_read)
        assert not writing.result(LONG)
        assert reading.result(LONG)


def test_an_event_that_is_cleared_at_once() -> None:
    event = plait.Event()
    waiting = [in_thread(event.wait) for _ in range(5)]
    until(lambda: statistics(event).waiters == 5)
    event.set()
    event.clear()
    assert all(one.result(LONG) for one in waiting)
    assert not event.is_set()


def test_awaitables_that_nobody_awaits_take_nothing() -> None:
    lock = plait.Lock()

    async def main() -> None:
        with pytest.warns(RuntimeWarning, match="'acquire_async' was never awaited"):
            lock.acquire_async()
        awaitable = lock.acquire_async()
        assert not lock.locked()
        with pytest.warns(RuntimeWarning, match="'acquire_async' was never awaited"):
            del awaitable
        started = lock.acquire_async().start()  # type: ignore[attr-defined]
        assert lock.locked()
        del started
        assert not lock.locked()

    run(main())


def test_fork(run_script: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """A child has what its thread has; waiters are its parent's; inner mutexes are free."""
    run_script(
        """
        import os, threading, time, warnings
        import plait
        from plait.sync import statistics
        warnings.simplefilter("ignore")

        mine, theirs = plait.Lock(), plait.Lock()
        rlock, permits, event = plait.RLock(), plait.Semaphore(0), plait.Event()
        table, condition = plait.RWLock(), plait.Condition()
        held, go = threading.Event(), threading.Event()

        def holder():
            theirs.acquire()
            held.set()
            go.wait()
            theirs.release()

        def turn(lock):
            lock.acquire()
            lock.release()

        threads = [threading.Thread(target=holder)]
        threads += [threading.Thread(target=turn, args=(one,)) for one in (mine, rlock)]
        threads += [threading.Thread(target=wait) for wait in (permits.acquire, event.wait)]
        threads += [threading.Thread(target=lambda: (table.acquire_write(), table.release_write()))]

        def wait():
            with condition:
                condition.wait()

        threads += [threading.Thread(target=wait)]
        mine.acquire(), rlock.acquire(), table.acquire_read()
        for thread in threads:
            thread.start()
        held.wait()
        waited_for = (mine, rlock, permits, event, table, condition)
        while any(statistics(o).waiters == 0 for o in waited_for):
            time.sleep(0.001)
        for _ in range(20):
            pid = os.fork()
            if pid == 0:
                assert all(statistics(o).waiters == 0 for o in waited_for)
                mine.release(), rlock.release(), table.release_read()
                assert mine.acquire(timeout=10) and rlock.acquire(timeout=10)
                assert table.acquire_write(timeout=10)
                assert not theirs.acquire(timeout=0.01)
                theirs._at_fork_reinit()
                assert theirs.acquire(timeout=10)
                with condition:
                    condition.notify()
                waiter = threading.Thread(target=permits.acquire)
                waiter.start()
                while statistics(permits).waiters == 0:
                    time.sleep(0.001)
                permits.release(), event.set()
                waiter.join(), event.wait()
                assert not permits.acquire(blocking=False)
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
        mine.release(), rlock.release(), table.release_read()
        permits.release(), event.set(), go.set()
        with condition:
            condition.notify()
        for thread in threads:
            thread.join()
        """
    )


def test_interrupt_in_the_main_thread(
    run_script: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    run_script(
        """
        import os, signal, threading, time
        import plait
        from plait.sync import statistics

        for make in (plait.Lock, plait.RLock, plait.Semaphore):
            lock = make()
            thread = threading.Thread(target=lock.acquire)
            thread.start(), thread.join()

            def interrupt():
                while statistics(lock).waiters == 0:
                    time.sleep(0.001)
                os.kill(os.getpid(), signal.SIGINT)

            threading.Thread(target=interrupt).start()
            try:
                lock.acquire()
            except KeyboardInterrupt:
                assert statistics(lock).waiters == 0
            else:
                raise SystemExit("taken")
        """
    )


def test_help_reaches_the_documentation() -> None:
    for name in sync.__all__:
        thing = getattr(sync, name)
        if isinstance(thing, type) and issubclass(thing, Exception):
            continue  # the standard library's
        assert ">>>" in thing.__doc__, name
        if isinstance(thing, type):
            assert thing.__module__ in ("plait.sync", "plait._queues")
            for method in vars(thing):
                if not method.startswith("_"):
                    assert vars(thing)[method].__doc__, f"{name}.{method}"
