"""plait.aio.watch: what it says of loops that stand still, and that it says it once."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from plait import aio

THRESHOLD = 0.05


def block_until(told: Callable[[], object]) -> None:
    """Blocks the loop until the watch has told of it (20 s at most)."""
    deadline = time.monotonic() + 20
    while not told():
        assert time.monotonic() < deadline, "the watch is silent"
        time.sleep(0.001)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    records = [record for record in caplog.records if record.name == "plait.aio"]
    return [record.getMessage() for record in records if record.levelno == logging.WARNING]


def test_it_names_the_task_and_the_line_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "plait.aio")

    # A busy machine may stop a loop for longer than the threshold, too: not what is meant here.
    def found(watched: aio.watch) -> list[Any]:
        return [one for one in watched.standstills if one.task == "the guilty one"]

    async def guilty(watched: aio.watch) -> None:
        await aio.sleep(0.001)
        block_until(lambda: found(watched))
        time.sleep(2 * THRESHOLD)  # it goes on for a while, and is told of once

    async def main() -> None:
        with aio.watch(THRESHOLD) as watched:
            await asyncio.create_task(guilty(watched), name="the guilty one")
            while not found(watched)[0].over:
                await aio.sleep(0.001)
        [standstill] = found(watched)
        assert standstill.task == "the guilty one"
        assert standstill.thread == threading.current_thread().name
        assert standstill.seconds >= THRESHOLD
        assert [frame.name for frame in standstill.stack][:2] == ["guilty", "block_until"]

    asyncio.run(main())
    message = next(one for one in warnings_of(caplog) if "the guilty one" in one)
    assert __file__ in message
    assert "in guilty" in message
    assert "goes on, after" in caplog.text


def test_outside_of_a_loop_it_watches_those_that_run() -> None:
    ready = threading.Barrier(2, timeout=20)

    with aio.watch(THRESHOLD) as watched:

        def names() -> set[str]:
            return {standstill.thread for standstill in watched.standstills}

        async def main() -> None:
            await asyncio.to_thread(ready.wait)
            me = threading.current_thread().name
            block_until(lambda: me in names())

        threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {thread.name for thread in threads} <= names()


def test_a_loop_that_does_not_run_does_not_stand_still() -> None:
    loop = asyncio.new_event_loop()
    watched = aio.watch(0.005)

    async def begin() -> None:
        watched.__enter__()

    async def end() -> None:
        watched.__exit__(None, None, None)

    try:
        loop.run_until_complete(begin())
        before = len(watched.standstills)
        time.sleep(0.05)
        assert len(watched.standstills) == before
        loop.run_until_complete(end())
    finally:
        loop.close()


def test_it_may_be_left_and_entered_again_and_used_with_async_with() -> None:
    async def main() -> None:
        watched = aio.watch(30)
        for _ in range(3):
            async with watched:
                with pytest.raises(RuntimeError, match="in use"):
                    watched.__enter__()
                await aio.sleep(0.001)
        with aio.watch(30), aio.watch(40):
            await aio.sleep(0.001)
        assert watched.standstills == []

    asyncio.run(main())


def test_a_bad_threshold_is_refused() -> None:
    for threshold in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=str(threshold)):
            aio.watch(threshold)
