"""What the crew's threads run: a Python loop that asks Rust for the next job.

The threads are CPython's own and the jobs are called from here, not from Rust: at interpreter
exit CPython ends daemon threads by unwinding their stack (before 3.14), which must not meet
a frame of Rust. They are daemons: exit never waits for them.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TypeVar

from . import _core

__all__ = ["receive", "work"]

T = TypeVar("T")

# A signal that arrives just before a blocking call begins does not end it: CPython looks for
# signals between bytecodes only. So the main thread looks up now and then.
LOOK_UP_S = 0.5


def work() -> None:
    """Serve jobs until the crew has enough parked threads."""
    worker = _core.Worker()
    threading.current_thread().name = worker.name
    for job in worker:
        serve(job)


def serve(job: _core.Job) -> None:
    """Call one job; a frame of its own, so that nothing of it outlives it."""
    call = job.take()
    try:
        value = call()
    except BaseException as error:
        if not job.fail(error) and not isinstance(error, SystemExit):
            report(error)
    else:
        job.succeed(value)


def report(error: BaseException) -> None:
    """Hand an exception that nobody waits for to `threading.excepthook`."""
    thread = threading.current_thread()
    threading.excepthook(
        threading.ExceptHookArgs((type(error), error, error.__traceback__, thread))
    )


def receive(channel: queue.SimpleQueue[T], look: Callable[[], object] = bool) -> T:
    """Get from a queue; ^C ends the wait, even one that comes at the worst moment.

    So does an exception of `look`, which is called now and then."""
    while True:
        try:
            return channel.get(timeout=LOOK_UP_S)
        except queue.Empty:
            look()
