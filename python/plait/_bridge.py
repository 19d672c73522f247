"""How Rust's awaitables reach an event loop: one descriptor a loop, watched like a socket."""

from __future__ import annotations

import asyncio
import weakref
from asyncio.log import logger

from . import _core

__all__ = ["attach", "bridge_of", "call_back", "loops", "step_ready"]

# Those that have a bridge.
loops: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()


def attach(loop: asyncio.AbstractEventLoop) -> _core.Bridge:
    """Give the running loop its bridge; the loop keeps it, so that it goes when the loop goes."""
    bridge, is_new = _bridge_of(loop)
    if is_new:
        # A closed loop drops its callbacks and their arguments: the keeper closes the pipe.
        loop.add_reader(bridge.fileno(), step_ready, bridge, bridge.keeper())
    return bridge


def bridge_of(loop: asyncio.AbstractEventLoop) -> _core.Bridge:
    """The bridge of a loop that may run in another thread.

    Raises:
        RuntimeError: the loop is closed.
    """
    bridge, is_new = _bridge_of(loop)
    if is_new or loop.is_closed():  # which the loop says itself, as it says it of its own calls
        loop.call_soon_threadsafe(
            loop.add_reader, bridge.fileno(), step_ready, bridge, bridge.keeper()
        )
    return bridge


def _bridge_of(loop: asyncio.AbstractEventLoop) -> tuple[_core.Bridge, bool]:
    new = _core.Bridge()
    kept: _core.Bridge = vars(loop).setdefault("_plait_bridge", new)  # of two threads, one's
    if kept is new:
        loops.add(loop)
    return kept, kept is new


def call_back(awaitable: _core.Awaitable) -> None:
    """Call who waits for an awaitable that a task of the same loop ended."""
    callbacks = awaitable.take_callbacks()
    if len(callbacks) == 1:
        callback, context = callbacks[0]
        context.run(callback, awaitable)
        return
    loop = awaitable.get_loop()
    for callback, context in callbacks:  # one that raises must not keep the next from it
        loop.call_soon(callback, awaitable, context=context)


def step_ready(bridge: _core.Bridge, keeper: _core.BridgeKeeper | None) -> None:
    """Step the tasks whose awaitables are done, each under its own context."""
    del keeper  # a traceback of such a task may keep this frame
    loop = asyncio.get_running_loop()
    debug = loop.get_debug()
    began = 0.0
    try:
        for callback, context, arguments in bridge:
            if debug:
                began = loop.time()
            try:
                context.run(callback, *arguments)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                loop.call_exception_handler(
                    {
                        "message": f"Exception in callback {callback!r}",
                        "exception": error,
                    }
                )
            if debug and loop.time() - began >= loop.slow_callback_duration:
                # The loop would name this function, not what took so long.
                task = getattr(callback, "__self__", None)
                what = task if isinstance(task, asyncio.Task) else callback
                logger.warning("Executing %r took %.3f seconds", what, loop.time() - began)
    except BaseException:
        bridge.ring()  # the rest of the round goes to the next one
        raise
