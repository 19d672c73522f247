"""Subclasses of the primitives, coroutines that are closed while they wait, what is counted."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import plait
import pytest
from plait.sync import statistics

# A class, what its own `__init__` needs, and what the standard library's has for it.
CLASSES: list[tuple[type, tuple[Any, ...]]] = [
    (plait.Event, ()),
    (plait.RWLock, ()),
    (plait.Condition, ()),
    (plait.Condition, (plait.Lock(),)),
    (plait.Semaphore, ()),
    (plait.Semaphore, (2,)),
    (plait.BoundedSemaphore, (2,)),
    (plait.Barrier, (1,)),
    (plait.Queue, (3,)),
    (plait.LifoQueue, ()),
    (plait.PriorityQueue, ()),
    (plait.SimpleQueue, ()),
]
classes = pytest.mark.parametrize(("base", "given"), CLASSES, ids=lambda part: repr(part)[:30])


def use(primitive: Any) -> None:
    """What each of them does at once."""
    if hasattr(primitive, "put"):
        primitive.put("item")
        assert primitive.get() == "item"
    elif hasattr(primitive, "notify"):
        with primitive:
            primitive.notify()
    elif hasattr(primitive, "set"):
        primitive.set()
        assert primitive.wait()
    elif hasattr(primitive, "write"):
        with primitive.write():
            pass
    elif hasattr(primitive, "abort"):
        assert primitive.wait() == 0
    else:
        with primitive:
            pass


@classes
def test_a_subclass_takes_arguments_of_its_own(base: Any, given: tuple[Any, ...]) -> None:
    class Named(base):  # type: ignore[misc]
        def __init__(self, name: str, *, colour: str) -> None:
            super().__init__(*given)
            self.name, self.colour = name, colour

    class Deeper(Named):
        def __init__(self) -> None:
            super().__init__("x", colour="red")

    for made in (Named("x", colour="red"), Deeper()):
        assert (made.name, made.colour) == ("x", "red")
        use(made)
    assert "Named" in repr(Named("x", colour="red"))


@classes
def test_what_was_never_initialised_says_so(base: Any, given: tuple[Any, ...]) -> None:
    class Forgets(base):  # type: ignore[misc]
        def __init__(self) -> None:
            pass

    made = Forgets()
    for method in ("acquire", "release", "wait", "notify", "reset", "__enter__"):
        if base in (plait.Condition, plait.Semaphore, plait.BoundedSemaphore, plait.Barrier):
            with pytest.raises((RuntimeError, AttributeError)):
                getattr(made, method)()
    if base in (plait.Condition, plait.Semaphore, plait.BoundedSemaphore, plait.Barrier):
        with pytest.raises(RuntimeError, match=r"__init__\(\) was not called"):
            repr(made)
        base.__init__(made, *given)  # late, but well
        with pytest.raises(RuntimeError, match=r"__init__\(\) was called before"):
            base.__init__(made, *given)
    use(made)


@pytest.mark.parametrize(
    ("base", "wrong", "error"),
    [
        (plait.Event, (1,), TypeError),
        (plait.RWLock, (1,), TypeError),
        (plait.Condition, (None, 1), TypeError),
        (plait.Semaphore, (-1,), ValueError),
        (plait.BoundedSemaphore, (-1,), ValueError),
        (plait.Semaphore, ("1",), TypeError),
        (plait.Barrier, (), TypeError),
        (plait.Barrier, (0,), ValueError),
        (plait.SimpleQueue, (1,), TypeError),
    ],
)
def test_the_class_itself_takes_its_own_only(
    base: Any, wrong: tuple[Any, ...], error: type[Exception]
) -> None:
    with pytest.raises(error):
        base(*wrong)


@pytest.mark.parametrize("name", ["Event", "Condition", "Semaphore", "BoundedSemaphore", "Barrier"])
def test_signatures_are_the_standard_librarys(name: str) -> None:
    def of(module: Any) -> str:
        return str(inspect.signature(getattr(module, name)))

    assert of(plait) == of(threading)


def test_a_condition_is_collected_with_what_it_refers_to() -> None:
    import gc
    import weakref

    class Lock:
        acquire = release = lambda self: True

    lock: Any = Lock()
    lock.condition = plait.Condition(lock)
    gone = weakref.ref(lock)
    del lock
    gc.collect()
    assert gone() is None


def test_releases_at_the_bound_are_errors_but_for_one() -> None:
    for _ in range(50):
        permits = plait.BoundedSemaphore(1)
        permits.acquire()
        refused: list[ValueError] = []
        begin = threading.Barrier(3)

        def release() -> None:
            begin.wait()  # noqa: B023  # joined below
            try:
                permits.release()  # noqa: B023
            except ValueError as error:
                refused.append(error)  # noqa: B023

        threads = [threading.Thread(target=release) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(refused) == 2
        assert permits.acquire(blocking=False)
        assert not permits.acquire(blocking=False)


def test_an_event_counts_the_waits_that_passed() -> None:
    event = plait.Event()
    assert not event.wait(timeout=0.001)
    assert statistics(event).acquisitions == 0
    threads = [plait.Thread(target=event.wait) for _ in range(2)]
    for thread in threads:
        thread.start()
    event.set()
    for thread in threads:
        thread.join()
    assert event.wait()
    asyncio.run(waited(event))
    assert event.is_set()  # a look, no wait
    assert statistics(event).acquisitions == 4


async def waited(event: plait.Event) -> None:
    await event.wait_async()


# Closing a coroutine that waits: `coroutine.close()` while it is suspended.


def closed_while_it_waits(
    begin: Callable[[], Coroutine[Any, Any, object]],
    meanwhile: Callable[[], object] = lambda: None,
) -> None:
    async def main() -> None:
        coroutine = begin()
        coroutine.send(None)
        meanwhile()
        coroutine.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    "make", [plait.Lock, plait.RLock, plait.Semaphore], ids=lambda m: m.__name__
)
def test_a_closed_coroutine_does_not_wait_for_a_lock(make: Callable[[], Any]) -> None:
    lock = make()

    async def enter() -> None:
        async with lock:
            pass

    lock.acquire()
    closed_while_it_waits(enter)
    assert statistics(lock).waiters == 0
    lock.release()
    assert lock.acquire(blocking=False)


@pytest.mark.parametrize("make", [plait.Lock, plait.RLock], ids=lambda make: make.__name__)
@pytest.mark.parametrize("for_what", ["notification", "predicate"])
@pytest.mark.parametrize("case", ["free", "held", "notified", "notified, held"])
def test_a_closed_coroutine_does_not_wait_for_a_condition(
    make: Callable[[], Any], for_what: str, case: str
) -> None:
    lock = make()
    condition = plait.Condition(lock)

    async def enter() -> None:
        async with condition:
            if for_what == "predicate":
                await condition.wait_for_async(lambda: False)
            else:
                await condition.wait_async()

    def meanwhile() -> None:
        if case == "free":
            return
        lock.acquire()
        if case.startswith("notified"):
            condition.notify()
        if not case.endswith("held"):
            lock.release()

    closed_while_it_waits(enter, meanwhile)
    assert statistics(condition).waiters == 0
    if case.endswith("held"):
        assert lock.locked()  # as long as we have it
        lock.release()
    assert not lock.locked()
    # Neither the lock nor a notification was lost: the next one gets both.
    asyncio.run(asyncio.wait_for(handed_over(condition), 30))


async def handed_over(condition: plait.Condition) -> None:
    async def waits() -> None:
        async with condition:
            await condition.wait_async()

    waiting = asyncio.create_task(waits())
    while not statistics(condition).waiters:
        await asyncio.sleep(0)
    async with condition:
        condition.notify()
    await waiting


def test_a_notification_of_a_closed_coroutine_goes_to_the_next() -> None:
    condition = plait.Condition(plait.Lock())

    async def waits() -> str:
        async with condition:
            await condition.wait_async()
            return "notified"

    async def main() -> str:
        first = waits()
        first.send(None)
        second = asyncio.create_task(waits())
        while statistics(condition).waiters < 2:
            await asyncio.sleep(0)
        async with condition:
            condition.notify()
            first.close()
        return await asyncio.wait_for(second, 30)

    assert asyncio.run(main()) == "notified"


def test_a_closed_coroutine_within_an_rlock_leaves_it() -> None:
    lock = plait.RLock()

    async def stays() -> None:
        async with lock:
            await asyncio.get_running_loop().create_future()

    async def main() -> None:
        coroutine = stays()

        async def begin() -> None:
            coroutine.send(None)

        await asyncio.create_task(begin())
        assert lock.locked()
        coroutine.close()  # in another task than the one that took it
        assert not lock.locked()

    asyncio.run(main())


def test_closing_one_of_two_who_await_the_same_leaves_it_to_the_other() -> None:
    event = plait.Event()

    async def main() -> object:
        waiting: Any = event.wait_async()
        waiting.start()

        async def awaits() -> object:
            return await waiting

        other = asyncio.create_task(awaits())
        await asyncio.sleep(0)
        coroutine = awaits()
        coroutine.send(None)
        waiting.add_done_callback(lambda _: None)
        coroutine.close()
        event.set()
        return await asyncio.wait_for(other, 30)

    assert asyncio.run(main()) is True


@pytest.mark.parametrize("nothing", [1, "lock", object(), threading.Event()])
def test_a_condition_is_made_on_a_lock_only(nothing: Any) -> None:
    for kind in (threading.Condition, plait.Condition):
        with pytest.raises(AttributeError, match="acquire"):
            kind(nothing)
