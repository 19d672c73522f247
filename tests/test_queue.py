"""Queues: one object for threads and coroutines. What CPython's own tests of queues cover is
left to them: tests/conformance."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import math
import pickle
import queue
import subprocess
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import plait
import pytest

KINDS = [plait.Queue, plait.LifoQueue, plait.PriorityQueue]
Script = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(params=["native", "open"])
def make(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Makes queues, in both of the ways in which they work."""

    def of(kind: type, maxsize: int = 0) -> Any:
        made = kind(maxsize)
        if request.param == "open":
            assert made.mutex is made.mutex
        return made

    return of


@contextlib.contextmanager
def thread(target: Callable[[], object]) -> Iterator[list[Any]]:
    """Runs it beside the block; the list gets what it returned or raised."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(target())
        except Exception as error:
            outcome.append(error)

    running = threading.Thread(target=run)
    running.start()
    try:
        yield outcome
    finally:
        running.join(40)
        assert not running.is_alive()


def waits(queue: Any, kind: str) -> None:
    """Comes back when somebody waits in the queue for an item, a slot or the end of the tasks."""
    while not queue._waiting(kind):
        threading.Event().wait(0.001)


def drain(queue: Any) -> list[Any]:
    return [queue.get_nowait() for _ in range(queue.qsize())]


@pytest.mark.parametrize(
    ("kind", "expected"), list(zip(KINDS, ([2, 3, 1], [1, 3, 2], [1, 2, 3]), strict=True))
)
def test_the_order_of_each_kind(make: Callable[..., Any], kind: type, expected: list[int]) -> None:
    channel = make(kind)
    for item in 2, 3, 1:
        channel.put(item)
    assert channel.unfinished_tasks == channel.qsize() == 3
    assert drain(channel) == expected
    assert channel.empty()


def test_a_priority_queue_is_a_heap_as_heapq_is() -> None:
    entries = [((number * 7919) % 23, number) for number in range(300)]

    class Entry:
        """Equal ones tell which of them came first."""

        def __init__(self, entry: tuple[int, int]) -> None:
            self.entry = entry

        def __lt__(self, other: Entry) -> bool:
            return self.entry[0] < other.entry[0]

    ours, theirs = plait.PriorityQueue[Entry](), queue.PriorityQueue[Entry]()
    for entry in entries:
        for channel in ours, theirs:
            channel.put(Entry(entry))
        if entry[1] % 3 == 0:
            assert ours.get().entry == theirs.get().entry
    assert [each.entry for each in drain(ours)] == [each.entry for each in drain(theirs)]


def test_the_exceptions_are_the_standard_librarys() -> None:
    assert plait.Empty is queue.Empty
    assert plait.Full is queue.Full
    assert plait.ShutDown is getattr(queue, "ShutDown", plait.ShutDown)
    assert isinstance(plait.PriorityQueue(), (queue.PriorityQueue, plait.Queue))


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_and_a_full_queue(make: Callable[..., Any], kind: type) -> None:
    channel = make(kind, 1)
    for options in {"block": 0}, {"timeout": 0.001}:
        with pytest.raises(plait.Empty):
            channel.get(**options)
    channel.put(1)
    assert channel.full()
    for options in {"block": 0}, {"timeout": 0.001}:
        with pytest.raises(plait.Full):
            channel.put(2, **options)
    assert drain(channel) == [1]


@pytest.mark.parametrize("maxsize", [0, -1, math.inf, 2.5])
def test_maxsize_is_any_number(maxsize: float) -> None:
    channel = plait.Queue[int](maxsize)  # type: ignore[arg-type]
    for item in range(2):
        channel.put_nowait(item)
    assert not channel.full()
    channel.maxsize = 1
    assert channel.full()
    with pytest.raises(TypeError):
        plait.Queue("many")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("timeout", "error"),
    [(-1, ValueError), (math.nan, ValueError), (math.inf, OverflowError), (1e100, OverflowError)],
)
def test_timeouts_that_are_none(
    make: Callable[..., Any], timeout: float, error: type[Exception]
) -> None:
    channel = make(plait.Queue, 1)
    with pytest.raises(error):
        channel.get(timeout=timeout)
    with pytest.raises(error):
        plait.SimpleQueue().get(timeout=timeout)
    channel.put(1)
    with pytest.raises(error):
        channel.put(2, timeout=timeout)
    assert channel.get(block=False, timeout=timeout) == 1
    with pytest.raises(TypeError):
        channel.get(timeout="long")


def test_a_thread_waits_for_an_item_and_for_a_slot(make: Callable[..., Any]) -> None:
    channel = make(plait.Queue, 1)
    with thread(channel.get) as got:
        channel.put("item")
    assert got == ["item"]
    channel.put("first")
    with thread(lambda: channel.put("second", timeout=30)):
        assert channel.get() == "first"
    assert drain(channel) == ["second"]


def test_a_simple_queue() -> None:
    channel = plait.SimpleQueue()
    with thread(lambda: channel.get(timeout=30)) as got:
        channel.put("item", False, None)
    assert got == ["item"]
    channel.put_nowait(1)
    assert (channel.qsize(), channel.empty(), channel.get_nowait()) == (1, False, 1)
    with pytest.raises(plait.Empty):
        channel.get_nowait()

    async def main() -> Any:
        task = asyncio.create_task(channel.get_async())
        await asyncio.sleep(0)
        await channel.put_async(2)
        return await task

    assert asyncio.run(main()) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_shutdown(make: Callable[..., Any], kind: type) -> None:
    channel = make(kind)
    channel.put(1)
    with thread(channel.join) as joined:
        channel.shutdown()
        assert channel.is_shutdown
        with pytest.raises(plait.ShutDown):
            channel.put(2)
        assert channel.get() == 1
        for get in channel.get, channel.get_nowait:
            with pytest.raises(plait.ShutDown):
                get()
        channel.task_done()
    assert joined == [None]
    with pytest.raises(ValueError, match="too many times"):
        channel.task_done()


@pytest.mark.parametrize("kind", KINDS)
def test_an_immediate_shutdown_empties_the_queue(make: Callable[..., Any], kind: type) -> None:
    channel = make(kind)
    channel.put(1)
    with thread(channel.join) as joined:
        channel.shutdown(immediate=True)
    assert joined == [None]
    assert (channel.qsize(), channel.unfinished_tasks) == (0, 0)
    with pytest.raises(plait.ShutDown):
        channel.get()


def test_shutdown_ends_all_waits(make: Callable[..., Any]) -> None:
    empty, full = make(plait.Queue), make(plait.Queue, 1)
    full.put(1)

    async def main() -> list[Any]:
        waiting = asyncio.gather(empty.get_async(), full.put_async(2), return_exceptions=True)
        await asyncio.sleep(0)
        for channel in empty, full:
            channel.shutdown()
        return await waiting

    with thread(empty.get) as got, thread(lambda: full.put(3)) as put:
        errors = asyncio.run(main())
    assert {type(error) for error in [*got, *put, *errors]} == {plait.ShutDown}
    assert drain(full) == [1]


def test_threads_and_the_tasks_of_two_loops_share_a_queue(make: Callable[..., Any]) -> None:
    channel, count = make(plait.Queue, 3), 200

    async def consume() -> list[int]:
        async def take() -> list[int]:
            got = []
            while True:
                try:
                    got.append(await channel.get_async())
                except plait.ShutDown:
                    return got
                channel.task_done()

        return [item for got in await asyncio.gather(take(), take()) for item in got]

    async def produce() -> None:
        for item in range(count):
            await channel.put_async(item)
        await channel.join_async()

    with (
        thread(lambda: asyncio.run(consume())) as one,
        thread(lambda: asyncio.run(consume())) as other,
    ):
        with thread(lambda: [channel.put(item) for item in range(count)]):
            asyncio.run(produce())
        channel.shutdown()
    assert sorted(one[0] + other[0]) == sorted([*range(count), *range(count)])


def test_a_cancelled_get_loses_no_item(make: Callable[..., Any]) -> None:
    channel = make(plait.Queue)

    async def main() -> None:
        first, second = (asyncio.create_task(channel.get_async()) for _ in range(2))
        for _ in range(3):
            await asyncio.sleep(0)
        channel.put("one")
        first.cancel()
        assert await second == "one"
        third = asyncio.create_task(channel.get_async())
        for _ in range(3):
            await asyncio.sleep(0)
        channel.put("two")
        third.cancel()
        for cancelled in first, third:
            with pytest.raises(asyncio.CancelledError):
                await cancelled
        assert drain(channel) == ["two"]

    asyncio.run(main())


def test_a_cancelled_put_puts_nothing(make: Callable[..., Any]) -> None:
    channel = make(plait.Queue, 1)
    channel.put("first")

    async def main() -> None:
        tasks = [asyncio.create_task(channel.put_async(item)) for item in ("never", "second")]
        for _ in range(3):
            await asyncio.sleep(0)
        assert channel.get() == "first"
        tasks[0].cancel()
        await tasks[1]
        assert drain(channel) == ["second"]

    asyncio.run(main())


def test_tasks_that_were_dropped_do_not_wait(make: Callable[..., Any]) -> None:
    channel = make(plait.Queue)

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        getting = channel.get_async()
        waiting = getting.send(None)  # it waits now
        assert waiting is not None
        getting.close()
        for _ in range(3):
            await asyncio.sleep(0)
        with thread(channel.get) as got:
            channel.put(1)
        assert got == [1]

    asyncio.run(main())


class Item:
    """Compares by asking."""

    def __init__(self, value: int, ask: Callable[[], object] = lambda: None) -> None:
        self.value, self.ask = value, ask

    def __lt__(self, other: Item) -> bool:
        self.ask()
        other.ask()
        return self.value < other.value


def fails() -> None:
    raise ZeroDivisionError


def test_a_comparison_that_raises_changes_nothing() -> None:
    channel = plait.PriorityQueue[Item]()
    items = [Item(value) for value in (3, 1, 2, 4)]
    for item in items:
        channel.put(item)
    with pytest.raises(ZeroDivisionError):
        channel.put(Item(0, fails))
    with pytest.raises(TypeError):
        channel.put("incomparable")  # type: ignore[arg-type]
    assert channel.qsize() == channel.unfinished_tasks == 4
    items[2].ask = fails
    for get in channel.get, channel.get_nowait:
        with pytest.raises(ZeroDivisionError):
            get()
    with pytest.raises(ZeroDivisionError):
        asyncio.run(channel.get_async())
    del items[2].ask
    items[2].ask = lambda: None
    assert [item.value for item in drain(channel)] == [1, 2, 3, 4]


def test_a_comparison_that_uses_its_own_queue_is_refused() -> None:
    channel = plait.PriorityQueue[Item]()
    channel.put(Item(1))
    with pytest.raises(RuntimeError, match="uses the queue itself"):
        channel.put(Item(2, lambda: channel.put(Item(3))))
    seen: list[int] = []
    channel.put(Item(2, lambda: seen.append(channel.qsize())))  # looking is no harm
    assert seen == [1]


def test_others_wait_while_items_are_compared() -> None:
    channel = plait.PriorityQueue[Item]()
    channel.put(Item(2))
    compares, go_on = threading.Event(), threading.Event()

    def ask() -> None:
        compares.set()
        go_on.wait(30)

    slow = Item(3, ask)
    with thread(lambda: channel.put(slow)):
        assert compares.wait(30)
        with thread(lambda: channel.put(Item(1))) as put, thread(channel.shutdown):
            assert channel.qsize() == 1
            go_on.set()
    # Both had room held for them; who came to it after the shutdown was told.
    assert put in ([None], [put[0]])
    assert [item.value for item in drain(channel)][-1] in (2, 3)


def test_an_open_queue_shows_its_insides() -> None:
    channel = plait.Queue[int]()
    for item in range(4):
        channel.put(item)
    with channel.mutex:
        assert list(channel.queue) == [0, 1, 2, 3]
        channel.queue.remove(2)
    assert drain(channel) == [0, 1, 3]
    with thread(channel.get) as got, channel.not_empty:
        channel.queue.append(7)
        channel.not_empty.notify()
    assert got == [7]
    channel.queue = type(channel.queue)([8])
    assert channel.get() == 8
    with channel.all_tasks_done:
        channel.unfinished_tasks = 0
        channel.all_tasks_done.notify_all()
    channel.join()


@pytest.mark.parametrize("kind", KINDS)
def test_those_who_wait_when_it_is_opened_go_on(kind: type) -> None:
    channel = kind()

    async def main() -> Any:
        task = asyncio.create_task(channel.get_async())
        await asyncio.sleep(0)
        with thread(lambda: channel.get(timeout=30)) as got:
            waits(channel, "item")
            assert len(channel.queue) == 0
            channel.put(1)
            channel.put(1)
            assert await task == 1
        return got

    assert asyncio.run(main()) == [1]


class Distinct(plait.Queue[Any]):
    """Drops what it has already, as in many a recipe."""

    def _init(self, maxsize: int) -> None:
        self.queue: Any = set()

    def _put(self, item: Any) -> None:
        self.queue.add(item)

    def _get(self) -> Any:
        return self.queue.pop()


def test_a_subclass_with_hooks() -> None:
    channel = Distinct(maxsize=2)
    for item in "aab":
        channel.put_nowait(item)
    with pytest.raises(plait.Full):
        channel.put_nowait("c")

    async def main() -> set[str]:
        return {await channel.get_async(), channel.get()}

    assert asyncio.run(main()) == {"a", "b"}


def test_a_subclass_with_methods_of_its_own() -> None:
    class Tagged(plait.Queue[Any]):
        def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
            super().put((item, block), block, timeout)

    channel = Tagged()
    channel.put_nowait(1)
    channel.put(2)
    channel.note = "an attribute"
    assert drain(channel) == [(1, False), (2, True)]


@pytest.mark.parametrize("kind", [*KINDS, plait.SimpleQueue])
def test_queues_stay_in_their_process(kind: type) -> None:
    for copies in pickle.dumps, copy.copy, copy.deepcopy:
        with pytest.raises(TypeError, match=r"plait\.get_context\(\)\.Queue\(\)"):
            copies(kind())


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize("kind", [*KINDS, plait.SimpleQueue])
def test_a_queue_is_collected_with_what_it_holds(kind: Any, opened: bool) -> None:
    class Held:
        def __lt__(self, other: object) -> bool:
            return False

    def filled() -> tuple[Any, Held]:
        channel, item = kind(), Held()
        if opened and kind is not plait.SimpleQueue:
            assert channel.mutex
        channel.put(item)
        return channel, item

    channel, item = filled()
    item.home = channel  # type: ignore[attr-defined]
    gone: list[Any] = [weakref.ref(item), weakref.ref(channel)]
    del item, channel
    gc.collect()
    assert [reference() for reference in gone] == [None, None]
    channel, item = filled()
    gone = [weakref.ref(item)]
    assert channel.get() is item
    del item
    assert gone[0]() is None


def test_a_signal_ends_a_wait(run_script: Script) -> None:
    done = run_script("""
        import signal
        import plait

        def handler(number, frame):
            raise InterruptedError

        signal.signal(signal.SIGALRM, handler)
        channel = plait.Queue(1)
        for wait in channel.get, lambda: channel.put(2), channel.join:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            try:
                wait()
            except InterruptedError:
                print("interrupted")
            if channel.empty():
                channel.put(1)
        print(channel.get(), channel.qsize())
    """)
    assert done.stdout.split() == ["interrupted"] * 3 + ["1", "0"]


def test_exit_with_threads_that_wait(run_script: Script) -> None:
    done = run_script("""
        import threading
        import plait

        empty, full = plait.Queue(), plait.Queue(1)
        full.put(0)
        for target in [empty.get, lambda: full.put(1), full.join] * 4:
            threading.Thread(target=target, daemon=True).start()
        while not (empty._waiting("item") and full._waiting("slot") and full._waiting("done")):
            pass
    """)
    assert done.stderr == ""


def test_a_forked_child_has_a_queue_that_works(run_script: Script) -> None:
    done = run_script("""
        import os
        import threading
        import warnings
        import plait

        warnings.simplefilter("ignore")  # of threads in a process that forks
        channel = plait.Queue()
        waiting = threading.Thread(target=channel.get)
        waiting.start()
        while not channel._waiting("item"):
            pass
        if os.fork() == 0:
            got = []
            thread = threading.Thread(target=lambda: got.append(channel.get()))
            thread.start()
            channel.put("the child's")
            thread.join()
            os.write(1, repr((got, channel.qsize())).encode())
            os._exit(0)
        os.wait()
        channel.put("the parent's")
        waiting.join()
    """)
    assert done.stdout == '(["the child\'s"], 0)'
