"""plait.aio: awaitables that nobody awaits, and what a closed loop leaves."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import sys
import warnings

import plait
import pytest
from plait import aio


def dropped(make):
    """The warnings that come of making something and forgetting it."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        make()
        gc.collect()
    assert all(one.category is RuntimeWarning for one in seen)
    return [str(one.message) for one in seen]


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("sleep", lambda: aio.sleep(1)),
        ("sleep", lambda: aio.sleep(0)),
        ("to_thread", lambda: aio.to_thread(int)),
        ("gather", lambda: aio.gather()),
        ("read_file", lambda: aio.read_file("/dev/null")),
        ("write_file", lambda: aio.write_file("/dev/null", b"")),
        ("http_get", lambda: aio.http_get("http://127.0.0.1:1/")),
    ],
)
def test_who_forgets_to_await_is_told(name, make):
    assert dropped(make) == [f"plait awaitable '{name}' was never awaited"]


def test_of_a_group_the_group_is_told_about():
    def nested():
        aio.gather(aio.gather(aio.sleep(1), aio.sleep(0)), aio.sleep(1))

    assert dropped(nested) == ["plait awaitable 'gather' was never awaited"]


def test_a_receive_that_is_forgotten():
    async def main():
        channel = aio.Channel(1)
        return dropped(lambda: channel.recv_async())

    assert asyncio.run(main()) == ["plait awaitable 'recv_async' was never awaited"]


@pytest.mark.parametrize(
    ("make", "method"),
    [
        (plait.Lock, "acquire_async"),
        (plait.RLock, "acquire_async"),
        (plait.Semaphore, "acquire_async"),
        (plait.RWLock, "acquire_read_async"),
        (plait.RWLock, "acquire_write_async"),
        (plait.Event, "wait_async"),
        (lambda: plait.Barrier(2), "wait_async"),
        (plait.Condition, "wait_async"),
        (plait.Queue, "get_async"),
        (plait.Queue, "join_async"),
    ],
)
def test_a_wait_that_is_forgotten(make, method):
    async def main():
        primitive = make()
        told = dropped(lambda: getattr(primitive, method)())
        if hasattr(primitive, "__aenter__"):
            async with primitive:  # it took nothing
                pass
        return told

    (told,) = asyncio.run(main())
    assert re.fullmatch(rf"(plait awaitable|coroutine) '(\w+\.)?{method}' was never awaited", told)


def test_nothing_is_told_of_what_was_begun_or_given_up():
    async def main():
        def begun():
            aio.sleep(0.001).start()
            aio.gather(aio.sleep(0.001), aio.sleep(60)).cancel()

        def given_up():
            aio.sleep(1).close()
            aio.sleep(1).cancel()

        async def cancelled_before_its_first_step():
            asyncio.create_task(aio.sleep(1)).cancel()
            await asyncio.sleep(0)

        told = dropped(begun) + dropped(given_up)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            await cancelled_before_its_first_step()
            await asyncio.gather(aio.sleep(0), aio.sleep(0.001))
            gc.collect()
        return told

    assert asyncio.run(main()) == []


def test_an_exception_under_way_goes_on():
    def caught(failing):
        with pytest.raises(LookupError, match="mine"):
            failing()

    def fail():
        forgotten = aio.sleep(1)
        del forgotten
        raise LookupError("mine")

    def fail_with_a_local():
        forgotten = aio.sleep(1)  # it goes with the frame
        raise LookupError("mine" if forgotten else "")

    for failing in (fail, fail_with_a_local):
        assert dropped(lambda failing=failing: caught(failing)) == [
            "plait awaitable 'sleep' was never awaited"
        ]


@pytest.mark.skipif(not hasattr(sys, "unraisablehook"), reason="no unraisable hook")
def test_a_filter_that_raises_harms_nobody(monkeypatch):
    seen = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: seen.append(args.exc_value))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        aio.sleep(1)
        gc.collect()
    assert [str(one) for one in seen] == ["plait awaitable 'sleep' was never awaited"]


def test_nothing_is_told_at_exit(run_script):
    done = run_script("""
        from plait import aio
        kept = [aio.sleep(1), aio.to_thread(print)]
        kept.append(kept)
    """)
    assert (done.returncode, done.stderr) == (0, "")


def test_asyncio_wait_takes_tasks_as_ever():
    async def main():
        forbidden = aio.sleep(1)
        with pytest.raises(TypeError, match="coroutines is forbidden"):
            await asyncio.wait([forbidden])
        forbidden.close()
        first = asyncio.ensure_future(aio.sleep(0.001, "first"))
        second = asyncio.ensure_future(aio.sleep(60))
        done, pending = await asyncio.wait([first, second], return_when="FIRST_COMPLETED")
        assert ([one.result() for one in done], pending) == (["first"], {second})
        second.cancel()
        return isinstance(first, asyncio.Task)

    assert asyncio.run(main())


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_a_closed_loop_keeps_no_descriptor(kind):
    factory = asyncio.new_event_loop
    if kind == "uvloop":
        factory = pytest.importorskip("uvloop").new_event_loop
    factory().close()
    before = len(os.listdir("/proc/self/fd"))
    kept = []
    for _ in range(5):
        loop = factory()
        waiting = []

        async def main(waiting=waiting):
            waiting.append(aio.sleep(60).start())
            await aio.sleep(0.001)

        loop.run_until_complete(main())
        loop.close()
        kept.append((loop, waiting))
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before
    for _, (awaitable,) in kept:
        awaitable.cancel()
    with pytest.raises(RuntimeError, match="closed"):
        aio.call_soon(kept[0][0], print)
