"""What a pool of threads says: exceptions for tasks without a result, and what goes to the log.

`_core` calls these by name.
"""

from __future__ import annotations

import sys
from concurrent.futures import CancelledError
from concurrent.futures._base import LOGGER
from concurrent.futures.thread import BrokenThreadPool

__all__ = ["Stopped", "refusal", "report_callback", "runs_loop"]

# Set when the interpreter's exit begins.
is_exiting = False


class Stopped(BaseException):
    """Raised inside of a task by ``cancel(running=True)``; not an `Exception`, so that a task
    that handles those ends all the same."""


def nothing() -> None:
    """Is called where an exception that was sent to this thread shall come."""


def refusal(kind: str, text: str | None) -> Exception:
    """Why the pool takes no task, or has none any more."""
    if kind == "broken":
        return BrokenThreadPool(text)
    if kind == "cancelled":
        return CancelledError()
    after = "interpreter shutdown" if is_exiting else "shutdown"
    return RuntimeError(f"cannot schedule new futures after {after}")


def report_callback(error: BaseException) -> None:
    """For what a callback raised that is no `Exception`: the thread goes on."""
    LOGGER.critical("Exception in worker", exc_info=error)


def runs_loop() -> bool:
    """Whether an event loop runs in the calling thread."""
    events = sys.modules.get("asyncio.events")
    return events is not None and events._get_running_loop() is not None
