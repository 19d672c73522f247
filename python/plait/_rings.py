"""The pool's engine over shared memory, for Linux: see ``src/process/pool/``."""

from __future__ import annotations

import os
from multiprocessing import reduction
from typing import Any

from . import _core
from ._pool_engine import Kind

__all__ = ["KIND", "Ends"]


class Ends:
    """The descriptors that a worker needs, on their way into it by any start method."""

    def __init__(self, *fds: int) -> None:
        self._fds = fds

    def __getstate__(self) -> list[Any]:
        return [reduction.DupFd(fd) for fd in self._fds]

    def __setstate__(self, state: list[Any]) -> None:
        self._received = [fd.detach() for fd in state]

    def take(self) -> list[int]:
        """In the worker: descriptors of its own. A forked one was sent nothing, but has all."""
        received: list[int] | None = getattr(self, "_received", None)
        return received if received is not None else [os.dup(fd) for fd in self._fds]


def _work(*args: Any) -> None:
    from ._pool_worker import main  # needed in the worker alone

    main(*args)


KIND = Kind(_core.ProcessPool, _core.TaskOptions, _core.Watch, Ends, _work)
