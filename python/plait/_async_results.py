"""A pool's results for `async for`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from ._pool_engine import Results

__all__ = ["iterate"]


async def iterate(results: Results) -> AsyncIterator[object]:
    """The same results; the loop goes on while none is there."""
    loop = asyncio.get_running_loop()
    try:
        while True:
            try:
                found = results.poll()
            except StopIteration:
                return
            if found is not None:
                yield found[0]
                continue
            ready = loop.create_future()

            def tell(ready: asyncio.Future[None] = ready) -> None:
                # By the thread that has received it; the loop may be closed by then.
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(_set, ready)

            if results.notify(tell):
                await ready
    finally:
        results.close()


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
