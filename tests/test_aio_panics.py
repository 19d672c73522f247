"""A future of Rust's that panics on its loop's thread: who awaits it is told, the loop goes on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from plait import _bridge, _core, aio


class Unraisable:
    """What Python could only report."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.texts: list[str] = []
        monkeypatch.setattr(
            "sys.unraisablehook", lambda told: self.texts.append(str(told.exc_value))
        )


@pytest.fixture
def unraisable(monkeypatch: pytest.MonkeyPatch) -> Unraisable:
    return Unraisable(monkeypatch)


async def outcome(awaitable: Any) -> BaseException | None:
    try:
        async with asyncio.timeout(20):
            await awaitable
    except BaseException as error:
        return error
    return None


def is_panic(error: object, text: str) -> bool:
    return type(error).__name__ == "PanicException" and text in str(error)


@pytest.mark.parametrize("polls", [1, 2, 5])
def test_who_awaits_gets_the_panic(polls: int, unraisable: Unraisable) -> None:
    async def main() -> None:
        other = asyncio.create_task(aio.sleep(0.01, "done"))
        shared = _core.probe_panics(polls)
        first = asyncio.create_task(outcome(shared))
        for error in await asyncio.gather(first, outcome(shared)):
            assert is_panic(error, "meant, in a poll")
        assert is_panic(shared.exception(), "meant, in a poll")
        assert await other == "done"

    asyncio.run(main())
    assert unraisable.texts == []


@pytest.mark.parametrize("polls", [1, 2])
def test_a_group_gets_its_childs_panic(polls: int) -> None:
    async def main() -> None:
        error = await outcome(aio.gather(aio.sleep(0.001), _core.probe_panics(polls)))
        assert is_panic(error, "meant, in a poll")
        told = await aio.gather(aio.sleep(0, 1), _core.probe_panics(polls), return_exceptions=True)
        assert told[0] == 1
        assert is_panic(told[1], "meant, in a poll")

    asyncio.run(main())


def test_a_panic_of_many_keeps_none_of_the_others(unraisable: Unraisable) -> None:
    async def main() -> None:
        ours = [
            aio.sleep(0.001 * (n % 3), n) if n % 2 else _core.probe_panics(2) for n in range(200)
        ]
        async with asyncio.timeout(20):
            ended = await asyncio.gather(*ours, return_exceptions=True)
        assert all(is_panic(one, "meant") for one in ended[::2])
        assert ended[1::2] == list(range(1, 200, 2))

    asyncio.run(main())
    assert unraisable.texts == []


def test_a_cancelled_futures_drop_may_panic(unraisable: Unraisable) -> None:
    async def main() -> None:
        waits = asyncio.create_task(outcome(_core.probe_panics(0)))
        await asyncio.sleep(0)
        waits.cancel()
        assert isinstance(await waits, asyncio.CancelledError)
        assert await aio.sleep(0.001, "goes on") == "goes on"

    asyncio.run(main())
    assert unraisable.texts == ["meant, in a drop"]


def test_a_call_that_panics_loses_no_other(unraisable: Unraisable) -> None:
    async def main() -> None:
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        bridge = _bridge.bridge_of(loop)
        _core.probe_panicking_call(bridge)
        aio.call_soon(loop, done.set)
        async with asyncio.timeout(20):
            await done.wait()

    asyncio.run(main())
    assert unraisable.texts == ["meant, in a call"]
