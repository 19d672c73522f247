"""Waiting with the standard library's means, for as long as it takes, without missing ^C."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["join", "outlast"]

_FIRST_S, _LONGEST_S = 0.05, 5.0


def outlast(wait: Callable[[float], bool]) -> None:
    """Wait until ``wait(seconds)`` is true.

    A signal that comes just before one of the standard library's waits sleeps is not seen until
    that ends. So it ends and begins anew: soon at first, as that is when it matters most.
    """
    seconds = _FIRST_S
    while not wait(seconds):
        seconds = min(2 * seconds, _LONGEST_S)


def join(thread: threading.Thread) -> None:
    """``thread.join()``."""

    def has_ended(seconds: float) -> bool:
        thread.join(seconds)
        return not thread.is_alive()

    outlast(has_ended)
