"""The methods with a C function in front of PyO3's (`src/shortcut.rs`): what it hands over."""

from __future__ import annotations

import gc
import inspect
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import plait
import pytest

LOCKS: list[Callable[[], Any]] = [plait.Lock, plait.RLock, plait.Semaphore, plait.Condition]
QUEUES: list[Callable[[], Any]] = [plait.Queue, plait.LifoQueue, plait.SimpleQueue]


@pytest.mark.parametrize("make", LOCKS)
def test_locks_take_every_form_of_their_arguments(make: Callable[[], Any]) -> None:
    lock = make()
    assert lock.acquire() is True
    lock.release()
    assert lock.acquire(True)
    assert lock.release() is None
    assert lock.acquire(blocking=False)
    assert lock.release() is None
    assert lock.acquire(True, 1.0)
    assert lock.release() is None
    with lock as entered:
        assert entered is True
    assert lock.__enter__()
    assert lock.__exit__(None, None, None) is None
    with pytest.raises(TypeError):
        lock.acquire(1, 2, 3)
    with pytest.raises(TypeError):
        lock.release(1, 2)
    with pytest.raises(TypeError):
        lock.acquire(unknown=1)


@pytest.mark.parametrize("make", [plait.Lock, plait.RLock, plait.Condition])
def test_what_nobody_has_is_not_released(make: Callable[[], Any]) -> None:
    lock = make()
    for release in (lock.release, lambda: lock.__exit__(None, None, None)):
        with pytest.raises(RuntimeError):
            release()


def test_a_bounded_semaphore_has_its_bound() -> None:
    semaphore = plait.BoundedSemaphore(1)
    for release in (semaphore.release, lambda: semaphore.__exit__(None, None, None)):
        with pytest.raises(ValueError, match="too many times"):
            release()
    with semaphore:
        assert not semaphore.acquire(False)


def test_only_the_owner_notifies() -> None:
    condition, raised = plait.Condition(), []

    def another() -> None:
        for notify in (condition.notify, condition.notify_all):
            try:
                notify()
            except RuntimeError as error:
                raised.append(str(error))

    with condition:
        other = threading.Thread(target=another)
        other.start()
        other.join()
        assert condition.notify() is None
        assert condition.notify(2) is None
        assert condition.notify_all() is None
    assert raised == ["cannot notify on un-acquired lock"] * 2


@pytest.mark.parametrize("lock", [threading.Lock, threading.RLock, plait.Lock])
def test_a_condition_uses_the_lock_that_it_was_given(lock: Callable[[], Any]) -> None:
    under = lock()
    condition = plait.Condition(under)
    with condition:
        assert not threading_acquire(under)
        condition.notify()
    assert threading_acquire(under)


def threading_acquire(lock: Any) -> bool:
    """Whether another thread can take it."""
    taken = []
    other = threading.Thread(target=lambda: taken.append(lock.acquire(blocking=False)))
    other.start()
    other.join()
    return bool(taken[0])


def test_a_subclass_that_has_not_called_init_is_told() -> None:
    class Late(plait.Semaphore):
        def __init__(self) -> None:
            pass

    late = Late()
    for call in (late.acquire, late.release, late.__enter__):
        with pytest.raises(RuntimeError, match="was not called"):
            call()


def test_places_are_recorded() -> None:
    was = plait.sync.record_places(True)
    try:
        lock, condition = plait.Lock(), plait.Condition()
        with lock, condition:
            held = plait._core.locks_held(threading.get_ident() & ~7 | 2)
            assert {kind for kind, *_ in held} == {"Lock", "RLock"}
    finally:
        plait.sync.record_places(was)


@pytest.mark.parametrize("make", QUEUES)
def test_queues_take_every_form_of_their_arguments(make: Callable[[], Any]) -> None:
    queue = make()
    assert queue.put(1) is None
    assert queue.get() == 1
    queue.put(item=2)
    assert queue.get(block=False) == 2
    queue.put(3, True, None)
    assert queue.get(True, 1) == 3
    type(queue).put(queue, 4)
    assert type(queue).get(queue) == 4
    for wrong in (lambda: queue.put(), lambda: type(queue).put(1, 2), lambda: queue.get(1, 2, 3)):
        with pytest.raises(TypeError):
            wrong()
    assert queue.empty()


def test_a_queue_that_is_full_shut_or_overridden() -> None:
    queue: Any = plait.Queue(1)
    queue.put(1)
    with pytest.raises(plait.Full):
        queue.put(2, False)
    queue.shutdown()
    with pytest.raises(plait.ShutDown):
        queue.put(2)
    assert queue.get() == 1
    with pytest.raises(plait.ShutDown):
        queue.get()

    class Doubled(plait.Queue):  # type: ignore[type-arg]
        def _put(self, item: int) -> None:
            self.queue.extend([item, item])

    doubled = Doubled()
    doubled.put(1)
    assert [doubled.get(), doubled.get()] == [1, 1]


@pytest.mark.parametrize("make", QUEUES)
def test_items_are_neither_kept_nor_lost(make: Callable[[], Any]) -> None:
    class Item:
        pass

    queue, item = make(), Item()
    gone, before = weakref.ref(item), sys.getrefcount(item)
    for _ in range(100):
        queue.put(item)
        assert queue.get() is item
    assert sys.getrefcount(item) == before
    queue.put(item)
    del item, queue
    gc.collect()
    assert gone() is None


def test_a_result_is_given_as_often_as_it_is_asked_for() -> None:
    future, value = plait.Future[object](), object()
    before = sys.getrefcount(value)
    future.set_result(value)
    for _ in range(100):
        assert future.result() is value
    assert future.result(timeout=None) is value
    assert future.result(1) is value
    assert sys.getrefcount(value) == before + 1
    failed = plait.Future[None]()
    failed.set_exception(KeyError("no"))
    with pytest.raises(KeyError, match="no"):
        failed.result()
    cancelled = plait.Future[None]()
    cancelled.cancel()
    with pytest.raises(plait.executors.concurrent.futures.CancelledError):
        cancelled.result()


def test_documentation_and_signatures_stay() -> None:
    assert inspect.getdoc(plait.Lock.acquire).startswith("Take the lock")  # type: ignore[union-attr]
    assert "timeout" in inspect.signature(plait.RLock.acquire).parameters
    assert plait.Condition.notify.__qualname__ == "Condition.notify"
    assert "block" in inspect.signature(plait.SimpleQueue.get).parameters


def test_submit_takes_every_form_of_its_arguments() -> None:
    def give(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    with plait.ThreadPoolExecutor(1) as pool:
        submit: Any = pool.submit
        assert submit(give).result() == ((), {})
        assert submit(give, 1, None).result() == ((1, None), {})
        assert submit(give, 1, a=2, fn=3).result() == ((1,), {"a": 2, "fn": 3})
        assert submit(give, *range(9), b=4).result() == (tuple(range(9)), {"b": 4})
        for wrong in (submit, lambda: submit(fn=give), lambda: submit(a=1)):
            with pytest.raises(TypeError, match="positional"):
                wrong()
        with pytest.raises(TypeError):
            submit(None).result()
        with pytest.raises(TypeError, match="descriptor"):
            plait.ThreadPoolExecutor.submit(object(), give)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="shutdown"):
        submit(give)
    with pytest.raises(RuntimeError, match="was not called"):
        plait.ThreadPoolExecutor.__new__(plait.ThreadPoolExecutor).submit(give)


def test_submit_keeps_no_reference() -> None:
    def task(*_: object, **__: object) -> None:
        raise ValueError

    argument = object()
    before = sys.getrefcount(argument)
    with plait.ThreadPoolExecutor(1) as pool:
        for _ in range(100):
            pool.submit(task, argument)
            pool.submit(task, argument, named=argument)
    gc.collect()
    assert sys.getrefcount(argument) == before
