"""How Rust's awaitables reach an event loop: one descriptor a loop, watched like a socket."""

from __future__ import annotations

import asyncio
import weakref

from . import _core

__all__ = ["attach", "loops"]

# Those that have a bridge.
loops: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()


def attach(loop: asyncio.AbstractEventLoop) -> _core.Bridge:
    """Give a loop its bridge; the loop keeps it, so that it goes when the loop goes."""
    bridge = _core.Bridge()
    loop.add_reader(bridge.fileno(), step_ready, bridge)
    loop._plait_bridge = bridge  # type: ignore[attr-defined]
    loops.add(loop)
    return bridge


def step_ready(bridge: _core.Bridge) -> None:
    """Step the tasks whose awaitables are done, each under its own context."""
    try:
        for callback, context, awaitable in bridge:
            try:
                context.run(callback, awaitable)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                asyncio.get_running_loop().call_exception_handler(
                    {
                        "message": f"Exception in callback {callback!r}",
                        "exception": error,
                        "future": awaitable,
                    }
                )
    except BaseException:
        bridge.ring()  # the rest of the round goes to the next one
        raise
