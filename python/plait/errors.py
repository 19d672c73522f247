"""plait's exceptions.

Where the standard library has an exception for what happened, that one is raised, or a
subclass of it, so that code written for the standard library catches plait's too.
"""

from __future__ import annotations

import pickle
from concurrent.futures.process import BrokenProcessPool

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from traceback import StackSummary
    from typing import Any

__all__ = [
    "ChannelClosed",
    "DeadlockError",
    "DeadlockParty",
    "PlaitError",
    "SerializationError",
    "TaskTimeout",
    "WorkerDied",
]


class PlaitError(Exception):
    """The base of every exception that plait itself defines."""


class WorkerDied(PlaitError, BrokenProcessPool):
    """A process ended before it handed back its task's result.

    Attributes:
        pid: its process id.
        signal: the number of the signal that ended it, or None.
        exitcode: as ``multiprocessing.Process.exitcode``: negative for a signal.
        task: what it was doing, as text.
    """

    def __init__(
        self,
        message: str,
        *,
        pid: int | None = None,
        signal: int | None = None,
        exitcode: int | None = None,
        task: str | None = None,
    ) -> None:
        super().__init__(message)
        self.pid = pid
        self.signal = signal
        self.exitcode = exitcode
        self.task = task


class ChannelClosed(PlaitError, EOFError):
    """A channel was closed: it takes no more messages, and those that it had are received."""


class TaskTimeout(PlaitError, TimeoutError):
    """A task took longer than its time limit, or longer than the caller would wait."""


class SerializationError(PlaitError, pickle.PicklingError):
    """A value could not be sent to, or back from, another process.

    Attributes:
        path: how to get to the member that cannot travel, such as ``args[0]['log'].stream``.
    """

    def __init__(self, message: str, *, path: str | None = None) -> None:
        super().__init__(message)
        self.path = path


class DeadlockParty:
    """A thread or a task that waits, in a `DeadlockError`.

    Attributes:
        name: the thread's or the task's name.
        holds: the locks that it holds and that others wait for.
        waits_for: the lock, thread, queue ... that it waits for. None: a task that cannot run,
            because the thread of its event loop waits.
        stack: where it waits, as a `traceback.StackSummary`, the innermost frame last.
    """

    __slots__ = ("holds", "name", "stack", "waits_for")

    def __init__(self, name: str, holds: list[Any], waits_for: Any, stack: StackSummary) -> None:
        self.name = name
        self.holds = holds
        self.waits_for = waits_for
        self.stack = stack

    def __repr__(self) -> str:
        return f"<{self.name!r} holds {self.holds}, waits for {self.waits_for}>"

    def __reduce__(self) -> tuple[Any, ...]:
        # Locks and threads stay in their process: elsewhere it has their descriptions.
        waits_for = None if self.waits_for is None else str(self.waits_for)
        return DeadlockParty, (self.name, [str(one) for one in self.holds], waits_for, self.stack)


class DeadlockError(PlaitError, RuntimeError):
    """This wait would never end: those that could end it wait themselves, at last for this one.

    It is raised in one of them, which still holds what it held: when it lets go of that (leaving
    its ``with`` blocks does), the others go on.

    Attributes:
        cycle: the parties, each of which waits for the next one, and the last for the first; if
            what they wait for has no owner, all parties of the process.
    """

    def __init__(self, message: str, *, cycle: list[DeadlockParty] | None = None) -> None:
        super().__init__(message)
        self.cycle = [] if cycle is None else cycle

    def __reduce__(self) -> tuple[Any, ...]:
        return _deadlock_error, (str(self), self.cycle)


def _deadlock_error(message: str, cycle: list[DeadlockParty]) -> DeadlockError:
    return DeadlockError(message, cycle=cycle)
