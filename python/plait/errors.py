"""plait's exceptions.

Where the standard library has an exception for what happened, that one is raised, or a
subclass of it, so that code written for the standard library catches plait's too.
"""

from __future__ import annotations

import pickle
from concurrent.futures.process import BrokenProcessPool

__all__ = ["ChannelClosed", "PlaitError", "SerializationError", "TaskTimeout", "WorkerDied"]


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
