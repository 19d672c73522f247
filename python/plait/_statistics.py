"""What `plait.sync.statistics` gives; apart, since dataclasses cost more to import than locks."""

from __future__ import annotations

import dataclasses

__all__ = ["Statistics"]


@dataclasses.dataclass(frozen=True)
class Statistics:
    """How a primitive stood at one moment: see `plait.sync.statistics`."""

    waiters: int
    owner: int | None
    acquisitions: int
    contended: int
