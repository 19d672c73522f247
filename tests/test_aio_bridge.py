"""The bridge between asyncio's loops and Rust's futures, under what programs do to both."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import importlib.util
import os
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from plait import aio

Drive = Callable[[Coroutine[Any, Any, Any]], Any]


def _plain(coro: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(coro)


def _debug(coro: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(coro, debug=True)


def _eager(coro: Coroutine[Any, Any, Any]) -> Any:
    async def main() -> Any:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        return await asyncio.create_task(coro)

    return asyncio.run(main())


def _uvloop(coro: Coroutine[Any, Any, Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its own, on newer Pythons
        import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(coro)


LOOPS = {
    "asyncio": (_plain, None),
    "debug": (_debug, None),
    "eager": (_eager, None if sys.version_info >= (3, 12) else "eager tasks came with 3.12"),
    "uvloop": (_uvloop, None if importlib.util.find_spec("uvloop") else "no uvloop here"),
}


@pytest.fixture(params=LOOPS)
def drive(request: pytest.FixtureRequest) -> Drive:
    """Runs a coroutine on each kind of loop."""
    run, reason = LOOPS[request.param]
    if reason:
        pytest.skip(reason)
    return run


@pytest.fixture(autouse=True)
def unraised(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """What went wrong where nobody sees it: it must be nothing."""
    seen: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: seen.append(args.exc_value))
    yield seen
    gc.collect()
    assert not seen


def test_a_nested_timeout_ends_the_right_block(drive: Drive) -> None:
    async def main() -> list[str]:
        order = []
        try:
            async with asyncio.timeout(30):
                try:
                    async with aio.timeout(0.005):
                        await aio.sleep(60)
                except TimeoutError:
                    order.append("inner")
                await aio.sleep(0.001)
                task = asyncio.current_task()
                assert task is not None
                assert task.cancelling() == 0
                order.append("went on")
        except TimeoutError:
            order.append("outer")
        return order

    assert drive(main()) == ["inner", "went on"]


def test_a_task_groups_failure_cancels_what_its_tasks_await(drive: Drive) -> None:
    async def main() -> None:
        naps = [aio.sleep(3600), aio.gather(aio.sleep(3600), aio.sleep(3600))]

        async def wait(one: Any) -> None:
            await one

        async def fail() -> None:
            await aio.sleep(0.001)
            raise LookupError("first")

        async def together() -> None:
            async with asyncio.TaskGroup() as group:
                for nap in naps:
                    group.create_task(wait(nap))
                group.create_task(fail())

        with pytest.raises(ExceptionGroup) as caught:
            await together()
        assert [type(error) for error in caught.value.exceptions] == [LookupError]
        assert naps[0].cancelled()
        assert naps[1].done()

    drive(main())


def test_a_cancelled_task_may_clean_up_with_awaits_of_its_own(drive: Drive) -> None:
    async def main() -> str:
        async def work() -> str:
            try:
                await aio.sleep(3600)
            except asyncio.CancelledError:
                await aio.sleep(0.001)
                return await aio.to_thread(str, "cleaned")
            raise AssertionError("not cancelled")

        task = asyncio.create_task(work())
        await aio.sleep(0.001)
        task.cancel()
        return await task

    assert drive(main()) == "cleaned"


def test_cancelled_after_the_end_and_before_the_step(drive: Drive) -> None:
    async def main() -> None:
        gate = threading.Event()
        call = aio.to_thread(gate.wait)
        task = asyncio.ensure_future(call)
        await aio.sleep(0.001)
        gate.set()
        while not call.done():  # stands the loop still until it is, or nearly
            await asyncio.sleep(0)
        if task.cancel():  # else it was stepped before
            with pytest.raises(asyncio.CancelledError):
                await task

    drive(main())


def test_each_step_has_its_tasks_context(drive: Drive) -> None:
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")

    async def main() -> None:
        context = contextvars.copy_context()
        context.run(user.set, "guest")

        async def name() -> list[str]:
            seen = [user.get()]
            await aio.sleep(0.001)
            seen.append(user.get())
            user.set("changed")
            await aio.gather(aio.sleep(0.001), aio.to_thread(int))
            seen.append(user.get())
            seen.append(await aio.to_thread(user.get))
            return seen

        task = asyncio.get_running_loop().create_task(name(), context=context)
        assert await task == ["guest", "guest", "changed", "changed"]
        assert context[user] == "changed"
        assert user.get() == "nobody"

    drive(main())


def test_asyncios_helpers_take_awaitables(drive: Drive) -> None:
    async def main() -> None:
        tasks = {asyncio.create_task(aio.sleep(0.001 * n, n)) for n in range(5)}
        done, pending = await asyncio.wait(tasks)
        assert (done, pending) == (tasks, set())
        mixed = [aio.sleep(0.002, 2), aio.sleep(0, 1), aio.sleep(0.001, 3).start()]
        assert sorted([await one for one in asyncio.as_completed(mixed)]) == [1, 2, 3]
        slow = aio.sleep(3600).start()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(slow), 0.001)
        assert not slow.done()
        slow.cancel()
        task = asyncio.create_task(aio.sleep(0.001, 3))
        repr(task), task.get_stack()
        assert await asyncio.shield(task) == 3

    drive(main())


def test_many_loops_start_and_stop_while_futures_end(drive: Drive) -> None:
    """Loops are closed while their futures are about to wake them."""

    async def main(seed: int) -> None:
        rng = random.Random(seed)
        keep = [aio.sleep(rng.random() * 0.004).start() for _ in range(30)]
        keep += [aio.to_thread(time.sleep, rng.random() * 0.002).start() for _ in range(5)]
        await aio.sleep(rng.random() * 0.002)

    errors: list[BaseException] = []

    def work(first: int) -> None:
        try:
            for seed in range(first, first + 10):
                drive(main(seed))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(100 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def test_a_loop_that_is_run_again_and_again() -> None:
    loop = asyncio.new_event_loop()
    nap = None

    async def begin() -> Any:
        return aio.sleep(0.002, 7).start()

    try:
        nap = loop.run_until_complete(begin())
        time.sleep(0.004)  # it wakes a loop that does not run
        assert loop.run_until_complete(nap) == 7
    finally:
        loop.close()


def test_closed_loops_leave_no_descriptor(drive: Drive) -> None:
    async def main() -> None:
        aio.sleep(3600).start()
        await aio.gather(aio.sleep(0.001), aio.to_thread(int))

    drive(main())
    gc.collect()
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(20):
        drive(main())
    gc.collect()
    after = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    assert after <= before


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="POSIX timers")
def test_a_signal_handler_that_raises_ends_the_run_and_the_next_one_works(
    drive: Drive, unraised: list[object]
) -> None:
    class Alarm(KeyboardInterrupt):  # loops hand on this one; other exceptions they may log
        pass

    def ring(*_: object) -> None:
        raise Alarm

    async def main() -> None:
        # Again and again: a handler that raises between asyncio's taking of a handle and its run
        # loses what would wake this task, and then asyncio.run() waits for it when it cancels it.
        signal.setitimer(signal.ITIMER_REAL, 0.003, 5)
        while True:
            await aio.gather(*(aio.sleep(0) for _ in range(10)), aio.sleep(0.0001))

    before = signal.signal(signal.SIGALRM, ring)
    try:
        for _ in range(10):
            with pytest.raises(KeyboardInterrupt):
                drive(main())
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    gc.collect()
    unraised.clear()  # what asyncio left behind, interrupted half-way
    assert drive(aio.sleep(0.001, "fine")) == "fine"


def test_two_threads_begin_one_awaitable() -> None:
    """One of them has it, the other is told so; nothing is worse than that."""
    outcomes: list[object] = []

    async def main(shared: Any, start: threading.Barrier) -> None:
        await asyncio.sleep(0)
        start.wait()
        try:
            outcomes.append(await asyncio.wait_for(_await(shared), 10))
        except RuntimeError as error:
            outcomes.append("other loop" if "different loop" in str(error) else error)

    async def _await(one: Any) -> Any:
        return await one

    for _ in range(30):
        outcomes.clear()
        shared, start = aio.sleep(0.001, "slept"), threading.Barrier(2)
        threads = [
            threading.Thread(target=asyncio.run, args=(main(shared, start),)) for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(outcomes) <= {"slept", "other loop"}, outcomes
        assert "slept" in outcomes


def test_a_deep_nest_of_gathers(drive: Drive) -> None:
    def nested(depth: int, delay: float = 0.001) -> Any:
        nest: Any = aio.sleep(delay, 1)
        for _ in range(depth):
            nest = aio.gather(nest)
        return nest

    async def main() -> object:
        value = await nested(500)
        for _ in range(500):
            value = value[0]
        task = asyncio.ensure_future(nested(500, 60))
        await aio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return value

    assert drive(main()) == 1
    outside = nested(500)
    assert drive(outside)
    with pytest.raises(RecursionError, match="500"):
        nested(501)


def test_debug_mode_names_the_task_that_is_slow(caplog: pytest.LogCaptureFixture) -> None:
    async def slow_one() -> None:
        await aio.sleep(0.001)
        time.sleep(0.06)

    async def main() -> None:
        asyncio.get_running_loop().slow_callback_duration = 0.05
        await asyncio.create_task(slow_one(), name="the-slow-one")

    _debug(main())
    messages = [record.getMessage() for record in caplog.records if record.name == "asyncio"]
    assert any("the-slow-one" in message for message in messages), messages


def test_a_loop_that_is_busy_with_ready_futures_still_has_time_for_others(drive: Drive) -> None:
    """Heartbeats go on while thousands of futures end in each round."""

    async def main() -> int:
        beats, stop = 0, False

        async def beat() -> None:
            nonlocal beats
            while not stop:
                await asyncio.sleep(0)
                beats += 1

        heart = asyncio.create_task(beat())
        for _ in range(5):
            await aio.gather(*(aio.sleep(0.0001 * (n % 7)) for n in range(2000)))
        stop = True
        await heart
        return beats

    assert drive(main()) > 5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_forked_in_a_coroutine_uses_a_loop_of_its_own(drive: Drive) -> None:
    async def inner() -> int:
        return (await aio.gather(aio.sleep(0.001, 20), aio.to_thread(lambda: 22)))[1]

    async def main() -> int:
        pending = aio.sleep(3600).start()
        await aio.sleep(0.001)
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            code = 1
            try:
                code = asyncio.run(inner())
            finally:
                os._exit(code)
        _, status = await aio.to_thread(os.waitpid, child, 0)
        await aio.sleep(0.001)  # this process's loop goes on
        assert not pending.done()
        return os.waitstatus_to_exitcode(status)

    assert drive(main()) == 22


def test_awaits_that_are_over_in_a_moment_let_the_loop_go_round(drive: Drive) -> None:
    async def main() -> None:
        rounds = 0

        def count() -> None:
            nonlocal rounds
            rounds += 1
            handle[0] = loop.call_later(0, count)

        loop = asyncio.get_running_loop()
        handle = [loop.call_later(0, count)]
        for n in range(400):
            assert await aio.to_thread(int, n) == n
        handle[0].cancel()
        assert rounds >= 400 // 20

    drive(main())


def test_two_tasks_take_turns_and_a_third_is_not_forgotten(drive: Drive) -> None:
    """Whoever wakes a task of its own loop goes through no descriptor, and no queue is jumped."""

    async def main() -> None:
        there, back = aio.Channel[int](1), aio.Channel[int](1)
        turns: list[str] = []

        async def echo() -> None:
            async for n in there:
                turns.append("echo")
                await back.send_async(n + 1)

        async def third() -> None:
            while not there.closed:
                turns.append("third")
                await asyncio.sleep(0)

        others = [asyncio.create_task(echo()), asyncio.create_task(third())]
        for n in range(300):
            await there.send_async(n)
            assert await back.recv_async() == n + 1
        there.close()
        await asyncio.gather(*others)
        assert turns.count("echo") == 300
        assert turns.count("third") >= 300

    drive(main())


def test_messages_between_tasks_survive_cancels_of_either(drive: Drive) -> None:
    async def main() -> None:
        rnd = random.Random(5)
        channel, got = aio.Channel[int](1), []

        async def receive() -> None:
            got.append(await channel.recv_async())

        sent = 0
        for _ in range(300):
            receivers = [asyncio.create_task(receive()) for _ in range(rnd.randint(1, 3))]
            await asyncio.sleep(0)
            for _ in range(rnd.randint(0, len(receivers))):
                await channel.send_async(sent)
                sent += 1
            for one in receivers:
                if rnd.random() < 0.5:
                    one.cancel()
            await asyncio.sleep(0)
            for one in receivers:
                one.cancel()
            await asyncio.gather(*receivers, return_exceptions=True)
            while len(channel):
                got.append(await channel.recv_async())
        assert sorted(got) == list(range(sent))

    drive(main())
