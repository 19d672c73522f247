"""A task's limit of memory."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

__all__ = ["can_limit_memory", "limited"]


def can_limit_memory() -> bool:
    """Whether the system can: it has to count what a process has, and to refuse it more."""
    return sys.platform == "linux"


@contextlib.contextmanager
def limited(memory: int) -> Iterator[None]:
    """Lets the process have so many bytes more than it has now; 0: any."""
    if not memory:
        yield
        return
    import resource  # not everywhere

    old = resource.getrlimit(resource.RLIMIT_DATA)
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[5]) * resource.getpagesize()
    wanted = now + memory if old[0] < 0 else min(now + memory, old[0])
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, old)
