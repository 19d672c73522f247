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

__all__ = [
    "Barrier",
    "BoundedSemaphore",
    "Condition",
    "Event",
    "Lock",
    "RLock",
    "RWLock",
    "Semaphore",
]
