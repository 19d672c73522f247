"""Locks and their kin, for threads, coroutines and Rust tasks on one object."""

from __future__ import annotations

from ._core import (
    Barrier,
    BoundedSemaphore,
    Condition,
    Event,
    Lock,
    RLock,
    RWLock,
    Semaphore,
)
from ._waits import deadlocks, find_deadlocks, lock_order_report, record_places

__all__ = [
    "Barrier",
    "BoundedSemaphore",
    "Condition",
    "Event",
    "Lock",
    "RLock",
    "RWLock",
    "Semaphore",
    "deadlocks",
    "find_deadlocks",
    "lock_order_report",
    "record_places",
]
