"""Locks, queues and their kin, for threads, coroutines and Rust tasks on one object."""

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
from ._queues import Empty, Full, LifoQueue, PriorityQueue, Queue, ShutDown, SimpleQueue
from ._waits import deadlocks, find_deadlocks, lock_order_report, record_places

__all__ = [
    "Barrier",
    "BoundedSemaphore",
    "Condition",
    "Empty",
    "Event",
    "Full",
    "LifoQueue",
    "Lock",
    "PriorityQueue",
    "Queue",
    "RLock",
    "RWLock",
    "Semaphore",
    "ShutDown",
    "SimpleQueue",
    "deadlocks",
    "find_deadlocks",
    "lock_order_report",
    "record_places",
]
