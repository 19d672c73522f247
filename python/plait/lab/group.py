"""The end of a process group, with nothing left of what its processes had in shared memory.

Named semaphores, and joblib's folders of large arrays, outlive the processes that made them. A
resource tracker of multiprocessing's or loky's removes them, once all those are dead: so it goes
last, and is waited for.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["kill_group"]

_PATIENCE_S = 5.0  # for trackers to remove what is left, and to end


def kill_group(group: int) -> None:
    """Kills all processes of a group whose leader is a child that wasn't waited for.

    Where the group's members can't be told, as elsewhere than on Linux, the trackers are killed
    with the rest.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while (members := list(_members(group))) and time.monotonic() < deadline:
        for member in members:
            with contextlib.suppress(OSError):  # it has just ended
                if not _is_tracker(member) and os.getpgid(member) == group:
                    os.kill(member, signal.SIGKILL)
        time.sleep(0.002)
    if hasattr(os, "killpg"):
        # The leader is not waited for yet: the group's number is nobody else's.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


def _members(group: int) -> Iterator[int]:
    """Its processes that live; none where there is no /proc."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            # After the name, in which there may be anything: state, parent, group.
            state, _, its_group, *_ = stat.read_bytes().rpartition(b")")[2].split()
            if int(its_group) == group and state not in b"ZX":
                yield int(stat.parent.name)


def _is_tracker(pid: int) -> bool:
    return b"resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()
