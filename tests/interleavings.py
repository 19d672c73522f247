"""What tests of random programs share: threads and coroutines that wait, give up, are cancelled."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

programs = settings(
    max_examples=60,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)

# What an actor does, and with a number: of milliseconds until it gives up, or of rounds of its
# loop until it is cancelled; None: it waits as long as it takes.
Action = tuple[str, int | None]
patience = st.none() | st.integers(0, 3)


def run_all(actors: list[Callable[[], object]], meanwhile: Callable[[], object]) -> None:
    """Runs each in a thread of its own; raises what they raise."""
    raised: list[BaseException] = []

    def run(actor: Callable[[], object]) -> None:
        try:
            actor()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(actor,), daemon=True) for actor in actors]
    for thread in threads:
        thread.start()
    meanwhile()
    for thread in threads:
        thread.join(40)
    assert not any(thread.is_alive() for thread in threads), "somebody waits for ever"
    if raised:
        raise raised[0]


async def unless_cancelled(making: Awaitable[Any], rounds: int | None) -> Any:
    """Awaits it as a task, and cancels that after some rounds of the loop."""
    task = asyncio.ensure_future(making)
    if rounds is not None:
        for _ in range(rounds):
            await asyncio.sleep(0)
        task.cancel()
    return await task
