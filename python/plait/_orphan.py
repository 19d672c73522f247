"""The end of a process with its parent's: see ``src/process/orphan.rs``. For Linux."""

from __future__ import annotations

import os
import sys

from . import _core

__all__ = ["end_with", "forget"]


def end_with(sentinel: int) -> None:
    """From now on this process ends as soon as the one behind the pidfd has ended."""
    _core.end_with_parent(os.dup(sentinel))


def forget() -> None:
    """From now on it does not."""
    _core.end_watch()


if sys.platform == "linux":
    # Once, not at each start: what a process watches, if anything, it knows by then.
    os.register_at_fork(before=_core.pause_watch, after_in_parent=_core.resume_watch)
